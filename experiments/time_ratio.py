"""From steps that are all launches to steps that are all products: an MLP's ratio of times,
backward over forward, at every batch and width, measured on this machine, beside that of its FLOPs
and the one that the machine's roofs predict.

A point takes a second or two; a run that was ended goes on where it was.
"""

import shutil
from functools import partial

import pandas as pd
import torch

import flopratio as fr
from experiments.claims import Claim, conclude, output
from flopratio.measure import machine
from flopratio.measure.roofs import roofs_of
from flopratio.report.figures import time_ratio_against_size
from flopratio.roofline import predict

DEVICE = "cpu"
DEPTH = 4
WIDTHS = (32, 128, 512, 2048)
BATCHES = "1..1024*4"

UNFINISHED = "time_ratio.unfinished"
"""Where the points stand until all are there."""

ROOFLINE = "Williams, Waterman & Patterson 2009: roofline"
FOLKLORE = "Baydin et al. 2018, section 3.2: a gradient takes 2-3 times the function's time"

KEPT = ["model", "depth", "width", "batch", "forward", "backward", "ratio"]
KEPT += [
    f"{name}{end}"
    for name in ("forward_ms", "backward_ms", "time_ratio")
    for end in ("", "_low", "_high")
]
"""Columns of a sweep that are of use here."""


def main() -> None:
    torch.set_num_threads(1)
    frame = pd.concat([measured(width) for width in WIDTHS], ignore_index=True)
    here = machine(DEVICE)
    frame = frame[KEPT].assign(
        **predicted(frame),
        device=DEVICE,
        processor=here["processor"],
        threads=here["threads"],
        torch=here["torch"],
    )
    shutil.rmtree(output() / UNFINISHED)
    conclude("time_ratio", frame, partial(time_ratio_against_size, frame), claims_of(frame))


def claims_of(frame: pd.DataFrame) -> list[Claim]:
    """What the points say; the first is the smallest step, the last the largest."""
    off = (frame["time_ratio"] / frame["ratio"] - 1).abs()
    gradient = 1 + frame["time_ratio"]
    least, most = gradient.min(), gradient.max()
    smallest, largest = frame.iloc[0], frame.iloc[-1]
    return [
        Claim(
            "the smallest step is bound by launches",
            ROOFLINE,
            None,
            bool(smallest["bound"] == "launch"),
            reason=f"by this machine's roofs it is {smallest['bound']}",
            measured=True,
        ),
        Claim(
            "the largest step is bound by arithmetic",
            ROOFLINE,
            None,
            bool(largest["bound"] == "compute"),
            reason=f"by this machine's roofs it is {largest['bound']}",
            measured=True,
        ),
        Claim(
            "where arithmetic binds, time is as FLOPs are: nearer than where launches do",
            ROOFLINE,
            None,
            bool(off.iloc[-1] < off.iloc[0]),
            reason=f"off by {off.iloc[-1]:.0%} at the largest, {off.iloc[0]:.0%} at the smallest",
            measured=True,
        ),
        *(
            Claim(
                f"forward and backward take 2 to 3 times a forward's time: the {end}",
                FOLKLORE,
                "2 to 3",
                float(bound),
                reason="where launches or memory bind, a backward takes what its operators and "
                "its bytes do",
                measured=True,
            )
            for end, bound in (("least", least), ("most", most))
        ),
    ]


def measured(width: int) -> pd.DataFrame:
    """The points of a width, those of an earlier run among them. The input is as wide as every
    other layer, so that the ratio of FLOP is about the same at every size."""
    return fr.sweep(
        "mlp",
        width=width,
        input=width,
        depth=DEPTH,
        batch=BATCHES,
        measure=DEVICE,
        output=output() / UNFINISHED / str(width),
    )


def predicted(frame: pd.DataFrame) -> dict[str, list[object]]:
    """What the machine's roofs let one expect of each point."""
    roofs = roofs_of(DEVICE)
    steps = [
        fr.count(
            "mlp",
            batch=row["batch"],
            width=row["width"],
            input=row["width"],
            depth=DEPTH,
            target="cpu",
        )
        for _, row in frame.iterrows()
    ]
    predictions = [predict(step.rows, roofs) for step in steps]
    return {
        "predicted_time_ratio": [prediction.time_ratio for prediction in predictions],
        "bound": [max(each.bounds, key=lambda name: each.bounds[name]) for each in predictions],
    }
