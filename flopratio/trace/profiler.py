"""The Profiler: a context manager around any training step, on fake, meta or real tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Self

import torch
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from flopratio.ledger import Ledger
from flopratio.trace.recorder import BACKWARD, FORWARD, UPDATE, Recorder

OUTSIDE = "(step)"
"""The layer of operators that no module's forward called."""


class Graph:
    """What one call of backward can reach: the autograd graph from its roots, walked before it runs.

    Attributes:
        nodes: sequence number -> node name, for every node that the loss depends on.
        functions: sequence numbers of the nodes of user-defined ``autograd.Function``s.
        create_graph: whether the backward itself is differentiable.
        records: the range of records that this backward made.
    """

    def __init__(self, roots: tuple[Any, ...], create_graph: bool, start: int) -> None:
        self.records = range(start, start)
        self.nodes: dict[int, str] = {}
        self.functions: set[int] = set()
        self.create_graph = create_graph
        pending = [root.grad_fn for root in roots if root.grad_fn is not None]
        seen = set(pending)
        while pending:
            node = pending.pop()
            sequence = node._sequence_nr()
            self.nodes[sequence] = node.name()
            if isinstance(node, torch.autograd.function.BackwardCFunction):
                self.functions.add(sequence)
            for following, _ in node.next_functions:
                if following is not None and following not in seen:
                    seen.add(following)
                    pending.append(following)


class Profiler:
    """Counts whatever runs inside it: forward, loss, backward, optimizer step.

    Args:
        model: whose modules give the layers their names; None: layers are named by class.
        names: further modules with names of their own (a loss module).

    After the block, :attr:`ledger` holds the table. Hooks, patches and modes are gone then, also
    after an exception.
    """

    def __init__(
        self,
        model: torch.nn.Module | None = None,
        *,
        names: Mapping[str, torch.nn.Module] | None = None,
    ) -> None:
        self.model = model
        self.recorder = Recorder()
        self.graphs: list[Graph] = []
        self.types: dict[str, str] = {}
        self.parameters: dict[str, int] = {}
        self.parameter_layers: dict[int, str] = {}
        self._paths: dict[int, str] = {}
        self._indices: dict[str, int] = {}
        self._stack: list[str] = []
        self._exits = ExitStack()
        self._ledger: Ledger | None = None
        if model is not None:
            self._register(model, "")
        for name, module in (names or {}).items():
            self._register(module, name)
        self.recorder.layers = [OUTSIDE]
        self._indices[OUTSIDE] = 0
        self.types[OUTSIDE] = ""

    def _register(self, root: torch.nn.Module, prefix: str) -> None:
        for path, module in root.named_modules(prefix=prefix):
            if id(module) in self._paths:
                continue
            self._paths[id(module)] = path
            self.types[path] = type(module).__name__
            own = 0
            for parameter in module.parameters(recurse=False):
                number = self.recorder.storage_number(parameter, "parameter")
                if number not in self.parameter_layers:
                    self.parameter_layers[number] = path
                    own += parameter.numel()
            self.parameters[path] = own
            for buffer in module.buffers(recurse=False):
                self.recorder.storage_number(buffer, "buffer")

    # -- entering and leaving ---------------------------------------------------------------

    def __enter__(self) -> Self:
        with ExitStack() as exits:  # undone at once if entering fails half-way
            exits.enter_context(self._module_calls())
            exits.enter_context(self._backward_calls())
            exits.enter_context(self._function_calls())
            pre = register_optimizer_step_pre_hook(self._enter_update)
            exits.callback(pre.remove)
            post = register_optimizer_step_post_hook(self._leave_update)
            exits.callback(post.remove)
            exits.enter_context(
                torch.autograd.graph.saved_tensors_hooks(self.recorder.pack, Recorder.unpack)
            )
            exits.enter_context(self.recorder)
            self._exits = exits.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._exits.close()

    def _enter_update(self, *_: object) -> None:
        self.recorder.scope = UPDATE

    def _leave_update(self, *_: object) -> None:
        self.recorder.scope = FORWARD

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What runs in here is not recorded."""
        self.recorder.paused = True
        try:
            yield
        finally:
            self.recorder.paused = False

    @contextmanager
    def layer(self, name: str, kind: str = "") -> Iterator[None]:
        """Operators run in here belong to a layer of this name, unless a module claims them."""
        self.types.setdefault(name, kind)
        recorder = self.recorder
        before = recorder.layer
        recorder.layer = self._index(name)
        self._stack.append(name)
        try:
            yield
        finally:
            self._stack.pop()
            recorder.layer = before

    def _index(self, path: str) -> int:
        index = self._indices.get(path)
        if index is None:
            index = self._indices[path] = len(self.recorder.layers)
            self.recorder.layers.append(path)
        return index

    @contextmanager
    def _module_calls(self) -> Iterator[None]:
        """Follow which module runs. ``Module.__call__`` is wrapped instead of hooked: hooks would
        switch off fast paths, and a forward that raises would leave them out of step."""
        original = torch.nn.Module.__call__
        recorder, paths, stack = self.recorder, self._paths, self._stack

        def call(module: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
            path = paths.get(id(module))
            if path is None:  # a module that the model does not hold: named by its class
                name = type(module).__name__
                path = f"{stack[-1]}.{name}" if stack and stack[-1] else name
                self.types.setdefault(path, name)
            before = recorder.layer
            recorder.layer = self._index(path)
            stack.append(path)
            try:
                return original(module, *args, **kwargs)
            finally:
                stack.pop()
                recorder.layer = before

        torch.nn.Module.__call__ = call  # type: ignore[method-assign]
        try:
            yield
        finally:
            torch.nn.Module.__call__ = original  # type: ignore[method-assign]

    @contextmanager
    def _backward_calls(self) -> Iterator[None]:
        """See each backward before it starts: the graph behind the loss is gone afterwards."""
        original: Callable[..., Any] = torch.autograd._engine_run_backward

        def run(roots: Any, *args: Any, **kwargs: Any) -> Any:
            create_graph = bool(args[2]) if len(args) > 2 else False
            start = len(self.recorder.records)
            graph = Graph(tuple(roots), create_graph, start)
            self.graphs.append(graph)
            before, self.recorder.scope = self.recorder.scope, BACKWARD
            try:
                return original(roots, *args, **kwargs)
            finally:
                self.recorder.scope = before
                graph.records = range(start, len(self.recorder.records))

        torch.autograd._engine_run_backward = run  # type: ignore[attr-defined]
        try:
            yield
        finally:
            torch.autograd._engine_run_backward = original  # type: ignore[attr-defined]

    @contextmanager
    def _function_calls(self) -> Iterator[None]:
        """Know what runs inside of user-defined ``autograd.Function``s: autograd makes one node for
        all of it."""
        function = torch.autograd.Function
        original = function.__dict__["apply"]
        recorder = self.recorder

        def apply(cls: Any, *args: Any, **kwargs: Any) -> Any:
            recorder.functions += 1
            try:
                return original.__get__(None, cls)(*args, **kwargs)
            finally:
                recorder.functions -= 1

        function.apply = classmethod(apply)  # type: ignore[assignment]
        try:
            yield
        finally:
            function.apply = original

    # -- the result -------------------------------------------------------------------------

    @property
    def ledger(self) -> Ledger:
        """The table of what ran, worked out when it is first asked for."""
        if self._ledger is None:
            from flopratio.trace.attribution import Attribution

            self._ledger = Attribution(self).ledger()
        return self._ledger
