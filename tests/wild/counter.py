"""A count of a training step that shares no code with the package: what ran, from operand shapes.

A dispatch mode with a few formulas of its own adds up the contractions that are executed, apart for
forward, backward and the optimizer's update; hooks on saved tensors of its own watch what autograd
keeps; weak references tell which storages are alive.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from math import prod
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.parameter import is_lazy
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter


@cache
def takes_itself_apart(kind: type) -> bool:
    """Whether operators on such a tensor call others on the tensors in it."""
    return kind.__torch_dispatch__ != torch.Tensor.__torch_dispatch__  # type: ignore[attr-defined]


Formula = Callable[..., int]
"""Given the arguments of a call, then its result: multiply-adds."""

FORMULAS: dict[str, Formula] = {}


def formula(*names: str) -> Callable[[Formula], Formula]:
    def register(function: Formula) -> Formula:
        FORMULAS.update(dict.fromkeys(names, function))
        return function

    return register


def nonzeros(matrix: torch.Tensor) -> int:
    """Entries that a product has to look at."""
    if matrix.layout is torch.sparse_coo:
        return int(matrix._nnz())
    if matrix.layout is not torch.strided:
        return int(matrix.values().numel())
    return matrix.numel()


@formula("mm", "bmm", "_sparse_mm", "_int_mm", "_scaled_mm")
def product(a: torch.Tensor, b: torch.Tensor, *_: Any) -> int:
    """Each entry of the left factor meets a row of the right one, or the other way round."""
    if b.layout is not torch.strided and a.layout is torch.strided:
        return nonzeros(b) * a.shape[-2]
    return nonzeros(a) * b.shape[-1]


@formula("addmm", "addmm_", "baddbmm", "baddbmm_", "addbmm", "addbmm_", "_sparse_addmm")
def added_product(_: Any, a: torch.Tensor, b: torch.Tensor, *__: Any) -> int:
    return product(a, b)


@formula("mv")
def matrix_vector(a: torch.Tensor, *_: Any) -> int:
    return nonzeros(a)


@formula("addmv", "addmv_")
def added_matrix_vector(_: Any, a: torch.Tensor, *__: Any) -> int:
    return nonzeros(a)


@formula("dot", "vdot")
def inner_product(a: torch.Tensor, *_: Any) -> int:
    return a.numel()


@formula("linear")
def linear(x: torch.Tensor, weight: torch.Tensor, *_: Any) -> int:
    return x.numel() * weight.shape[0]


@formula("_grouped_mm")
def grouped_product(a: torch.Tensor, b: torch.Tensor, *_: Any) -> int:
    """Every row of a is multiplied with one of the matrices, or contracted with b's rows."""
    return a.numel() * b.shape[-1]


def sliding(x: torch.Tensor, weight: torch.Tensor, out: torch.Tensor, transposed: bool) -> int:
    """Each output position (each input position of a transposed convolution) meets every weight
    once, for each example."""
    positions = prod((x if transposed else out).shape[2:])
    return weight.numel() * out.shape[0] * positions


@formula("convolution")
def convolution(x: torch.Tensor, weight: torch.Tensor, *rest: Any) -> int:
    return sliding(x, weight, rest[-1], rest[4])


@formula("convolution_backward")
def convolution_backward(
    grad: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, *rest: Any
) -> int:
    transposed, mask = rest[4], rest[7]
    return sum(mask[:2]) * sliding(x, weight, grad, transposed)


def attended(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> tuple[int, int]:
    """The scores of each pair of query and key, and the mixture of the values."""
    pairs = prod(query.shape[:-1]) * key.shape[-2]
    return pairs * query.shape[-1], pairs * value.shape[-1]


@formula(
    "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_efficient_attention",
)
def attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *_: Any) -> int:
    return sum(attended(query, key, value))


@formula(
    "_scaled_dot_product_flash_attention_for_cpu_backward",
    "_scaled_dot_product_flash_attention_backward",
    "_scaled_dot_product_efficient_attention_backward",
)
def attention_backward(
    _: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *__: Any
) -> int:
    """The scores again, then two gradients of either product; the kernel always does all."""
    scores, mixture = attended(query, key, value)
    return 3 * scores + 2 * mixture


@formula("_transformer_encoder_layer_fwd")
def encoder_layer(x: torch.Tensor, width: int, _: int, *rest: Any) -> int:
    """Each token meets every weight once; of attention, each pair of a sequence twice."""
    lengths = x._nested_tensor_size()[:, 0].tolist() if x.is_nested else x.shape[0] * [x.shape[1]]
    weights = sum(rest[place].numel() for place in (0, 2, 11, 13))
    return sum(lengths) * weights + sum(2 * length * length * width for length in lengths)


@formula("mkldnn_rnn_layer")
def recurrent(x: torch.Tensor, input_weight: torch.Tensor, hidden: torch.Tensor, *_: Any) -> int:
    """Each example of each time step meets every weight once."""
    return x.shape[0] * x.shape[1] * (input_weight.numel() + hidden.numel())


@formula("mkldnn_rnn_layer_backward")
def recurrent_backward(*args: Any) -> int:
    return 2 * recurrent(*args)


@formula("_euclidean_dist")
def distances(x: torch.Tensor, _: Any, out: torch.Tensor) -> int:
    """(-2 x, x x, 1) with (y, 1, y y), of every pair of points."""
    return out.numel() * (x.shape[-1] + 2)


class Engine:
    """Autograd's engine, of which one knows when it runs."""

    def __init__(self, engine: Any, counter: Counter) -> None:
        self._engine = engine
        self._counter = counter

    def run_backward(self, *args: Any, **kwargs: Any) -> Any:
        with self._counter.inside("backward"):
            return self._engine.run_backward(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)


class Kept:
    """A tensor that autograd keeps: alive as long as the graph that needs it."""

    def __init__(self, tensor: torch.Tensor, let_go: Callable[[], None]) -> None:
        self._let_go = let_go
        self.tensor = tensor.detach()  # not itself: a result that keeps itself never dies

    def __del__(self) -> None:
        self._let_go()


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


class Census(TorchDispatchMode):
    """Which storages that operators made are alive."""

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()
        self._alive: dict[int, int] = {}
        self._watches: dict[int, weakref.ref[Any]] = {}

    def alive(self) -> int:
        """Bytes."""
        return sum(self._alive.values())

    def note(self, tensor: Any, *, made: bool) -> None:
        if not isinstance(tensor, torch.Tensor) or is_lazy(tensor):
            return
        if takes_itself_apart(type(tensor)):
            return
        for storage in storages(tensor):
            address = storage._cdata
            if address not in self._watches:
                self._alive[address] = storage.nbytes() if made else 0
                self._watches[address] = weakref.ref(storage, partial(self._released, address))

    def _released(self, address: int, _: Any) -> None:
        del self._alive[address], self._watches[address]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(issubclass(kind, FakeTensor) for kind in types):
            return func(*args, **(kwargs or {}))  # somebody asks for a shape: nothing runs
        if any(map(takes_itself_apart, types)):
            return NotImplemented
        if isinstance(func, torch._ops.HigherOrderOperator):
            return run_inside(self, func, args, kwargs or {})
        for value in tree_iter((args, kwargs)):
            self.note(value, made=False)
        out = func(*args, **(kwargs or {}))
        for value in tree_iter(out):
            self.note(value, made=True)
        return out


def run_inside(mode: TorchDispatchMode, func: Any, args: Any, kwargs: Any) -> Any:
    """A higher-order operator, with the mode in force for what it calls."""
    if func is torch.ops.higher_order.cond:
        predicate, if_true, if_false, operands = args
        with mode:
            return (if_true if predicate else if_false)(*operands)
    implementation = func.py_kernels[torch._C.DispatchKey.CompositeExplicitAutograd]
    with mode:
        return implementation(*args, **kwargs)


class Counter(Census):
    """Counts a step.

    Attributes:
        flops: "forward", "backward" and "update" -> FLOP of the contractions that ran there.
        calls: for a look at what was counted: (where, operator, FLOP).
        kept: bytes that autograd keeps now.
        most_kept: the most that it has kept at once.
        all_kept: what it has kept in all, each storage once.

    Args:
        parameters: what is not counted as kept.
        watch_saved: with hooks on saved tensors; ``torch.func`` refuses to run under them.
    """

    def __init__(
        self, parameters: Iterable[torch.Tensor] = (), *, watch_saved: bool = True
    ) -> None:
        super().__init__()
        self.flops = {"forward": 0, "backward": 0, "update": 0}
        self.calls: list[tuple[str, str, int]] = []
        self.kept = self.most_kept = self.all_kept = 0
        self._parameters = {part._cdata for tensor in parameters for part in storages(tensor)}
        self._watch_saved = watch_saved
        self._scopes = ["forward"]
        self._holders: dict[int, int] = {}

    # -- where the step is ------------------------------------------------------------------

    @contextmanager
    def inside(self, scope: str) -> Iterator[None]:
        depth = len(self._scopes)
        self._scopes.append(scope)
        try:
            yield
        finally:
            del self._scopes[depth:]

    def _begin_update(self, optimizer: Any, args: Any, kwargs: Any) -> Any:
        self._scopes.append("update")
        return tuple(map(self._of_closure, args)), {
            name: self._of_closure(value) for name, value in kwargs.items()
        }

    def _of_closure(self, argument: Any) -> Any:
        """A closure, whose forward is forward though the optimizer calls it."""
        if not callable(argument) or isinstance(argument, torch.optim.Optimizer):
            return argument

        def closure(*args: Any, **kwargs: Any) -> Any:
            with self.inside("forward"):
                return argument(*args, **kwargs)

        return closure

    def _end_update(self, *_: Any) -> None:
        self._scopes.pop()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """What runs in here is counted."""
        variable = torch.autograd.Variable
        engine = variable._execution_engine
        with ExitStack() as exits:
            variable._execution_engine = Engine(engine, self)
            exits.callback(setattr, variable, "_execution_engine", engine)
            exits.callback(register_optimizer_step_pre_hook(self._begin_update).remove)
            exits.callback(register_optimizer_step_post_hook(self._end_update).remove)
            if self._watch_saved:
                exits.enter_context(
                    torch.autograd.graph.saved_tensors_hooks(self._keep, self._give_back)
                )
            run = threading.Thread.run
            exits.callback(setattr, threading.Thread, "run", run)
            threading.Thread.run = self._in_thread(run)  # type: ignore[method-assign]
            # As it was written: a compiled region calls no mode.
            exits.enter_context(torch.compiler.set_stance("force_eager"))
            exits.enter_context(self)
            yield

    def _in_thread(self, run: Callable[..., Any]) -> Callable[..., Any]:
        """Modes and hooks are a thread's own: a new one gets these."""

        def watched(thread: threading.Thread) -> None:
            with ExitStack() as exits:
                if self._watch_saved:
                    exits.enter_context(
                        torch.autograd.graph.saved_tensors_hooks(self._keep, self._give_back)
                    )
                exits.enter_context(self)
                run(thread)

        return watched

    # -- what runs --------------------------------------------------------------------------

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if any(map(takes_itself_apart, types)):
            return super().__torch_dispatch__(func, types, args, kwargs)
        if torch.is_inference_mode_enabled() and hasattr(func, "decompose"):
            with self:  # composite operators arrive whole
                out = func.decompose(*args, **kwargs)
            if out is not NotImplemented:
                return out
        out = super().__torch_dispatch__(func, types, args, kwargs)
        if out is NotImplemented or isinstance(func, torch._ops.HigherOrderOperator):
            return out
        name = func._schema.name.rpartition("::")[2]
        if name in FORMULAS:
            self._count(name, FORMULAS[name](*args, *kwargs.values(), out), out)
        elif name == "mul" and self._is_outer_product():
            self._count("outer product", out.numel(), out)
        return out

    def _is_outer_product(self) -> bool:
        """The gradient of a matrix that was multiplied with a vector: a product of one term, which
        torch has no operator for."""
        node = torch._C._current_autograd_node()
        return node is not None and node.name() in ("MvBackward0", "AddmvBackward0")

    def _count(self, name: str, multiply_adds: int, out: Any) -> None:
        first = out[0] if isinstance(out, tuple) and out[0] is not None else out
        # A complex multiply-add is four real multiplications and four additions.
        is_complex = isinstance(first, torch.Tensor) and first.is_complex()
        flops = (8 if is_complex else 2) * multiply_adds
        self.flops[self._scopes[-1]] += flops
        self.calls.append((self._scopes[-1], name, flops))

    # -- what autograd keeps ----------------------------------------------------------------

    def _keep(self, tensor: torch.Tensor) -> Kept:
        addresses: list[tuple[int, int]] = []
        whole = tensor if tensor._base is None else tensor._base
        for storage in () if isinstance(whole, torch.nn.Parameter) else storages(tensor):
            address, nbytes = storage._cdata, storage.nbytes()
            if address in self._parameters:
                continue
            addresses.append((address, nbytes))
            self._holders[address] = self._holders.get(address, 0) + 1
            if self._holders[address] == 1:
                self.kept += nbytes
                self.all_kept += nbytes
        self.most_kept = max(self.most_kept, self.kept)
        return Kept(tensor, partial(self._let_go, addresses))

    def _let_go(self, addresses: list[tuple[int, int]]) -> None:
        for address, nbytes in addresses:
            self._holders[address] -= 1
            if not self._holders[address]:
                self.kept -= nbytes

    @staticmethod
    def _give_back(kept: Kept) -> torch.Tensor:
        return kept.tensor
