"""Tensor subclasses that take themselves apart (DTensor, jagged nested tensors, quantised weights):
what is executed is what they call, on the tensors that they hold."""

from __future__ import annotations

from functools import cache

import torch

from flopratio.torch_private import (
    FakeTensor,
    FunctionalTensor,
    disabled_torch_dispatch,
    inner_names,
    sparse_parts,
)

OPERANDS = (FakeTensor, FunctionalTensor)
"""Subclasses that operators are executed on: torch's own, that stand for ordinary tensors."""


@cache
def takes_itself_apart(kind: type) -> bool:
    """Whether a type of tensors has operators of its own (``__torch_dispatch__``), in which it
    calls others."""
    return (
        issubclass(kind, torch.Tensor)
        and kind.__torch_dispatch__ is not disabled_torch_dispatch
        and not issubclass(kind, OPERANDS)
    )


@cache
def any_takes_itself_apart(kinds: tuple[type, ...]) -> bool:
    """Whether any of these types does."""
    return any(takes_itself_apart(kind) for kind in kinds)


def inner_tensors(tensor: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The ordinary tensors that a tensor consists of: itself, unless it takes itself apart; one
    that does and holds no other is its own data. Of a sparse one, values and indices."""
    if not takes_itself_apart(type(tensor)):
        return sparse_parts(tensor) or (tensor,)
    held = [getattr(tensor, name, None) for name in inner_names(tensor)]
    inner = [value for value in held if isinstance(value, torch.Tensor) and value is not tensor]
    return tuple(each for value in inner for each in inner_tensors(value)) or (tensor,)


def elements(tensor: torch.Tensor) -> int:
    """How many numbers a tensor is made of: of a DTensor and others that hold a part of what they
    stand for, those of the part."""
    (first, *more) = inner_tensors(tensor)
    return tensor.numel() if more and not sparse_parts(tensor) else first.numel()
