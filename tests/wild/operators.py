"""A dispatch mode that sees each operator that really runs, once: of a tensor subclass what it
calls, of an operator that is given functions what these do, of a composite operator its parts."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, partial
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode


@cache
def takes_itself_apart(kind: type) -> bool:
    """Whether operators on such a tensor call others on the tensors in it."""
    return kind.__torch_dispatch__ != torch.Tensor.__torch_dispatch__  # type: ignore[attr-defined]


@cache
def is_composite(func: Any) -> bool:
    """Whether an operator is only a name for what others do. Where autograd is out of the way (in
    inference mode, inside of nested tensors) it arrives whole."""
    has_kernel = partial(torch._C._dispatch_has_kernel_for_dispatch_key, func.name())
    keys = torch._C.DispatchKey
    return has_kernel(keys.CompositeImplicitAutograd) and not has_kernel(keys.CPU)


def storages(tensor: torch.Tensor) -> Iterator[torch.UntypedStorage]:
    """The memory of a tensor; of a sparse or wrapped one, that of its parts."""
    if hasattr(tensor, "__tensor_flatten__"):
        for name in tensor.__tensor_flatten__()[0]:
            part = getattr(tensor, name)
            if isinstance(part, torch.Tensor):
                yield from storages(part)
    elif tensor.layout is torch.sparse_coo:
        yield from (tensor._indices().untyped_storage(), tensor._values().untyped_storage())
    elif tensor.layout is torch.strided:
        yield tensor.untyped_storage()
    else:
        by_row = tensor.layout in (torch.sparse_csr, torch.sparse_bsr)
        yield (tensor.crow_indices() if by_row else tensor.ccol_indices()).untyped_storage()
        yield (tensor.col_indices() if by_row else tensor.row_indices()).untyped_storage()
        yield tensor.values().untyped_storage()


class Operators(TorchDispatchMode):
    """Calls :meth:`ran` after each operator, and :meth:`runs` before."""

    supports_higher_order_operators = True

    def runs(self, func: Any, args: Any, kwargs: Any) -> None:
        """Nothing, unless a mode wants to know."""

    def ran(self, func: Any, args: Any, kwargs: Any, out: Any) -> None:
        raise NotImplementedError

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if any(issubclass(kind, FakeTensor) for kind in types):
            return func(*args, **kwargs)  # somebody asks for a shape: nothing runs
        if any(map(takes_itself_apart, types)):
            return NotImplemented
        if isinstance(func, torch._ops.HigherOrderOperator):
            return self._inside(func, args, kwargs)
        if is_composite(func):
            with self:
                return func.decompose(*args, **kwargs)
        self.runs(func, args, kwargs)
        out = func(*args, **kwargs)
        self.ran(func, args, kwargs, out)
        return out

    def _inside(self, func: Any, args: Any, kwargs: Any) -> Any:
        """A higher-order operator, with this mode in force for what it calls."""
        if func is torch.ops.higher_order.cond:
            predicate, if_true, if_false, operands = args
            with self:
                return (if_true if predicate else if_false)(*operands)
        implementation = func.py_kernels[torch._C.DispatchKey.CompositeExplicitAutograd]
        with self:
            return implementation(*args, **kwargs)
