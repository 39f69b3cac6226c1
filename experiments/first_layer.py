"""The first layer is 1:1, every other 2:1; one whose input wants a gradient is 2:1 too."""

from __future__ import annotations

from typing import Any

import pandas as pd

import flopratio as fr
from experiments.claims import Claim, conclude, panels
from flopratio.report.figures.style import legend_below

ARTICLE = "Hobbhahn & Sevilla 2021, table of operations"
NETWORKS: dict[str, dict[str, Any]] = {"mlp": {}, "cnn": {"shared": False}}
CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "input needs a gradient": {"input_grad": True},
    "first layer frozen": {"freeze": "first*"},
    "second layer frozen": {"freeze": "*.0.*"},
}


def ratios(model: str, **options: Any) -> dict[str, float]:
    """Layer -> backward over forward, of a network of depth 4."""
    ledger = fr.count(model, 64, depth=4, **NETWORKS[model], **options)
    return {layer.name: layer.ratio for layer in ledger.layers() if layer.ratio is not None}


def main() -> None:
    columns = {
        name: {
            (model, layer): ratio
            for model in NETWORKS
            for layer, ratio in ratios(model, **options).items()
        }
        for name, options in CASES.items()
    }
    frame = pd.DataFrame(columns).rename_axis(["model", "layer"]).reset_index()

    def draw(axes: Any, model: str) -> None:
        rows = frame[frame["model"] == model]
        for place, case in enumerate(("plain", "input needs a gradient")):
            axes.barh([y + 0.4 * place for y in range(len(rows))], rows[case], 0.4, label=case)
        axes.set_yticks(range(len(rows)), rows["layer"])
        axes.invert_yaxis()
        axes.set_title(model)
        axes.set_xlabel("FLOP, backward : forward")
        legend_below(axes)

    claims = []
    for model in NETWORKS:
        first, *others = frame[frame["model"] == model].to_dict("records")
        low, high = (bound(row["plain"] for row in others) for bound in (min, max))
        claims += [
            Claim(f"{model}: the first layer is 1:1", ARTICLE, "1:1", first["plain"]),
            Claim(f"{model}: every other layer is 2:1, the lowest", ARTICLE, "2:1", low),
            Claim(f"{model}: every other layer is 2:1, the highest", ARTICLE, "2:1", high),
            Claim(
                f"{model}: what makes the first layer 1:1 is that nobody asks for its input's "
                "gradient; with it, it is 2:1",
                ARTICLE,
                "2:1",
                first["input needs a gradient"],
            ),
        ]
    conclude(
        "first_layer",
        frame,
        panels(
            "The first layer is 1:1 because its input is data",
            *((lambda axes, model=model: draw(axes, model)) for model in NETWORKS),
        ),
        claims,
    )
