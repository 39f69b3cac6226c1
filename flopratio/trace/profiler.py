"""The Profiler: a context manager around any training step, on fake, meta or real tensors."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import chain, count
from typing import NamedTuple, Self

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from flopratio.allocator.device import targets
from flopratio.errors import UsageError
from flopratio.formulas.attention import CAUSAL
from flopratio.ledger import Ledger
from flopratio.memory import Memory
from flopratio.models.nonzeros import nonzeros_of
from flopratio.text.suggestions import not_among
from flopratio.torch_private import (
    check_version,
    class_name,
    has_tangents,
    named_submodules,
    own_buffers,
    own_parameters,
    tree_iter,
    untransformed,
)
from flopratio.trace import patches
from flopratio.trace.graphs import Root, graph_behind
from flopratio.trace.reconcile import reconcile
from flopratio.trace.recorder import Recorder
from flopratio.trace.recording import OUTSIDE, Graph, Recording, Scope
from flopratio.trace.subclasses import elements

COMPILED = (
    "compiled regions ran as they were written: the same arithmetic, without what the compiler "
    "fuses or leaves out, and with other masks of dropout than it draws"
)
SCRIPTED = (
    "scripted functions and modules ran without the script compiler's optimisations; the operators "
    "of a module inside of a scripted one belong to the one that was called"
)


class _ModuleReference(weakref.ref):  # type: ignore[type-arg]
    """A weak reference that knows its module's ``id``."""

    __slots__ = ("key",)
    key: int


class Place(NamedTuple):
    """Where the step is."""

    layer: int
    """Index of the layer whose module runs."""
    scope: Scope


class Profiler:
    """Counts whatever runs inside it: forward, loss, backward, optimizer step.

    Args:
        model: whose modules give the layers their names. A module that it does not hold is named
            by its class when it is first called, what it holds by the paths in it: ``Linear``,
            ``Linear#2``, ``Decoder.norm``.
        names: further modules with names of their own (a loss module).
        parameters: tensors that are trained and that no module holds.
        target: whose allocator the ledger's memory is predicted for, wherever the step runs:
            ``cuda``, ``cpu`` or a GPU by its name (``H100-80GB``).
        causal: how attention under a causal mask counts: ``full``, or ``half`` of its products,
            see :func:`flopratio.formulas.attention.causal_half`.

    *Parameters*, whose gradients are ``grad_weight``, are every ``nn.Parameter``, ``parameters``,
    and what an optimizer holds that steps in the block. Where there is none of these, and no model,
    every leaf that requires a gradient is one. Other leaves that require a gradient are inputs:
    ``grad_input``.

    After the block, :attr:`ledger` holds the table; entered again, it goes on. Hooks, patches and
    modes are gone then, also after an exception.

    Attributes:
        recording: what has run inside so far, as plain data.

    Raises:
        UsageError: the model is not a module, or the parameters are no tensors; there is no such
            target or way to count; or a Profiler is entered that runs already.
    """

    def __init__(
        self,
        model: torch.nn.Module | None = None,
        *,
        names: Mapping[str, torch.nn.Module] | None = None,
        parameters: Iterable[torch.Tensor] = (),
        target: str = "cuda",
        causal: str = "full",
    ) -> None:
        if model is not None and not isinstance(model, torch.nn.Module):
            what = getattr(model, "__name__", type(model).__name__)
            raise UsageError(f"fr.Profiler's model should be a torch.nn.Module, not {what}")
        for name, value, choices in (("target", target, targets()), ("causal", causal, CAUSAL)):
            if value not in choices:
                raise not_among(name, value, choices)
        trained = given_tensors(parameters)
        check_version()
        self.recording = Recording(target, causal)
        self._recorder = Recorder(self.recording)
        # Weakly: a profiler may be kept for long, and the model's memory with it.
        self._model = None if model is None else weakref.ref(model)
        self._paths: dict[int, str] = {}
        self._modules: dict[int, _ModuleReference] = {}
        self._lazy: set[int] = set()
        """``id`` of each module that holds something without a size."""
        self._taken: set[str] = {OUTSIDE}
        """Names of layers that are in use: a module's, as long as it lives."""
        self._parameters: dict[int, tuple[weakref.ref[torch.Tensor], str]] = {}
        """``id`` of a parameter -> itself, and its layer."""
        self._leaves: dict[int, weakref.ref[torch.Tensor]] = {}
        """Storage -> a leaf that requires a gradient, of which nobody has said what it is."""
        self._numbers_in_leaves = 0
        """The most that such leaves held at once when a backward began."""
        self._indices: dict[str, int] = {OUTSIDE: 0}
        self._exits = ExitStack()
        self._ledger: Ledger | None = None
        self._ledger_is_of = (0, True)
        self._running = False
        if model is not None:
            self._register(model, "")
        for name, module in (names or {}).items():
            self._register(module, name)
        for parameter in trained:
            self._register_parameter(parameter, OUTSIDE)

    def _register(self, root: torch.nn.Module, prefix: str) -> None:
        recording = self.recording
        for path, module in named_submodules(root, prefix):
            if id(module) in self._paths:
                continue
            path = self._free_name(path)
            self._taken.add(path)
            self._paths[id(module)] = path
            reference = self._modules[id(module)] = _ModuleReference(module, self._forget)
            reference.key = id(module)
            recording.types[path] = class_name(module)
            recording.parameters[path] = 0
            self._register_own(module, path)

    def _register_own(self, module: torch.nn.Module, path: str) -> None:
        """What a module itself holds. Of a lazy one, what has no size yet is left for later."""
        recording, owners = self.recording, self.recording.owners
        parameters, buffers = own_parameters(module).values(), own_buffers(module).values()
        if any(map(is_lazy, (*parameters, *buffers))):
            self._lazy.add(id(module))
        for parameter in parameters:
            self._register_parameter(parameter, path)
        for buffer in buffers:
            if is_lazy(buffer):
                continue
            nonzeros = nonzeros_of(buffer)
            for number in self._recorder.owned_storages(buffer, "buffer"):
                owners.buffers.setdefault(number, path)
                if nonzeros is not None:
                    recording.nonzeros[number] = nonzeros

    def _register_lazy(self) -> None:
        """What lazy modules hold by now: they make it in their first call."""
        waiting, self._lazy = self._lazy, set()
        for key in waiting:
            module = self._modules[key]()
            if module is not None:
                self._register_own(module, self._paths[key])

    def _free_name(self, name: str) -> str:
        """A name that no other module has."""
        if name not in self._taken:
            return name
        return next(free for n in count(2) if (free := f"{name}#{n}") not in self._taken)

    def _forget(self, reference: _ModuleReference) -> None:
        """A module is gone: another one may get its ``id``, and its name."""
        self._lazy.discard(reference.key)
        del self._modules[reference.key]
        self._taken.discard(self._paths.pop(reference.key))

    def _register_parameter(self, parameter: torch.Tensor, path: str) -> list[int]:
        """Note whose a parameter is, and that its storages hold one; it may get others later.

        Returns:
            The storages' numbers; none of one without a size.
        """
        if is_lazy(parameter):
            return []
        recording = self.recording
        known = self._parameters.get(id(parameter))
        if known is not None and known[0]() is parameter:
            path, is_new = known[1], False
        else:
            self._parameters[id(parameter)] = weakref.ref(parameter), path
            is_new = True
        numbers = self._recorder.owned_storages(parameter, "parameter")
        owners = recording.owners.parameters
        if owners.keys().isdisjoint(numbers):
            owners.update(dict.fromkeys(numbers, path))
            if is_new:
                recording.parameters[path] = recording.parameters.get(path, 0) + elements(parameter)
        return numbers

    # -- entering and leaving ---------------------------------------------------------------

    def __enter__(self) -> Self:
        if self._ledger is not None:
            _settle_memory(self._ledger)
        if self._running:
            raise UsageError("this fr.Profiler runs already: another one can be entered inside it")
        self._note_gradients()
        recorder = self._recorder
        with ExitStack() as exits:  # undone at once if entering fails half-way
            exits.enter_context(patches.PATCHING)
            exits.enter_context(patches.among_others(recorder))
            recorder.thread = threading.get_ident()
            exits.enter_context(patches.module_calls(recorder, self._enter_module, self._return_to))
            exits.enter_context(patches.backward_calls(recorder, self._in_backward))
            exits.enter_context(patches.function_calls(recorder))
            exits.enter_context(patches.saved_tensors())
            exits.enter_context(
                patches.optimizer_steps(
                    self._enter_update, self._note_new_state, self._return_to, self._in_closure
                )
            )
            exits.enter_context(patches.saved_tensors_hooks(recorder))
            exits.enter_context(patches.other_hooks(recorder))
            exits.enter_context(patches.kept_checkpoint_inputs(recorder))
            exits.enter_context(patches.function_transforms(recorder))
            exits.enter_context(patches.dual_levels(recorder))
            exits.enter_context(patches.sharded_shapes(self.paused))
            exits.enter_context(patches.higher_order_calls(recorder))
            exits.enter_context(patches.compiled_regions(lambda: self._note(COMPILED)))
            exits.enter_context(patches.scripted_regions(lambda: self._note(SCRIPTED)))
            exits.enter_context(recorder)
            self._exits = exits.pop_all()
        self._running = True
        return self

    def __exit__(self, *exception: object) -> None:
        self._running = False
        self._exits.close()
        self._decide_leaves()
        self._note_gradients()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What runs in here is not recorded."""
        before, self._recorder.paused = self._recorder.paused, True
        try:
            yield
        finally:
            self._recorder.paused = before

    # -- layers -----------------------------------------------------------------------------

    @contextmanager
    def layer(self, name: str, kind: str = "") -> Iterator[None]:
        """Operators run in here belong to a layer of this name, unless a module claims them."""
        self.recording.types.setdefault(name, kind)
        before = self._enter_layer(name)
        try:
            yield
        finally:
            self._return_to(before)

    def _enter_module(self, module: torch.nn.Module) -> Place:
        path = self._paths.get(id(module))
        if path is None:
            path = self._register_outside(module)
        recorder = self._recorder
        before = self._enter_layer(path)
        # What an optimizer calls is no arithmetic of its own.
        recorder.scope = "forward" if before.scope == "update" else recorder.scope_of_a_call()
        return before

    def _register_outside(self, module: torch.nn.Module) -> str:
        """The name of a module that runs and that the model does not hold."""
        within = self.recording.layers[self._recorder.layer] if self._recorder.layer else ""
        name = class_name(module)
        self._register(module, self._free_name(f"{within}.{name}" if within else name))
        return self._paths[id(module)]

    def _enter_layer(self, path: str) -> Place:
        """Go into a layer; the place that is left."""
        recorder = self._recorder
        before = Place(recorder.layer, recorder.scope)
        index = self._indices.get(path)
        if index is None:
            index = self._indices[path] = len(self.recording.layers)
            self.recording.layers.append(path)
        recorder.layer = index
        return before

    def _return_to(self, place: Place) -> None:
        self._recorder.layer, self._recorder.scope = place

    # -- backward and update ----------------------------------------------------------------

    @contextmanager
    def _in_backward(
        self,
        roots: Iterable[Root],
        gradients: Iterable[torch.Tensor | None],
        inputs: Iterable[Root],
        create_graph: bool,
    ) -> Iterator[None]:
        self._register_lazy()
        recorder, recording = self._recorder, self.recording
        start = len(recording.records)
        graph = Graph(create_graph, {}, set(), range(start, start))
        graph.within_update = recorder.scope == "update"
        try:
            with self.paused():
                graph_behind(graph, roots, gradients, inputs, self._note_leaf)
                leaves = (leaf for ref in self._leaves.values() if (leaf := ref()) is not None)
                held = sum(map(elements, leaves))
                self._numbers_in_leaves = max(held, self._numbers_in_leaves)
                if graph.transformed:
                    wanted = (untransformed(each) for each in inputs if isinstance(each, Tensor))
                    graph.inputs = tuple(map(recorder.storage_number, wanted))
        except Exception as error:  # not to stop the step
            recording.unseen[f"the graph of a backward was not seen ({error})"] += 1
        if has_tangents():
            recording.unseen["a backward computed directional derivatives besides"] += 1
        with recorder.in_backward(graph):
            yield

    def _enter_update(self, optimizer: torch.optim.Optimizer) -> Place:
        before = Place(self._recorder.layer, self._recorder.scope)
        self._register_lazy()
        for parameter in chain.from_iterable(group["params"] for group in optimizer.param_groups):
            for number in self._register_parameter(parameter, OUTSIDE):
                self._leaves.pop(number, None)
        self._note_state(optimizer)
        self._recorder.scope = "update"
        return before

    @contextmanager
    def _in_closure(self, place: Place) -> Iterator[None]:
        """A closure is as forward, or as backward, as what called the optimizer."""
        before = Place(self._recorder.layer, self._recorder.scope)
        self._return_to(place)
        try:
            yield
        finally:
            self._return_to(before)

    def _note_new_state(self, optimizer: torch.optim.Optimizer) -> None:
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
            for value in state.values() if type(state) is dict else (state,):
                # To look for tensors inside of one takes long, and there are many.
                for one in (value,) if type(value) is Tensor else tree_iter(value):
                    if isinstance(one, Tensor):
                        for number in self._recorder.storage_numbers(one):
                            owners.state[number] = layer

    def _note_gradients(self) -> None:
        """Which storages hold gradients of parameters, whoever made them; and which the parameters,
        that may have got others since."""
        self._register_lazy()
        for reference, path in list(self._parameters.values()):
            parameter = reference()
            if parameter is None:
                continue
            self._register_parameter(parameter, path)
            if parameter.grad is not None:
                gradients = self._recorder.storage_numbers(parameter.grad)
                self.recording.owners.gradients.update(dict.fromkeys(gradients, path))

    def _note_leaf(self, leaf: torch.Tensor) -> None:
        """A leaf that a backward can reach."""
        if id(leaf) in self._parameters or isinstance(leaf, torch.nn.Parameter):
            self._register_parameter(leaf, OUTSIDE)
        else:
            for number in self._recorder.storage_numbers(leaf):
                self._leaves[number] = weakref.ref(leaf)

    def _decide_leaves(self) -> None:
        """Where nobody says what is trained, whatever requires a gradient is."""
        recording, leaves = self.recording, self._leaves
        kinds = {storage.kind for storage in recording.storages if storage.number not in leaves}
        if self._model is not None or "parameter" in kinds:
            return
        for number, reference in leaves.items():
            if number >= 0:
                recording.storages[number].kind = "parameter"
            recording.owners.parameters[number] = OUTSIDE
            leaf = reference()
            if leaf is not None:
                self._parameters[id(leaf)] = reference, OUTSIDE
        if leaves:
            recording.parameters[OUTSIDE] = self._numbers_in_leaves

    def _note(self, what: str) -> None:
        """Something ran otherwise than it would without the profiler."""
        if what not in self.recording.notes:
            self.recording.notes.append(what)

    def note_inputs(self, tensors: Iterable[torch.Tensor]) -> None:
        """Tensors that are there before the step; also one that nobody looks at takes memory."""
        for tensor in tensors:
            self._recorder.storage_numbers(tensor)

    def storages_of(self, tensor: torch.Tensor) -> list[int]:
        """The numbers that the recording has for what a tensor consists of."""
        return self._recorder.storage_numbers(tensor)

    # -- the result -------------------------------------------------------------------------

    @property
    def ledger(self) -> Ledger:
        """The table of all that has run inside so far, worked out when it is asked for.

        Raises:
            FormulaError: a formula does not fit its operator. (Not within the block: there the
                operator is listed among the uncounted ones.)
        """
        strict = not self._running  # within the step, nothing may stop it
        is_of = len(self.recording.records), strict
        if self._ledger is None or self._ledger_is_of != is_of:
            self._register_lazy()
            self._decide_leaves()
            self._ledger = reconcile(self.recording, strict=strict)
            self._ledger_is_of = is_of
            if self._running:
                _settle_memory(self._ledger)
        return self._ledger


def _settle_memory(ledger: Ledger) -> None:
    """Work out a ledger's memory before there is more to read it off. An error does not stop the
    step that goes on: it is raised when somebody asks for the memory."""
    try:
        _ = ledger.memory
    except Exception as error:
        ledger.memory = partial(_fail, error)


def _fail(error: Exception) -> Memory:
    raise error


def given_tensors(parameters: Iterable[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """The parameters that a Profiler is given, also as a dict of them by name.

    Raises:
        UsageError: they are no tensors.
    """
    if isinstance(parameters, Mapping):
        parameters = parameters.values()
    single = isinstance(parameters, torch.Tensor) or not isinstance(parameters, Iterable)
    given = () if single else tuple(parameters)
    wrong = {type(one).__name__ for one in given if not isinstance(one, torch.Tensor)}
    if single or wrong:
        what = f"a single {type(parameters).__name__}" if single else ", ".join(sorted(wrong))
        raise UsageError(f"fr.Profiler's parameters should be tensors, as in [W, b], not {what}")
    return given
