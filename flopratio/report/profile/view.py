"""A view of a profile: its operators summed by layer, type, operator or phase, as a table of times
beside what was done in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flopratio.ledger import ROOT
from flopratio.report.prediction import WORDS
from flopratio.report.units import Kind
from flopratio.report.view import (
    NO_TYPE,
    Column,
    Line,
    View,
    check_limits,
    check_words,
    first_lines,
    folded,
    sorted_lines,
)

if TYPE_CHECKING:  # torch is not needed to complete or to check the words of a view
    from flopratio.verbs.profile import Group, Profile


@dataclass(frozen=True)
class TimedLine(Line):
    """Some operators of a profile: whole nanoseconds, FLOP/s and bytes/s.

    Args:
        share: of the time of all of them.
        products: FLOP of contractions.
        bound: what limits the predicted time most.
    """

    share: float = 0.0
    time: int = 0
    forward_time: int = 0
    grad_input_time: int = 0
    grad_weight_time: int = 0
    undivided_time: int = 0
    recompute_time: int = 0
    update_time: int = 0
    predicted: int = 0
    time_ratio: float | None = None
    flops: int = 0
    achieved: int = 0
    moved: int = 0
    intensity: float | None = None
    bound: str = ""


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def _decimal(figure: float | None) -> str:
    return "" if figure is None else f"{figure:,.1f}"


COLUMNS = {
    column.name: column
    for column in (
        Column("layers", ("layers",), Kind.ITEMS),
        Column("share", ("share",), None, text=_percent),
        Column("time", ("time",), Kind.TIME),
        Column("forward_time", ("forward",), Kind.TIME, optional=True),
        Column("grad_input_time", ("grad_", "input"), Kind.TIME, optional=True),
        Column("grad_weight_time", ("grad_", "weight"), Kind.TIME, optional=True),
        Column("undivided_time", ("undi-", "vided"), Kind.TIME, optional=True),
        Column("recompute_time", ("recom-", "pute"), Kind.TIME, optional=True),
        Column("update_time", ("update",), Kind.TIME, optional=True),
        Column("predicted", ("pre-", "dicted"), Kind.TIME),
        Column("flops", ("products",), Kind.FLOP, product=True),
        Column("achieved", ("achieved",), Kind.FLOP_RATE),
        Column("moved", ("moved",), Kind.BYTE_RATE),
        Column("intensity", ("FLOP", "per byte"), None, text=_decimal),
        Column("bound", ("bound", "by"), None, text=str),
        Column("ratio", ("FLOP", "ratio"), None),
        Column("time_ratio", ("time", "ratio"), None),
    )
}

_OF_PHASES = ("forward", "grad_input", "grad_weight", "undivided", "recompute", "update")
_TIMES = tuple(f"{phase}_time" for phase in _OF_PHASES)
_WORK = ("predicted", "flops", "achieved", "intensity", "bound", "moved")
_RATIOS = ("ratio", "time_ratio")

VIEWS = {
    "layer": ("share", "time", *_TIMES, *_WORK, *_RATIOS),
    "type": ("layers", "share", "time", *_TIMES, *_WORK, *_RATIOS),
    "op": ("share", "time", *_TIMES, *_WORK),
    "phase": ("share", "time", *_WORK),
}
"""What the operators may be summed by, and the columns that each shows."""

RAN = "ran"
"""The order in which they first ran."""

SORTABLE = (RAN, "name", "type", *COLUMNS)


def check_profile_view(by: str, sort: str | None) -> None:
    """Check the words of a view before anything is measured for it.

    Raises:
        UsageError: no such view, or no such column; the nearest is suggested.
    """
    check_words(by, sort, views=VIEWS, sortable=SORTABLE)


def profile_view(
    profile: Profile,
    *,
    by: str = "layer",
    depth: int | None = None,
    sort: str | None = None,
    top: int = 0,
    exact: bool = False,
) -> View:
    """Sum a profile's operators, the slowest first.

    Args:
        by: one of :data:`VIEWS`.
        depth: a layer is folded into the module whose path ends before its ``depth``-th dot.
        sort: a column, or :data:`RAN`; ``time`` unless given, and the order of the phases for them.
        top: keep the first so many lines; 0 keeps all.
        exact: every figure is shown to the last digit.

    Raises:
        UsageError: as :func:`check_profile_view` says, or a negative ``depth`` or ``top``.
    """
    check_profile_view(by, sort)
    check_limits(depth, top)
    sort = sort or (RAN if by == "phase" else "time")
    total = _line(profile.total, profile.total.total.ms)
    unnamed = {"layer": ROOT, "type": NO_TYPE}.get(by, "")
    lines: list[Line] = [
        _line(group, profile.total.total.ms, unnamed)
        for group in profile.grouped(by, lambda layer: folded(layer, depth))
    ]
    return first_lines(
        by,
        sorted_lines(lines, None if sort == RAN else sort, COLUMNS),
        total,
        [COLUMNS[name] for name in VIEWS[by]],
        top=top,
        exact=exact,
    )


def _line(group: Group, whole_ms: float, unnamed: str = "") -> TimedLine:
    work = group.total
    flops = {phase: each.flops for phase, each in group.phases.items()}
    times: dict[str, Any] = {f"{phase}_time": _ns(group.ms(phase)) for phase in _OF_PHASES}
    return TimedLine(
        group.name or unnamed,
        group.type,
        forward=flops.get("forward", 0),
        grad_input=flops.get("grad_input", 0),
        grad_weight=flops.get("grad_weight", 0),
        recompute=flops.get("recompute", 0),
        layers=group.layers,
        share=work.ms / whole_ms if whole_ms else 0.0,
        time=_ns(work.ms),
        **times,
        predicted=_ns(work.predicted_ms),
        time_ratio=group.time_ratio,
        flops=work.flops,
        achieved=round(work.flops_per_s or 0),
        moved=round(work.bytes_per_s or 0),
        intensity=work.intensity,
        bound=WORDS[work.bound],
    )


def _ns(ms: float) -> int:
    return round(ms * 1e6)
