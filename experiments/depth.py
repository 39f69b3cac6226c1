"""DeeperConvNet's ratio climbs from 1.57 towards 2 as its middle deepens from 0 to 100
convolutions; an MLP's does too. Both are 2 less the first layer's share of forward."""

from __future__ import annotations

from functools import partial

import pandas as pd

import flopratio as fr
from experiments.claims import Claim, conclude
from flopratio.report.figures import ratio_against_depth

ARTICLE = "Hobbhahn & Sevilla 2021, DeeperConvNet"
TABLE = "Hobbhahn & Sevilla 2021, table of operations"
COLUMNS = ["model", "depth", "forward", "grad_input", "grad_weight", "ratio", "first_layer_share"]


def main() -> None:
    depths = {"cnn": [*range(0, 11), *range(20, 101, 10)], "mlp": [1, 2, 3, 5, 10, 20, 50, 100]}
    swept = {
        model: fr.sweep(model, depth=values, batch=1, measure="none")
        for model, values in depths.items()
    }
    frame = pd.concat([rows[COLUMNS] for rows in swept.values()], ignore_index=True)
    cnn, mlp = (swept[model].set_index("depth") for model in ("cnn", "mlp"))
    theory = (frame["ratio"] - (2 - frame["first_layer_share"])).abs()
    conclude(
        "depth",
        frame,
        partial(ratio_against_depth, frame),
        [
            Claim("cnn with nothing between its ends", ARTICLE, "1.57", cnn.loc[0, "ratio"]),
            Claim("cnn with 100 convolutions between", ARTICLE, "1.98", cnn.loc[100, "ratio"]),
            Claim(
                "cnn: the ratio climbs with every convolution",
                ARTICLE,
                None,
                cnn["ratio"].is_monotonic_increasing,
            ),
            Claim(
                "mlp: the ratio climbs with every layer",
                ARTICLE,
                None,
                mlp["ratio"].is_monotonic_increasing,
            ),
            Claim("mlp with 100 hidden layers: towards 2", ARTICLE, "2", mlp.loc[100, "ratio"]),
            Claim(
                "the ratio is 2 less the first layer's share of forward, at every depth",
                TABLE,
                None,
                bool((theory < 1e-12).all()),
            ),
        ],
    )
