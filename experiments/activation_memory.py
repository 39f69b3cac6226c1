"""What forward keeps for backward grows in proportion to the batch, and by the same amount with
every layer; without training, next to nothing is kept.

    python experiments/activation_memory.py
"""

import itertools
from pathlib import Path
from tempfile import TemporaryDirectory

from judged import conclude

import flopratio as fr
from flopratio.report.figures import saved_bytes_against_batch

DEPTHS = [1, 2, 4, 8, 16, 32]
WIDTH = 512


def main() -> None:
    frame = fr.sweep("mlp", depth=DEPTHS, batch="1..512*2", width=WIDTH)
    saved = {(row.depth, row.batch): row.saved_bytes for row in frame.itertuples()}
    constant = 4  # the 0-dim total weight of cross-entropy, whatever the batch
    per_layer = {
        (saved[deeper, 64] - saved[depth, 64]) / (deeper - depth)
        for depth, deeper in itertools.pairwise(DEPTHS)
    }
    with TemporaryDirectory() as directory:
        conclude(
            "activation_memory",
            frame,
            saved_bytes_against_batch(frame, Path(directory)),
            [
                (
                    "twice the batch keeps twice the bytes (but for one constant)",
                    [2 * (saved[depth, 256] - constant) + constant for depth in DEPTHS],
                    [saved[depth, 512] for depth in DEPTHS],
                ),
                (
                    "each hidden layer keeps its output, batch x width x 4 bytes",
                    {64 * WIDTH * 4},
                    per_layer,
                ),
                (
                    "training's peak is above inference's at every point",
                    True,
                    bool((frame["peak_bytes"] > frame["inference_peak_bytes"]).all()),
                ),
                ("bytes = those autograd's hooks see", True, bool(frame["saved_equal"].all())),
            ],
        )


if __name__ == "__main__":
    main()
