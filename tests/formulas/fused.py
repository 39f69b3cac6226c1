"""A fused operator really called: what its formula says of forward must be what the formula of the
executed backward operator says, gradient by gradient, and what autograd really keeps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain, combinations
from typing import Any, NamedTuple

import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode

from flopratio.formulas import OPERATORS, Cost, Tensor, operands_of
from tests.formulas.executed import only_moves


class Dispatched(NamedTuple):
    """One operator that was dispatched."""

    op: str
    cost: Cost
    needed: frozenset[str]
    """Its operands that need a gradient, by name."""

    @property
    def law(self) -> int:
        """FLOP of the gradients that forward says it will have."""
        return sum(
            gradient.flops
            for gradient in self.cost.gradients
            if self.needed.intersection(operands_of(gradient))
        )


@dataclass
class Step:
    """The operators with arithmetic of forward and backward, in order, and the bytes kept."""

    forward: list[Dispatched] = field(default_factory=list)
    backward: list[Dispatched] = field(default_factory=list)
    saved_bytes: int = 0

    def cost(self, op: str) -> Cost:
        """The cost of the one operator of this name."""
        (cost,) = (work.cost for work in self.forward + self.backward if work.op == op)
        return cost

    @property
    def law(self) -> int:
        """Contraction FLOP of backward, by forward's formulas."""
        return sum(work.law for work in self.forward)

    @property
    def flops(self) -> tuple[int, int]:
        """Contraction FLOP of forward and of backward."""
        forward, backward = (
            sum(work.cost.flops for work in works) for works in (self.forward, self.backward)
        )
        return forward, backward


def needs_gradient(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(needs_gradient(item) for item in value)
    return isinstance(value, torch.Tensor) and value.requires_grad


class Recorder(TorchDispatchMode):
    """Evaluates the formula of each operator, with the arguments just as they were dispatched."""

    def __init__(self) -> None:
        super().__init__()
        self.step = Step()
        self.storages: dict[int, torch.UntypedStorage] = {}

    def describe(self, value: Any) -> Any:
        """The formula's view of an argument: tensors of one memory have one storage."""
        if isinstance(value, torch.Tensor):
            storage = value.untyped_storage()
            storage = self.storages.setdefault(storage._cdata, storage)
            return Tensor(tuple(value.shape), value.element_size(), storage)
        if isinstance(value, list | tuple):
            return tuple(self.describe(item) for item in value)
        return value

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        op = func._schema.name.replace("::", ".")
        node = torch._C._current_autograd_node()
        accumulates = node is not None and "AccumulateGrad" in node.name()
        if not accumulates and not only_moves(op):
            operands = self.describe(args)
            keywords = {name: self.describe(value) for name, value in kwargs.items()}
            cost = OPERATORS[op](*operands, **keywords, out=self.describe(out))
            works = self.step.forward if node is None else self.step.backward
            names = [argument.name for argument in func._schema.arguments]
            named = [*zip(names, args, strict=False), *kwargs.items()]
            needed = frozenset(name for name, value in named if needs_gradient(value))
            for gradient in cost.gradients if needed else ():
                assert set(operands_of(gradient)) <= set(names), f"no such operand of {op}"
            if not cost.view:
                works.append(Dispatched(op, cost, needed))
        return out


def executed(run: Callable[[], Any], parameters: Iterable[torch.Tensor] = ()) -> Step:
    """Run forward, and backward from its (first) output if it needs a gradient."""
    own = {parameter.untyped_storage()._cdata for parameter in parameters}
    saved: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            saved[storage._cdata] = storage
        return tensor

    recorder = Recorder()
    with saved_tensors_hooks(pack, lambda tensor: tensor), recorder:
        y = run()
    y = y[0] if isinstance(y, tuple | list) else y
    if y.requires_grad:
        grad = torch.ones_like(y)
        with recorder:
            y.backward(grad)
    recorder.step.saved_bytes = sum(storage.nbytes() for storage in saved.values())
    return recorder.step


def subsets(names: Iterable[str]) -> list[tuple[str, ...]]:
    """All choices of at least one."""
    names = tuple(names)
    return list(chain.from_iterable(combinations(names, size) for size in range(1, len(names) + 1)))


def work_by_operand(
    works: Iterable[Any], needed: Collection[str] | None = None
) -> Counter[tuple[Any, str]]:
    """Work of gradients or parts, added up for each operand, or for those that need a gradient."""
    total: Counter[tuple[Any, str]] = Counter()
    for work in works:
        operands = tuple(o for o in operands_of(work) if needed is None or o in needed)
        total[operands, "flops"] += work.flops
        total[operands, "elementwise"] += work.elementwise
    return +total


def agrees_with_torch(
    op: str,
    run: Callable[..., Any],
    inputs: Mapping[str, torch.Tensor],
    choices: Iterable[tuple[str, ...]] | None = None,
) -> Step:
    """Call an operator with each choice of inputs (by their operands' names) needing a gradient.
    Returns the last step."""
    step = Step()
    for needed in choices or subsets(inputs):
        given = {name: x.detach().requires_grad_(name in needed) for name, x in inputs.items()}
        step = executed(lambda given=given: run(**given))
        asked = [
            gradient
            for gradient in step.cost(op).gradients
            if set(operands_of(gradient)) & set(needed)
        ]
        kept = {id(tensor.storage): tensor for gradient in asked for tensor in gradient.saves}
        found = sum(tensor.nbytes for tensor in kept.values())
        assert found == step.saved_bytes, f"saved for {needed}"
        (backward,) = {gradient.op for gradient in asked}
        cost = step.cost(backward)
        done = [part for part in cost.parts if set(operands_of(part)) & set(needed)]
        of_asked, of_done = (work_by_operand(works, needed) for works in (asked, done))
        assert of_asked == of_done, f"gradients of {needed}"
        assert cost.flops == sum(part.flops for part in cost.parts)
        assert cost.elementwise == sum(part.elementwise for part in cost.parts)
    return step
