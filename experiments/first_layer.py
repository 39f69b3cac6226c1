"""The first layer is 1:1, every other 2:1; a first layer whose input wants a gradient is 2:1 too.

python experiments/first_layer.py
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
from judged import conclude

import flopratio as fr
from flopratio.report.figures import flops_by_layer


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
    inner = ["hidden.0.linear", "hidden.1.linear", "hidden.2.linear", "output"]
    with TemporaryDirectory() as directory:
        pictures = flops_by_layer(fr.count("mlp", 64, depth=4).layers(), Path(directory))
        conclude(
            "first_layer",
            frame,
            pictures,
            [
                ("first layer", 1.0, cases["plain"]["first.linear"]),
                ("every other layer", [2.0] * 4, [cases["plain"][name] for name in inner]),
                (
                    "first layer, its input needs a gradient",
                    2.0,
                    cases["input needs a gradient"]["first.linear"],
                ),
                (
                    "first layer frozen: it costs nothing backward, the next is the first now",
                    [0.0, 1.0],
                    [cases["first layer frozen"][name] for name in ("first.linear", inner[0])],
                ),
                (
                    "an inner layer frozen passes its input gradient only",
                    1.0,
                    cases["hidden.1 frozen"]["hidden.1.linear"],
                ),
            ],
        )


if __name__ == "__main__":
    main()
