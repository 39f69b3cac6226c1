"""The Profiler: a context manager around any training step, on fake, meta or real tensors."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Self

import torch
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from flopratio.allocator.device import targets
from flopratio.errors import UsageError
from flopratio.formulas.attention import CAUSAL
from flopratio.ledger import Ledger
from flopratio.torch_private import (
    check_version,
    compiler_is_loaded,
    named_submodules,
    own_buffers,
    own_parameters,
    parameters,
    tree_iter,
)
from flopratio.trace import patches
from flopratio.trace.graphs import graph_behind
from flopratio.trace.reconcile import reconcile
from flopratio.trace.recorder import Recorder
from flopratio.trace.recording import OUTSIDE, Recording


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

    Attributes:
        recording: what has run inside so far, as plain data.

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
        check_version()
        self.recording = Recording(target, causal)
        self._recorder = Recorder(self.recording)
        # Weakly: a profiler may be kept for long, and the model's memory with it.
        self._model = None if model is None else weakref.ref(model)
        self._paths: dict[int, str] = {}
        self._indices: dict[str, int] = {OUTSIDE: 0}
        self._stack: list[str] = []
        self._exits = ExitStack()
        self._ledger: Ledger | None = None
        self._records_in_ledger = 0
        self._running = False
        if model is not None:
            self._register(model, "")
        for name, module in (names or {}).items():
            self._register(module, name)

    def _register(self, root: torch.nn.Module, prefix: str) -> None:
        recording, owners = self.recording, self.recording.owners
        for path, module in named_submodules(root, prefix):
            if id(module) in self._paths:
                continue
            self._paths[id(module)] = path
            recording.types[path] = type(module).__name__
            own = 0
            for parameter in own_parameters(module).values():
                number = self._recorder.storage_number(parameter, "parameter")
                if number not in owners.parameters:
                    owners.parameters[number] = path
                    own += parameter.numel()
            recording.parameters[path] = own
            for buffer in own_buffers(module).values():
                number = self._recorder.storage_number(buffer, "buffer")
                owners.buffers.setdefault(number, path)

    # -- entering and leaving ---------------------------------------------------------------

    def __enter__(self) -> Self:
        if self._ledger is not None:
            _ = self._ledger.memory  # before there is more to read it off
        recorder = self._recorder
        with ExitStack() as exits:  # undone at once if entering fails half-way
            exits.enter_context(patches.PATCHING)
            exits.enter_context(patches.module_calls(self._enter_module, self._leave_layer))
            exits.enter_context(patches.backward_calls(self._in_backward))
            exits.enter_context(patches.function_calls(recorder))
            pre = register_optimizer_step_pre_hook(self._enter_update)
            exits.callback(pre.remove)
            post = register_optimizer_step_post_hook(self._leave_update)
            exits.callback(post.remove)
            exits.enter_context(
                torch.autograd.graph.saved_tensors_hooks(recorder.pack, Recorder.unpack)
            )
            exits.enter_context(patches.other_hooks(recorder))
            exits.enter_context(patches.kept_checkpoint_inputs(recorder))
            exits.enter_context(patches.function_transforms(recorder))
            if compiler_is_loaded():  # compiled regions run as they were written
                exits.enter_context(torch.compiler.set_stance("force_eager"))
            exits.enter_context(recorder)
            self._exits = exits.pop_all()
        self._running = True
        return self

    def __exit__(self, *exception: object) -> None:
        self._running = False
        self._exits.close()
        self._note_gradients()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What runs in here is not recorded."""
        self._recorder.paused = True
        try:
            yield
        finally:
            self._recorder.paused = False

    # -- layers -----------------------------------------------------------------------------

    @contextmanager
    def layer(self, name: str, kind: str = "") -> Iterator[None]:
        """Operators run in here belong to a layer of this name, unless a module claims them."""
        self.recording.types.setdefault(name, kind)
        before = self._enter_layer(name)
        try:
            yield
        finally:
            self._leave_layer(before)

    def _enter_module(self, module: torch.nn.Module) -> int:
        path = self._paths.get(id(module))
        if path is None:  # a module that the model does not hold: named by its class
            name = type(module).__name__
            path = f"{self._stack[-1]}.{name}" if self._stack and self._stack[-1] else name
            self.recording.types.setdefault(path, name)
        return self._enter_layer(path)

    def _enter_layer(self, path: str) -> int:
        """Go into a layer; the index of the one that is left."""
        before = self._recorder.layer
        index = self._indices.get(path)
        if index is None:
            index = self._indices[path] = len(self.recording.layers)
            self.recording.layers.append(path)
        self._recorder.layer = index
        self._stack.append(path)
        return before

    def _leave_layer(self, before: int) -> None:
        self._stack.pop()
        self._recorder.layer = before

    # -- backward and update ----------------------------------------------------------------

    @contextmanager
    def _in_backward(
        self, roots: Iterable[torch.Tensor], inputs: Iterable[torch.Tensor], create_graph: bool
    ) -> Iterator[None]:
        records = self.recording.records
        start = len(records)
        graph = graph_behind(roots, inputs, create_graph=create_graph, start=start)
        self.recording.graphs.append(graph)
        before, self._recorder.scope = self._recorder.scope, "backward"
        try:
            yield
        finally:
            self._recorder.scope = before
            graph.records = range(start, len(records))

    def _enter_update(self, optimizer: torch.optim.Optimizer, *_: object) -> None:
        self._recorder.scope = "update"
        self._note_state(optimizer)

    def _leave_update(self, optimizer: torch.optim.Optimizer, *_: object) -> None:
        self._recorder.scope = "forward"
        owners = self.recording.owners
        before = set(owners.state)
        self._note_state(optimizer)
        owners.fresh_state.update(owners.state.keys() - before)

    def _note_state(self, optimizer: torch.optim.Optimizer) -> None:
        """Which storages hold the optimizer's state."""
        owners = self.recording.owners
        for parameter, state in optimizer.state.items():
            layer = OUTSIDE
            if isinstance(parameter, torch.Tensor):
                number = self._recorder.storage_number(parameter)
                layer = owners.parameters.get(number, OUTSIDE)
            for value in tree_iter(state):
                if isinstance(value, torch.Tensor):
                    owners.state[self._recorder.storage_number(value)] = layer

    def _note_gradients(self) -> None:
        """Which storages hold gradients that no backward of this step has touched."""
        owners = self.recording.owners
        model = self._model() if self._model is not None else None
        for parameter in parameters(model) if model is not None else ():
            if parameter.grad is not None:
                number = self._recorder.storage_number(parameter)
                gradient = self._recorder.storage_number(parameter.grad)
                owners.gradients[gradient] = owners.parameters[number]

    def note_inputs(self, tensors: Iterable[torch.Tensor]) -> None:
        """Tensors that are there before the step; also one that nobody looks at takes memory."""
        for tensor in tensors:
            self._recorder.storage_number(tensor)

    # -- the result -------------------------------------------------------------------------

    @property
    def ledger(self) -> Ledger:
        """The table of all that has run inside so far, worked out when it is asked for."""
        if self._ledger is None or self._records_in_ledger != len(self.recording.records):
            self._ledger = reconcile(self.recording)
            self._records_in_ledger = len(self.recording.records)
            if self._running:
                _ = self._ledger.memory  # before there is more to read it off
        return self._ledger
