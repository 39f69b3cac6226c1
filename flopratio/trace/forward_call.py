"""A forward operator that autograd made a node for, and the node's run in backward: which operator
computes which of its gradients."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from flopratio.formulas import Gradient, operands_of
from flopratio.formulas.dependence import DATA, depends_on, phase_among, phase_of
from flopratio.trace.evaluation import Costed, is_list, is_nested, is_tensor
from flopratio.trace.recording import Record


@dataclass
class ForwardCall:
    """A forward operator that autograd made a node for.

    Args:
        record, costed: the operator and its cost.
        depends_on: what each of its tensor arguments depends on, see
            :mod:`flopratio.formulas.dependence`.
        layer: the path of its module.
        wanted: which of its tensor arguments need a gradient.
        recomputed: whether it was run again in backward; the law has counted the first run.
    """

    record: Record
    costed: Costed
    depends_on: tuple[int, ...]
    layer: str
    wanted: tuple[bool, ...]
    recomputed: bool = False
    _gradients: dict[tuple[bool, ...], list[tuple[Gradient, str]]] = field(default_factory=dict)

    def needed(self, wanted: tuple[bool, ...] | None = None) -> dict[str, int]:
        """Operand -> what it depends on, for those operands that require a gradient."""
        wanted = self.wanted if wanted is None else wanted
        operands = zip(self.costed.operands, self.depends_on, wanted, strict=False)
        return {operand: dependence for operand, dependence, wanted in operands if wanted}

    def by_operand(self) -> dict[str, int]:
        """Operand -> what it depends on."""
        return dict(zip(self.costed.operands, self.depends_on, strict=False))

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
        gradients = self._gradients.get(asked)
        if gradients is not None:
            return gradients
        wanted = self.wanted
        if len(asked) == len(self.costed.operands) and not self.record.in_function:
            wanted = tuple(wants and leads for wants, leads in zip(wanted, asked, strict=True))
        needed = self.needed(wanted)
        dependences = self.by_operand()
        gradients = self._gradients[asked] = []
        for gradient in self.costed.cost.gradients:
            phase = phase_among(gradient, needed, dependences)
            if phase is not None:
                gradients.append((gradient, phase))
        return gradients


def reached_by_gradient(calls: list[ForwardCall]) -> list[ForwardCall]:
    """Those of the operators behind a node that a gradient can reach. Inside of a user-defined
    function nothing tells but the values: whatever only leads to a choice (an ``argmax``, a
    comparison) gets none."""
    if len(calls) < 2:
        return calls
    used_later: dict[int, bool] = {}
    reached = []
    for call in reversed(calls):
        outputs = call.record.outputs
        used = [used_later[number] for number in outputs if number in used_later]
        leads = _is_floating(call.record.results) and (any(used) or not used)
        if leads:
            reached.append(call)
        for number in call.record.inputs:
            used_later[number] = used_later.get(number, False) or leads
    return reached[::-1]


def _is_floating(note: Any) -> bool:
    """Whether any noted tensor is of a type that has gradients."""
    if is_tensor(note) or is_nested(note):
        return bool(note[2].is_floating_point or note[2].is_complex)
    return is_list(note) and any(_is_floating(item) for item in note[1:])


class NodeRun:
    """One run of an autograd node: hands each executed operator the work that it does.

    Args:
        node: its sequence number.
        calls: the forward operators behind it: one, or all those inside of a user-defined
            ``autograd.Function``.
        asked: which of its edges lead to what is differentiated for.
    """

    def __init__(self, node: int, calls: list[ForwardCall], asked: tuple[bool, ...]) -> None:
        self.node = node
        self.calls = calls
        self._pending = [
            (call, gradient, phase) for call in calls for gradient, phase in call.gradients(asked)
        ]

    def claim(self, record: Record, costed: Costed) -> tuple[str, str] | None:
        """Layer and phase of the next gradient that this operator computes, if there is one."""
        if len(self.calls) > 1 or (self.calls and self.calls[0].record.in_function):
            if costed.cost.flops:
                return self._claim_product(record, costed)
            if not self.calls[0].record.taken_apart:
                return None
        for index, (call, gradient, phase) in enumerate(self._pending):
            if gradient.op == costed.op:
                del self._pending[index]
                return call.layer, phase
        return None

    def _claim_product(self, record: Record, costed: Costed) -> tuple[str, str] | None:
        """A user's backward computes its products in any order and form: the one that reads an
        operand of a forward product is the gradient of the other operand."""
        equal = [
            index
            for index, (_, gradient, _) in enumerate(self._pending)
            if costed.cost.flops and gradient.flops == costed.cost.flops
        ]
        if not equal:
            return None
        read = set(record.inputs)
        telling = [i for i in equal if read & self._pending[i][0].storages_but(self._pending[i][1])]
        call, _, phase = self._pending.pop((telling or equal)[0])
        return call.layer, phase

    def default(self) -> tuple[str, str] | None:
        """Layer and phase of work that no listed gradient claims: for data if any operand depends
        on it."""
        if not self.calls:
            return None
        dependences = [what for call in self.calls for what in call.needed().values()]
        return self.calls[0].layer, phase_of(depends_on(dependences) if dependences else DATA)
