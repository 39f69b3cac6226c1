"""The first layer is 1:1, every other 2:1; one whose input wants a gradient is 2:1 too."""

from __future__ import annotations

from functools import partial

import pandas as pd

import flopratio as fr
from experiments.claims import Claim, conclude
from flopratio.report.figures import flops_by_layer

ARTICLE = "Hobbhahn & Sevilla 2021, table of operations"


def ratios(**options: bool | str) -> dict[str, float | None]:
    """Layer -> backward over forward, of an MLP with four hidden layers."""
    layers = fr.count("mlp", 64, depth=4, **options).layers()
    return {layer.name: layer.ratio for layer in layers if layer.forward}


def main() -> None:
    cases = {
        "plain": ratios(),
        "input needs a gradient": ratios(input_grad=True),
        "first layer frozen": ratios(freeze="first*"),
        "hidden.1 frozen": ratios(freeze="hidden.1*"),
    }
    frame = pd.DataFrame(cases).rename_axis("layer").reset_index()
    plain = cases["plain"]
    inner = [plain[name] for name in plain if name != "first.linear"]
    conclude(
        "first_layer",
        frame,
        partial(flops_by_layer, fr.count("mlp", 64, depth=4).layers()),
        [
            Claim("the first layer is 1:1", ARTICLE, "1:1", plain["first.linear"]),
            Claim("every other layer is 2:1: the lowest", ARTICLE, "2:1", min(inner)),
            Claim("every other layer is 2:1: the highest", ARTICLE, "2:1", max(inner)),
        ],
    )
