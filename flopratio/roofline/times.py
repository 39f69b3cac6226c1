"""The times of a step, measured or predicted, as the explanation takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from flopratio.ledger import Row


@dataclass(frozen=True)
class StepTimes:
    """The times of a step, in µs.

    Args:
        rows: the ledger's, with their ``time_us``; None where an operator's time is not known, or
            it has none.
        rest: (layer, phase) -> time around the operators: Python, autograd's engine.
        undivided: layer -> time of fused backward operators that nothing divides over their rows,
            which have no time of their own.
        idle_forward_us, idle_backward_us: in which no kernel ran, where ``rows`` have kernels'
            times.
        time_ratio: backward over forward as the clock says without the profiler, under which the
            other times were taken; None where they were taken without one, or predicted.
        forward_us, backward_us: what they took by that clock; None where that is not known.
    """

    rows: Sequence[Row]
    rest: Mapping[tuple[str, str], float] = field(default_factory=dict)
    undivided: Mapping[str, float] = field(default_factory=dict)
    idle_forward_us: float = 0.0
    idle_backward_us: float = 0.0
    time_ratio: float | None = None
    forward_us: float | None = None
    backward_us: float | None = None
