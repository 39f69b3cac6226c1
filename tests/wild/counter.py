"""A count of a training step that shares no code with the package: what ran, from operand shapes.

A dispatch mode adds up the contractions that are executed, apart for forward, backward and the
optimizer's update; hooks on saved tensors of its own watch what autograd keeps.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from tests.wild.formulas import FORMULAS
from tests.wild.operators import Operators, storages

OF_VECTORS = {"MvBackward0", "AddmvBackward0", "DotBackward0", "VdotBackward0"}
"""Nodes of products with vectors."""


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


class Counter(Operators):
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
        # Held: the address of one that is let go would be somebody else's.
        self._parameters = {part._cdata: part for one in parameters for part in storages(one)}
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

    def ran(self, func: Any, args: Any, kwargs: Any, out: Any) -> None:
        name = func._schema.name.rpartition("::")[2]
        if name in FORMULAS:
            self._count(name, FORMULAS[name](*args, *kwargs.values(), out), out)
        elif name == "mul" and self._is_outer_product():
            self._count("outer product", out.numel(), out)

    def _is_outer_product(self) -> bool:
        """The gradient of a matrix that was multiplied with a vector, or of a vector with another:
        a product of one term, which torch has no operator for."""
        node = torch._C._current_autograd_node()
        return node is not None and node.name() in OF_VECTORS

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
