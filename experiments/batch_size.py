"""SGD's update costs 2 FLOP a parameter whatever the batch, so that it fades as the batch grows."""

from __future__ import annotations

from functools import partial

import flopratio as fr
from experiments.claims import Claim, conclude
from flopratio.report.figures import ratio_with_update_against_batch

ARTICLE = "Hobbhahn & Sevilla 2021"


def main() -> None:
    frame = fr.sweep("linearnet", batch="1..1024*2")
    with_update = frame.set_index("batch")["ratio_with_update"]
    conclude(
        "batch_size",
        frame,
        partial(ratio_with_update_against_batch, frame),
        [
            Claim("LinearNet at batch 1, update counted", ARTICLE, "2.0009", with_update[1]),
            Claim("LinearNet at batch 64, update counted", ARTICLE, "1.0165", with_update[64]),
        ],
    )
