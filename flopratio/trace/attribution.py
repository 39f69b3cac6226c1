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

from flopratio.formulas.dependence import CONSTANT, DATA, PARAMETERS, phase_among, phase_of
from flopratio.ledger import Row
from flopratio.trace.evaluation import Costed, Evaluator, shapes, written_by
from flopratio.trace.forward_call import ForwardCall, NodeRun, reached_by_gradient
from flopratio.trace.kept import most_kept
from flopratio.trace.recording import ACCUMULATE_GRAD, OUTSIDE, Record, Recording
from flopratio.trace.update import Update


@dataclass(frozen=True)
class Attribution:
    """What each operator of a recording worked for.

    Args:
        rows: the ledger's table.
        first_rows: record index -> index of its (first) row.
        forward_calls: sequence number of an autograd node -> the forward operators behind it.
        copies: (node, storage) -> the copy that the node keeps, of a value that is about to be
            written over.
        uncounted_ops: operators that no formula knows, with the number of their calls.
    """

    rows: list[Row]
    first_rows: list[int]
    forward_calls: dict[int, list[ForwardCall]]
    copies: dict[tuple[int, int], int]
    uncounted_ops: dict[str, int]

    def row_of_each_record(self) -> list[Row]:
        return [self.rows[row] for row in self.first_rows]


def attribute(recording: Recording) -> Attribution:
    """Attribute every operator of a recording, in one pass."""
    with _without_garbage_collection():
        attributing = _Pass(recording)
        attributing.run()
    return Attribution(
        attributing.rows,
        attributing.first_rows,
        dict(attributing.forward_calls),
        attributing.copies,
        dict(attributing.evaluate.uncounted),
    )


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Many small tuples are made here and none in a cycle; looking for cycles among them, and among
    all the modules of a large model, can take longer than the work itself."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class _Pass:
    """One pass over the records, in order."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self.evaluate = Evaluator(recording.causal)
        self.rows: list[Row] = []
        self.first_rows: list[int] = []
        self.forward_calls: defaultdict[int, list[ForwardCall]] = defaultdict(list)
        self.copies: dict[tuple[int, int], int] = {}
        self._update = Update(recording)
        self._functions: set[int] = set()
        self._rerun: Counter[int] = Counter()
        """Sequence number of a checkpoint's node -> how many of its operators have run again."""
        self._edges: dict[int, tuple[bool, ...]] = {}
        """Sequence number -> which edges of that node lead anywhere."""
        for graph in recording.graphs:
            self._functions |= graph.functions
            self._edges.update(graph.nodes)
        self._flowing: set[int] = set()
        """Storages inside of a user-defined function that lead to something that needs a gradient:
        gradients are off in there, so that the tensors themselves do not tell."""
        self._sequence = -1
        self._awaiting: int | None = None
        self._dependences: dict[int, int] = {}
        """Storage number -> what its values depend on."""
        self._made_for: dict[int, tuple[str, str]] = {}
        """Storage number -> (layer, phase) of the backward operator that wrote it last."""
        self._rows_of_nodes: dict[int, int] = {}
        """Sequence number of a node -> the row of the (first) operator behind it."""
        self._differentiable = {
            index for graph in recording.graphs if graph.create_graph for index in graph.records
        }
        self._node_run: NodeRun | None = None

    def run(self) -> None:
        for index, record in enumerate(self.recording.records):
            costed = self.evaluate(record)
            dependences = self._flow(record)
            self.first_rows.append(len(self.rows))
            if index in self._update.records:
                self._append_update(index, record, costed)
            elif record.node is None:
                self._forward(record, costed, dependences)
            elif record.grad_enabled and index not in self._differentiable:
                self._forward(record, costed, dependences, phase="recompute")
            else:
                self._backward(index, record, costed)
                if record.grad_enabled:
                    made = self._remember(record, costed, dependences, self._layer_of_node(record))
                    if made is not None:
                        self._rows_of_nodes.setdefault(made, self.first_rows[index])
        self._place_saved()

    # -- what a value depends on ------------------------------------------------------------

    def _dependence(self, number: int) -> int:
        dependence = self._dependences.get(number)
        if dependence is None:
            kind = self.recording.storages[number].kind if number >= 0 else "outside"
            dependence = {"parameter": PARAMETERS, "buffer": CONSTANT}.get(kind, DATA)
            self._dependences[number] = dependence
        return dependence

    def _flow(self, record: Record) -> tuple[int, ...]:
        """What a record's inputs depend on; what it writes depends on all of that."""
        dependences = tuple(self._dependence(number) for number in record.inputs)
        if dependences:
            dependence = max(dependences)
        else:
            # A constant made inside of a module (positions, masks) is not data; a batch made by
            # the step itself, or random numbers, are; memory that backward asks for is not.
            made_by_step = record.layer == 0 and record.scope != "backward"
            dependence = DATA if record.op.is_random or made_by_step else CONSTANT
        for number in written_by(record):
            # Parameters and buffers stay what they are when the step writes to them.
            if number >= 0 and self.recording.storages[number].kind in ("made", "outside"):
                before = self._dependences.get(number, dependence)
                self._dependences[number] = max(dependence, before)
        return dependences

    # -- saved tensors ----------------------------------------------------------------------

    def _place_saved(self) -> None:
        """What is kept when most is stands in the row of the operator that keeps it, each storage
        once. What no operator's node keeps (what enters a checkpoint) stands in the row of the next
        operator."""
        if not self.rows:
            return
        saved: defaultdict[int, int] = defaultdict(int)
        seen: set[int] = set()
        for kept in most_kept(self.recording).kept:
            if kept.storage not in seen:
                seen.add(kept.storage)
                following = self.first_rows[min(kept.born, len(self.first_rows) - 1)]
                row = self._rows_of_nodes.get(kept.node, following)
                saved[row] += self.recording.storages[kept.storage].nbytes
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
        record: Record,
        costed: Costed,
        dependences: tuple[int, ...],
        phase: str = "forward",
    ) -> None:
        recomputed = phase == "recompute"
        layer = self.recording.layer_of(record)
        if recomputed:
            first = self._first_run(record)
            if layer == OUTSIDE:  # no module runs: who ran it first, or whose node asked for it?
                layer = first.layer if first is not None else self._layer_of_node(record)
        node = self._remember(record, costed, dependences, layer, recomputed=recomputed)
        if node is not None:
            self._rows_of_nodes.setdefault(node, len(self.rows))
        self._append(layer, costed, phase)

    def _remember(
        self,
        record: Record,
        costed: Costed,
        dependences: tuple[int, ...],
        layer: str,
        *,
        recomputed: bool = False,
    ) -> int | None:
        """Keep a record that autograd made a node for, for the backward to come; the node's
        number."""
        sequence = self._node_of(record)
        wanted = record.requires_grad
        if record.taken_apart and not record.in_function:
            made = record.grad_enabled and any(wanted)
        elif record.grad_enabled and any(wanted):
            made = sequence not in self.forward_calls
        elif record.grad_enabled:
            # Inside of torch.func the tensors do not tell, but autograd's graph does.
            edges = self._edges.get(sequence, ())
            made = sequence not in self.forward_calls and len(edges) == len(wanted) and any(edges)
            wanted = edges if made else wanted
        else:
            made = record.in_function and sequence in self._functions
            wanted = tuple(
                flag or number in self._flowing
                for flag, number in zip(record.requires_grad, record.inputs, strict=True)
            )
            if made and any(wanted):
                self._flowing.update(record.outputs)
        if made:
            call = ForwardCall(record, costed, dependences, layer, wanted, recomputed)
            self.forward_calls[sequence].append(call)
        return sequence if made else None

    def _node_of(self, record: Record) -> int:
        """The number of the node that autograd made for a record.

        Usually the last one made before it was dispatched. But an in-place operator whose backward
        needs the old value gets its node first, then has the value cloned (and a node made for
        that), and is only then dispatched.
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
        return record.sequence

    def _first_run(self, record: Record) -> ForwardCall | None:
        """What a reentrant checkpoint runs again: all of its forward, in order, in its node. The
        tensors are alike; a flag may say that now a gradient is wanted."""
        assert record.node is not None
        calls = self.forward_calls.get(record.node, [])
        for position in range(self._rerun[record.node], len(calls)):
            first = calls[position].record
            if first.op is record.op and shapes(first) == shapes(record):
                self._rerun[record.node] = position + 1
                return calls[position]
        return None

    def _layer_of_node(self, record: Record) -> str:
        """The layer of the forward operator whose node is running."""
        calls = self.forward_calls.get(record.node, []) if record.node is not None else []
        return calls[0].layer if calls else self.recording.layer_of(record)

    # -- backward ---------------------------------------------------------------------------

    def _sums(self, record: Record, costed: Costed) -> tuple[str, str] | None:
        """The engine adds up the gradients of a value that was used more than once, while the node
        that gave the last of them still runs. The sum belongs where that one came from."""
        if costed.op not in ("aten.add", "aten.add_"):
            return None
        known = [self._made_for.get(number) for number in record.inputs]
        return known[-1] if all(known) else None

    def _asked(self, index: int, node: int) -> tuple[bool, ...]:
        """Which edges of a node the backward that was running (the innermost one) asked for."""
        for graph in reversed(self.recording.graphs):
            if index in graph.records:
                return graph.nodes.get(node, ())
        return ()

    def _run_of(self, index: int, node: int) -> NodeRun:
        """The run of a node that a record is part of."""
        if self._node_run is None or self._node_run.node != node:
            calls = reached_by_gradient(self.forward_calls.get(node, []))
            self._node_run = NodeRun(node, calls, self._asked(index, node))
        return self._node_run

    def _backward(self, index: int, record: Record, costed: Costed) -> None:
        assert record.node is not None
        if record.node == ACCUMULATE_GRAD:
            self._accumulate(index, record, costed)
            return
        run, node = self._run_of(index, record.node), self.recording.nodes[record.node]
        unclaimed = run.default() or (self.recording.layer_of(record), "grad_input")
        if costed.cost.parts:
            self._fused_backward(record, costed, run, node, unclaimed[0])
            return
        layer, phase = run.claim(record, costed) or self._sums(record, costed) or unclaimed
        self._made_for.update(dict.fromkeys(record.outputs, (layer, phase)))
        self._append(layer, costed, phase, autograd=node)

    def _accumulate(self, index: int, record: Record, costed: Costed) -> None:
        number = self.recording.accumulated.get(index, -1)
        layer = self.recording.owners.parameters.get(number)
        if layer is None and record.inputs:  # a leaf of nobody's: where its gradient comes from
            layer, _ = self._made_for.get(record.inputs[-1], (None, ""))
        if layer is None:
            layer = self.recording.layer_of(record)
        self._append(layer, costed, phase_of(self._dependence(number)), autograd="AccumulateGrad")

    def _fused_backward(
        self, record: Record, costed: Costed, run: NodeRun, node: str, layer: str
    ) -> None:
        """One row a phase; what a fused backward operator read and wrote stands in the first."""
        cost = costed.cost
        needed = run.calls[0].needed() if run.calls else {}
        dependences = run.calls[0].by_operand() if run.calls else {}
        work: dict[str, list[int]] = {}
        for position, part in enumerate(cost.parts):
            # A kernel may compute a gradient that nobody asked for: beyond the law.
            phase = phase_among(part, needed, dependences) or "recompute"
            one_each = len(record.outputs) == len(cost.parts) and isinstance(part.operand, str)
            if one_each:  # a gradient is returned for each part
                self._made_for[record.outputs[position]] = layer, phase
            both = work.setdefault(phase, [0, 0])
            both[0] += part.flops
            both[1] += part.elementwise
        if cost.recompute:
            work.setdefault("recompute", [0, 0])[0] += cost.recompute
        kind = self.recording.types.get(layer, "")
        read, written = costed.bytes_read, costed.bytes_written
        for phase, (flops, elementwise) in work.items():
            self.rows.append(
                Row(layer, kind, costed.op, node, phase, flops, elementwise, read, written)
            )
            read = written = 0
