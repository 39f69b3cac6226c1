"""SGD's update costs 2 FLOP a parameter whatever the batch, so that it fades as the batch grows:
LinearNet goes from 2.0009 at batch 1 to 1.0165 at 64 (Hobbhahn & Sevilla 2021).

    python experiments/batch_size.py
"""

from pathlib import Path
from tempfile import TemporaryDirectory

from judged import conclude

import flopratio as fr
from flopratio.report.figures import ratio_with_update_against_batch

PUBLISHED = {1: 2.0009, 64: 1.0165}


def main() -> None:
    frame = fr.sweep("linearnet", batch="1..1024*2")
    at = frame.set_index("batch")
    doubled = [2 * parameters for parameters in frame["parameters"]]
    with TemporaryDirectory() as directory:
        conclude(
            "batch_size",
            frame,
            ratio_with_update_against_batch(frame, Path(directory)),
            [
                (
                    "ratio with the update at batch 1 and 64",
                    PUBLISHED,
                    {b: round(float(at.loc[b, "ratio_with_update"]), 4) for b in PUBLISHED},
                ),
                ("the update is 2 x parameters", doubled, list(frame["update"])),
                (
                    "the ratio falls with every doubling",
                    True,
                    at["ratio_with_update"].is_monotonic_decreasing,
                ),
                ("counted = executed at every batch", True, bool(frame["executed_equal"].all())),
            ],
        )


if __name__ == "__main__":
    main()
