"""Lazy layers, which take their sizes from the first inputs that they see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter, is_lazy

from flopratio.models.example import ModelError
from flopratio.models.explain import origin, summary
from flopratio.torch_private import (
    buffers,
    named_submodules,
    own_buffers,
    own_parameters,
    parameters,
    tree_map_only,
)


def has_lazy_layers(module: nn.Module) -> bool:
    return any(map(is_lazy, (*parameters(module), *buffers(module))))


def materialise(
    module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any], *, real: bool = False
) -> None:
    """Give the lazy layers of a module their sizes, in place: by one forward, on shapes alone.

    Args:
        module: its floating tensors are on the meta device.
        real: they are not, and the forward is a real one.

    Raises:
        ModelError: it can't run on shapes alone.
    """
    if not real:
        _prepare(module)
        args, kwargs = tree_map_only(Tensor, _shape_of, (tuple(args), dict(kwargs)))
    try:
        with torch.no_grad():
            module(*args, **kwargs)
    except (Exception, SystemExit) as error:  # a model may raise anything
        raise ModelError(
            "the module has lazy layers, and the forward that would tell their sizes failed: "
            f"{summary(error)}{origin(error)}; run it once on real inputs before"
        ) from error


def _prepare(module: nn.Module) -> None:
    """Have lazy tensors get their sizes on the meta device."""
    for _, submodule in named_submodules(module):
        own = {**own_parameters(submodule), **own_buffers(submodule)}
        for name, tensor in own.items():
            if is_lazy(tensor):
                setattr(submodule, name, on_meta(tensor))


def on_meta(tensor: Tensor) -> Tensor:
    """A lazy tensor like another, that gets its size on the meta device."""
    kind: Any = UninitializedBuffer
    if isinstance(tensor, UninitializedParameter):
        kind = UninitializedParameter
    made: Tensor = kind(requires_grad=tensor.requires_grad, device="meta", dtype=tensor.dtype)
    return made


def _shape_of(tensor: Tensor) -> Tensor:
    return tensor.detach().to("meta") if tensor.is_floating_point() else tensor
