"""From the recorder's notes to the ledger's rows: which layer, phase and operand each operator
worked for.

Forward and backward meet on autograd's sequence numbers: the node that is running in backward has
the number that the counter showed when its forward operator was dispatched. So a backward operator
knows its forward operator; and that operator's formula says which gradients it has, in which order
and by which operators, so that each executed product finds the operand that it was made for.
"""

from __future__ import annotations

import gc
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from flopratio.errors import FormulaError
from flopratio.formulas import Cost
from flopratio.formulas.dependence import CONSTANT, DATA, PARAMETERS, phase_among, phase_of
from flopratio.ledger import Row
from flopratio.trace.evaluation import Costed, Evaluator, uncounted, written_by
from flopratio.trace.forward_call import ForwardCall
from flopratio.trace.kept import most_kept
from flopratio.trace.node_run import NodeRun
from flopratio.trace.nodes import Nodes
from flopratio.trace.recording import ACCUMULATE_GRAD, OUTSIDE, Graph, Record, Recording
from flopratio.trace.update import Update


@dataclass(frozen=True)
class Attribution:
    """What each operator of a recording worked for.

    Args:
        rows: the ledger's table.
        first_rows: record index -> index of its (first) row.
        nodes: the forward operators behind each autograd node.
        copies: (node, storage) -> the copy that the node keeps, of a value that is about to be
            written over.
        uncounted_ops: operators that no formula knows, with the number of their calls.
        uncounted_in_backward: those of them that ran in backward, or whose gradients can't be told;
            and operators whose formula tells none, where a user's backward computes some.
        ran: the nodes that ran an operator: the place of the graph, and the sequence number.
        keepers: storage that is kept when most is -> index of the row that it is in; and which of
            the tensors it is that its node keeps.
    """

    rows: list[Row]
    first_rows: list[int]
    nodes: Nodes
    copies: dict[tuple[int, int], int]
    uncounted_ops: dict[str, int]
    uncounted_in_backward: frozenset[str]
    ran: frozenset[tuple[int, int]]
    keepers: dict[int, tuple[int, int]]

    @property
    def forward_calls(self) -> dict[int, list[ForwardCall]]:
        """Sequence number of an autograd node -> the forward operators that it was made for."""
        return self.nodes.calls

    def row_of_each_record(self) -> list[Row]:
        return [self.rows[row] for row in self.first_rows]


def attribute(recording: Recording, *, strict: bool = True) -> Attribution:
    """Attribute every operator of a recording, in one pass. One that can't be is uncounted, and
    what was wrong is in the name under which it is listed.

    Args:
        strict: whether a formula that does not fit its operator is an error instead.

    Raises:
        FormulaError: there is such a formula.
    """
    with without_garbage_collection():
        attributing = _Pass(recording)
        attributing.run(strict=strict)
    return Attribution(
        attributing.rows,
        attributing.first_rows,
        attributing.nodes,
        attributing.copies,
        dict(attributing.evaluate.uncounted),
        frozenset(attributing.uncounted_in_backward),
        frozenset(attributing.runs),
        attributing.keepers,
    )


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Many small tuples are made here and none in a cycle; looking for cycles among them, and among
    all the modules of a large model, can take longer than the work itself, or fall into a step that
    is timed."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class _Dependences(dict[int, int]):
    """Storage number -> what its values depend on; of one that nothing has been written to yet, by
    what it is."""

    def __init__(self, recording: Recording) -> None:
        self._storages = recording.storages

    def __missing__(self, number: int) -> int:
        kind = self._storages[number].kind if number >= 0 else "outside"
        dependence = {"parameter": PARAMETERS, "buffer": CONSTANT}.get(kind, DATA)
        self[number] = dependence
        return dependence


class _Pass:
    """One pass over the records, in order."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self.evaluate = Evaluator(recording.causal)
        self.rows: list[Row] = []
        self.first_rows: list[int] = []
        self.nodes = Nodes(recording)
        self.copies: dict[tuple[int, int], int] = {}
        self.uncounted_in_backward: set[str] = set()
        self._update = Update(recording)
        self._functions = {number for graph in recording.graphs for number in graph.functions}
        self._flowing: set[int] = set()
        """Storages inside of a user-defined function that lead to something that needs a gradient:
        gradients are off in there, so that the tensors themselves do not tell."""
        self._readers = {
            newest: node for graph in recording.graphs for newest, node in graph.readers.items()
        }
        self._sequence = -1
        self._awaiting: int | None = None
        self._dependences = _Dependences(recording)
        self._made_for: dict[int, tuple[str, str]] = {}
        """Storage number -> (layer, phase) of the backward operator that wrote it last."""
        self._rows_of_nodes: dict[int, int] = {}
        """Sequence number of a node -> the row of the (first) operator behind it."""
        self._graphs = self._graph_of_each_record()
        self._executed = self._executed_by_node()
        self.keepers: dict[int, tuple[int, int]] = {}
        self.runs: dict[tuple[int, int], NodeRun] = {}
        """Graph and sequence number -> the run of that node."""

    def run(self, *, strict: bool) -> None:
        for index, record in enumerate(self.recording.records):
            start = len(self.rows)
            self.first_rows.append(start)
            try:
                self._attribute(index, record)
            except Exception as error:
                if strict and isinstance(error, FormulaError):
                    raise
                del self.rows[start:]
                self._give_up(index, record, error)
        self._place_saved()

    def _attribute(self, index: int, record: Record) -> None:
        costed = self.evaluate(record)
        dependences = self._flow(record)
        layer = None
        if index in self._update.records:
            self._append_update(index, record, costed)
        elif record.node is None and record.scope == "backward" and not costed.cost.flops:
            self._after_backward(record, costed)
        elif record.node is None:
            self._forward(index, record, costed, dependences)
        elif self._is_recomputed(index, record):
            self._forward(index, record, costed, dependences, phase="recompute")
        else:
            if not costed.known:
                self.uncounted_in_backward.add(costed.op)
            self._backward(index, record, costed)
            if record.grad_enabled or record.in_function:
                layer = self._layer_of_node(index, record)
                made = self._remember(record, costed, dependences, layer)
                if made is not None:
                    self._rows_of_nodes.setdefault(made, self.first_rows[index])
        if self.nodes.has_transforms:
            layer = self.recording.layer_of(record) if layer is None else layer
            wanted = (False,) * len(dependences)
            self.nodes.every.append(ForwardCall(record, costed, dependences, layer, wanted))

    def _give_up(self, index: int, record: Record, error: Exception) -> None:
        """The row of an operator that can't be attributed."""
        costed = uncounted(record, error)
        self.evaluate.uncounted[costed.op] += 1
        self.uncounted_in_backward.add(costed.op)
        phase = {"forward": "forward", "backward": "grad_input"}.get(record.scope, record.scope)
        self._append(self.recording.layer_of(record), costed, phase)
        if self.nodes.has_transforms and len(self.nodes.every) == index:
            layer = self.recording.layer_of(record)
            self.nodes.every.append(ForwardCall(record, costed, (), layer, ()))

    # -- backward's graphs and nodes --------------------------------------------------------

    def _graph_of_each_record(self) -> list[int]:
        """For each record the (innermost) backward that was running, by its place among the graphs;
        -1 outside of all."""
        graphs = [-1] * len(self.recording.records)
        for place, graph in enumerate(self.recording.graphs):
            for index in self.recording.records_of(graph):
                graphs[index] = place
        return graphs

    def _graph(self, index: int) -> Graph | None:
        place = self._graphs[index]
        return None if place < 0 else self.recording.graphs[place]

    def _is_recomputed(self, index: int, record: Record) -> bool:
        """Whether something is done again: what backward calls (a module, a checkpoint's function);
        and what runs with gradients on, unless backward itself is to be differentiated."""
        if record.scope == "recompute":
            return True
        graph = self._graph(index)
        return record.grad_enabled and not (graph is not None and graph.create_graph)

    def _executed_by_node(self) -> dict[tuple[int, int], list[int]]:
        """(graph, node) -> the records of its run, of the nodes whose operators are not told by
        their names: of users' functions and of tensor subclasses, which share one node among
        several, and where several gradients are computed at once."""
        shared = {record.sequence for record in self.recording.records if record.taken_apart}
        executed: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
        for place, graph in enumerate(self.recording.graphs):
            every = graph.batch > 1 or graph.transformed or self.nodes.is_within_function(graph)
            several = shared | graph.functions
            if not every and several.isdisjoint(graph.nodes):
                continue
            for index in self.recording.records_of(graph):
                record = self.recording.records[index]
                if self._graphs[index] != place or record.node is None:
                    continue
                if (every or record.node in several) and not self._is_recomputed(index, record):
                    executed[place, record.node].append(index)
        return executed

    def _run_of(self, index: int, node: int) -> NodeRun:
        """The run of a node that a record is part of."""
        place = self._graphs[index]
        run = self.runs.get((place, node))
        if run is None:
            run = self.runs[place, node] = self._new_run(place, node)
        return run

    def _new_run(self, place: int, node: int) -> NodeRun:
        if place < 0:
            return NodeRun([])
        graph = self.recording.graphs[place]
        behind = self.nodes.behind(graph, node)
        function = self.recording.functions.get(node) if node in graph.functions else None
        layer = None if function is None else self.recording.layers[function.layer]
        executed = []
        for index in self._executed.get((place, node), ()):
            record = self.recording.records[index]
            executed.append((index, record, self.evaluate.quietly(record)))
        is_within = self.nodes.is_within_function(graph)
        run = NodeRun(behind, layer, graph.batch, executed, is_within=is_within)
        self.nodes.run_again |= run.run_again
        self.uncounted_in_backward.update(f"the gradients of {op}" for op in run.without_gradients)
        return run

    # -- what a value depends on ------------------------------------------------------------

    def _flow(self, record: Record) -> tuple[int, ...]:
        """What a record's inputs depend on; what it writes depends on all of that."""
        known, storages = self._dependences, self.recording.storages
        dependences = tuple([known[number] for number in record.inputs])
        if dependences:
            dependence = max(dependences)
        else:
            # A constant made inside of a module (positions, masks) is not data; a batch made by
            # the step itself, or random numbers, are; memory that backward asks for is not.
            in_step = record.layer == 0 and record.node is None
            dependence = DATA if record.op.is_random or in_step else CONSTANT
        for number in written_by(record):
            # Parameters and buffers stay what they are when the step writes to them.
            less = known.get(number, -1) < dependence
            if less and number >= 0 and storages[number].kind in ("made", "outside"):
                known[number] = dependence
        return dependences

    # -- saved tensors ----------------------------------------------------------------------

    def _place_saved(self) -> None:
        """What is kept when most is stands in the row of the operator that keeps it, each storage
        once. What no operator's node keeps (what enters a checkpoint) stands in the row of the next
        operator."""
        if not self.rows:
            return
        saved: defaultdict[int, int] = defaultdict(int)
        places: Counter[int] = Counter()
        """Node -> how many tensors it keeps, so far."""
        for kept in most_kept(self.recording).kept:
            if kept.storage not in self.keepers:
                following = self.first_rows[min(kept.born, len(self.first_rows) - 1)]
                row = self._rows_of_nodes.get(kept.node, following)
                self.keepers[kept.storage] = row, places[kept.node]
                saved[row] += self.recording.storages[kept.storage].nbytes
            places[kept.node] += 1
        for row, nbytes in saved.items():
            self.rows[row] = self.rows[row]._replace(saved_bytes=nbytes)

    # -- rows -------------------------------------------------------------------------------

    def _append(
        self,
        layer: str,
        costed: Costed,
        phase: str,
        *,
        autograd: str = "",
    ) -> None:
        """The row of an operator that works for one layer and phase."""
        self.rows.append(
            Row(
                layer,
                self.recording.types.get(layer, ""),
                costed.op,
                autograd,
                phase,
                costed.cost.flops,
                costed.cost.elementwise,
                costed.bytes_read,
                costed.bytes_written,
                dtype=costed.dtype,
            )
        )

    def _append_update(self, index: int, record: Record, costed: Costed) -> None:
        parts = self._update.by_layer(record)
        if not parts:
            self._append(self._update.layer_of(index), costed, "update")
        for layer, part in parts.items():
            self._append(layer, self.evaluate(part), "update")

    # -- forward and recomputation ----------------------------------------------------------

    def _forward(
        self,
        index: int,
        record: Record,
        costed: Costed,
        dependences: tuple[int, ...],
        phase: str = "forward",
    ) -> None:
        layer = self.recording.layer_of(record)
        if phase == "recompute":
            first = self._first_run(index, record)
            if layer == OUTSIDE:  # no module runs: who ran it first, or whose node asked for it?
                layer = first.layer if first is not None else self._layer_of_node(index, record)
        node = self._remember(record, costed, dependences, layer)
        if node is not None:
            self._rows_of_nodes.setdefault(node, len(self.rows))
        self._append(layer, costed, phase)

    def _remember(
        self, record: Record, costed: Costed, dependences: tuple[int, ...], layer: str
    ) -> int | None:
        """Keep a record that autograd made a node for, for the backward to come; the node's
        number."""
        sequence = self._node_of(record)
        wanted = record.requires_grad
        if self._forget_copy(sequence, record):
            wanted = self._edges(sequence, wanted)  # a copy does not tell
        if record.taken_apart and not record.in_function:
            made = record.grad_enabled and any(wanted)
        elif record.grad_enabled:
            made = sequence not in self.nodes.calls and any(wanted)
        else:
            made = record.in_function and sequence in self._functions
            wanted = tuple(
                flag or number in self._flowing
                for flag, number in zip(record.requires_grad, record.inputs, strict=True)
            )
            if made and any(wanted):
                self._flowing.update(record.outputs)
        if made:
            call = ForwardCall(record, costed, dependences, layer, wanted)
            self.nodes.add(sequence, call)
        return sequence if made else None

    def _node_of(self, record: Record) -> int:
        """The number of the node that autograd made for a record.

        Usually the last one made before it was dispatched. But an in-place operator whose backward
        needs the old value gets its node first, then has the value cloned (and a node made for
        that), and is only then dispatched. And an operator that reads a view whose base has been
        written to gets its node before the view gets a new one.
        """
        new = record.sequence - self._sequence
        self._sequence = record.sequence
        if new == 2 and record.op.name == "aten.clone":
            self._awaiting = record.sequence - 1
            self.copies[self._awaiting, record.inputs[0]] = record.outputs[0]
        elif new == 0 and self._awaiting is not None and record.op.is_mutable:
            awaiting, self._awaiting = self._awaiting, None
            return awaiting
        else:
            self._awaiting = None
        return self._readers.get(record.sequence, record.sequence)

    def _forget_copy(self, sequence: int, record: Record) -> bool:
        """A conjugate is a view; for an operator that takes none torch clones it on the way from
        the operator's node to its kernel. That clone was dispatched first, with the node's number,
        but the node is not its own, and keeps what was cloned. Whether there was one."""
        calls = self.nodes.calls.get(sequence, [])
        if len(calls) != 1 or calls[0].record.op.name != "aten.clone":
            return False
        copy = calls[0].record
        if not copy.arguments[0][2].is_complex or copy.outputs[0] not in record.inputs:
            return False
        self.copies[sequence, copy.outputs[0]] = copy.inputs[0]
        del self.nodes.calls[sequence]
        return True

    def _edges(self, sequence: int, flags: tuple[bool, ...]) -> tuple[bool, ...]:
        """Which operands of a node need a gradient, by the graph that it is in, if there is one."""
        edges = (graph.nodes.get(sequence, ()) for graph in self.recording.graphs)
        return next((each for each in edges if len(each) == len(flags)), flags)

    def _first_run(self, index: int, record: Record) -> ForwardCall | None:
        """What the function of a node runs again: of its forward, in whatever order. The tensors
        are alike; a flag may say that now a gradient is wanted."""
        assert record.node is not None
        first = self._run_of(index, record.node).again.take_like(record)
        if first is not None:
            self.nodes.run_again.add(first)
        return first

    def _layer_of_node(self, index: int, record: Record) -> str:
        """The layer of the forward operator whose node is running; if it is not known, of the
        module that called for the backward."""
        assert record.node is not None
        place = self._run_of(index, record.node).default
        if place is not None:
            return place[0]
        graph = self._graph(index)
        return self.recording.layers[record.layer if graph is None else graph.layer]

    # -- backward ---------------------------------------------------------------------------

    def _sums(self, record: Record, costed: Costed) -> tuple[str, str] | None:
        """The engine adds up the gradients of a value that was used more than once, while the node
        that gave the last of them still runs. The sum belongs where that one came from."""
        if costed.op not in ("aten.add", "aten.add_"):
            return None
        known = [self._made_for.get(number) for number in record.inputs]
        return known[-1] if all(known) else None

    def _backward(self, index: int, record: Record, costed: Costed) -> None:
        assert record.node is not None
        if record.node == ACCUMULATE_GRAD:
            self._accumulate(index, record, costed)
            return
        run, node = self._run_of(index, record.node), self.recording.nodes[record.node]
        unclaimed = run.default or (self._layer_of_node(index, record), "grad_input")
        if costed.cost.parts:
            self._fused_backward(index, record, costed, run, node, unclaimed)
            return
        place, costed = run.place(index, record, costed)
        place = place or run.moved(record, costed)
        if place is not None:
            run.made.update(dict.fromkeys(record.outputs, place))
        layer, phase = place or self._sums(record, costed) or unclaimed
        self._made_for.update(dict.fromkeys(record.outputs, (layer, phase)))
        self._append(layer, costed, phase, autograd=node)
        if costed.cost.recompute:
            again = Cost(flops=costed.cost.recompute)
            beyond = Costed(costed.op, again, True, (), 0, 0, (), costed.dtype)
            self._append(layer, beyond, "recompute", autograd=node)

    def _after_backward(self, record: Record, costed: Costed) -> None:
        """What autograd calls when all nodes have run (a shard's gradients are summed over ranks)
        works for whom the gradients are that it reads."""
        known = (self._made_for.get(number) for number in record.inputs)
        layer = self.recording.layer_of(record)
        layer, phase = next(filter(None, known), (layer, "grad_weight"))
        self._made_for.update(dict.fromkeys(written_by(record), (layer, phase)))
        self._append(layer, costed, phase)

    def _accumulate(self, index: int, record: Record, costed: Costed) -> None:
        number = self.recording.accumulated.get(index, -1)
        layer = self.recording.owners.parameters.get(number)
        if layer is None and record.inputs:  # a leaf of nobody's: where its gradient comes from
            layer, _ = self._made_for.get(record.inputs[-1], (None, ""))
        if layer is None:
            layer = self._layer_of_node(index, record)
        self._append(layer, costed, phase_of(self._dependences[number]), autograd="AccumulateGrad")

    def _fused_backward(
        self,
        index: int,
        record: Record,
        costed: Costed,
        run: NodeRun,
        node: str,
        unclaimed: tuple[str, str],
    ) -> None:
        """One row a layer and phase; what a fused backward operator read and wrote stands in the
        first."""
        cost = costed.cost
        forward = run.call_of(costed.op)
        work: dict[tuple[str, str], list[int]] = {}
        for_one = [part for part in cost.parts if isinstance(part.operand, str)]
        if len(for_one) != len(record.outputs):
            for_one = []  # what it returns is not a gradient for each
        for position, part in enumerate(cost.parts):
            phase: str | None = unclaimed[1]
            if forward is not None:
                call, wanted = forward
                phase = phase_among(part, call.needed(wanted), call.by_operand())
            place = run.place_of_part(index, position, part, phase, unclaimed[0])
            if part in for_one:
                self._made_for[record.outputs[for_one.index(part)]] = place
            both = work.setdefault(place, [0, 0])
            both[0] += part.flops
            both[1] += part.elementwise
        if cost.recompute:
            layer = forward[0].layer if forward is not None else unclaimed[0]
            work.setdefault((layer, "recompute"), [0, 0])[0] += cost.recompute
        read, written = costed.bytes_read, costed.bytes_written
        for (layer, phase), (flops, elementwise) in work.items():
            kind = self.recording.types.get(layer, "")
            work_and_bytes = flops, elementwise, read, written
            self.rows.append(
                Row(layer, kind, costed.op, node, phase, *work_and_bytes, dtype=costed.dtype)
            )
            read = written = 0
