"""Which forward operators stand behind an autograd node, and which of their gradients a backward
asks of it.

Of most nodes it is the one operator that has its number. Three kinds are otherwise:

- The node of a user-defined ``autograd.Function`` stands for all operators inside.
- An operator that writes to a view gets a node inside of another one, which the engine sees and
  which is made after the operator has run.
- ``torch.func`` differentiates on levels of its own, above the one on which operators are
  dispatched. There a node stands for all operators that ran until the next one was made.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from functools import cached_property
from typing import Any

from flopratio.trace.evaluation import shapes
from flopratio.trace.forward_call import ForwardCall, Wanted, is_differentiable
from flopratio.trace.recording import Graph, Record, Recording

Behind = list[tuple[ForwardCall, Wanted]]
"""The operators behind a node, each with the arguments whose gradients are asked for."""


class Nodes:
    """The nodes of a recording.

    Args:
        recording: with all of its records.

    Attributes:
        calls: sequence number -> the operators for which the node of that number was made.
        every: each operator so far, if any is differentiated by ``torch.func``.
        run_again: those that backward has run again.
    """

    def __init__(self, recording: Recording) -> None:
        self.calls: defaultdict[int, list[ForwardCall]] = defaultdict(list)
        self.every: list[ForwardCall] = []
        self.run_again: set[ForwardCall] = set()
        self.has_transforms = any(graph.transformed for graph in recording.graphs)
        self._recording = recording
        self._written: list[int] = []
        """The nodes of operators that write to an argument, in order."""
        self._reached: dict[int, set[int]] = {}
        self._replays: dict[tuple[int, int], Replays] = {}
        self._first_runs: dict[int, dict[ForwardCall, tuple[ForwardCall, Wanted]]] = {}

    def add(self, number: int, call: ForwardCall) -> None:
        """Another operator for which a node was made."""
        self.calls[number].append(call)
        if call.record.op.is_mutable:
            insort(self._written, number)

    def behind(self, graph: Graph, number: int) -> Behind:
        """The operators behind a node of a backward's graph."""
        behind = self._behind(graph, number)
        first_runs = self._first_runs_of(graph)
        if not first_runs:
            return behind
        return [
            (call, _both(wanted, first_runs[call][1]) if call in first_runs else wanted)
            for call, wanted in behind
        ]

    def _behind(self, graph: Graph, number: int) -> Behind:
        edges = graph.nodes.get(number, ())
        if graph.transformed:
            return self._inside_of_transforms(graph, number, edges)
        if number in graph.on_views:
            number = self._written_before(number)
        calls = self.calls.get(number)
        if not calls:
            return []
        if number in graph.functions:
            return self._in_function(graph, number, reached_by_gradient(calls), edges)
        if not graph.restricted:  # every edge leads to a leaf
            return [(call, call.wanted) for call in reached_by_gradient(calls)]
        return [(call, call.asked(edges)) for call in reached_by_gradient(calls)]

    # -- backward within backward -----------------------------------------------------------
    #
    # The backward of a user's function may run the function's forward again with gradients on, and
    # call for a backward of that: a reentrant checkpoint does. Which gradients there are is then
    # autograd's to say; which are asked for, the function's forward.

    def is_within_function(self, graph: Graph) -> bool:
        """Whether the backward of a user's function called for a backward, whose forward was
        seen."""
        if graph.within is None or graph.within[0] < 0:
            return False
        place, number = graph.within
        functions = self._recording.graphs[place].functions
        return number in functions and number in self._recording.functions

    def left_to_inner(self, place: int, number: int) -> Collection[ForwardCall]:
        """Those of the operators behind a function's node that its backward ran again, if it called
        for a backward of them: their gradients count there.

        Args:
            place: of the graph that the node is in.
            number: of the node.
        """
        inner = self._inner.get((place, number))
        if not inner:
            return ()
        first_runs = (first for graph in inner for first, _ in self._first_runs_of(graph).values())
        return {*self.run_again, *first_runs}

    @cached_property
    def _inner(self) -> dict[tuple[int, int], list[Graph]]:
        """(graph, node) -> the backwards that a function's backward called for."""
        inner: defaultdict[tuple[int, int], list[Graph]] = defaultdict(list)
        for graph in self._recording.graphs:
            # One that ran nothing belongs to a graph that is only traced.
            ran = len(self._recording.records_of(graph)) > 0
            if graph.within is not None and ran and self.is_within_function(graph):
                inner[graph.within].append(graph)
        return dict(inner)

    def _first_runs_of(self, graph: Graph) -> dict[ForwardCall, tuple[ForwardCall, Wanted]]:
        """The operators behind such an inner backward that the function's forward had run already:
        that first run, and which gradients are asked of it."""
        if graph.within not in self._inner or not self.is_within_function(graph):
            return {}
        found = self._first_runs.get(id(graph))
        if found is None:
            place, number = graph.within
            asked = dict(self.behind(self._recording.graphs[place], number))
            replays = self._replays.setdefault(graph.within, Replays(asked))
            found = self._first_runs[id(graph)] = {}
            for node in graph.nodes:
                for call, _ in self._behind(graph, node):
                    first = replays.take_like(call.record)
                    if first is not None:
                        found[call] = first, asked[first]
        return found

    # -- writing to views -------------------------------------------------------------------

    def _written_before(self, number: int) -> int:
        """The number of the operator that wrote to a view right before a node was made."""
        written = self._written
        position = bisect_left(written, number)
        return written[position - 1] if position else -1

    # -- user-defined functions -------------------------------------------------------------

    def _in_function(
        self, graph: Graph, number: int, calls: list[ForwardCall], edges: Wanted
    ) -> Behind:
        """A function's node has an edge for each of its own tensor arguments."""
        function = self._recording.functions.get(number)
        if not graph.restricted or function is None or len(function.inputs) != len(edges):
            return [(call, call.wanted) for call in calls]
        asked = {at for at, leads in zip(function.inputs, edges, strict=True) if leads}
        others = set(function.inputs) - asked
        behind = []
        for call in calls:
            flags = zip(call.wanted, call.record.inputs, strict=False)
            wanted = tuple(flag and at not in others for flag, at in flags)
            if any(call.wanted) and not any(wanted):
                others.update(call.record.outputs)
            behind.append((call, wanted))
        return behind

    # -- torch.func -------------------------------------------------------------------------

    @cached_property
    def _groups(self) -> tuple[list[int], list[int]]:
        """Where nodes of ``torch.func`` were made: the newest number of each place, and the index
        of the record that followed. Of the numbers since the last record, a record's own node has
        the newest."""
        newest, first = [], []
        before = -1
        for index, record in enumerate(self._recording.records):
            made = record.sequence - (record.grad_enabled and any(record.requires_grad))
            if made > before:
                newest.append(made)
                first.append(index)
            before = max(before, record.sequence)
        first.append(len(self._recording.records))
        return newest, first

    def _inside_of_transforms(self, graph: Graph, number: int, edges: Wanted) -> Behind:
        newest, first = self._groups
        group = bisect_left(newest, number)
        if group == len(newest) or not any(edges):
            return []
        reached = self._reached_by_inputs(graph)
        behind = []
        stop = min(first[group + 1], graph.records.start)
        calls = self.every[first[group] : stop]
        for call in calls:
            if call.record.node != calls[0].record.node:
                break  # a backward has begun, or ended
            wanted = tuple(at in reached for at in call.record.inputs)
            if sum(wanted) > sum(edges):  # a detached tensor has the storage of the other
                wanted = call.asked(edges) if len(call.wanted) == len(edges) else wanted
            if any(wanted) and call.costed.cost.gradients:
                behind.append((call, wanted))
        return behind

    def _reached_by_inputs(self, graph: Graph) -> set[int]:
        """The storages that depend on what is differentiated for."""
        reached = self._reached.get(id(graph))
        if reached is None:
            reached = self._reached[id(graph)] = set(graph.inputs)
            newest, first = self._groups
            start = first[bisect_left(newest, min(graph.nodes, default=0))]
            for record in self._recording.records[start : graph.records.start]:
                if not reached.isdisjoint(record.inputs) and is_differentiable(record.results):
                    reached.update(record.outputs)
        return reached


def reached_by_gradient(calls: Sequence[ForwardCall]) -> list[ForwardCall]:
    """Those of the operators behind a node that a gradient can reach. Inside of a user-defined
    function nothing tells but the values: whatever only leads to a choice (an ``argmax``, a
    comparison) gets none. Whole numbers lead on if they are a product's, or its factors; not as the
    index of one."""
    if len(calls) < 2:
        return list(calls)
    used_later: dict[int, bool] = {}
    factors: set[int] = set()
    reached = []
    for call in reversed(calls):
        outputs = call.record.outputs
        used = [used_later[number] for number in outputs if number in used_later]
        differentiable = is_differentiable(call.record.results)
        # What makes a factor of whole numbers is followed to its own operands; of other factors
        # the values tell, and what chooses among them is no factor.
        is_whole_factor = not differentiable and not factors.isdisjoint(outputs)
        multiplies = bool(call.costed.cost.flops) or is_whole_factor
        leads = (multiplies or differentiable) and (any(used) or not used)
        if leads:
            reached.append(call)
            if multiplies:
                factors.update(call.record.inputs)
        for number in call.record.inputs:
            used_later[number] = used_later.get(number, False) or leads
    return reached[::-1]


class Replays:
    """The forward operators behind a node that have not yet been found among those that its run
    executes.

    Args:
        calls: in order.
    """

    def __init__(self, calls: Iterable[ForwardCall]) -> None:
        self._calls: defaultdict[Any, list[ForwardCall]] = defaultdict(list)
        for call in calls:
            self._calls[_signature(call.record)].append(call)

    def take(self, record: Record, inputs: tuple[int, ...]) -> ForwardCall | None:
        """The first with the operator and the shapes of a record, and with these storages."""
        calls = self._calls.get(_signature(record), [])
        for position, call in enumerate(calls):
            if call.record.inputs == inputs:
                return calls.pop(position)
        return None

    def take_like(self, record: Record) -> ForwardCall | None:
        """The first with the operator and the shapes of a record; one of its layer, if there is."""
        calls = self._calls.get(_signature(record), [])
        for position, call in enumerate(calls):
            if call.record.layer == record.layer:
                return calls.pop(position)
        return calls.pop(0) if calls else None


def _both(one: Wanted, other: Wanted) -> Wanted:
    if len(one) != len(other):
        return one
    return tuple(first and second for first, second in zip(one, other, strict=True))


def _signature(record: Record) -> tuple[Any, ...]:
    return (record.op, *shapes(record))
