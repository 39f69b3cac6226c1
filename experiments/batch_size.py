"""FLOPs of forward and backward are linear in the batch, and an update's are constant: counted as
part of the backward pass, as the article does, it fades as the batch grows."""

from __future__ import annotations

from functools import partial

import pandas as pd

import flopratio as fr
from experiments.claims import Claim, conclude, reference
from flopratio.report.figures import ratio_with_update_against_batch

ARTICLE = "Hobbhahn & Sevilla 2021, batch size"
CASES = "Hobbhahn & Sevilla 2021, summary, table of four cases"
COLUMNS = ["model", "batch", "forward", "grad_input", "grad_weight", "backward", "update"]
COLUMNS += ["parameters", "ratio", "ratio_with_update"]


def main() -> None:
    frame = pd.concat(
        [
            fr.sweep(model, batch="1..16384*4", measure="none")[COLUMNS]
            for model in ("linearnet", "onenet", "convnet")
        ],
        ignore_index=True,
    )
    at = frame.set_index(["model", "batch"])
    with_update, without = at["ratio_with_update"], at["ratio"]
    least, most = min(frame["batch"]), max(frame["batch"])
    doubled = frame["update"] == 2 * frame["parameters"]
    linear = [
        all(at.loc[row.model, column][1] * row.batch == getattr(row, column) for row in table)
        for column in ("forward", "backward")
        for table in [list(frame.itertuples())]
    ]
    # The article's four cases: what dominates, and whether the update is big beside it.
    dominated = {"first layer": "linearnet", "other layers": "onenet"}
    batches = {"big": least, "small": most}
    cases = [
        Claim(
            f"{row['dominant_layers']} dominant, update {row['weight_update']}: "
            f"{row['bwd_fwd_ratio']}:1 ({model} at batch {batch:,})",
            CASES,
            row["bwd_fwd_ratio"],
            with_update[model, batch],
        )
        for row in reference("epoch_case_table").to_dict("records")
        for model, batch in [(dominated[row["dominant_layers"]], batches[row["weight_update"]])]
    ]
    conclude(
        "batch_size",
        frame,
        partial(ratio_with_update_against_batch, frame),
        [
            Claim("LinearNet at batch 1", ARTICLE, "2.0009", with_update["linearnet", 1]),
            Claim("LinearNet, update negligible", ARTICLE, "1.0009", without["linearnet", most]),
            Claim("OneNet at batch 1", ARTICLE, "3.0003", with_update["onenet", 1]),
            Claim("OneNet, update negligible", ARTICLE, "1.992", without["onenet", most]),
            Claim(
                "in a convolutional network the update plays no role, even at batch 1: its share "
                "of forward is below 0.1%",
                ARTICLE,
                None,
                bool(with_update["convnet", 1] - without["convnet", 1] < 1e-3),
            ),
            *cases,
            Claim("forward and backward are linear in the batch", ARTICLE, None, all(linear)),
            Claim("the update is 2 FLOP a parameter at every batch", ARTICLE, None, doubled.all()),
        ],
    )
