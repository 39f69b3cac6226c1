"""What forward keeps for backward grows in proportion to the batch, and by the same amount with
every layer; without training, next to nothing is kept."""

from __future__ import annotations

import itertools
from functools import partial

import flopratio as fr
from experiments.claims import Claim, conclude
from flopratio.report.figures import saved_bytes_against_batch

DEPTHS = [1, 2, 4, 8, 16, 32]
WIDTH = 512
CHEN = "Chen et al. 2016, arXiv:1604.06174"


def main() -> None:
    frame = fr.sweep("mlp", depth=DEPTHS, batch="1..512*2", width=WIDTH)
    saved = {(row.depth, row.batch): row.saved_bytes for row in frame.itertuples()}
    per_layer = {
        (saved[deeper, 64] - saved[depth, 64]) / (deeper - depth)
        for depth, deeper in itertools.pairwise(DEPTHS)
    }
    conclude(
        "activation_memory",
        frame,
        partial(saved_bytes_against_batch, frame),
        [
            Claim(
                "each hidden layer keeps its output and no more",
                CHEN,
                None,
                per_layer == {64 * WIDTH * 4},
            ),
        ],
    )
