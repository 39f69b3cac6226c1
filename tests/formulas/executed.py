"""A step really run: the arithmetic operators that it dispatches, forward and backward, and the
bytes that it keeps; beside it what a layer's formula says of the same step."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import chain, combinations
from typing import Any, NamedTuple

import numpy as np
import sympy
import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode

from flopratio.formulas import OPERATORS, Call, LayerCost, Tensor, exact, operands_of


def only_moves(op: str) -> bool:
    """Whether no call of an operator does arithmetic: by the file in which its formula stands."""
    return OPERATORS[op].__module__.rpartition(".")[2] in ("movement", "selection")


class Work(NamedTuple):
    """What one operator does."""

    op: str
    flops: Any
    elementwise: Any


@dataclass
class Step:
    """Operators that do arithmetic, in order; and the bytes kept between forward and backward, each
    storage once, parameters and buffers apart."""

    forward: list[Work] = field(default_factory=list)
    backward: list[Work] = field(default_factory=list)
    saved_bytes: Any = 0

    def merged(self) -> Step:
        """Neighbours of one name as one: the parts of a fused operator, two products in a row."""
        return Step(merge(self.forward), merge(self.backward), self.saved_bytes)

    @property
    def figures(self) -> dict[str, Any]:
        return {
            "forward": sum(work.flops for work in self.forward),
            "elementwise_forward": sum(work.elementwise for work in self.forward),
            "backward": sum(work.flops for work in self.backward),
            "elementwise_backward": sum(work.elementwise for work in self.backward),
            "saved_bytes": self.saved_bytes,
        }


def merge(works: Iterable[Work]) -> list[Work]:
    merged: list[Work] = []
    for work in works:
        if merged and merged[-1].op == work.op:
            last = merged.pop()
            work = Work(work.op, last.flops + work.flops, last.elementwise + work.elementwise)
        merged.append(work)
    return merged


class Recorder(TorchDispatchMode):
    """Evaluates the formula of each operator that is dispatched."""

    def __init__(self) -> None:
        super().__init__()
        self.step = Step()
        self.storages: dict[int, object] = {}

    def tensor(self, value: Any) -> Any:
        """The formula's view of a tensor: tensors of one memory get one storage."""
        if isinstance(value, torch.Tensor):
            if value.layout != torch.strided:  # a sparse gradient has no memory of its own
                return Tensor(tuple(value.shape), value.element_size())
            storage = self.storages.setdefault(value.untyped_storage()._cdata, object())
            return Tensor(tuple(value.shape), value.element_size(), storage)
        if isinstance(value, (list, tuple)):
            return tuple(self.tensor(item) for item in value)
        return value

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        op = ".".join(str(func).split(".")[:2])
        node = torch._C._current_autograd_node()
        accumulates = node is not None and "AccumulateGrad" in node.name()
        if not accumulates and not only_moves(op):
            operands = [self.tensor(value) for value in args]
            named = {name: self.tensor(value) for name, value in (kwargs or {}).items()}
            named.pop("out", None)  # what it is written into is what it returns
            cost = OPERATORS[op](*operands, **named, out=self.tensor(out))
            works = self.step.forward if node is None else self.step.backward
            if not cost.view:
                works.append(Work(op, cost.flops, cost.elementwise))
        return out


def executed(
    run: Callable[..., Any], *inputs: torch.Tensor, parameters: Iterable[torch.Tensor] = ()
) -> Step:
    """Run forward and backward on copies of the inputs (so that a layer may overwrite them)."""
    inputs = tuple(x.clone() for x in inputs)
    own = {parameter.untyped_storage().data_ptr() for parameter in parameters}
    saved: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    recorder = Recorder()
    with saved_tensors_hooks(pack, lambda tensor: tensor), recorder:
        y = run(*inputs)
        y = y[0] if isinstance(y, tuple) else y
    grad = torch.ones_like(y)
    with recorder:
        y.backward(grad)
    recorder.step.saved_bytes = sum(saved.values())
    return recorder.step.merged()


def analytic(layer: LayerCost, *needed: Tensor) -> Step:
    """What the formulas say of the step, if these tensors need a gradient."""
    needing = {id(tensor.storage) for tensor in needed}
    owned = [*layer.parameters.values(), *layer.buffers.values()]
    parameters = {id(tensor.storage) for tensor in owned}
    step, saved = Step(), {}
    for call in layer.calls:
        cost = call.cost
        if not cost.view and not only_moves(call.op):
            step.forward.append(Work(call.op, cost.flops, cost.elementwise))
        operands = {
            name: operand
            for name, operand in call.operands.items()
            if isinstance(operand, Tensor) and id(operand.storage) in needing
        }
        asked = [
            gradient
            for gradient in cost.gradients
            if any(name in operands for name in operands_of(gradient))
        ]
        works = [
            # An outer product is executed as a multiplication an entry.
            Work(gradient.op, 0, gradient.flops // 2 + gradient.elementwise)
            if gradient.op == "aten.mul"
            else Work(gradient.op, gradient.flops, gradient.elementwise)
            for gradient in asked
            if gradient.op and not only_moves(gradient.op)
        ]
        step.backward = works + step.backward
        for tensor in chain.from_iterable(gradient.saves for gradient in asked):
            saved[id(tensor.storage)] = tensor
        if operands:
            outs = call.out if isinstance(call.out, tuple) else (call.out,)
            needing |= {id(out.storage) for out in outs}
    step.saved_bytes = sum(
        tensor.nbytes for storage, tensor in saved.items() if storage not in parameters
    )
    return step.merged()


class Calls(Recorder):
    """Notes the forward operators as calls of formulas, the views among them too."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self.kept: list[Any] = []
        """Keeps memory alive, so that no storage takes the place of another."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        out = super().__torch_dispatch__(func, types, args, kwargs)
        names = (argument.name for argument in func._schema.arguments)
        operands = dict(zip(names, args, strict=False)) | (kwargs or {})
        operands = {name: self.tensor(value) for name, value in operands.items()}
        op = ".".join(str(func).split(".")[:2])
        self.calls.append(Call(op, operands, self.tensor(out)))
        self.kept.append((args, kwargs, out))
        return out


def agrees_with_autograd(run: Callable[..., Any], *inputs: torch.Tensor) -> Step:
    """What the formulas of the forward operators, as they were called, say of backward and of the
    saved bytes is what autograd does, whichever of the inputs need a gradient. No input may be used
    twice: that autograd adds up gradients is no operator's doing. Returns the step with all."""
    floating = [index for index, x in enumerate(inputs) if x.is_floating_point()]
    for needed in subsets(floating):
        for index in floating:
            inputs[index].requires_grad_(index in needed)
        calls = Calls()
        with calls:
            y = run(*inputs)
        layer = LayerCost(calls.tensor(y), tuple(calls.calls))
        expected = analytic(layer, *(calls.tensor(inputs[index]) for index in needed))
        found = executed(run, *inputs)
        assert found == expected, f"gradients of {needed}"
    return found


def subsets(names: Iterable[Any]) -> list[tuple[Any, ...]]:
    """All choices of at least one."""
    names = tuple(names)
    return list(chain.from_iterable(combinations(names, size) for size in range(1, len(names) + 1)))


def agrees_with_torch(
    formula: Callable[..., LayerCost],
    module: torch.nn.Module,
    x: torch.Tensor,
    **arguments: Any,
) -> None:
    """The layer's formula and its module, really run, are the same step: operators, their work and
    the saved bytes, whichever of input and parameters need a gradient."""
    parameters = dict(module.named_parameters())
    inputs = ("x",) if x.is_floating_point() else ()
    for needed in subsets((*inputs, *parameters)):
        for name, parameter in parameters.items():
            parameter.requires_grad_(name in needed)
        real = x.detach().clone().requires_grad_("x" in needed)
        found = executed(module, real, parameters=[*parameters.values(), *module.buffers()])

        operand = Tensor(tuple(x.shape), x.element_size())
        layer = formula(operand, **arguments)
        assert {name: tensor.shape for name, tensor in layer.parameters.items()} == {
            name: tuple(parameter.shape) for name, parameter in parameters.items()
        }
        assert layer.out.shape == tuple(module(real.clone()).shape)
        tensors = {"x": operand, **layer.parameters}
        expected = analytic(layer, *(tensors[name] for name in needed))
        assert found == expected, f"gradients of {needed}"


def agrees_on_arrays_and_symbols(
    figures: Callable[..., dict[str, Any]], *points: dict[str, int]
) -> None:
    """The same formula, called with ints, with arrays of all the points and with symbols, says the
    same at each point."""
    by_arrays = figures(**{name: exact([point[name] for point in points]) for name in points[0]})
    symbols = {name: sympy.Symbol(name, integer=True, positive=True) for name in points[0]}
    by_symbols = figures(**symbols)
    for index, point in enumerate(points):
        values = {symbols[name]: value for name, value in point.items()}
        for name, expected in figures(**point).items():
            assert isinstance(expected, int)
            assert np.broadcast_to(by_arrays[name], len(points))[index] == expected, name
            assert sympy.sympify(by_symbols[name]).subs(values) == expected, name
