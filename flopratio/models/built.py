"""A module that somebody has built, and its batch, as an example of fake tensors."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from flopratio.errors import UsageError
from flopratio.models.example import Example
from flopratio.models.fakes import StepMode, fake, fake_module
from flopratio.models.nonzeros import remember_nonzeros
from flopratio.torch_private import FakeTensor, tree_iter, tree_map_only


def example_of(
    model: nn.Module, batch: Any, dtype: torch.dtype | None = None, *, enter_mode: bool = True
) -> Example:
    """A copy of a module with fake parameters, and its batch likewise.

    Args:
        model: left as it is.
        batch: a tensor, a tuple of positional or a dict of keyword inputs, real, fake or meta.
        dtype: of parameters and floating inputs; their own unless given.
        enter_mode: as in :class:`flopratio.models.Example`.

    Raises:
        UsageError: the module can't be copied, or an input is empty.
    """
    for tensor in tree_iter(batch):
        if isinstance(tensor, Tensor) and tensor.numel() == 0:
            shape = "x".join(map(str, tensor.shape))
            raise UsageError(f"the batch is empty, of {shape}: give at least one example")
    mode: Any = next(
        (
            tensor.fake_mode
            for tensor in (*model.parameters(), *model.buffers(), *tree_iter(batch))
            if isinstance(tensor, FakeTensor)
        ),
        None,
    )
    mode = mode if mode is not None else StepMode()

    def place(tensor: Tensor) -> Tensor:
        placed = fake(tensor, mode, keep_integers=not enter_mode, dtype=dtype)
        return placed if placed is not tensor else _copied(tensor)

    # Parameters and buffers are handed to the copy as stand-ins; everything else is copied, so
    # that nothing that forward leaves on the module is left on the user's.
    stand_ins: dict[int, Any] = {}
    for tensor in (*model.parameters(), *model.buffers()):
        if id(tensor) not in stand_ins:
            stand_ins[id(tensor)] = place(tensor)
    for buffer in model.buffers():
        remember_nonzeros(buffer, stand_ins[id(buffer)])
    try:
        copied = copy.deepcopy(model, stand_ins)
    except Exception as error:
        raise UsageError(
            f"the module can't be copied ({error}): profile a step of it with fr.Profiler instead"
        ) from error
    fake_module(copied, mode, keep_integers=not enter_mode)
    inputs = tree_map_only(Tensor, place, batch)
    args: tuple[Any, ...] = (inputs,)
    kwargs: dict[str, Any] = {}
    if isinstance(inputs, tuple | list):
        args = tuple(inputs)
    elif isinstance(inputs, Mapping):
        args, kwargs = (), dict(inputs)
    return Example(copied, args, kwargs, mode, enter_mode, {}, "module", None)


def _copied(tensor: Tensor) -> Tensor:
    """A leaf of its own, whose gradient is nobody else's; a parameter stays one."""
    copied = tensor.detach().clone()
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(copied, tensor.requires_grad)
    return copied.requires_grad_(tensor.requires_grad)
