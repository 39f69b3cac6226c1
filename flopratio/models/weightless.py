"""Modules without weights: built without memory and without initialisation.

A constructor runs with every tensor of `torch.empty` and every random tensor on the meta device,
which is how parameters begin, while all else (ranges, masks, tables of positions) is computed. So
constructors may read what they compute, as RegNet's does, and integer buffers have their values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from flopratio.errors import message_of

T = TypeVar("T")

_VALUELESS = frozenset({torch.empty, torch.empty_strided, torch.rand, torch.randn, torch.normal})
_CONSTANT = frozenset({torch.zeros, torch.ones, torch.full})
_LARGE = 2**24
"""Elements from which a constant tensor is a parameter for certain, and no table to be read."""

_METHODS = frozenset({torch.Tensor.normal_, torch.Tensor.uniform_})
"""Of those below, the ones that torch refuses for a parameter while gradients are recorded."""

_RANDOM = _METHODS | frozenset(
    {
        nn.init.normal_,
        nn.init.uniform_,
        nn.init.trunc_normal_,
        nn.init.xavier_normal_,
        nn.init.xavier_uniform_,
        nn.init.kaiming_normal_,
        nn.init.kaiming_uniform_,
    }
)
"""Initialisers that take any matrix or kernel."""

_INITIALISERS = frozenset(
    {torch.Tensor.normal_, torch.Tensor.uniform_, torch.Tensor.erfinv_, torch.Tensor.exponential_}
    | {getattr(nn.init, name) for name in dir(nn.init) if name.endswith("_") and name[0] != "_"}
)


class _Weightless(TorchFunctionMode):
    """Tensors that are born without a value of interest are born on the meta device, and left as
    they are there: torch takes as long to fill one that has no values as for half of the rest."""

    def __torch_function__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in _VALUELESS or func in _CONSTANT:
            placed = kwargs.get("device") is not None or kwargs.get("out") is not None
            if not placed and (func in _VALUELESS or _elements(args, kwargs) >= _LARGE):
                kwargs["device"] = "meta"
        elif func in _RANDOM:
            tensor: torch.Tensor = args[0] if args else kwargs["tensor"]
            refused = func in _METHODS and tensor.requires_grad and torch.is_grad_enabled()
            if tensor.is_meta and tensor.dim() >= 2 and not refused:
                return tensor
        return func(*args, **kwargs)


class _Uninitialised(TorchFunctionMode):
    """Initialisers do nothing: memory is reserved by the system, but never written."""

    def __torch_function__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func in _INITIALISERS and args:
            return args[0]
        return func(*args, **(kwargs or {}))


def _elements(args: Sequence[Any], kwargs: Mapping[str, Any]) -> int:
    """The number of elements that a constant factory function is asked for."""
    size = kwargs.get("size", args[0] if args and isinstance(args[0], Sequence) else args)
    return int(torch.Size(size).numel()) if all(isinstance(n, int) for n in size) else 0


def build_weightless(construct: Callable[[], T]) -> T:
    """What `construct` returns, its parameters on the meta device where that is possible.

    A constructor that mixes parameters with values (SSD runs a forward in it) is tried again on the
    meta device altogether; if it reads values there, with real but uninitialised parameters; and if
    it computes with those (a least-squares fit, say), as it was written. An error that has nothing
    to do with the meta device is the constructor's own, and is raised.
    """
    for context in (_Weightless(), torch.device("meta")):
        try:
            with context:
                return construct()
        except Exception as error:  # of many types
            if "meta" not in message_of(error).lower():
                raise
    try:
        with _Uninitialised():
            return construct()
    except Exception:  # may be of the numbers that were never written
        return construct()
