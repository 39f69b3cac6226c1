"""The share of activations, loss and bias in the FLOPs of forward and backward, for growing width:
where leaving them out becomes right."""

from __future__ import annotations

from typing import Any

import pandas as pd

import flopratio as fr
from experiments.claims import Claim, conclude, panels

ARTICLE = "Hobbhahn & Sevilla 2021, assumptions: ReLU and loss are negligible"
KAPLAN = "Kaplan et al. 2020, Table 1: nonlinearities and biases are omitted"
WIDTHS = [2**power for power in range(13)]
LITTLE = 0.01
"""A share below which one speaks of nothing."""


def shares(width: int) -> dict[str, Any]:
    """What an MLP's step is made of; its input is as wide as its layers."""
    ledger = fr.count("mlp", 64, width=width, input=width, depth=4)
    flops = dict.fromkeys(("products", "activations", "loss", "bias"), 0)
    for row in ledger.rows:
        flops["products"] += row.flops
        kind = {"ReLU": "activations", "Loss": "loss"}.get(row.type, "bias")
        flops[kind] += row.elementwise
    total = sum(flops.values())
    fractions = {f"{kind}_share": count / total for kind, count in flops.items()}
    return {"width": width, **flops, **fractions}


def main() -> None:
    frame = pd.DataFrame([shares(width) for width in WIDTHS])
    at = frame.set_index("width")
    kinds = {"ReLU": at["activations_share"], "loss": at["loss_share"], "bias": at["bias_share"]}
    together = 1 - at["products_share"]

    def draw(axes: Any) -> None:
        for kind, share in kinds.items():
            axes.plot(WIDTHS, 100 * share, label=kind)
        axes.axhline(100 * LITTLE, color="black", linewidth=1)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xlabel("width")
        axes.set_ylabel("% of the FLOPs of forward and backward")
        axes.legend()

    def negligible_from(share: pd.Series) -> int:
        return int(share.index[share < LITTLE][0])

    conclude(
        "negligible_layers",
        frame,
        panels("ReLU, loss and bias fade with the width", draw),
        [
            Claim(
                "all three together are less than 1% at width 512, the default",
                ARTICLE,
                None,
                together[512] < LITTLE,
            ),
            Claim(
                "all three together are less than 1% at any width",
                ARTICLE,
                None,
                (together < LITTLE).all(),
                reason=f"products grow with the square of the width, the rest with the width, the "
                f"loss with the classes alone: at width 1 they are {together[1]:.1%}",
            ),
            *(
                Claim(
                    f"the width from which the {kind} is less than 1%, of 1, 2, 4, ... 4,096",
                    KAPLAN if kind == "bias" else ARTICLE,
                    None,
                    negligible_from(share),
                )
                for kind, share in kinds.items()
            ),
            Claim(
                "twice the width halves the share in the end: of ReLU, 2,048 to 4,096",
                KAPLAN,
                None,
                abs(kinds["ReLU"][2048] / kinds["ReLU"][4096] - 2) < LITTLE,
            ),
        ],
    )
