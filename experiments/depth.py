"""DeeperConvNet's ratio climbs from 1.57 to 2 as its middle deepens from 0 to 100 convolutions."""

from __future__ import annotations

from functools import partial

import flopratio as fr
from experiments.claims import Claim, conclude
from flopratio.report.figures import ratio_against_depth

ARTICLE = "Hobbhahn & Sevilla 2021, DeeperConvNet"


def main() -> None:
    frame = fr.sweep("cnn", depth=[*range(0, 21), *range(25, 101, 5)], batch=1, shared=True)
    at = frame.set_index("depth")
    conclude(
        "depth",
        frame,
        partial(ratio_against_depth, frame),
        [
            Claim("no layer between: 1.57", ARTICLE, "1.57", at.loc[0, "ratio"]),
            Claim("a hundred layers between: 1.98", ARTICLE, "1.98", at.loc[100, "ratio"]),
            Claim(
                "the ratio climbs with every layer",
                ARTICLE,
                None,
                bool(at["ratio"].is_monotonic_increasing),
            ),
        ],
    )
