"""A forward operator that autograd made a node for: which gradients its backward computes."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from flopratio.formulas import Gradient, operands_of
from flopratio.formulas.dependence import phase_among
from flopratio.trace.evaluation import Costed, is_list, is_nested, is_tensor
from flopratio.trace.recording import Record

Wanted = tuple[bool, ...]
"""Of which tensor arguments of an operator a gradient is wanted, in order."""


@dataclass(eq=False)
class ForwardCall:
    """A forward operator that autograd made a node for.

    Args:
        record, costed: the operator and its cost.
        depends_on: what each of its tensor arguments depends on, see
            :mod:`flopratio.formulas.dependence`.
        layer: the path of its module.
        wanted: which of its tensor arguments need a gradient.
    """

    record: Record
    costed: Costed
    depends_on: tuple[int, ...]
    layer: str
    wanted: Wanted
    _gradients: dict[Wanted, list[tuple[Gradient, str]]] = field(default_factory=dict)

    def needed(self, wanted: Wanted) -> dict[str, int]:
        """Operand -> what it depends on, for those operands that require a gradient."""
        operands = zip(self.costed.operands, self.depends_on, wanted, strict=False)
        return {operand: dependence for operand, dependence, wanted in operands if wanted}

    def by_operand(self) -> dict[str, int]:
        """Operand -> what it depends on."""
        return dict(zip(self.costed.operands, self.depends_on, strict=False))

    def storages_of(self, gradient: Gradient) -> set[int]:
        """The storages of the operands whose gradient this is."""
        names = operands_of(gradient)
        operands = zip(self.costed.operands, self.record.inputs, strict=False)
        return {number for operand, number in operands if operand in names}

    def storages_but(self, gradient: Gradient) -> set[int]:
        """The storages of the operands whose gradient this is not."""
        names = operands_of(gradient)
        operands = zip(self.costed.operands, self.record.inputs, strict=False)
        return {number for operand, number in operands if operand not in names}

    def asked(self, edges: Wanted) -> Wanted:
        """Those of the wanted gradients that a backward asks for.

        Args:
            edges: for each edge of the operator's node, whether it leads to what is differentiated
                for. There is one for each argument that has a gradient, absent ones too.
        """
        if edges == self.wanted:
            return edges
        if not any(edges):
            return (False,) * len(self.wanted)
        if self.record.taken_apart:  # the edges are of the subclass's operator, mostly the same
            same = len(edges) == len(self.wanted)
            both = zip(self.wanted, edges, strict=False)
            return tuple(flag and leads for flag, leads in both) if same else self.wanted
        for positions in self._edges:
            if len(positions) == len(edges):
                lead = {at for at, leads in zip(positions, edges, strict=True) if leads}
                return tuple(flag and at in lead for at, flag in enumerate(self.wanted))
        return self.wanted

    @cached_property
    def _edges(self) -> tuple[list[int | None], ...]:
        """For each edge of the node its position among the tensor arguments, None of an absent one;
        by what kinds of arguments may have an edge: all tensors, those that the formula knows a
        gradient of, those of real or complex numbers."""
        every = _tensor_arguments(self.record)
        differentiated = {
            name for gradient in self.costed.cost.gradients for name in operands_of(gradient)
        }
        return (
            [at for _, at, _ in every],
            [at for name, at, _ in every if name in differentiated],
            [at for _, at, note in every if note is not None and is_differentiable(note)],
        )

    def gradients(self, wanted: Wanted) -> list[tuple[Gradient, str]]:
        """The gradients that autograd will compute, each with its phase.

        Args:
            wanted: of which tensor arguments.
        """
        gradients = self._gradients.get(wanted)
        if gradients is None:
            needed, dependences = self.needed(wanted), self.by_operand()
            gradients = self._gradients[wanted] = []
            for gradient in self.costed.cost.gradients:
                phase = phase_among(gradient, needed, dependences)
                if phase is not None:
                    gradients.append((gradient, phase))
        return gradients


def _tensor_arguments(record: Record) -> list[tuple[str, int | None, Any]]:
    """The arguments that are tensors, or may be: name, position among the tensors that are there,
    note."""
    named = dict(record.keywords)
    found: list[tuple[str, int | None, Any]] = []
    count = 0
    for index, argument in enumerate(record.op.arguments):
        given = index < len(record.arguments)
        note: Any = record.arguments[index] if given else named.get(argument.name)
        if not argument.is_tensor:
            continue
        items = note[1:] if is_list(note) else (note,)
        for item in items:
            there = is_tensor(item) or is_nested(item)
            found.append((argument.name, count if there else None, item))
            count += there
    return found


def is_differentiable(note: Any) -> bool:
    """Whether any noted tensor is of a type that has gradients."""
    if is_tensor(note) or is_nested(note):
        return bool(note[2].is_floating_point or note[2].is_complex)
    return is_list(note) and any(is_differentiable(item) for item in note[1:])
