"""The claims of the field, each judged on the rows of a finished sweep.

Counts are compared as integers and their ratios by cross-multiplication: nothing is rounded. A
claim that the sweep's points or settings can't test is left out, never passed; one that could be
tested, were a package installed, is named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import median

from flopratio.text.grammar import is_spec
from flopratio.verbs.sweep import transformer
from flopratio.verbs.sweep.file import SweepRow, reasons
from flopratio.verbs.sweep.judgement import Claim, Judgement, span

MINOR_SHARE = 0.02
"""Activations, pooling and loss stay under this share of the FLOP of forward and backward."""

FADED_SHARE = 0.01
"""Where an update has less than this share of a step's FLOP, its share of the time is judged."""

SOURCES = {
    "executed_equal": "counted = executed, in each layer, phase and operator",
    "saved_equal": "saved bytes = those that autograd's own hooks see",
    "fvcore_equal": "forward = 2 x fvcore's multiply-adds, attention apart",
    "flop_counter_equal": "forward + backward = FlopCounterMode",
}
"""What the count is compared with, by column."""

NOT_OF_A_MODEL = {
    "every other linear and convolution layer: backward = 2 x forward": "a model may have other "
    "operands without a gradient (a table, a mask, a second input); the law, by which it is "
    "judged, tells them apart",
    "network: backward / forward = 2 - first layer's share": "likewise",
    "update FLOP of SGD are twice the parameters": "a model may have parameters that get no "
    "gradient, and so no update",
    "activations, pooling and loss: a minor share of FLOP": "a model has norms, embeddings and "
    "attention besides",
}
"""The claims that are about the built-in networks alone, and why. Of a MODEL that is loaded they
are named and left out."""


def judge(rows: Sequence[SweepRow], keys: Sequence[str]) -> list[Claim]:
    """The claims that the rows can test.

    Args:
        rows: of a sweep; points that ran out of memory before they were counted say nothing.
        keys: the KEYs among the columns.
    """
    judgement = Judgement([row for row in rows if row["forward"]], keys)
    if any(is_spec(row["model"]) for row in rows):
        _judge_model(judgement)
        return judgement.claims
    _judge_first_layer(judgement, input_grad=False)
    _judge_first_layer(judgement, input_grad=True)
    _judge_other_layers(judgement)
    _judge_network(judgement)
    transformer.judge(judgement)
    _judge_linear_in_batch(judgement, "forward")
    _judge_linear_in_batch(judgement, "backward")
    _judge_update(judgement)
    _judge_minor_share(judgement)
    _judge_saved_bytes(judgement, "batch")
    _judge_saved_bytes(judgement, "depth")
    _judge_peak(judgement)
    _judge_checkpointing(judgement)
    _judge_sources(judgement)
    _judge_time(judgement)
    return judgement.claims


def _judge_model(judgement: Judgement) -> None:
    """The claims that make sense for any MODEL; the others are named."""
    law = {"executed_equal": "the law = executed, in each layer and phase"}
    _judge_sources(judgement, SOURCES | law)
    _judge_first_layer(judgement, input_grad=False)
    _judge_first_layer(judgement, input_grad=True)
    if not any("first layer" in claim["claim"] for claim in judgement.claims):
        judgement.leave_out(
            "first layer: backward = forward",
            "the first layer does not multiply data, has more than one product, or does not train",
        )
    _judge_affine_in_batch(judgement, "forward")
    _judge_affine_in_batch(judgement, "backward")
    _judge_constant_update(judgement)
    _judge_saved_bytes(judgement, "batch")
    _judge_peak(judgement)
    _judge_checkpointing(judgement)
    for claim, why in NOT_OF_A_MODEL.items():
        judgement.leave_out(claim, why)
    _judge_time(judgement)


def _judge_first_layer(judgement: Judgement, *, input_grad: bool) -> None:
    law = 2 if input_grad else 1  # its input is data, whose gradient nobody asks for by default
    rows = [row for row in judgement.trained if row["input_grad"] == input_grad]
    judgement.points(
        f"first layer: backward = {'2 x ' if input_grad else ''}forward",
        str(law),
        [row for row in rows if row["first_layer_ratio"] is not None],
        lambda row: bool(row["first_layer_ratio"] == law),
        lambda row: row["first_layer_ratio"],
        "{:.10g}",
    )


def _judge_other_layers(judgement: Judgement) -> None:
    judgement.points(
        "every other linear and convolution layer: backward = 2 x forward",
        "2",
        [row for row in judgement.trained if row["other_layers_ratio"] is not None],
        lambda row: bool(row["other_layers_ratio"] == 2),
        lambda row: row["other_layers_ratio"],
        "{:.10g}",
    )


def _judge_minor_share(judgement: Judgement) -> None:
    judgement.points(
        "activations, pooling and loss: a minor share of FLOP",
        f"under {MINOR_SHARE:.0%}",
        [row for row in judgement.rows if row["minor_share"] is not None],
        lambda row: bool(row["minor_share"] < MINOR_SHARE),
        lambda row: row["minor_share"],
        "{:.3%}",
        tolerance=MINOR_SHARE,
    )


def _judge_network(judgement: Judgement) -> None:
    def obeys_share(row: SweepRow) -> bool:
        # first_layer_share is first / forward, a correctly rounded quotient of integers; so is
        # this. Below 2**53 two such floats are equal only if the integers are, that is if
        # backward = 2 forward - first.
        share = (2 * row["forward"] - row["backward"]) / row["forward"]
        return bool(share == row["first_layer_share"])

    def climbs(line: list[SweepRow]) -> bool:
        below_2 = all(row["backward"] < 2 * row["forward"] for row in line)
        return below_2 and all(
            low["backward"] * high["forward"] < high["backward"] * low["forward"]
            for low, high in pairwise(line)
        )

    data_first = [row for row in judgement.trained if not row["input_grad"]]
    judgement.points(
        "network: backward / forward = 2 - first layer's share",
        "2 - share",
        data_first,
        obeys_share,
        lambda row: row["ratio"],
        "{:.4f}",
    )
    judgement.points(
        "network: backward = 2 x forward, with the input's gradient",
        "2",
        [row for row in judgement.trained if row["input_grad"]],
        lambda row: bool(row["backward"] == 2 * row["forward"]),
        lambda row: row["ratio"],
        "{:.10g}",
    )
    judgement.lines(
        "network: backward / forward climbs with depth, below 2",
        "climbing, below 2",
        [row for row in data_first if row["first_layer_share"]],
        "depth",
        2,
        climbs,
        lambda line: [row["ratio"] for row in line],
        "{:.4f}",
    )


def _judge_linear_in_batch(judgement: Judgement, phase: str) -> None:
    judgement.lines(
        f"{phase} FLOP are linear in batch",
        "as many for each example",
        judgement.rows,
        "batch",
        2,
        lambda line: all(
            one[phase] * other["batch"] == other[phase] * one["batch"]
            for one, other in pairwise(line)
        ),
        lambda line: [row[phase] // row["batch"] for row in line],
        "{:,}",
    )


def _judge_affine_in_batch(judgement: Judgement, phase: str) -> None:
    """A model may do some work that is the same for any batch (a table of positions)."""
    judgement.affine(f"{phase} FLOP", phase, judgement.rows, "batch", "FLOP")


def _judge_constant_update(judgement: Judgement) -> None:
    updated = [row for row in judgement.rows if row["optimizer"] != "none"]
    judgement.lines(
        "update FLOP don't depend on batch",
        "the same at each batch",
        updated,
        "batch",
        2,
        lambda line: len({row["update"] for row in line}) == 1,
        lambda line: [row["update"] for row in line],
        "{:,}",
    )


def _judge_update(judgement: Judgement) -> None:
    _judge_constant_update(judgement)
    judgement.points(
        "update FLOP of SGD are twice the parameters",
        "2 a parameter",
        [
            row
            for row in judgement.trained
            if row["optimizer"] == "sgd" and not isinstance(row["weight_decay"], float)
        ],
        lambda row: bool(row["update"] == 2 * row["parameters"]),
        lambda row: row["update"] / row["parameters"],
        "{:.10g}",
    )


def _judge_saved_bytes(judgement: Judgement, key: str) -> None:
    judgement.affine("saved bytes", "saved_bytes", judgement.rows, key, "bytes")


def _judge_peak(judgement: Judgement) -> None:
    judgement.points(
        "training takes more memory than inference, at its peak",
        "over 1",
        [row for row in judgement.rows if row["inference_peak_bytes"]],
        lambda row: bool(row["peak_bytes"] > row["inference_peak_bytes"]),
        lambda row: row["peak_bytes"] / row["inference_peak_bytes"],
        "{:.2f}",
    )


def _judge_checkpointing(judgement: Judgement) -> None:
    """Of the peak nothing is claimed: where parameters or one layer decide it, it stays."""

    def again(row: SweepRow) -> int:
        """Without what kernels compute again themselves."""
        return int(row["checkpointed_recompute"] - row["recompute"])

    rows = [row for row in judgement.rows if row["checkpointed_saved_bytes"] is not None]
    judgement.points(
        "checkpointing a chain in the root of its length keeps no more for backward",
        "at most 100%",
        [row for row in rows if row["saved_bytes"]],
        lambda row: bool(row["checkpointed_saved_bytes"] <= row["saved_bytes"]),
        lambda row: row["checkpointed_saved_bytes"] / row["saved_bytes"],
        "{:.0%}",
    )
    judgement.points(
        "checkpointing computes at most one forward again",
        "at most 1",
        rows,
        lambda row: again(row) <= row["forward"],
        lambda row: again(row) / row["forward"],
        "{:.2f}",
    )


def _judge_sources(judgement: Judgement, sources: Mapping[str, str] = SOURCES) -> None:
    for column, claim in sources.items():
        compared = [row for row in judgement.rows if row[column] is not None]
        why = [reasons(row).get(column) for row in judgement.rows]
        if not compared and any(why):
            judgement.leave_out(claim, next(filter(None, why)), "equal")
        judgement.points(
            claim,
            "equal",
            compared,
            lambda row, column=column: bool(row[column]),  # type: ignore[misc]
            lambda row, column=column: "equal" if row[column] else "different",  # type: ignore[misc]
            "{}",
        )


def _judge_time(judgement: Judgement) -> None:
    ratios = ("time_ratio", "time_ratio_low", "time_ratio_high")
    timed = [row for row in judgement.rows if None not in [row[column] for column in ratios]]
    if not timed:
        return
    _report_time_ratio(judgement, timed)
    faded = [
        row
        for row in timed
        if row["update"] < FADED_SHARE * (row["forward"] + row["backward"] + row["update"])
    ]
    if faded:
        _judge_time_shares(judgement, faded)


def _report_time_ratio(judgement: Judgement, timed: Sequence[SweepRow]) -> None:
    """What a device makes of the ratio is its own affair: the claim is that it was measured."""
    middle = median(row["time_ratio"] for row in timed)
    nearest = min(timed, key=lambda row: abs(row["time_ratio"] - middle))
    bounds = span([row["time_ratio"] for row in timed], "{:.2f}")
    judgement.claims.append(
        Claim(
            claim="backward / forward in time: measured with its 95% interval, reported only",
            expected=f"beside {span([row['ratio'] for row in timed], '{:.2f}')} in FLOP",
            observed=f"median {nearest['time_ratio']:.2f} "
            f"[{nearest['time_ratio_low']:.2f}, {nearest['time_ratio_high']:.2f}]; "
            f"{bounds} at {len(timed)} points",
            tolerance=0.0,
            holds=len(timed) == sum(row["status"] == "ok" for row in judgement.rows)
            and all(
                row["time_ratio_low"] <= row["time_ratio"] <= row["time_ratio_high"]
                for row in timed
            ),
        )
    )


def _judge_time_shares(judgement: Judgement, faded: Sequence[SweepRow]) -> None:
    """Judged on the sum of the points, which noise at one of them does not decide."""
    spent = {
        phase: sum(row[f"{phase}_ms"] or 0.0 for row in faded)
        for phase in ("forward", "backward", "update")
    }
    step = sum(spent.values())
    judgement.claims.append(
        Claim(
            claim=f"where the update is under {FADED_SHARE:.0%} of FLOP, forward and backward "
            "take most of the time",
            expected="over 50%",
            observed=", ".join(f"{phase} {time / step:.0%}" for phase, time in spent.items())
            + f" at {len(faded)} points",
            tolerance=0.5,
            holds=spent["forward"] + spent["backward"] > 0.5 * step,
        )
    )
