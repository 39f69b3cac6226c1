"""The events of a profiled step joined onto the recording of the same step: the time of each
recorded operator, and so of each row of the ledger.

Forward and update run in the recorded order, so their events meet the records one after another, by
name. Backward runs node by node: ``autograd::engine::evaluate_function: AddmmBackward0``, an event,
carries the sequence number of the node, which a recorded operator carries too; the two steps count
from different numbers, but from the newest node back they count alike. (Each thread counts for
itself: a node that autograd's thread for a device has made is told by that thread.)

All time is booked once: on a row, around the recorded operators of a layer, or by its name.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice, pairwise
from typing import NamedTuple

from flopratio.formulas.dependence import DATA, depends_on, phase_of
from flopratio.ledger import Row
from flopratio.measure.events import (
    EVALUATE,
    STEP_PHASE_OF_RANGE,
    Below,
    Event,
    EventTree,
    Place,
    below,
    is_update,
    nodes_below,
    operators_of,
)
from flopratio.measure.matching import end_of, matches, plain
from flopratio.measure.nodes import same_nodes
from flopratio.measure.operators import does_something
from flopratio.trace.attribution import Attribution
from flopratio.trace.recording import ACCUMULATE_GRAD, Recording

ACCUMULATE = "torch::autograd::AccumulateGrad"


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
        untraced: operators that ran and that no record answers to, with their number.
        unattributed: time that belongs to no layer, by the events' names.
    """

    rows: list[Row]
    undivided: dict[str, float] = field(default_factory=dict)
    rest: dict[Place, float] = field(default_factory=dict)
    unmatched: Counter[str] = field(default_factory=Counter)
    untraced: Counter[str] = field(default_factory=Counter)
    unattributed: dict[str, float] = field(default_factory=dict)

    @property
    def total(self) -> float:
        """All time that was booked."""
        of_rows = sum(row.time_us or 0.0 for row in self.rows)
        others = (self.undivided, self.rest, self.unattributed)
        return of_rows + sum(sum(each.values()) for each in others)


def join(
    recording: Recording,
    attribution: Attribution,
    tree: EventTree,
    *,
    shares: Mapping[int, float] | None = None,
) -> Timed:
    """The time of every row; the events of the tree are told their layer, phase and row.

    Args:
        recording, attribution: of the step.
        tree: of a profile of one such step; the ranges around its phases may be in it.
        shares: sequence number of a fused node, as recorded -> the part of its time that goes to
            grad_input.
    """
    return _Join(recording, attribution, shares or {}).run(tree)


class _Key(NamedTuple):
    """A node of backward, as recorded."""

    in_other_thread: bool
    """Whether another thread than the one of forward made it."""
    number: int


class _Join:
    def __init__(
        self, recording: Recording, attribution: Attribution, shares: Mapping[int, float]
    ) -> None:
        self._recording = recording
        self._attribution = attribution
        self._shares = shares
        self._timed = Timed(list(attribution.rows))
        ends = [*attribution.first_rows, len(attribution.rows)]
        self._rows_of = [range(start, end) for start, end in pairwise(ends)]
        self._broken_off: set[Event] = set()
        self._inner: set[Event] = set()

    def run(self, tree: EventTree) -> Timed:
        """Book all time of a profile."""
        runs = sorted((event for event in tree.events if event.is_node), key=_start)
        thread = _thread_of_forward(tree)
        others = any(event.host.made_in not in (0, thread) for event in runs)
        forward, update, of_node, accumulated = self._records(others)
        called: list[Event] = []
        updates: list[Event] = []
        for root in tree.roots:
            if root.host.thread == thread:
                _sort_out(root, called, updates)
            elif not root.is_node:
                for event in operators_of([root]):
                    self._unattributed(event.name, event.time_ns)
        self._in_order(called, forward)
        self._in_order(updates, update)
        self._backward(runs, thread, of_node)
        accumulations = [event for event in runs if event.name.endswith(ACCUMULATE)]
        self._accumulations(accumulations, accumulated)
        for kernel in tree.orphans:
            self._unattributed(kernel.name, kernel.duration_ns)
        self._name_untraced(tree)
        return self._timed

    def _records(
        self, others: bool
    ) -> tuple[list[int], list[int], dict[_Key, list[list[int]]], list[list[int]]]:
        """The records of forward, of the update, of each run of each node and of each
        AccumulateGrad.

        Args:
            others: whether other threads made nodes: those of a backward inside of another.
        """
        recording = self._recording
        graph_of = [-1] * len(recording.records)
        for place, graph in enumerate(recording.graphs):
            for index in recording.records_of(graph):
                graph_of[index] = place  # of one inside of another, which comes later
        forward, update, accumulated = [], [], []
        runs: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
        for index, record in enumerate(recording.records):
            if record.scope == "update":
                update.append(index)
            elif record.node is None:
                forward.append(index)
            elif record.node == ACCUMULATE_GRAD:
                accumulated.append(index)
            else:
                runs[graph_of[index], record.node].append(index)
        of_node: defaultdict[_Key, list[list[int]]] = defaultdict(list)
        for (place, node), records in runs.items():
            within = place >= 0 and recording.graphs[place].within is not None
            of_node[_Key(others and within, node)].append(records)

        def leaf_of(index: int) -> tuple[int, int | None]:
            return graph_of[index], recording.accumulated.get(index)

        # For one leaf in one backward they are of one node.
        return forward, update, dict(of_node), [list(g) for _, g in groupby(accumulated, leaf_of)]

    # -- whose time an event is ----------------------------------------------------------------

    def _in_order(self, events: Sequence[Event], records: Sequence[int]) -> None:
        """Forward and update: what lies around a recorded operator is its layer's and phase's, and
        so is what comes after it; what comes before the first is the first one's."""
        self._match([one for event in events for one in _with_below(event)], records)
        place: Place | None = None
        waiting: list[Event] = []
        for event in events:
            below_too = [one.event for one in _with_below(event)]
            inside = [e for e in below_too if e.row is not None and e not in self._inner]
            if inside:
                place = inside[0].place
            if place is None:
                waiting.append(event)
                continue
            for early in waiting:
                self._around(place, self._own_time(early, []))
                early.place = place
            waiting = []
            self._around(place, self._own_time(event, inside))
            event.place = event.place or place
        for event in waiting:
            self._unattributed(event.name, self._own_time(event, []))

    def _own_time(self, event: Event, inside: Iterable[Event]) -> int:
        """Nanoseconds of an event without those of the matched ones, and of nodes, inside of it."""
        nodes = sum(node.time_ns for node in nodes_below(event))
        return event.time_ns - nodes - sum(one.time_ns for one in inside)

    def _backward(
        self, events: Iterable[Event], thread: int, of_node: dict[_Key, list[list[int]]]
    ) -> None:
        """Node by node, by number."""
        keys = [
            (event, _Key(event.host.made_in not in (0, thread), event.host.sequence))
            for event in events
            if not event.name.endswith(ACCUMULATE)
        ]
        names = {key: event.name.removeprefix(EVALUATE) for event, key in keys}
        split = any(key.in_other_thread for key in names)
        recorded: dict[_Key, int | None] = {}
        for other in (False, True) if split else (False,):
            own = {key.number: name for key, name in names.items() if key.in_other_thread is other}
            graphs = (g for g in self._recording.graphs if not split or bool(g.within) is other)
            numbers = {node for graph in graphs for node in graph.nodes} - {ACCUMULATE_GRAD}
            for number, found in same_nodes(own, numbers, self._recording.nodes).items():
                recorded[_Key(other, number)] = found
        for event, key in keys:
            same = recorded[key]
            runs = [] if same is None else of_node.get(_Key(key.in_other_thread, same), [])
            self._node(event, runs.pop(0) if runs else [], same)
        for lost in of_node.values():
            for run in lost:
                self._lost(run)

    def _node(self, event: Event, records: Sequence[int], number: int | None) -> None:
        """One node of backward: what lies around its operators is shared out by their times."""
        matched = self._match(list(below(event)), records)
        rest = self._own_time(event, matched.values())
        times: defaultdict[Place, float] = defaultdict(float)
        for record in matched:
            for row in self._rows_of[record]:
                own = self._timed.rows[row]
                times[own.layer, own.phase] += own.time_us or 0.0
        total = sum(times.values())
        place = self._place_of(records, number)
        if place is not None:
            event.place = place if len(times) < 2 else (place[0], "")
        if total:
            for each, time in times.items():
                self._around(each, rest * time / total)
        elif place is not None:
            self._around(place, rest)
        else:
            self._unattributed(event.name, rest)

    def _place_of(self, records: Sequence[int], number: int | None) -> Place | None:
        """Whom a node works for: by its operators, else by the forward operator behind it."""
        for record in records:
            row = self._timed.rows[self._rows_of[record].start]
            return row.layer, row.phase
        calls = self._attribution.forward_calls.get(-1 if number is None else number)
        if not calls:
            return None
        needed = calls[0].needed(calls[0].wanted).values()
        return calls[0].layer, phase_of(depends_on(needed) if needed else DATA)

    def _accumulations(self, events: Sequence[Event], records: Sequence[list[int]]) -> None:
        """AccumulateGrad nodes have no number, but run in the recorded order. (In one that does
        not, because its gradient was asked for, nothing runs.)"""
        if len(events) != len(records):
            for event in events:
                if not event.children:
                    self._node(event, [], None)
            events = [event for event in events if event.children]
        if len(events) == len(records):
            for event, own in zip(events, records, strict=True):
                self._node(event, own, None)
            return
        for own in records:
            self._lost(own)
        for event in events:
            self._node(event, [], None)

    # -- matching ------------------------------------------------------------------------------

    def _match(self, events: Sequence[Below], records: Sequence[int]) -> dict[int, Event]:
        """Record -> the event of it."""
        matched: dict[int, Event] = {}
        # Views are made in other ways while a dispatch mode watches; they are part of the rest.
        wanted = [
            (record, self._name_of(record)) for record in records if not self._is_view(record)
        ]
        places = matches([name for _, name in wanted], events)
        following = 0
        computing_again = False
        missed: list[tuple[int, str]] = []
        for (record, name), index in zip(wanted, places, strict=True):
            if index is None or index < following:
                missed.append((record, name))
                continue
            event = events[index].event
            if computing_again and self._recording.records[record].scope != "recompute":
                self._break_off(events[following:index])
            computing_again = self._recording.records[record].scope == "recompute"
            matched[record] = event
            event.row = self._rows_of[record].start
            row = self._timed.rows[event.row]
            event.place = row.layer, row.phase
            following = end_of(events, index)
            inside = self._match_inside(missed, events[index + 1 : following])
            self._put(record, event.time_ns - inside)
            missed = []
        self._match_inside(missed, ())
        if computing_again:
            self._break_off(events[following:])
        return matched

    def _match_inside(self, records: Iterable[tuple[int, str]], events: Sequence[Below]) -> int:
        """Records of which the event is inside of the next record's: what is written over is copied
        first, and the copy is dispatched before what calls for it.

        Returns:
            Their time.
        """
        time_ns = 0
        for record, name in records:
            inside = (event for event, _ in events if plain(event.name) == plain(name))
            event = next(inside, None)
            if event is None or event.row is not None:
                self._timed.unmatched[name] += 1
                continue
            self._inner.add(event)
            event.row = self._rows_of[record].start
            self._put(record, event.time_ns)
            time_ns += event.time_ns
        return time_ns

    def _break_off(self, events: Iterable[Below]) -> None:
        """A checkpoint stops computing when the last tensor is back that is needed: in the middle
        of an operator, which is begun and never runs."""
        begun = (event for event, _ in events if does_something(event.name))
        self._broken_off.update(islice(begun, 1))

    def _name_untraced(self, tree: EventTree) -> None:
        """The operators without a record that a trace would have seen, not what they call, nor what
        calls one with a record."""
        around_matched = set()
        for event, parent in zip(reversed(tree.events), reversed(tree.parents), strict=True):
            if event.row is not None or event in around_matched:
                around_matched.add(parent)
        inside = set()
        for event, parent in zip(tree.events, tree.parents, strict=True):
            if parent in inside or event.row is not None:
                inside.add(event)
            elif event not in around_matched and does_something(event.name):
                inside.add(event)
                if event in self._broken_off:
                    continue
                self._timed.untraced[event.name] += 1
        # Views, and what gives a value to Python, have a record, and are not looked for.
        records = range(len(self._recording.records))
        self._timed.untraced -= Counter(self._name_of(i) for i in records if self._is_view(i))

    def _lost(self, records: Iterable[int]) -> None:
        """Records of which no node ran."""
        self._timed.unmatched.update(
            self._name_of(record) for record in records if not self._is_view(record)
        )

    def _name_of(self, record: int) -> str:
        return self._recording.records[record].op.name.replace(".", "::", 1)

    def _is_view(self, record: int) -> bool:
        rows = (self._attribution.rows[row] for row in self._rows_of[record])
        return not any(row.flops or row.elementwise or row.bytes_written for row in rows)

    # -- booking -------------------------------------------------------------------------------

    def _put(self, record: int, time_ns: float) -> None:
        """The time of a record, to its rows: one, or several of a fused operator."""
        rows = [self._timed.rows[row] for row in self._rows_of[record]]
        time = time_ns / 1e3
        parts: Sequence[float | None]
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
            if part is None:
                continue
            row = self._timed.rows[index]
            self._timed.rows[index] = row._replace(time_us=(row.time_us or 0.0) + part)

    def _divide(self, rows: list[Row], node: int | None, time: float) -> list[float | None] | None:
        """The time of a fused backward operator, by its phases; None if nothing tells. What it
        computes again within (of attention) is for its gradients, and has no time of its own."""
        phases = [row.phase for row in rows]
        gradients = sorted(set(phases) - {"recompute"})
        if len(gradients) == 1 and phases.count(gradients[0]) == 1:
            return [time if phase == gradients[0] else None for phase in phases]
        share = self._shares.get(node) if node is not None else None
        if share is None or sorted(phases) != ["grad_input", "grad_weight"]:
            return None
        return [time * (share if phase == "grad_input" else 1 - share) for phase in phases]

    def _around(self, place: Place, time_ns: float) -> None:
        if time_ns:
            self._timed.rest[place] = self._timed.rest.get(place, 0.0) + time_ns / 1e3

    def _unattributed(self, name: str, time_ns: float) -> None:
        if time_ns:
            before = self._timed.unattributed.get(name, 0.0)
            self._timed.unattributed[name] = before + time_ns / 1e3


def _start(event: Event) -> int:
    return event.host.start_ns


def _with_below(event: Event) -> Iterator[Below]:
    """An event, and those below it."""
    yield Below(event, -1)
    yield from below(event)


def _thread_of_forward(tree: EventTree) -> int:
    """The thread that called the step: the one with a range of it, else the one in which most ran
    that is no backward, else the one that made most nodes."""
    roots = tree.roots
    threads = (
        [root.host.thread for root in roots if root.name in STEP_PHASE_OF_RANGE]
        or [root.host.thread for root in roots if not root.is_node]
        or [root.host.made_in for root in roots if root.host.made_in]
    )
    return Counter(threads).most_common(1)[0][0] if threads else 0


def _sort_out(event: Event, called: list[Event], updates: list[Event]) -> None:
    """Append the operators of an event to those that the step called, or to an update's."""
    if not event.is_range:
        if not event.is_node:
            called.append(event)
        return
    if is_update(event):
        called = updates
    for child in event.children:
        _sort_out(child, called, updates)
