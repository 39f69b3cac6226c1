"""The events of a profiled step joined onto the recording of the same step: the time of each
recorded operator, and so of each row of the ledger.

Forward and update run in the recorded order, so their events meet the records one after another, by
name. Backward runs node by node: ``autograd::engine::evaluate_function: AddmmBackward0``, an event,
carries the sequence number of the node, which a recorded operator carries too; the two steps count
from different numbers, but from the newest node back they count alike.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

from flopratio.formulas.dependence import DATA, depends_on, phase_of
from flopratio.ledger import Row
from flopratio.trace.attribution import Attribution
from flopratio.trace.recording import ACCUMULATE_GRAD, Recording

FORWARD_RANGE = "flopratio.forward"
UPDATE_RANGE = "flopratio.update"
"""The names of the ranges in the profile around forward and update."""

EVALUATE = "autograd::engine::evaluate_function: "
ACCUMULATE = "torch::autograd::AccumulateGrad"


NEARBY = 50
"""How many events further on an operator is looked for. One that torch runs in another way while a
dispatch mode watches is not to be taken for the next of its name, and all between for lost."""


@dataclass
class Timed:
    """A step's time, by the rows of its ledger; microseconds.

    Args:
        rows: the ledger's, with their ``time_us``; None where no event answers to the operator, and
            for views.
        undivided: layer -> time of fused backward operators that worked for several phases, if
            nothing tells how long for each.
        rest: (layer, phase) -> time around the recorded operators.
        unmatched: recorded operators that no event answers to, with their number.
    """

    rows: list[Row]
    undivided: dict[str, float] = field(default_factory=dict)
    rest: dict[tuple[str, str], float] = field(default_factory=dict)
    unmatched: Counter[str] = field(default_factory=Counter)


def newest_node(recording: Recording) -> int:
    """The sequence number of the newest node that a backward of the step reached."""
    numbers = (node for graph in recording.graphs for node in graph.nodes)
    return max((node for node in numbers if node != ACCUMULATE_GRAD), default=-1)


def join(
    recording: Recording,
    attribution: Attribution,
    events: Iterable[Any],
    *,
    on_device: bool,
    shares: Mapping[int, float] | None = None,
) -> Timed:
    """The time of every row.

    Args:
        recording, attribution: of the step.
        events: the host's, of a profile of one such step, with :data:`FORWARD_RANGE` around its
            forward and :data:`UPDATE_RANGE` around its update.
        on_device: whether kernels' times count, rather than the processor's.
        shares: sequence number of a fused node, as recorded -> the part of its time that goes to
            grad_input.
    """
    return _Join(recording, attribution, on_device, shares or {}).run(events)


class _Join:
    def __init__(
        self,
        recording: Recording,
        attribution: Attribution,
        on_device: bool,
        shares: Mapping[int, float],
    ) -> None:
        self._recording = recording
        self._attribution = attribution
        self._time = "device_time_total" if on_device else "cpu_time_total"
        self._shares = shares
        self._timed = Timed(list(attribution.rows))
        ends = [*attribution.first_rows, len(attribution.rows)]
        self._rows_of = [range(start, end) for start, end in pairwise(ends)]
        self._forward: list[int] = []
        self._update: list[int] = []
        self._accumulated: list[int] = []
        self._of_node: defaultdict[int, list[int]] = defaultdict(list)
        for index, record in enumerate(recording.records):
            if record.scope == "update":
                self._update.append(index)
            elif record.node is None:
                self._forward.append(index)
            elif record.node == ACCUMULATE_GRAD:
                self._accumulated.append(index)
            else:
                self._of_node[record.node].append(index)

    def run(self, events: Iterable[Any]) -> Timed:
        host = sorted(events, key=lambda event: event.time_range.start)
        evaluations = [event for event in host if event.name.startswith(EVALUATE)]
        for event in host:
            if event.name == FORWARD_RANGE:
                self._in_order(event, self._forward)
            elif event.name == UPDATE_RANGE:
                self._in_order(event, self._update)
        newest = max((event.sequence_nr for event in evaluations), default=-1)
        offset = newest_node(self._recording) - newest
        accumulated = iter(self._accumulated)
        for event in evaluations:
            if event.name.endswith(ACCUMULATE):
                self._accumulate(event, next(accumulated, None))
            else:
                self._node(event, event.sequence_nr + offset)
        return self._timed

    # -- whose time an event is ----------------------------------------------------------------

    def _in_order(self, event: Any, records: Sequence[int]) -> None:
        """Forward and update: what lies around a recorded operator is its layer's and phase's."""
        matched, _ = self._match(event, records)
        answers = {id(own): record for record, own in matched.items()}
        place: tuple[str, str] | None = None
        before = 0.0
        for child in _ordered(event.cpu_children):
            family = [child, *(below.event for below in _below(child))]
            inside = [answers[id(member)] for member in family if id(member) in answers]
            around = self._of(child) - sum(self._of(matched[record]) for record in inside)
            if inside:
                row = self._timed.rows[self._rows_of[inside[0]].start]
                place = row.layer, row.phase
                around, before = around + before, 0.0
            if place is None:  # before the first recorded operator: the first one's
                before += around
            else:
                self._around(place, around)
        self._book(matched)

    def _node(self, event: Any, node: int) -> None:
        """One node of backward: what lies around its operators is shared out by their times."""
        records = self._of_node.get(node, [])
        matched, inner = self._match(event, records)
        self._book(matched)
        rest = self._of(event) - sum(map(self._of, matched.values())) - inner
        own = [self._timed.rows[row] for record in matched for row in self._rows_of[record]]
        times: defaultdict[tuple[str, str], float] = defaultdict(float)
        for row in own:
            times[row.layer, row.phase] += row.time_us or 0.0
        total = sum(times.values())
        if total:
            for place, time in times.items():
                self._around(place, rest * time / total)
        elif own:
            self._around((own[0].layer, own[0].phase), rest)
        elif node in self._attribution.forward_calls:
            call = self._attribution.forward_calls[node][0]
            needed = call.needed(call.wanted).values()
            self._around((call.layer, phase_of(depends_on(needed) if needed else DATA)), rest)

    def _accumulate(self, event: Any, record: int | None) -> None:
        """AccumulateGrad nodes have no number, but run in the recorded order."""
        if record is not None:
            self._put(record, self._of(event))

    # -- matching ------------------------------------------------------------------------------

    def _match(self, event: Any, records: Sequence[int]) -> tuple[dict[int, Any], float]:
        """Record -> the event of it, among those below an event; and the time of the backward nodes
        that ran inside (of a reentrant checkpoint), which have their own."""
        everything = list(_below(event))
        inner = sum(self._of(below.event) for below in everything if below.is_node)
        below = [one for one in everything if not one.is_node]
        matched: dict[int, Any] = {}
        position = 0
        for record in records:
            if self._is_view(record):
                continue  # made in other ways while a dispatch mode watches; part of the rest
            name = self._recording.records[record].op.name.replace(".", "::", 1)
            # Sums that torch adds up in place it makes anew while a dispatch mode watches.
            names = (name, f"{name}_")
            near = range(position, min(position + NEARBY, len(below)))
            following = next((i for i in near if below[i].event.name in names), None)
            if following is None:
                self._timed.unmatched[name] += 1
                continue
            matched[record] = below[following].event
            position = following + 1
            while position < len(below) and below[position].depth > below[following].depth:
                position += 1  # what a kernel calls for itself
        return matched, inner

    def _is_view(self, record: int) -> bool:
        rows = (self._timed.rows[row] for row in self._rows_of[record])
        return not any(row.flops or row.elementwise or row.bytes_written for row in rows)

    def _of(self, event: Any) -> float:
        return float(getattr(event, self._time))

    # -- booking -------------------------------------------------------------------------------

    def _book(self, matched: Mapping[int, Any]) -> None:
        for record, event in matched.items():
            self._put(record, self._of(event))

    def _put(self, record: int, time: float) -> None:
        """The time of a record, to its rows: one, or several of a fused operator."""
        rows = [self._timed.rows[row] for row in self._rows_of[record]]
        if len(rows) == 1:
            parts = [time]
        elif len({row.layer for row in rows}) > 1:  # an update of all parameters: by what it moves
            moved = [row.bytes_read + row.bytes_written for row in rows]
            parts = [time * own / (sum(moved) or 1) for own in moved]
        else:
            divided = self._divide(rows, self._recording.records[record].node, time)
            if divided is None:
                layer = rows[0].layer
                self._timed.undivided[layer] = self._timed.undivided.get(layer, 0.0) + time
                return
            parts = divided
        for index, part in zip(self._rows_of[record], parts, strict=True):
            row = self._timed.rows[index]
            self._timed.rows[index] = row._replace(time_us=(row.time_us or 0.0) + part)

    def _divide(self, rows: list[Row], node: int | None, time: float) -> list[float] | None:
        """The time of a fused backward operator, by its phases; None if nothing tells."""
        phases = [row.phase for row in rows]
        share = self._shares.get(node) if node is not None else None
        if share is None or sorted(phases) != ["grad_input", "grad_weight"]:
            return None
        return [time * (share if phase == "grad_input" else 1 - share) for phase in phases]

    def _around(self, place: tuple[str, str], time: float) -> None:
        self._timed.rest[place] = self._timed.rest.get(place, 0.0) + time


def _ordered(events: Iterable[Any]) -> list[Any]:
    return sorted(events, key=lambda event: event.time_range.start)


class _Below(NamedTuple):
    """An event below another, so many levels deep."""

    event: Any
    depth: int
    is_node: bool
    """Whether another node of backward is evaluated here; what is below that is left out."""


def _below(event: Any, depth: int = 0) -> Iterator[_Below]:
    """The events below an event, each before its own children."""
    for child in _ordered(event.cpu_children):
        is_node = child.name.startswith(EVALUATE)
        yield _Below(child, depth, is_node)
        if not is_node:
            yield from _below(child, depth + 1)
