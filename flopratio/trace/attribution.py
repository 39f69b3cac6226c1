"""From the recorder's notes to the ledger: which layer, phase and operand each operator worked for.

Forward and backward meet on autograd's sequence numbers: the node that is running in backward has
the number that the counter showed when its forward operator was dispatched. So a backward operator
knows its forward operator; and that operator's formula says which gradients it has, in which order
and by which operators, so that each executed product finds the operand that it was made for.
"""

from __future__ import annotations

import gc
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from flopratio.formulas import Gradient, operands_of
from flopratio.formulas.dependence import (
    CONSTANT,
    DATA,
    PARAMETERS,
    phase_among,
    phase_of,
)
from flopratio.ledger import Ledger, Row
from flopratio.trace.evaluation import (
    Costed,
    Evaluator,
    is_list,
    is_list_of_tensors,
    is_tensor,
    narrowed_to,
    shapes,
)
from flopratio.trace.memory import step_memory
from flopratio.trace.recorder import ACCUMULATE_GRAD, UPDATE, Record

if TYPE_CHECKING:
    from flopratio.trace.profiler import Profiler


@dataclass
class Origin:
    """A forward operator that autograd made a node for.

    Args:
        record, costed: the operator and its cost.
        levels: what each of its tensor arguments depends on.
        layer: the path of its module.
        wanted: which of its tensor arguments need a gradient.
        recomputed: whether it was run again in backward; the law has counted the first run.
    """

    record: Record
    costed: Costed
    levels: tuple[int, ...]
    layer: str
    wanted: tuple[bool, ...]
    recomputed: bool = False
    _found: dict[tuple[bool, ...], list[tuple[Gradient, str]]] = field(default_factory=dict)

    def needed(self, wanted: tuple[bool, ...] | None = None) -> dict[str, int]:
        """Operand -> what it depends on, for those operands that require a gradient."""
        wanted = self.wanted if wanted is None else wanted
        operands = zip(self.costed.operands, self.levels, wanted, strict=False)
        return {operand: level for operand, level, wanted in operands if wanted}

    def by_operand(self) -> dict[str, int]:
        """Operand -> what it depends on."""
        return dict(zip(self.costed.operands, self.levels, strict=False))

    def storages_but(self, gradient: Gradient) -> set[int]:
        """The storages of the operands whose gradient this is not."""
        return {
            number
            for operand, number in zip(self.costed.operands, self.record.inputs, strict=False)
            if operand not in operands_of(gradient)
        }

    def gradients(self, asked: tuple[bool, ...] = ()) -> list[tuple[Gradient, str]]:
        """The gradients that autograd will compute, each with its phase.

        Args:
            asked: which of the node's edges lead to what is differentiated for; an operator has an
                edge for each tensor argument, a user-defined function has edges of its own.
        """
        found = self._found.get(asked)
        if found is not None:
            return found
        wanted = self.wanted
        if len(asked) == len(self.costed.operands) and not self.record.in_function:
            wanted = tuple(wants and leads for wants, leads in zip(wanted, asked, strict=True))
        needed = self.needed(wanted)
        levels = self.by_operand()
        found = self._found[asked] = []
        for gradient in self.costed.cost.gradients:
            phase = phase_among(gradient, needed, levels)
            if phase is not None:
                found.append((gradient, phase))
        return found


def _leading(origins: list[Origin]) -> list[Origin]:
    """Those of the operators behind a node that a gradient can reach. Inside of a user-defined
    function nothing tells but the values: whatever only leads to a choice (an ``argmax``, a
    comparison) gets none."""
    if len(origins) < 2:
        return origins
    reached: dict[int, bool] = {}
    found = []
    for origin in reversed(origins):
        outputs = origin.record.outputs
        used = [reached[number] for number in outputs if number in reached]
        leads = _is_floating(origin.record.results) and (any(used) or not used)
        if leads:
            found.append(origin)
        for number in origin.record.inputs:
            reached[number] = reached.get(number, False) or leads
    return found[::-1]


def _is_floating(note: Any) -> bool:
    """Whether any noted tensor is of a type that has gradients."""
    if is_tensor(note):
        return bool(note[2].is_floating_point or note[2].is_complex)
    return is_list(note) and any(_is_floating(item) for item in note[1:])


class Visit:
    """One run of an autograd node: hands each executed operator the work that it does.

    Args:
        node: its sequence number.
        origins: the forward operators behind it: one, or all those inside of a user-defined
            ``autograd.Function``.
        asked: which of its edges lead to what is differentiated for.
    """

    def __init__(self, node: int, origins: list[Origin], asked: tuple[bool, ...]) -> None:
        self.node = node
        self.origins = origins
        self.pending = [
            (origin, gradient, phase)
            for origin in origins
            for gradient, phase in origin.gradients(asked)
        ]

    def claim(self, record: Record, costed: Costed) -> tuple[str, str] | None:
        """Layer and phase of the next gradient that this operator computes, if there is one."""
        if len(self.origins) > 1 or (self.origins and self.origins[0].record.in_function):
            return self._claim_product(record, costed)
        for index, (origin, gradient, phase) in enumerate(self.pending):
            if gradient.op == costed.op:
                del self.pending[index]
                return origin.layer, phase
        return None

    def _claim_product(self, record: Record, costed: Costed) -> tuple[str, str] | None:
        """A user's backward computes its products in any order and form: the one that reads an
        operand of a forward product is the gradient of the other operand."""
        equal = [
            index
            for index, (_, gradient, _) in enumerate(self.pending)
            if costed.cost.flops and gradient.flops == costed.cost.flops
        ]
        if not equal:
            return None
        read = set(record.inputs)
        telling = [i for i in equal if read & self.pending[i][0].storages_but(self.pending[i][1])]
        origin, _, phase = self.pending.pop((telling or equal)[0])
        return origin.layer, phase

    def default(self) -> tuple[str, str] | None:
        """Layer and phase of work that no listed gradient claims: for data if any operand depends
        on it."""
        if not self.origins:
            return None
        levels = [level for origin in self.origins for level in origin.needed().values()]
        return self.origins[0].layer, phase_of(max(levels, default=DATA))


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


class Attribution:
    """One pass over the records, in order, made at once.

    Attributes:
        rows: the table.
        first_rows: record index -> index of its (first) row.
        law: (layer, phase) -> contraction FLOP by the law, from forward operators alone.
    """

    def __init__(self, profiler: Profiler) -> None:
        self.profiler = profiler
        self.recorder = profiler.recorder
        self.evaluate = Evaluator(profiler.causal)
        self.rows: list[Row] = []
        self.first_rows: list[int] = []
        self.law: defaultdict[tuple[str, str], int] = defaultdict(int)
        self.origins: defaultdict[int, list[Origin]] = defaultdict(list)
        """Sequence number -> the forward operators behind that node."""
        self._functions: set[int] = set()
        self._rerun: defaultdict[int, int] = defaultdict(int)
        """Sequence number of a checkpoint's node -> how many of its operators have run again."""
        self._edges: dict[int, tuple[bool, ...]] = {}
        """Sequence number -> which edges of that node lead anywhere."""
        for graph in profiler.graphs:
            self._functions |= graph.functions
            self._edges.update(graph.nodes)
        self._flowing: set[int] = set()
        """Storages inside of a user-defined function that lead to something that needs a gradient:
        gradients are off in there, so that the tensors themselves do not tell."""
        self._gradients: set[int] = set()
        """Storages that backward wrote, and what was made of them."""
        self._sequence = -1
        self._awaiting: int | None = None
        self.copies: dict[tuple[int, int], int] = {}
        """(node, storage) -> the copy that the node keeps, of a value that is about to be written
        over."""
        self._levels: dict[int, int] = {}
        self._made_for: dict[int, tuple[str, str]] = {}
        """Storage number -> (layer, phase) of the backward operator that wrote it last."""
        self._saved = self._saved_by_node()
        self._differentiable = {
            index for graph in profiler.graphs if graph.create_graph for index in graph.records
        }
        self._visit: Visit | None = None
        self._update_layers = self._layers_of_update()
        self._update_gradients = self._layers_of_gradients()
        self._update_temporaries: dict[int, str] = {}
        """Storage -> layer, of what an update on lists of tensors makes on its way."""
        with _without_garbage_collection():
            self._run()

    # -- what a value depends on ------------------------------------------------------------

    def _level(self, number: int) -> int:
        level = self._levels.get(number)
        if level is None:
            kind = self.recorder.storages[number].kind if number >= 0 else "outside"
            level = {"parameter": PARAMETERS, "buffer": CONSTANT}.get(kind, DATA)
            self._levels[number] = level
        return level

    def _flow(self, record: Record) -> tuple[int, ...]:
        """The levels of a record's inputs; its outputs inherit the highest."""
        levels = tuple(self._level(number) for number in record.inputs)
        if levels:
            level = max(levels)
        else:
            # A constant made inside of a module (positions, masks) is not data; a batch made by
            # the step itself, or random numbers, are.
            random = torch.Tag.nondeterministic_seeded in record.op.tags
            level = DATA if random or record.layer == 0 else CONSTANT
        for number in record.outputs:
            # Parameters and buffers stay what they are when the step writes to them.
            if number >= 0 and self.recorder.storages[number].kind in ("made", "outside"):
                self._levels[number] = max(level, self._levels.get(number, level))
        return levels

    # -- saved tensors ----------------------------------------------------------------------

    def _saved_by_node(self) -> dict[int, int]:
        """Sequence number -> bytes that its node keeps, each storage once, parameters apart."""
        seen: set[int] = set()
        saved: defaultdict[int, int] = defaultdict(int)
        for sequence, number, _ in self.recorder.saved:
            if number < 0 or number in seen:
                continue
            seen.add(number)
            storage = self.recorder.storages[number]
            if storage.kind != "parameter":
                saved[sequence] += storage.nbytes
        return saved

    # -- the pass ---------------------------------------------------------------------------

    def _run(self) -> None:
        for index, record in enumerate(self.recorder.records):
            costed = self.evaluate(record)
            levels = self._flow(record)
            self.first_rows.append(len(self.rows))
            if record.scope == UPDATE or (record.node is None and self._is_update(record)):
                self._update(index, record, costed)
            elif record.node is None:
                self._forward(record, costed, levels)
            elif record.grad_enabled and index not in self._differentiable:
                self._forward(record, costed, levels, phase="recompute")
            else:
                self._backward(index, record, costed)
                self._gradients.update(record.outputs)
                if record.grad_enabled:
                    self._remember(record, costed, levels, self._origin_layer(record))
        self._place_rest_of_saved()
        self._count_by_law()

    def _place_rest_of_saved(self) -> None:
        """What no operator's node keeps (what enters a checkpoint) stands in the row of the next
        operator that autograd numbered."""
        for sequence in sorted(self._saved):
            for record, row in zip(self.recorder.records, self.first_rows, strict=True):
                if record.node is None and record.sequence > sequence:
                    saved = self.rows[row].saved_bytes + self._saved.pop(sequence)
                    self.rows[row] = self.rows[row]._replace(saved_bytes=saved)
                    break

    def _path(self, record: Record) -> str:
        return self.recorder.layers[record.layer]

    def _append(
        self,
        layer: str,
        costed: Costed,
        phase: str,
        *,
        autograd: str = "",
        flops: int,
        elementwise: int,
        bytes_read: int,
        bytes_written: int,
        saved: int = 0,
    ) -> None:
        self.rows.append(
            Row(
                layer,
                self.profiler.types.get(layer, ""),
                costed.op,
                autograd,
                phase,
                flops,
                elementwise,
                bytes_read,
                bytes_written,
                saved,
            )
        )

    def _remember(
        self,
        record: Record,
        costed: Costed,
        levels: tuple[int, ...],
        layer: str,
        *,
        recomputed: bool = False,
    ) -> int | None:
        """Keep a record that autograd made a node for, for the backward to come; the node's
        number."""
        sequence = self._node_of(record)
        wanted = record.requires_grad
        if record.grad_enabled and any(wanted):
            made = sequence not in self.origins
        elif record.grad_enabled:
            # Inside of torch.func the tensors do not tell, but autograd's graph does.
            edges = self._edges.get(sequence, ())
            made = sequence not in self.origins and len(edges) == len(wanted) and any(edges)
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
            self.origins[sequence].append(Origin(record, costed, levels, layer, wanted, recomputed))
        return sequence if made else None

    def _node_of(self, record: Record) -> int:
        """The number of the node that autograd made for a record.

        Usually the last one made before it was dispatched. But an in-place operator whose backward
        needs the old value gets its node first, then has the value cloned (and a node made for
        that), and is only then dispatched.
        """
        new = record.sequence - self._sequence
        self._sequence = record.sequence
        if new == 2 and record.op is torch.ops.aten.clone.default:
            self._awaiting = record.sequence - 1
            self.copies[self._awaiting, record.inputs[0]] = record.outputs[0]
        elif new == 0 and self._awaiting is not None and record.op._schema.is_mutable:
            awaiting, self._awaiting = self._awaiting, None
            return awaiting
        else:
            self._awaiting = None
        return record.sequence

    def _forward(
        self,
        record: Record,
        costed: Costed,
        levels: tuple[int, ...],
        phase: str = "forward",
    ) -> None:
        layer = self._path(record)
        if phase == "recompute":
            first = self._first_run(record)
            if record.layer == 0:  # no module runs: who ran it first, or whose node asked for it?
                layer = first.layer if first is not None else self._origin_layer(record)
        node = self._remember(record, costed, levels, layer, recomputed=phase == "recompute")
        self._append(
            layer,
            costed,
            phase,
            flops=costed.cost.flops,
            elementwise=costed.cost.elementwise,
            bytes_read=costed.bytes_read,
            bytes_written=costed.bytes_written,
            saved=self._saved.pop(node, 0) if node is not None else 0,
        )

    def _first_run(self, record: Record) -> Origin | None:
        """What a reentrant checkpoint runs again: all of its forward, in order, in its node. The
        tensors are alike; a flag may say that now a gradient is wanted."""
        assert record.node is not None
        origins = self.origins.get(record.node, [])
        for position in range(self._rerun[record.node], len(origins)):
            first = origins[position].record
            if first.op is record.op and shapes(first) == shapes(record):
                self._rerun[record.node] = position + 1
                return origins[position]
        return None

    def _origin_layer(self, record: Record) -> str:
        origins = self.origins.get(record.node, []) if record.node is not None else []
        return origins[0].layer if origins else self._path(record)

    def _sums(self, record: Record, costed: Costed) -> tuple[str, str] | None:
        """The engine adds up the gradients of a value that was used more than once, while the node
        that gave the last of them still runs. The sum belongs where that one came from."""
        if costed.op not in ("aten.add", "aten.add_"):
            return None
        known = [self._made_for.get(number) for number in record.inputs]
        return known[-1] if all(known) else None

    def _asked(self, index: int, node: int) -> tuple[bool, ...]:
        """Which edges of a node the backward that was running (the innermost one) asked for."""
        for graph in reversed(self.profiler.graphs):
            if index in graph.records:
                return graph.nodes.get(node, ())
        return ()

    def _backward(self, index: int, record: Record, costed: Costed) -> None:
        assert record.node is not None
        if record.node == ACCUMULATE_GRAD:
            number = self.recorder.accumulated.get(index, -1)
            self._append(
                self.profiler.parameter_layers.get(number, self._path(record)),
                costed,
                "grad_weight" if self._level(number) == PARAMETERS else "grad_input",
                autograd="AccumulateGrad",
                flops=costed.cost.flops,
                elementwise=costed.cost.elementwise,
                bytes_read=costed.bytes_read,
                bytes_written=costed.bytes_written,
            )
            return
        if self._visit is None or self._visit.node != record.node:
            origins = self.origins.get(record.node, [])
            asked = self._asked(index, record.node)
            self._visit = Visit(record.node, _leading(origins), asked)
        visit, node = self._visit, self.recorder.nodes[record.node]
        cost = costed.cost
        unclaimed = visit.default() or (self._path(record), "grad_input")
        if not cost.parts:
            layer, phase = visit.claim(record, costed) or self._sums(record, costed) or unclaimed
            self._made_for.update(dict.fromkeys(record.outputs, (layer, phase)))
            self._append(
                layer,
                costed,
                phase,
                autograd=node,
                flops=cost.flops,
                elementwise=cost.elementwise,
                bytes_read=costed.bytes_read,
                bytes_written=costed.bytes_written,
            )
            return
        # A fused backward: one row a phase; what it read and wrote stands in the first.
        layer = unclaimed[0]
        needed = visit.origins[0].needed() if visit.origins else {}
        levels = visit.origins[0].by_operand() if visit.origins else {}
        work: dict[str, list[int]] = {}
        for position, part in enumerate(cost.parts):
            # A kernel may compute a gradient that nobody asked for: beyond the law.
            phase = phase_among(part, needed, levels) or "recompute"
            one_each = len(record.outputs) == len(cost.parts) and isinstance(part.operand, str)
            if one_each:  # a gradient is returned for each part
                self._made_for[record.outputs[position]] = layer, phase
            both = work.setdefault(phase, [0, 0])
            both[0] += part.flops
            both[1] += part.elementwise
        if cost.recompute:
            work.setdefault("recompute", [0, 0])[0] += cost.recompute
        read, written = costed.bytes_read, costed.bytes_written
        for phase, (flops, elementwise) in work.items():
            self._append(
                layer,
                costed,
                phase,
                autograd=node,
                flops=flops,
                elementwise=elementwise,
                bytes_read=read,
                bytes_written=written,
            )
            read = written = 0

    # -- the update -------------------------------------------------------------------------

    def _layers_of_update(self) -> dict[int, str]:
        """Record index -> layer, for the operators of ``Optimizer.step`` on one parameter. One on
        the optimizer's state belongs to the parameter that is written next."""
        layers: dict[int, str] = {}
        following = self.recorder.layers[0]
        for index in range(len(self.recorder.records) - 1, -1, -1):
            record = self.recorder.records[index]
            if record.scope != UPDATE:
                continue
            for number in record.inputs:
                if number in self.profiler.parameter_layers:
                    following = self.profiler.parameter_layers[number]
                    break
            layers[index] = following
        return layers

    def _layers_of_gradients(self) -> dict[int, str]:
        """Storage -> layer, of the gradients of parameters."""
        layers = dict(self.profiler.gradient_layers)
        for index, leaf in self.recorder.accumulated.items():
            if leaf in self.profiler.parameter_layers:
                outputs = self.recorder.records[index].outputs
                layers.update(dict.fromkeys(outputs, self.profiler.parameter_layers[leaf]))
        return layers

    def _by_layer(self, record: Record) -> dict[str, Record]:
        """An operator of the update on lists of tensors, one for each parameter: the same operator
        on those of each layer. Empty if it is none, or if a parameter can't be told."""
        length = len(record.arguments[0]) - 1 if record.arguments else 0
        if not length or not is_list_of_tensors(record.arguments[0]):
            return {}
        owners = {
            **self.profiler.state_layers,
            **self._update_gradients,
            **self._update_temporaries,
            **self.profiler.parameter_layers,
        }
        positions: defaultdict[str, list[int]] = defaultdict(list)
        for position in range(length):
            # The tensors of a list follow each other: what is at this position of any of them.
            numbers = record.inputs[position : length * (len(record.inputs) // length) : length]
            layer = next((owners[number] for number in numbers if number in owners), None)
            if layer is None:
                return {}
            positions[layer].append(position)
            if len(record.outputs) == length:
                self._update_temporaries[record.outputs[position]] = layer
        return {layer: narrowed_to(record, own, length) for layer, own in positions.items()}

    def _is_update(self, record: Record) -> bool:
        """Work on gradients between backward and update (clipping, scaling, zeroing), which
        autograd does not follow, belongs to the update."""
        if record.layer != 0 or any(record.requires_grad):
            return False
        if self._gradients.isdisjoint(record.inputs):
            return False
        self._gradients.update(record.outputs)
        return True

    def _update(self, index: int, record: Record, costed: Costed) -> None:
        parts = self._by_layer(record)
        work = (
            {layer: self.evaluate(part) for layer, part in parts.items()}
            if parts
            else {self._update_layers.get(index, self._path(record)): costed}
        )
        for layer, own in work.items():
            self._append(
                layer,
                own,
                "update",
                flops=own.cost.flops,
                elementwise=own.cost.elementwise,
                bytes_read=own.bytes_read,
                bytes_written=own.bytes_written,
            )

    # -- the law ----------------------------------------------------------------------------

    def _count_by_law(self) -> None:
        """F for each operand that requires a gradient, of every contraction that autograd recorded
        and the loss depends on; backward's operators are not looked at."""
        for graph in self.profiler.graphs:
            for sequence, asked in graph.nodes.items():
                for origin in _leading(self.origins.get(sequence, [])):
                    if origin.recomputed:
                        continue
                    for gradient, phase in origin.gradients(asked):
                        if gradient.flops:
                            self.law[origin.layer, phase] += gradient.flops

    def ledger(self) -> Ledger:
        """The table, once the pass is made."""
        return Ledger(
            self.rows,
            parameters=self.profiler.parameters,
            types=self.profiler.types,
            memory=partial(step_memory, self),
            uncounted_ops=dict(self.evaluate.uncounted),
        )
