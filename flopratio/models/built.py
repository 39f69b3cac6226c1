"""A module that somebody has built, and its batch, as an example of fake tensors."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from flopratio.errors import UsageError
from flopratio.models.example import Example, Inputs, ModelError
from flopratio.models.explain import summary
from flopratio.models.fakes import StepMode, fake, fake_module
from flopratio.models.lazy import has_lazy_layers, materialise, on_meta
from flopratio.models.nonzeros import remember_nonzeros
from flopratio.torch_private import (
    FakeTensor,
    buffers,
    named_submodules,
    parameters,
    tree_iter,
    tree_map_only,
)

Place = Callable[[Tensor], Tensor]
"""Makes the stand-in of a tensor."""


class Copy(NamedTuple):
    """A module, copied.

    Args:
        computed: the stand-ins of tensors that the module held and had computed of others, by
            where they were; what they were computed of is not copied.
    """

    module: nn.Module
    computed: dict[str, Tensor]


def example_of(
    model: nn.Module, batch: Any, dtype: torch.dtype | None = None, *, enter_mode: bool = True
) -> Example:
    """A copy of a module with fake parameters, and its batch likewise.

    Args:
        model: left as it is. Lazy layers of the copy get the sizes that the batch gives them.
        batch: a tuple of positional or a dict of keyword inputs, or one input (a tensor; a list of
            tensors, as detection models take it), of real, fake or meta tensors.
        dtype: of parameters and floating inputs; their own unless given.
        enter_mode: as in :class:`flopratio.models.Example`.

    Raises:
        UsageError: the module can't be copied, or an input is empty.
    """
    for tensor in tree_iter(batch):
        if isinstance(tensor, Tensor) and tensor.numel() == 0:
            shape = "x".join(map(str, tensor.shape))
            raise UsageError(f"the batch is empty, of {shape}: give at least one example")
    if has_lazy_layers(model):
        model = _copied(model, _without_values).module
        materialise(model, *Inputs.of(batch))
    mode: Any = next(
        (
            tensor.fake_mode
            for tensor in (*parameters(model), *buffers(model), *tree_iter(batch))
            if isinstance(tensor, FakeTensor)
        ),
        None,
    )
    mode = mode if mode is not None else StepMode()

    def place(tensor: Tensor) -> Tensor:
        placed = fake(tensor, mode, keep_integers=not enter_mode, dtype=dtype)
        return placed if placed is not tensor else _leaf(tensor)

    copied, computed = _copied(model, place)
    fake_module(copied, mode, keep_integers=not enter_mode)
    args, kwargs = Inputs.of(tree_map_only(Tensor, place, batch))
    return Example(
        copied, args, dict(kwargs), mode, enter_mode, {}, "module", None, computed=computed
    )


def check_computed(example: Example) -> None:
    """Check, after a step, that its backward has not come to a tensor whose graph was not copied.

    Raises:
        ModelError: it has: what lies behind is not in the count.
    """
    for name, tensor in example.computed.items():
        if tensor.grad is not None:
            raise ModelError(
                f"the module holds {name}, computed before the step, and the loss depends on it: "
                "compute it in forward, or put fr.Profiler around the step"
            )


def _copied(model: nn.Module, place: Place) -> Copy:
    """A copy whose parameters and buffers are placed, and all else is copied, so that nothing that
    forward leaves on the module is left on the user's.

    UsageError: something in it can't be copied.
    """
    stand_ins: dict[int, Any] = {}
    for tensor in (*parameters(model), *buffers(model)):
        if id(tensor) not in stand_ins:
            stand_ins[id(tensor)] = place(tensor)
    for buffer in buffers(model):
        remember_nonzeros(buffer, stand_ins[id(buffer)])
    computed: list[tuple[Tensor, Tensor]] = []

    def placed(tensor: Tensor, memo: dict[int, Any]) -> Tensor:
        stand_in = memo[id(tensor)] = place(tensor.detach()).requires_grad_()
        if not tensor.is_leaf:
            computed.append((tensor, stand_in))
        return stand_in

    try:
        with _differentiable_tensors_copied(placed):
            copied = copy.deepcopy(model, stand_ins)
    except Exception as error:
        raise UsageError(
            f"the module can't be copied ({summary(error)}): profile a step of it with fr.Profiler "
            "instead"
        ) from error
    return Copy(copied, {_name_of(tensor, model): stand_in for tensor, stand_in in computed})


_COPYING = threading.RLock()


@contextmanager
def _differentiable_tensors_copied(
    place: Callable[[Tensor, dict[int, Any]], Tensor],
) -> Iterator[None]:
    """Meanwhile, what this thread copies of tensors that require a gradient and are no parameters
    is made by ``place``. Torch copies none that was computed of others: it has a graph."""
    original: Any = Tensor.__deepcopy__
    thread = threading.get_ident()

    def copied(tensor: Tensor, memo: dict[int, Any]) -> Any:
        if not tensor.requires_grad or threading.get_ident() != thread:
            return original(tensor, memo)
        return memo[id(tensor)] if id(tensor) in memo else place(tensor, memo)

    with _COPYING:
        Tensor.__deepcopy__ = copied  # type: ignore[method-assign]
        try:
            yield
        finally:
            Tensor.__deepcopy__ = original  # type: ignore[method-assign]


def _name_of(tensor: Tensor, model: nn.Module) -> str:
    """Where a module holds a tensor: its path if it is an attribute, else its shape."""
    for path, submodule in named_submodules(model):
        for name, value in vars(submodule).items():
            if any(held is tensor for held in tree_iter(value)):
                return f"'{path}.{name}'" if path else f"'{name}'"
    return f"a tensor of {'x'.join(map(str, tensor.shape)) or 'no dimension'}"


def _without_values(tensor: Tensor) -> Tensor:
    """On the meta device, a floating tensor; a parameter stays one."""
    if is_lazy(tensor):
        return on_meta(tensor)
    if not tensor.is_floating_point():
        return _leaf(tensor)
    shape = tensor.detach().to("meta")
    if isinstance(tensor, nn.Parameter):
        shape = nn.Parameter(shape, tensor.requires_grad)
        vars(shape).update(vars(tensor))  # marks such as _no_weight_decay
        return shape
    return shape.requires_grad_(tensor.requires_grad)


def _leaf(tensor: Tensor) -> Tensor:
    """A leaf of its own, whose gradient is nobody else's; a parameter stays one."""
    copied = tensor.detach().clone()
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(copied, tensor.requires_grad)
    return copied.requires_grad_(tensor.requires_grad)
