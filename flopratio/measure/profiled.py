"""A step under torch's profiler: the time of every row of its ledger, and all other by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from flopratio.ledger import Ledger
from flopratio.measure.interval import Interval


class StepEvent(NamedTuple):
    """An operator on the host, or a kernel on the device, of one profiled step."""

    name: str
    start_us: float
    """Since the first event of the step."""
    duration_us: float
    track: str
    """Where it ran: ``host``, ``backward`` (autograd's thread of a device) or ``stream 7``."""
    layer: str
    phase: str
    """One of :data:`flopratio.ledger.PHASES`, or empty where the time has no layer."""
    row: int | None
    """Index of the (first) row of the ledger that it is of; None of what is around operators."""


@dataclass(frozen=True)
class Profiled:
    """Of the repeats under torch's profiler; medians over them, row by row.

    Of each repeat, all time in kernels (on the CPU: in operators) is in a row, in ``rest``, in
    ``undivided`` or in ``unattributed``, once.

    Args:
        ledger: of the step as it was executed, reconciled; its rows have ``time_us``, None of
            views, of fused backward operators that nothing divides, and where no event answers.
        rest: (layer, phase) -> microseconds around the recorded operators.
        undivided: layer -> microseconds of fused backward operators that worked for several phases,
            where nothing tells how long for each.
        unmatched: recorded operators that no event answers to, with their number.
        unattributed: microseconds of events that have no layer, by name.
        phases_ms: ``forward``, ``grad_input``, ``grad_weight``, ``undivided``, ``backward``,
            ``recompute``, ``update``: time in kernels (on the CPU: in operators).
        kernels_ms: of all together.
        idle_ms: ``forward``, ``backward``, ``update`` -> the time in which none ran.
        overhead: how much longer a profiled step takes than a plain one: wall time over wall time,
            less 1.
        events: of one of the repeats, in order of their start.
        repeats: how many there were.
    """

    ledger: Ledger
    rest: Mapping[tuple[str, str], float]
    undivided: Mapping[str, float]
    unmatched: Counter[str]
    unattributed: Mapping[str, float]
    phases_ms: Mapping[str, Interval]
    kernels_ms: Interval
    idle_ms: Mapping[str, Interval]
    overhead: float
    events: list[StepEvent] = field(default_factory=list)
    repeats: int = 0
