"""Modules of fake parameters that are converted (`.to(dtype)`) in the middle of a step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from flopratio.torch_private import FakeTensor


@contextmanager
def convertible_modules() -> Iterator[None]:
    """Let a forward convert its modules, as routers of experts do.

    Torch swaps the contents of a fake parameter with those of its converted copy, which it refuses
    for a parameter that is in use. Here a parameter that is converted to what it is stays, and any
    other is replaced, which is what becomes of a real one.
    """
    original: Any = nn.Module._apply

    def apply(module: nn.Module, convert: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        own = module._parameters
        if not any(isinstance(parameter, FakeTensor) for parameter in own.values()):
            return original(module, convert, recurse)
        if recurse:
            for child in module.children():
                child._apply(convert)
        for name, parameter in own.items():
            if parameter is None:
                continue
            with torch.no_grad():
                converted = convert(parameter)
            if converted is not parameter:
                own[name] = nn.Parameter(converted, parameter.requires_grad)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = convert(buffer)
        return module

    nn.Module._apply = apply  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module._apply = original  # type: ignore[method-assign]
