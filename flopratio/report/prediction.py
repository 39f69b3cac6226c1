"""What a step should take on a device, for people: where its time goes, and why the ratio of times
is not that of FLOPs."""

from __future__ import annotations

from typing import NamedTuple

from rich.table import Table
from rich.text import Text

from flopratio.errors import UsageError
from flopratio.report.table import GAP, LEAST_NAME, ruled
from flopratio.report.units import Kind, choose, quantity, ratio_text, shorten
from flopratio.report.view import View
from flopratio.roofline import ExpectedLayer, Explanation, Prediction, explain
from flopratio.roofline.prediction import BACKWARD

COLUMNS = {
    "forward_ms": "forward",
    "grad_input_ms": "grad_\ninput",
    "grad_weight_ms": "grad_\nweight",
    "recompute_ms": "recompute",
    "update_ms": "update",
}
"""The times of a line, and what they are called."""

ALWAYS = 3
"""So many of them are shown even where there is none."""

WORDS = {"compute": "arithmetic", "memory": "bandwidth", "launch": "launches", "none": ""}
"""What binds -> what it is called."""


class Lines(NamedTuple):
    """A table as text: a name and figures."""

    heading: list[str]
    body: list[list[str]]
    total: list[str]
    wraps: bool = False
    """Whether a name that is too long takes several lines, rather than to lose its middle."""


def seconds_text(seconds: float) -> str:
    """``12.34 ms``."""
    return quantity(_nanoseconds(seconds), Kind.TIME)


def _nanoseconds(seconds: float) -> int:
    return round(1e9 * seconds)


# -- where the time goes --------------------------------------------------------------------------


def summary(prediction: Prediction) -> list[str]:
    """The step's time, its ratios and what binds it, and what is not in it; a sentence each."""
    seconds = prediction.seconds
    update = seconds("update")
    parts = [
        f"forward {seconds_text(seconds('forward'))}",
        *([f"backward {seconds_text(seconds(*BACKWARD))}"] if seconds(*BACKWARD) else []),
        *([f"update {seconds_text(update)}"] if update else []),
    ]
    whole = prediction.step_seconds
    shares = [
        f"{share / whole:.0%} {WORDS[bound]}"
        for bound, share in sorted(prediction.bounds.items(), key=lambda item: -item[1])
        if share
    ]
    name = f"{prediction.hardware.name} ({prediction.hardware.device})"
    lines = [f"on {name}, {seconds_text(whole)} a step: {' + '.join(parts)}"]
    if shares:
        lines.append(f"bound by {', '.join(shares)}")
    for dtype, flops in prediction.without_roof.items():
        lines.append(
            f"no roof of {name} was measured for {dtype}: {quantity(flops, Kind.FLOP)} of products"
            " have the time of their bytes and launches alone, and take at least that"
        )
    return lines


def lines(view: View, prediction: Prediction) -> Lines:
    """The lines of a view with the times that they should take.

    Args:
        view: of the ledger that the prediction was made from.
    """
    by_name = {line.name: line for line in prediction.lines(view.line_of)}
    listed = [by_name[line.name] for line in view.lines]
    in_view = prediction.lines(lambda row: None if view.line_of(row) is None else "total")
    total = in_view[0] if in_view else NOTHING
    shown = [
        column for number, column in enumerate(COLUMNS) if number < ALWAYS or getattr(total, column)
    ]
    figures = [_column(line, column) for line in (listed or [total]) for column in shown]
    unit = choose(figures, Kind.TIME)
    ratios = {line.name: line.ratio for line in view.lines}

    def texts(line: ExpectedLayer, flop_ratio: float | None) -> list[str]:
        return [
            line.name,
            *(unit.format(_column(line, column)) for column in shown),
            _rounded(line.time_ratio),
            ratio_text(flop_ratio),
            WORDS[line.bound],
        ]

    return Lines(
        [
            view.by,
            *(f"{COLUMNS[column]}\n{unit.name}" for column in shown),
            "ratio\nof times",
            "ratio\nof FLOPs",
            "bound by",
        ],
        [texts(line, ratios[line.name]) for line in listed],
        texts(total, view.total.ratio),
    )


NOTHING = ExpectedLayer("total", "", 0.0, 0.0, 0.0, 0.0, 0.0, "none")


def _column(line: ExpectedLayer, column: str) -> int:
    return _nanoseconds(getattr(line, column) / 1e3)


def _rounded(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.3f}"


# -- why the ratios differ ------------------------------------------------------------------------


def explanation_of(prediction: Prediction) -> Explanation | None:
    """Why the predicted ratio of times is not that of FLOPs; None where there is no ratio."""
    if prediction.time_ratio is None:
        return None
    try:
        return explain(prediction.times(), prediction.hardware, tf32=prediction.tf32)
    except UsageError:
        return None


def explanation_lines(explanation: Explanation, what: str) -> Lines:
    """The reasons, from the ratio of FLOPs down to that of times.

    Args:
        what: the ratio of times: ``predicted``.
    """
    reasons = explanation.reasons
    times = [us for reason in reasons for us in (reason.forward_us, reason.backward_us)]
    unit = choose([_nanoseconds(us / 1e6) for us in times], Kind.TIME)

    def figure(us: float) -> str:
        return unit.format(_nanoseconds(us / 1e6))

    return Lines(
        [
            f"why the {what} ratio is not that of FLOPs",
            f"forward\n{unit.name}",
            f"backward\n{unit.name}",
            "backward :\nforward",
        ],
        [
            ["FLOP of products", "", "", f"{explanation.flop_ratio:.3f}"],
            *(
                [
                    reason.name,
                    figure(reason.forward_us),
                    figure(reason.backward_us),
                    signed(reason.contribution),
                ]
                for reason in reasons
            ),
        ],
        [
            f"{what} time",
            figure(sum(reason.forward_us for reason in reasons)),
            figure(sum(reason.backward_us for reason in reasons)),
            f"{explanation.time_ratio:.3f}",
        ],
        wraps=True,
    )


def signed(contribution: float) -> str:
    """``+0.123``; a rounded zero has no sign."""
    text = f"{contribution:+.3f}"
    return text[1:] if float(text) == 0 else text


# -- tables ---------------------------------------------------------------------------------------


def sentences(view: View) -> list[str]:
    """What is said of a view's prediction ahead of its tables; nothing where there is none."""
    if view.prediction is None:
        return []
    first, *rest = summary(view.prediction)
    return [f"predicted {first}", *rest]


def tables(view: View) -> list[Lines]:
    """The tables of a view's prediction: its times, and why their ratio is not that of FLOPs."""
    prediction = view.prediction
    if prediction is None:
        return []
    explanation = explanation_of(prediction)
    explained = [] if explanation is None else [explanation_lines(explanation, "predicted")]
    return [lines(view, prediction), *explained]


def rich_table(shown: Lines, width: int | None = None) -> Table:
    """The lines as a table for a terminal: a name, and figures.

    Args:
        width: of the terminal in characters; None: as wide as it needs to be. The last columns are
            left out where there is no room for them.
    """
    widths = [
        max(len(part) for cell in cells for part in cell.splitlines() or [""])
        for cells in zip(shown.heading, *shown.body, shown.total, strict=True)
    ]
    kept = len(widths)
    if width is not None:
        least = min(widths[0], LEAST_NAME)
        while kept > 2 and least + sum(GAP + each for each in widths[1:kept]) > width:
            kept -= 1
        room = width - sum(GAP + each for each in widths[1:kept])
        widths[0] = max(min(widths[0], room), 1)
    result = ruled(show_footer=True)

    def named(text: str) -> Text:
        return Text(text if shown.wraps else shorten(text, widths[0]))

    name = named(shown.heading[0]), named(shown.total[0])
    result.add_column(*name, width=widths[0], no_wrap=not shown.wraps, vertical="bottom")
    for heading, total, column in zip(
        shown.heading[1:kept], shown.total[1:kept], widths[1:kept], strict=True
    ):
        is_word = heading == "bound by"
        result.add_column(
            heading,
            total,
            width=column,
            justify="left" if is_word else "right",
            no_wrap=True,
            vertical="bottom",
        )
    for line in shown.body:
        result.add_row(named(line[0]), *line[1:kept])
    return result
