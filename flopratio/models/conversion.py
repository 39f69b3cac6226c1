"""Modules of fake parameters that are converted (`.to(dtype)`) in the middle of a step."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from torch import nn

from flopratio.torch_private import (
    Convert,
    FakeTensor,
    conversion_replaced,
    convert_module,
    own_buffers,
    own_parameters,
)


def convertible_modules() -> AbstractContextManager[None]:
    """Let a forward convert its modules, as routers of experts do.

    Torch swaps the contents of a fake parameter with those of its converted copy, which it refuses
    for a parameter that is in use. Here a parameter that is converted to what it is stays, and any
    other is replaced, which is what becomes of a real one.
    """
    return conversion_replaced(_convert_fake)


def _convert_fake(module: nn.Module, convert: Convert, recurse: bool) -> bool:
    """Convert a module that has fake parameters of its own; False if it has none."""
    own = own_parameters(module)
    if not any(isinstance(parameter, FakeTensor) for parameter in own.values()):
        return False
    if recurse:
        for child in module.children():
            convert_module(child, convert)
    for name, parameter in own.items():
        with torch.no_grad():
            converted = convert(parameter)
        if converted is not parameter:
            setattr(module, name, nn.Parameter(converted, parameter.requires_grad))
    for name, buffer in own_buffers(module).items():
        setattr(module, name, convert(buffer))
    return True
