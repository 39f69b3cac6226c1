"""A step under torch's profiler: the time of every row of its ledger, and all other by name."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from flopratio.ledger import Ledger, Row
from flopratio.measure.events import EventTree, Kernel, Place, idle_ns, step_phases
from flopratio.measure.interval import Interval
from flopratio.measure.join import Timed
from flopratio.measure.layers import LayerTime, layer_times
from flopratio.memory import STEP_PHASES
from flopratio.roofline import StepTimes

PHASES = ("forward", "grad_input", "grad_weight", "undivided", "backward", "recompute", "update")
"""What the time in kernels is split into; ``backward`` is the three before it together."""


class StepEvent(NamedTuple):
    """An operator on the host, or a kernel on the device, of one profiled step."""

    name: str
    start_us: float
    """Since the first event of the step."""
    duration_us: float
    track: str
    """Where it ran: ``host``, ``host backward`` (autograd's thread for a device), ``stream 7``."""
    layer: str
    phase: str
    """One of :data:`flopratio.ledger.PHASES`; of a node that works for several, and where the time
    has no layer, empty."""
    row: int | None
    """Index of the (first) row of the ledger that it is of; None of what is around operators."""


@dataclass(frozen=True)
class Profiled:
    """Of the repeats under torch's profiler; medians over them, row by row.

    Of each repeat, all time in kernels (on the CPU: in operators) is in a row, in ``rest``, in
    ``undivided`` or in ``unattributed``, once.

    Args:
        ledger: of the step as it was executed, reconciled; its rows have ``time_us``, None of
            views, of fused backward operators that nothing divides, where no event answers, and of
            what attention's backward computes again within (it is in the time of its gradients).
        rest: (layer, phase) -> microseconds around the recorded operators.
        undivided: layer -> microseconds of fused backward operators that worked for several phases,
            where nothing tells how long for each.
        unmatched: recorded operators that no event answers to, with their number.
        untraced: operators that ran and that no record answers to, with their number.
        unattributed: microseconds of events that have no layer, by name.
        phases_ms: of each of :data:`PHASES`, time in kernels (on the CPU: in operators).
        kernels_ms: of all together.
        idle_ms: ``forward``, ``backward``, ``update`` -> the time in which none ran.
        wall_ms: of a step without the profiler, from its first line to the end of its last kernel,
            with the time in which the device waits for the host.
        overhead: how much longer a profiled step takes than a plain one: wall time over wall time,
            less 1.
        time_ratio: backward over forward without the profiler.
        forward_ms, backward_ms: without the profiler.
        events: of one of the repeats, in order of their start.
        repeats: how many there were.
    """

    ledger: Ledger
    rest: Mapping[Place, float]
    undivided: Mapping[str, float]
    unmatched: Counter[str]
    untraced: Counter[str]
    unattributed: Mapping[str, float]
    phases_ms: Mapping[str, Interval]
    kernels_ms: Interval
    idle_ms: Mapping[str, Interval]
    wall_ms: Interval
    overhead: float
    time_ratio: float | None = None
    forward_ms: float | None = None
    backward_ms: float | None = None
    events: list[StepEvent] = field(default_factory=list)
    repeats: int = 0

    def times(self) -> StepTimes:
        """What the explanation of a time ratio starts from."""
        return StepTimes(
            self.ledger.rows,
            self.rest,
            self.undivided,
            self.idle_ms["forward"].median * 1e3,
            self.idle_ms["backward"].median * 1e3,
            self.time_ratio,
            None if self.forward_ms is None else self.forward_ms * 1e3,
            None if self.backward_ms is None else self.backward_ms * 1e3,
        )


@dataclass(frozen=True)
class ProfiledStep:
    """One repeat.

    Args:
        timed: the time of its rows.
        layers: layer -> its time.
        kernels_us: in kernels (on the CPU: in operators).
        idle_us: phase of the step -> the time in which none ran.
        wall_ms: how long it took under the profiler.
        plain_ms: how long one without the profiler took beside it.
    """

    timed: Timed
    layers: dict[str, LayerTime]
    kernels_us: float
    idle_us: dict[str, float]
    wall_ms: float
    plain_ms: float

    @classmethod
    def of(
        cls, timed: Timed, tree: EventTree, *, on_device: bool, wall_ms: float, plain_ms: float
    ) -> ProfiledStep:
        """From the events of a step that are joined."""
        idle = idle_ns(tree, on_device=on_device)
        return cls(
            timed,
            layer_times(timed),
            tree.total_ns / 1e3,
            {phase: time / 1e3 for phase, time in idle.items()},
            wall_ms,
            plain_ms,
        )


def profiled_of(
    ledger: Ledger,
    steps: Sequence[ProfiledStep],
    *,
    events: list[StepEvent],
    time_ratio: float | None,
    forward_ms: float | None = None,
    backward_ms: float | None = None,
) -> Profiled:
    """The medians over the repeats.

    Args:
        ledger: of the step; it gets the times.
        time_ratio, forward_ms, backward_ms: without the profiler.
    """
    timed = [step.timed for step in steps]
    ledger.rows = _median_rows(timed)
    walls = [step.wall_ms for step in steps]
    plain = Interval.of(step.plain_ms for step in steps)
    return Profiled(
        ledger,
        rest=_medians(each.rest for each in timed),
        undivided=_medians(each.undivided for each in timed),
        unmatched=_most(each.unmatched for each in timed),
        untraced=_most(each.untraced for each in timed),
        unattributed=_medians(each.unattributed for each in timed),
        phases_ms={
            phase: Interval.of(
                sum(getattr(layer, phase) for layer in step.layers.values()) / 1e3 for step in steps
            )
            for phase in PHASES
        },
        kernels_ms=Interval.of(step.kernels_us / 1e3 for step in steps),
        idle_ms={
            phase: Interval.of(step.idle_us[phase] / 1e3 for step in steps) for phase in STEP_PHASES
        },
        wall_ms=plain,
        overhead=statistics.median(walls) / plain.median - 1 if plain.median else 0.0,
        time_ratio=time_ratio,
        forward_ms=forward_ms,
        backward_ms=backward_ms,
        events=events,
        repeats=len(steps),
    )


def step_events(tree: EventTree) -> list[StepEvent]:
    """The events of a step that is joined, for people: kernels, and on the host what is recorded
    and what is around it, without what a recorded operator calls for itself."""
    places: dict[object, tuple[Place, int | None]] = {}
    phases = step_phases(tree)
    kept: list[tuple[int, int, str, str, Place, int | None]] = []
    threads = {root.host.thread for root in tree.roots if phases[root] != "backward"}
    hidden = set()
    for event, parent in zip(tree.events, tree.parents, strict=True):
        above = places[parent] if parent is not None else (("", ""), None)
        place = event.place or above[0]
        row = event.row if event.row is not None else above[1]
        places[event] = place, row
        track = "host" if event.host.thread in threads else "host backward"
        if parent in hidden or above[1] is not None:
            hidden.add(event)
        elif not event.is_range:
            host = event.host
            kept.append((host.start_ns, host.end_ns, host.name, track, place, event.row))
        kept += [_kept(kernel, place, row) for kernel in event.kernels]
    kept += [_kept(kernel, ("", ""), None) for kernel in tree.orphans]
    kept.sort(key=lambda each: (each[0], -each[1]))
    first = kept[0][0] if kept else 0
    return [
        StepEvent(name, (start - first) / 1e3, (end - start) / 1e3, track, *place, row)
        for start, end, name, track, place, row in kept
    ]


def _kept(
    kernel: Kernel, place: Place, row: int | None
) -> tuple[int, int, str, str, Place, int | None]:
    track = f"stream {kernel.stream}"
    return kernel.start_ns, kernel.end_ns, kernel.name, track, place, row


def _median_rows(steps: Sequence[Timed]) -> list[Row]:
    rows = []
    for same in zip(*(step.rows for step in steps), strict=True):
        times = [row.time_us for row in same if row.time_us is not None]
        rows.append(same[0]._replace(time_us=statistics.median(times) if times else None))
    return rows


K = TypeVar("K")


def _medians(times: Iterable[Mapping[K, float]]) -> dict[K, float]:
    """Key by key; where a step has none it took no time."""
    all_times = list(times)
    keys = dict.fromkeys(key for each in all_times for key in each)
    return {key: statistics.median(each.get(key, 0.0) for each in all_times) for key in keys}


def _most(counts: Iterable[Counter[str]]) -> Counter[str]:
    """The most of each in any step."""
    most: Counter[str] = Counter()
    for each in counts:
        most |= each
    return most
