"""How many elements of a buffer are not 0: it may be the mask of a pruned weight. Counted in real
tensors, and remembered by the fakes that take their places."""

from __future__ import annotations

import torch
from torch.nn.parameter import is_lazy

from flopratio.torch_private import FakeTensor, disable_current_modes

_REMEMBERED = "flopratio_nonzeros"


def nonzeros_of(buffer: torch.Tensor) -> int | None:
    """How many elements are not 0; None if there are no values, or fewer than two dimensions, as no
    matrix has."""
    remembered: int | None = getattr(buffer, _REMEMBERED, None)
    if remembered is not None:
        return remembered
    if is_lazy(buffer) or buffer.dim() < 2 or buffer.is_meta or isinstance(buffer, FakeTensor):
        return None
    if type(buffer) is not torch.Tensor or buffer.layout is not torch.strided:
        return None
    with disable_current_modes(), torch.no_grad():
        return int(torch.count_nonzero(buffer))


def remember_nonzeros(buffer: torch.Tensor, stand_in: torch.Tensor) -> None:
    """Of a buffer, by what takes its place."""
    nonzeros = nonzeros_of(buffer)
    if nonzeros is not None and stand_in is not buffer:
        setattr(stand_in, _REMEMBERED, nonzeros)
