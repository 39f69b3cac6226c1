"""The Profiler: a context manager around any training step, on fake, meta or real tensors."""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Self

import torch
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)
from torch.utils import checkpoint

from flopratio.allocator.device import targets
from flopratio.errors import UsageError
from flopratio.formulas.attention import CAUSAL
from flopratio.ledger import Ledger
from flopratio.torch_private import tree_iter
from flopratio.trace.recorder import BACKWARD, FORWARD, UPDATE, Recorder

ENGINE = "_engine_run_backward"
"""What both ``torch.autograd.backward`` and ``torch.autograd.grad`` call."""

DISABLE_HOOKS = "disable_saved_tensors_hooks"

KEEP = "_make_saved_tensor"
"""How ``torch.utils.checkpoint`` keeps what enters a checkpoint, in the torch versions that have
it; earlier ones have an ``autograd.Function`` for it."""

TORCH = threading.RLock()
"""Held while torch's own functions are replaced, by whoever replaces them: of two threads, the one
that ends last would leave the other's replacements behind."""

OUTSIDE = "(step)"
"""The layer of operators that no module's forward called."""


class Graph:
    """What one call of backward can reach: the autograd graph behind its roots, before it runs.

    Args:
        roots: what is differentiated.
        inputs: what for; empty for all leaves.
        create_graph: whether the backward itself is differentiable.
        start: index of the first record that it will make.

    Attributes:
        nodes: sequence number of every node that the roots depend on -> for each of its operands,
            whether a gradient is asked of it.
        functions: sequence numbers of the nodes of user-defined ``autograd.Function``s.
        records: the range of records that this backward made.
    """

    def __init__(
        self,
        roots: Iterable[torch.Tensor],
        inputs: Iterable[torch.Tensor],
        create_graph: bool,
        start: int,
    ) -> None:
        self.create_graph = create_graph
        self.records = range(start, start)
        self.nodes: dict[int, tuple[bool, ...]] = {}
        self.functions: set[int] = set()
        edges: dict[Any, tuple[tuple[Any, int], ...]] = {}
        pending = [root.grad_fn for root in roots if root.grad_fn is not None]
        while pending:
            node = pending.pop()
            if node in edges:
                continue
            edges[node] = node.next_functions
            sequence = node._sequence_nr()
            self.nodes[sequence] = tuple(following is not None for following, _ in edges[node])
            if isinstance(node, torch.autograd.function.BackwardCFunction):
                self.functions.add(sequence)
            pending += [following for following, _ in edges[node] if following is not None]
        if inputs:
            self._restrict(edges, _asked_edges(inputs))

    def _restrict(
        self, edges: dict[Any, tuple[tuple[Any, int], ...]], asked: set[tuple[Any, int]]
    ) -> None:
        """Some gradients only are asked for: an edge counts if a way leads from it to one."""
        met = {edge for following in edges.values() for edge in following}
        if asked.isdisjoint(met):  # wrappers of torch.func, whose edges do not show
            return
        leads = _leading(edges, asked)
        for node, following in edges.items():
            self.nodes[node._sequence_nr()] = tuple(
                edge[0] is not None and (edge in asked or leads[edge[0]]) for edge in following
            )


def _asked_edges(inputs: Iterable[torch.Tensor]) -> set[tuple[Any, int]]:
    """The edges (node, output number) that end at the tensors whose gradients are asked for."""
    edges = set()
    for tensor in inputs:
        try:
            edge = torch.autograd.graph.get_gradient_edge(tensor)
        except (AttributeError, RuntimeError):  # a wrapper of torch.func has none
            continue
        edges.add((edge.node, edge.output_nr))
    return edges


def _leading(
    edges: dict[Any, tuple[tuple[Any, int], ...]], asked: set[tuple[Any, int]]
) -> dict[Any, bool]:
    """For each node, whether a way leads from it to an asked edge."""
    users: dict[Any, list[Any]] = {node: [] for node in edges}
    for node, following in edges.items():
        for edge in following:
            if edge[0] is not None:
                users[edge[0]].append(node)
    pending = [node for node, following in edges.items() if not asked.isdisjoint(following)]
    leads = dict.fromkeys(edges, False)
    while pending:
        node = pending.pop()
        if not leads[node]:
            leads[node] = True
            pending += users[node]
    return leads


class Profiler:
    """Counts whatever runs inside it: forward, loss, backward, optimizer step.

    Args:
        model: whose modules give the layers their names; None: layers are named by class.
        names: further modules with names of their own (a loss module).
        target: whose allocator the ledger's memory is predicted for: ``cuda``, ``cpu`` or a GPU by
            its name (``H100-80GB``).
        causal: how attention under a causal mask counts: ``full``, or ``half`` of its products,
            see :func:`flopratio.formulas.attention.causal_half`.

    After the block, :attr:`ledger` holds the table; entered again, it goes on. Hooks, patches and
    modes are gone then, also after an exception.

    Raises:
        UsageError: the model is not a module, or there is no such target or way to count.
    """

    def __init__(
        self,
        model: torch.nn.Module | None = None,
        *,
        names: Mapping[str, torch.nn.Module] | None = None,
        target: str = "cuda",
        causal: str = "full",
    ) -> None:
        if model is not None and not isinstance(model, torch.nn.Module):
            what = getattr(model, "__name__", type(model).__name__)
            raise UsageError(f"fr.Profiler's model should be a torch.nn.Module, not {what}")
        for name, value, choices in (("target", target, targets()), ("causal", causal, CAUSAL)):
            if value not in choices:
                raise UsageError(f"{name}={value} should be one of {', '.join(choices)}")
        # Weakly: a ledger may be kept for long, and the model's memory with it.
        self._model = None if model is None else weakref.ref(model)
        self.target, self.causal = target, causal
        self.recorder = Recorder()
        self.graphs: list[Graph] = []
        self.types: dict[str, str] = {}
        self.parameters: dict[str, int] = {}
        # Storage number -> layer.
        self.parameter_layers: dict[int, str] = {}
        self.buffer_layers: dict[int, str] = {}
        self.gradient_layers: dict[int, str] = {}
        self.state_layers: dict[int, str] = {}
        self.fresh_state: set[int] = set()
        self._paths: dict[int, str] = {}
        self._indices: dict[str, int] = {}
        self._stack: list[str] = []
        self._exits = ExitStack()
        self._ledger: Ledger | None = None
        self._recorded = 0
        self._running = False
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
                number = self.recorder.storage_number(buffer, "buffer")
                self.buffer_layers.setdefault(number, path)

    # -- entering and leaving ---------------------------------------------------------------

    def __enter__(self) -> Self:
        if self._ledger is not None:
            _ = self._ledger.memory  # before there is more to read it off
        with ExitStack() as exits:  # undone at once if entering fails half-way
            exits.enter_context(TORCH)
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
            exits.enter_context(self._further_hooks())
            exits.enter_context(self._function_transforms())
            if "torch._dynamo" in sys.modules:  # compiled regions run as they were written
                exits.enter_context(torch.compiler.set_stance("force_eager"))
            exits.enter_context(self.recorder)
            self._exits = exits.pop_all()
        self._running = True
        return self

    def __exit__(self, *exception: object) -> None:
        self._running = False
        self._exits.close()
        self._note_gradients()

    def _enter_update(self, optimizer: torch.optim.Optimizer, *_: object) -> None:
        self.recorder.scope = UPDATE
        self._note_state(optimizer)

    def _leave_update(self, optimizer: torch.optim.Optimizer, *_: object) -> None:
        self.recorder.scope = FORWARD
        before = set(self.state_layers)
        self._note_state(optimizer)
        self.fresh_state.update(self.state_layers.keys() - before)

    def _note_state(self, optimizer: torch.optim.Optimizer) -> None:
        """Which storages hold the optimizer's state."""
        for parameter, state in optimizer.state.items():
            layer = OUTSIDE
            if isinstance(parameter, torch.Tensor):
                number = self.recorder.storage_number(parameter)
                layer = self.parameter_layers.get(number, OUTSIDE)
            for value in tree_iter(state):
                if isinstance(value, torch.Tensor):
                    self.state_layers[self.recorder.storage_number(value)] = layer

    def _note_gradients(self) -> None:
        """Which storages hold gradients that no backward of this step has touched."""
        model = self._model() if self._model is not None else None
        for parameter in model.parameters() if model is not None else ():
            if parameter.grad is not None:
                number = self.recorder.storage_number(parameter)
                gradient = self.recorder.storage_number(parameter.grad)
                self.gradient_layers[gradient] = self.parameter_layers[number]

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
        original: Callable[..., Any] = getattr(torch.autograd, ENGINE)

        def run(roots: Any, *args: Any, **kwargs: Any) -> Any:
            # After the roots: their gradients, retain_graph, create_graph, inputs.
            create_graph = bool(args[2]) if len(args) > 2 else False
            inputs = args[3] if len(args) > 3 else ()
            start = len(self.recorder.records)
            graph = Graph(roots, inputs, create_graph, start)
            self.graphs.append(graph)
            before, self.recorder.scope = self.recorder.scope, BACKWARD
            try:
                return original(roots, *args, **kwargs)
            finally:
                self.recorder.scope = before
                graph.records = range(start, len(self.recorder.records))

        setattr(torch.autograd, ENGINE, run)
        try:
            yield
        finally:
            setattr(torch.autograd, ENGINE, original)

    @contextmanager
    def _function_calls(self) -> Iterator[None]:
        """Know what runs inside of user-defined ``autograd.Function``s: autograd makes one node for
        all of it."""
        function = torch.autograd.Function
        original = function.__dict__["apply"]
        recorder = self.recorder

        def apply(cls: Any, *args: Any, **kwargs: Any) -> Any:
            if not recorder.functions:
                recorder.function = None
            recorder.functions += 1
            try:
                return original.__get__(None, cls)(*args, **kwargs)
            finally:
                recorder.functions -= 1

        setattr(function, "apply", classmethod(apply))  # noqa: B010 - a method may not be assigned
        try:
            yield
        finally:
            setattr(function, "apply", original)  # noqa: B010

    @contextmanager
    def _further_hooks(self) -> Iterator[None]:
        """Know when hooks other than ours (a checkpoint's) decide what autograd keeps, and when a
        checkpoint keeps what enters it: no operator's node does."""
        hooks = torch.autograd.graph.saved_tensors_hooks
        enter, leave = hooks.__enter__, hooks.__exit__
        keep: Callable[..., Any] | None = getattr(checkpoint, KEEP, None)
        recorder = self.recorder

        def count_enter(further: Any) -> None:
            enter(further)
            recorder.hooks += 1

        def count_leave(further: Any, *exception: object) -> None:
            recorder.hooks -= 1
            leave(further, *exception)

        def keep_input(*args: Any, **kwargs: Any) -> Any:
            if not recorder.functions:
                recorder.function = None
            recorder.functions += 1
            try:
                return keep(*args, **kwargs) if keep is not None else None
            finally:
                recorder.functions -= 1

        hooks.__enter__, hooks.__exit__ = count_enter, count_leave  # type: ignore[method-assign]
        if keep is not None:
            setattr(checkpoint, KEEP, keep_input)
        try:
            yield
        finally:
            hooks.__enter__, hooks.__exit__ = enter, leave  # type: ignore[method-assign]
            if keep is not None:
                setattr(checkpoint, KEEP, keep)

    @contextmanager
    def _function_transforms(self) -> Iterator[None]:
        """``torch.func.grad`` and its kin refuse to run under hooks on saved tensors: they are
        lifted meanwhile (what the transform saves inside is not seen)."""
        original = getattr(torch.autograd.graph, DISABLE_HOOKS)
        hooks = torch._C._autograd

        @contextmanager
        def disable(message: str, *args: Any) -> Iterator[None]:
            top = hooks._top_saved_tensors_default_hooks(False)
            ours = top is not None and top[0] == self.recorder.pack
            if ours:
                hooks._pop_saved_tensors_default_hooks()
                self.recorder.hooks += 1
            try:
                with original(message, *args):
                    yield
            finally:
                if ours:
                    self.recorder.hooks -= 1
                    hooks._push_saved_tensors_default_hooks(self.recorder.pack, Recorder.unpack)

        setattr(torch.autograd.graph, DISABLE_HOOKS, disable)
        try:
            yield
        finally:
            setattr(torch.autograd.graph, DISABLE_HOOKS, original)

    # -- the result -------------------------------------------------------------------------

    @property
    def ledger(self) -> Ledger:
        """The table of all that has run inside so far, worked out when it is asked for."""
        if self._ledger is None or self._recorded != len(self.recorder.records):
            from flopratio.trace.attribution import Attribution

            self._ledger = Attribution(self).ledger()
            self._recorded = len(self.recorder.records)
            if self._running:
                _ = self._ledger.memory  # before there is more to read it off
        return self._ledger
