"""DeeperConvNet's ratio climbs from 1.57 to 2 as its middle deepens from 0 to 100 convolutions
(Hobbhahn & Sevilla 2021).

    python experiments/depth.py
"""

from pathlib import Path
from tempfile import TemporaryDirectory

from judged import conclude

import flopratio as fr
from flopratio.report.figures import ratio_against_depth

PUBLISHED = {0: 1.5714, 10: 1.8583, 100: 1.9798}
FORWARD = {0: 275_367_168, 100: 5_851_047_168}


def main() -> None:
    frame = fr.sweep("cnn", depth=[*range(0, 21), *range(25, 101, 5)], batch=1, shared=True)
    at = frame.set_index("depth")
    with TemporaryDirectory() as directory:
        conclude(
            "depth",
            frame,
            ratio_against_depth(frame, Path(directory)),
            [
                (
                    "ratio at depth 0, 10, 100",
                    PUBLISHED,
                    {depth: round(float(at.loc[depth, "ratio"]), 4) for depth in PUBLISHED},
                ),
                (
                    "forward FLOP at depth 0 and 100",
                    FORWARD,
                    {depth: at.loc[depth, "forward"] for depth in FORWARD},
                ),
                ("the ratio climbs with every layer", True, at["ratio"].is_monotonic_increasing),
                ("counted = executed at every depth", True, bool(frame["executed_equal"].all())),
            ],
        )


if __name__ == "__main__":
    main()
