"""One run of an autograd node: which gradient each operator that it executed computes, and which
operators only do again what forward had done."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import NamedTuple

from flopratio.formulas import Gradient, Part
from flopratio.formulas.dependence import DATA, depends_on, phase_of
from flopratio.trace.evaluation import Costed, is_tensor
from flopratio.trace.forward_call import ForwardCall, Wanted
from flopratio.trace.nodes import Behind, Replays
from flopratio.trace.recording import Record

Place = tuple[str, str]
"""A layer and a phase."""

Executed = tuple[int, Record, Costed]
"""An operator that ran: index of its record, the record, its cost."""


@dataclass(eq=False)
class _Pending:
    """A product by the law that no operator has computed yet."""

    call: ForwardCall
    gradient: Gradient
    phase: str
    left: int
    """FLOP of it that are still to be computed."""

    @property
    def place(self) -> Place:
        return self.call.layer, self.phase


class _Product(NamedTuple):
    """A product that ran."""

    record: int
    """Its index."""
    part: int | None
    """Which part of a fused backward operator it is."""
    op: str
    operand: str | tuple[str, ...] | None
    flops: int
    reads: frozenset[int]


def work_for(gradient: Gradient, record: Record, costed: Costed, batch: int = 1) -> Costed:
    """An operator's cost as that of a gradient. What the operator is known to do beyond the
    gradient is recompute; and an outer product is a product whose sums have one term: for each
    entry the multiplication that torch executes, and an addition into an accumulator.

    Args:
        batch: how many such gradients it computes at once.
    """
    cost, product = costed.cost, batch * (gradient.flops + gradient.surplus)
    if not product or (cost.flops and not gradient.surplus):
        return costed
    if not cost.flops and is_tensor(record.results):
        _, shape, dtype, *_ = record.results
        if cost.elementwise + prod(shape) * (2 if dtype.is_complex else 1) == product:
            cost = replace(cost, flops=product, elementwise=0)
    if cost.flops == product:
        surplus = batch * gradient.surplus
        cost = replace(cost, flops=product - surplus, recompute=surplus)
    return costed._replace(cost=cost)


class NodeRun:
    """One run of an autograd node: hands each executed operator the work that it does.

    Args:
        behind: the forward operators behind it, with the gradients that are asked for.
        layer: of the module that called it, if it is a user-defined ``autograd.Function`` whose
            forward was seen.
        batch: how many gradients are computed at once.
        executed: all operators that it executes, where they can't be told by their names: of a
            user's function, or on more than one gradient at once.
        is_within: whether it runs within the backward of a user's function.
    """

    def __init__(
        self,
        behind: Behind,
        layer: str | None = None,
        batch: int = 1,
        executed: Sequence[Executed] = (),
        *,
        is_within: bool = False,
    ) -> None:
        self.behind = behind
        self.layer = layer
        self.default = self._default()
        """Layer and phase of work that no listed gradient claims: for data if any operand depends
        on it."""
        self._may_do_more = is_within or layer is not None
        self._by_name = not executed
        self.made: dict[int, Place] = {}
        """Storage -> layer and phase of the gradient that it holds, of those that it computed."""
        self._gradients = [
            (call, gradient, phase)
            for call, wanted in behind
            for gradient, phase in call.gradients(wanted)
        ]
        self.run_again: set[ForwardCall] = set()
        """Those behind it that it runs again, with gradients off."""
        self._replayed: set[int] = set()
        self._computed: dict[tuple[int, int | None], Place] = {}
        self._otherwise: dict[int, Costed] = {}
        """The records whose cost, as that of the gradient that they compute, is another."""
        self.without_gradients: set[str] = set()
        """Products behind a user's function whose formulas tell no gradient, if it computes
        something that no formula claims: which may be theirs."""
        if executed:
            self._replayed = self._replays(executed) if layer is not None else set()
            rest = [each for each in executed if each[0] not in self._replayed]
            self._computed = dict(self._match(rest, batch))
            if self._may_do_more and any(map(self._is_beyond, _products(rest))):
                self.without_gradients = {
                    call.costed.op for call, wanted in behind if _tells_no_gradient(call, wanted)
                }

    @cached_property
    def again(self) -> Replays:
        """What is behind it and has not been run again yet."""
        return Replays(call for call, _ in self.behind)

    # -- by name ----------------------------------------------------------------------------

    def place(self, index: int, record: Record, costed: Costed) -> tuple[Place | None, Costed]:
        """Layer and phase of what an operator computes: the next gradient that is computed by an
        operator of its name, if there is one; and its cost, as that of the gradient.

        Args:
            index: of its record.
        """
        if index in self._replayed:
            return (self._layer, "recompute"), costed
        if index in self._otherwise:
            return self._computed[index, None], self._otherwise[index]
        if costed.cost.flops and not self._by_name:
            return self._computed.get((index, None)) or self._surplus, costed
        if self.layer is not None:
            return None, costed
        for position, (call, gradient, phase) in enumerate(self._gradients):
            if gradient.op == costed.op:
                del self._gradients[position]
                return (call.layer, phase), work_for(gradient, record, costed)
        return None, costed

    def moved(self, record: Record, costed: Costed) -> Place | None:
        """Layer and phase of what brings a gradient that was computed here into another shape."""
        if costed.cost.flops or costed.cost.elementwise or len(record.inputs) != 1:
            return None
        return self.made.get(record.inputs[0])

    def place_of_part(
        self, index: int, position: int, part: Part, phase: str | None, layer: str
    ) -> Place:
        """Layer and phase of a part of a fused backward operator.

        Args:
            index: of its record.
            position: of the part, among those of the operator.
            phase: by the gradients that are asked for; None: it is none of them.
            layer: of the node.
        """
        if part.flops and self._may_do_more:
            return self._computed.get((index, position), (layer, "recompute"))
        # A kernel may compute a gradient that nobody asked for: beyond the law.
        return layer, phase or "recompute"

    def call_of(self, op: str) -> tuple[ForwardCall, tuple[bool, ...]] | None:
        """The forward operator whose gradients a fused backward operator computes."""
        for call, wanted in self.behind:
            if any(gradient.op == op for gradient in call.costed.cost.gradients):
                return call, wanted
        return self.behind[0] if self.behind and self.layer is None else None

    def _default(self) -> Place | None:
        if not self.behind:
            return None if self.layer is None else (self.layer, "grad_input")
        needed = (call.needed(wanted) for call, wanted in self.behind)
        dependences = [dependence for operands in needed for dependence in operands.values()]
        return self._layer, phase_of(depends_on(dependences) if dependences else DATA)

    @property
    def _layer(self) -> str:
        return self.behind[0][0].layer if self.behind else self.layer or ""

    @property
    def _surplus(self) -> Place | None:
        """Where a product is that the law does not grant. What a user's function computes besides
        is recompute; of torch's own, it contradicts the law."""
        return (self._layer, "recompute") if self._may_do_more else None

    def _is_beyond(self, product: _Product) -> bool:
        key = product.record, product.part
        return key not in self._computed and product.record not in self._otherwise

    # -- by what is computed ----------------------------------------------------------------

    def _replays(self, executed: Iterable[Executed]) -> set[int]:
        """The records that do again what the function's forward did, on the same tensors."""
        same: dict[int, int] = {}
        """Storage of a result -> that of forward's result."""
        found = set()
        for index, record, _ in executed:
            inputs = tuple(same.get(number, number) for number in record.inputs)
            first = self.again.take(record, inputs) if inputs else None
            if first is not None:
                same.update(zip(record.outputs, first.record.outputs, strict=False))
                found.add(index)
                self.run_again.add(first)
        return found

    def _match(
        self, executed: Sequence[Executed], batch: int
    ) -> Iterable[tuple[tuple[int, int | None], Place]]:
        """Find the gradient that each product computes, by its FLOP and by what it reads: the
        gradient of an operand is a product with the other operand."""
        pending = [
            _Pending(call, gradient, phase, gradient.flops * batch)
            for call, gradient, phase in self._gradients
            if gradient.flops
        ]
        for index, record, costed in executed:
            for each in pending:
                work = work_for(each.gradient, record, costed, batch)
                by_its_name = each.gradient.op == costed.op and each.left == work.cost.flops
                if by_its_name and work is not costed:
                    each.left = 0
                    self._otherwise[index] = work
                    yield (index, None), each.place
                    break
        products = [
            product for product in _products(executed) if product.record not in self._otherwise
        ]
        for fits in (_named_so, _reads_the_other, _may_be, _is_a_piece):
            for product in list(products):
                one = next((each for each in pending if each.left and fits(product, each)), None)
                if one is not None:
                    one.left -= product.flops
                    products.remove(product)
                    yield (product.record, product.part), one.place


def _tells_no_gradient(call: ForwardCall, wanted: Wanted) -> bool:
    """Whether a formula leaves open what the gradients of its product are."""
    cost = call.costed.cost
    told = any(gradient.flops for gradient in cost.gradients)
    return bool(cost.flops) and any(wanted) and not told


def _products(executed: Iterable[Executed]) -> Iterable[_Product]:
    for index, record, costed in executed:
        reads, cost = frozenset(record.inputs), costed.cost
        for position, part in enumerate(cost.parts):
            if part.flops:
                yield _Product(index, position, costed.op, part.operand, part.flops, reads)
        if cost.flops and not cost.parts:
            yield _Product(index, None, costed.op, None, cost.flops, reads)


def _is_as_large(product: _Product, pending: _Pending) -> bool:
    """A batch of gradients is computed at once, or one by one."""
    return pending.left == product.flops or (pending.left > product.flops == pending.gradient.flops)


def _named_so(product: _Product, pending: _Pending) -> bool:
    """A part of a fused operator says which operand it is for."""
    gradient = pending.gradient
    named = (product.op, product.operand) == (gradient.op, gradient.operand)
    return named and _is_as_large(product, pending)


def _reads_the_other(product: _Product, pending: _Pending) -> bool:
    return _is_as_large(product, pending) and _reads_another(product, pending)


def _reads_another(product: _Product, pending: _Pending) -> bool:
    return not product.reads.isdisjoint(pending.call.storages_but(pending.gradient))


def _may_be(product: _Product, pending: _Pending) -> bool:
    """It reads neither operand, but what was made of them; or the copy of one."""
    reads_its_own = not product.reads.isdisjoint(pending.call.storages_of(pending.gradient))
    return _is_as_large(product, pending) and not reads_its_own


def _is_a_piece(product: _Product, pending: _Pending) -> bool:
    """A gradient may be summed up from products of pieces."""
    return product.flops <= pending.left and _reads_another(product, pending)
