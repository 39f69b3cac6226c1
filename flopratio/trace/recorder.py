"""The recorder: one dispatch mode that writes down every operator of a step, and nothing else.

It runs inside the step, so it only notes; what the notes mean is worked out afterwards, from the
:class:`Recording` that they are made in. Tensors are never kept: of each it takes shape, element
type and the number of its storage, and weak references tell when a storage is released.
"""

from __future__ import annotations

import re
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache, partial
from threading import get_ident
from typing import Any, ClassVar

import torch

from flopratio.torch_private import (
    CAN_CALL_DIRECTLY,
    CAN_DETACH_DIRECTLY,
    SILENT_OPERATORS,
    FakeTensor,
    FakeTensorMode,
    HigherOrderOperator,
    TorchDispatchMode,
    active_fake_mode,
    call_below,
    current_autograd_node,
    detach_below,
    disable_current_modes,
    is_below_autograd,
    nested_shapes,
    next_sequence_number,
    references_of,
    results_apart,
    schema_of,
    sequence_number,
    sparse_parts,
    storage_address,
    tensor_version,
    transforms_are_active,
    tree_iter,
)
from flopratio.trace.higher_order import (
    Noted,
    Opened,
    blocks_left,
    call_on_fakes,
    is_function,
    is_one_kernel,
    noted_arguments,
    operator_of_call,
)
from flopratio.trace.recording import (
    ACCUMULATE_GRAD,
    LIST,
    NESTED,
    TENSOR,
    Argument,
    FunctionCall,
    Graph,
    Operator,
    Record,
    Recording,
    Saved,
    Scope,
    SparseNote,
    Storage,
)
from flopratio.trace.subclasses import (
    any_takes_itself_apart,
    inner_tensors,
    takes_itself_apart,
)

# Neither computes, moves nor allocates anything.
DEVICE = torch.ops.prim.device.default
DETACH = torch.ops.aten.detach.default
ADD = torch.ops.aten.add.Tensor
SILENT = {DEVICE, DETACH, *SILENT_OPERATORS}

PLAIN = (
    *(int, float, bool, str, complex, type(None)),
    *(torch.dtype, torch.device, torch.layout, torch.memory_format, torch.qscheme),
)
"""Types of arguments that are noted as they are: those of plain values, which can be compared and
pickled."""


def _call(func: Any, types: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The ordinary call of an operator."""
    return func(*args, **kwargs)


def _known(result: Any) -> Callable[..., Any]:
    """A call of an operator that has been made."""
    return lambda *_: result


_operators: dict[Any, Operator] = {}
"""``OpOverload`` -> what is noted of it."""

_seen: dict[Any, Operator] = {}
"""Those of them that have been recorded, and are not silent: one look-up tells all that there is to
know of most operators."""

_is_grad_enabled, _is_inference = torch.is_grad_enabled, torch.is_inference_mode_enabled
_new_tuple = tuple.__new__
SEVERAL = list, tuple


def operator_of(func: Any) -> Operator:
    """What is noted of an ``OpOverload``."""
    operator = _operators.get(func)
    if operator is None:
        schema = schema_of(func)
        returned = {name for result in schema.returns for name in _aliases(result)}
        arguments = tuple(
            Argument(
                argument.name,
                "Tensor" in str(argument.type),
                argument.is_out,
                argument.kwarg_only,
                argument.has_default_value(),
                argument.alias_info is not None and argument.alias_info.is_write,
                not returned.isdisjoint(_aliases(argument)),
            )
            for argument in schema.arguments
        )
        operator = _operators[func] = Operator.of(
            schema.name.replace("::", "."),
            schema.overload_name or "default",
            arguments,
            schema.is_mutable,
            torch.Tag.nondeterministic_seeded in func.tags,
        )
    return operator


def layout_of(tensor: torch.Tensor) -> str:
    """``strided``, ``sparse_coo`` and so on."""
    return str(tensor.layout).removeprefix("torch.")


def sparse_note(tensor: torch.Tensor) -> tuple[SparseNote, ...]:
    """What is noted of a sparse tensor besides; nothing of one of another layout. Without values,
    torch forgets in many places how many there would be, and says that there are none."""
    parts = sparse_parts(tensor)
    if not parts:
        return ()
    values, *indices = parts
    unknown = not values.numel() and (tensor.is_meta or isinstance(tensor, FakeTensor))
    return (
        SparseNote(
            layout_of(tensor),
            None if unknown else values.numel(),
            sum(index.numel() * index.itemsize for index in indices),
        ),
    )


def _aliases(argument: Any) -> frozenset[str]:
    """The names under which a schema says that an argument and a result are one: ``a`` of
    ``Tensor(a!)``."""
    return frozenset() if argument.alias_info is None else argument.alias_info.before_set


def _described(value: Any) -> str:
    """What is noted of an object that is no plain value: not where it is in memory."""
    try:
        return re.sub(" at 0x[0-9a-f]+", "", repr(value))
    except Exception:  # it has none, or fails to give one, which is not to stop the step
        return type(value).__qualname__


class _Watch(weakref.ref):  # type: ignore[type-arg]
    """A weak reference that knows which storage it watches."""

    __slots__ = ("address", "noted")
    address: int
    noted: Storage


class Kept:
    """What autograd holds in the place of a tensor that it keeps for a backward. It goes when the
    node that holds it lets go of what it keeps, and so tells when that is.

    Args:
        tensor: what is kept; a view of it if the node that keeps it has made it, for that tensor
            refers to the node.
        original: whether it is the very tensor.
        notes: of its storages; tensors that take themselves apart have several.
        records: of the recording.

    Attributes:
        outer: what a recorder around this one keeps it in.
        unpacked: where to note what is given back, if somebody asks for it.
    """

    __slots__ = ("notes", "original", "outer", "records", "tensor", "version")
    unpacked: ClassVar[list[Kept] | None] = None

    def __init__(
        self, tensor: torch.Tensor, original: bool, notes: list[Saved], records: list[Record]
    ) -> None:
        self.tensor = tensor
        self.original = original
        self.version = tensor_version(tensor)
        self.notes = notes
        self.records = records
        self.outer: Kept | None = None

    def __del__(self) -> None:
        for note in self.notes:
            note.died = len(self.records)


def _kind_of(tensor: torch.Tensor, kind: str) -> str:
    """What a storage that is seen first with this tensor is: perhaps a parameter of a module that
    the profiler was not told of."""
    is_parameter = kind == "outside" and isinstance(tensor, torch.nn.Parameter)
    return "parameter" if is_parameter else kind


def _accumulates() -> bool:
    """Whether AccumulateGrad runs: the first gradient of a parameter is kept by a detach, which
    is all that shows of that node."""
    node = current_autograd_node()
    return node is not None and sequence_number(node) == ACCUMULATE_GRAD


@dataclass
class _TakenApart:
    """The operator of a tensor subclass, while that calls others in its place.

    Args:
        sequence: the number of the node that autograd made for it, if it made one.
        wanted: storages of those inner tensors that a gradient is wanted of, or that lead to one.
    """

    sequence: int
    wanted: set[int]


_OF_A_BACKWARD = (
    "backward",
    "differentiable",
    "scope",
    "layer",
    "functions",
    "function",
    "hooks",
)
"""What of a recorder's state a backward has of its own."""


class Recorder(TorchDispatchMode):
    """Notes every operator. Of a tensor subclass that takes itself apart, those that it calls.

    Args:
        recording: to be filled.

    Attributes:
        layer: index of the layer whose module runs.
        scope: who runs, see :data:`flopratio.trace.recording.Scope`.
        paused: operators pass unseen.
        backward: the place among the recorded graphs of the backward that runs; -1: none does.
        thread: the thread whose operators it sees.
        functions: how many calls of ``autograd.Function.apply`` are under way.
        function: the node of the outermost of these calls, once it is known.
        applied: sequence number of the node of the innermost of these calls.
        hooks: how many hooks on saved tensors are in force that are not the profiler's; levels of
            forward mode too, in which more is kept.
        outer: the recorder around this one that is to know, too, what autograd keeps.
        around: the recorders that this one runs inside of, the nearest first.
        inner: how many recorders run inside of this one.
        differentiable: whether the backward that runs is differentiable itself.
    """

    def __init__(self, recording: Recording) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.recording = recording
        self.layer = 0
        self.scope: Scope = "forward"
        self.paused = False
        self.backward = -1
        self.thread = get_ident()
        self.functions = 0
        self.function: int | None = None
        self.applied = 0
        self.hooks = 0
        self.outer: Recorder | None = None
        self.around: tuple[Recorder, ...] = ()
        self.inner = 0
        self.differentiable = False
        self._taken_apart: _TakenApart | None = None
        self._taken_by_inner: list[Any] = []
        self._lets_through = False
        self._below = 0
        self._prepared_from: list[bool] = []
        self._numbers: dict[int, int] = {}
        self._watches: dict[int, _Watch] = {}
        self._alone, self._for_each_inner = references_of_the_engine()
        self._call = call_below if CAN_CALL_DIRECTLY else _call
        self._detach = detach_below if CAN_DETACH_DIRECTLY else _call
        self._kinds: dict[type, int] = {
            torch.Tensor: 1,
            torch.nn.Parameter: 1,
            list: 2,
            tuple: 2,
            **dict.fromkeys(PLAIN, 0),
        }

    supports_higher_order_operators = True

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Not wrapped: a compiled region calls no mode, and the wrapper costs on each call."""
        return False

    # -- who runs ---------------------------------------------------------------------------

    def is_elsewhere(self, what: str) -> bool:
        """Whether this is not the thread whose operators are seen; what runs is then noted."""
        if get_ident() == self.thread:
            return False
        if not self.paused:
            self.recording.unseen[f"{what} ran unseen, in another thread"] += 1
        return True

    def scope_of_a_call(self) -> Scope:
        """Who runs inside of a module, or of a checkpoint's function, that is called now: what
        backward calls, it computes again."""
        return "recompute" if self.scope == "backward" else self.scope

    @contextmanager
    def in_backward(self, graph: Graph) -> Iterator[None]:
        """Autograd's engine runs in here. What it calls starts afresh, wherever it was called."""
        node = current_autograd_node()
        if node is not None:
            graph.within = self.backward, sequence_number(node)
        graph.layer = self.layer
        before = {name: getattr(self, name) for name in _OF_A_BACKWARD}
        self.backward, self.scope, self.layer = len(self.recording.graphs), "backward", 0
        self.functions, self.function, self.hooks = 0, None, 0
        self.differentiable = graph.create_graph
        self.recording.graphs.append(graph)
        try:
            yield
            graph.ended = True
        finally:
            graph.records = range(graph.records.start, len(self.recording.records))
            vars(self).update(before)

    @contextmanager
    def in_function(self, arguments: tuple[Any, ...] | None = None) -> Iterator[None]:
        """Autograd makes one node for all that runs in here.

        Args:
            arguments: of a call of ``autograd.Function.apply``.
        """
        scope = self.scope
        if scope == "backward" and torch.is_grad_enabled():
            self.scope = "backward" if self.differentiable else "recompute"
        if not self.functions:
            self.function = None
            if arguments is not None and not self.paused and not transforms_are_active():
                self.function = next_sequence_number()
                tensors = (value for value in arguments if isinstance(value, torch.Tensor))
                self.recording.functions[self.function] = FunctionCall(
                    self.layer, tuple(map(self.storage_number, tensors))
                )
        self.functions += 1
        before, self.applied = self.applied, next_sequence_number()
        try:
            yield
        finally:
            self.functions -= 1
            self.scope, self.applied = scope, before

    # -- storages ---------------------------------------------------------------------------

    def storage_number(self, tensor: torch.Tensor, kind: str = "outside") -> int:
        """The number of a tensor's storage; a new one is watched from here on. Of one that takes
        itself apart, the first of :meth:`storage_numbers`."""
        inner = tensor
        if takes_itself_apart(type(tensor)):
            inner = inner_tensors(tensor)[0]
        try:
            storage = inner.untyped_storage()
        except NotImplementedError:  # sparse and other layouts have none
            return self._sparse_number(inner, _kind_of(tensor, kind))
        number = self._numbers.get(storage_address(storage))
        return self._watch(storage, _kind_of(tensor, kind)) if number is None else number

    def _watch(self, storage: torch.UntypedStorage, kind: str) -> int:
        """The number of a new storage, which is watched from here on."""
        storages = self.recording.storages
        number = len(storages)
        born = -1 if kind != "made" else len(self.recording.records)
        noted = Storage(number, storage.nbytes(), born, kind)
        storages.append(noted)
        if kind != "made":
            self.recording.nbytes_on[str(storage.device)] += noted.nbytes
        watch = self._watches[number] = _Watch(storage, self._released)
        watch.noted = noted
        watch.address = address = storage_address(storage)
        self._numbers[address] = number
        return number

    def _sparse_number(self, tensor: torch.Tensor, kind: str) -> int:
        """Of a sparse tensor, the number of its values' storage; those of its indices are noted
        beside it. -1 of other layouts, of which nothing can be told."""
        numbers = [self.storage_number(part, kind) for part in sparse_parts(tensor)]
        if not numbers:
            return -1
        values, *indices = numbers
        self.recording.indices[values, layout_of(tensor)] = tuple(indices)
        return values

    def storage_numbers(self, tensor: torch.Tensor, kind: str = "outside") -> list[int]:
        """Those of all the storages that a tensor consists of: a subclass may hold several, and a
        sparse tensor has values and indices."""
        inner = inner_tensors(tensor)
        if inner[0] is not tensor:
            kind = _kind_of(tensor, kind)
        return [self.storage_number(each, kind) for each in inner]

    def owned_storages(self, tensor: torch.Tensor, kind: str) -> list[int]:
        """The numbers of a tensor's storages, which are of this kind from here on."""
        numbers = [number for number in self.storage_numbers(tensor, kind) if number >= 0]
        for number in numbers:
            self.recording.storages[number].kind = kind
        return numbers

    def _released(self, watch: _Watch) -> None:
        noted = watch.noted
        noted.died = len(self.recording.records)
        del self._watches[noted.number]
        if self._numbers.get(watch.address) == noted.number:
            del self._numbers[watch.address]

    # -- operators --------------------------------------------------------------------------

    def _note(
        self, values: Any, storages: list[int], flags: list[bool] | None, kind: str
    ) -> tuple[Any, ...]:
        """The signature of some values, storages and flags noted beside."""
        kinds, numbers = self._kinds, self._numbers
        notes: list[Any] = []
        for value in values:
            what = kinds.get(type(value))
            if what is None:
                what = self._classify(value)
            if what == 1:
                sparse: tuple[SparseNote, ...] = ()
                try:  # the common case of storage_number(), without the call
                    number = numbers.get(storage_address(value.untyped_storage()))
                except NotImplementedError:
                    number, sparse = None, sparse_note(value)
                storages.append(self.storage_number(value, kind) if number is None else number)
                if flags is not None:
                    flags.append(value.requires_grad)
                try:
                    # A plain tuple: unlike torch.Size, the garbage collector need not follow it.
                    note = (TENSOR, (*value.shape,), value.dtype)
                    notes.append((*note, *sparse) if sparse else note)
                except RuntimeError:  # of a nested tensor, which has none
                    notes.append((NESTED, nested_shapes(value), value.dtype))
            elif what == 0:
                notes.append(value)
            elif what == 2 and value and type(value[0]) is int:  # sizes, strides, paddings
                notes.append((LIST, *value))
            elif what == 2:
                notes.append((LIST, *self._note(value, storages, flags, kind)))
            else:
                notes.append(value.note if type(value) is Noted else _described(value))
        return tuple(notes)

    def _classify(self, value: Any) -> int:
        if isinstance(value, torch.Tensor):
            what = 1
        elif isinstance(value, list | tuple):
            what = 2
        else:  # by its name (a process group, a generator)
            what = 3
        self._kinds[type(value)] = what
        return what

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func is DEVICE:
            # More than half of all calls on fake tensors, whose answer need not be dispatched.
            tensor = args[0]
            if type(tensor) is FakeTensor and not tensor.fake_mode.in_kernel_invocation:
                return tensor.fake_device
            return func(*args)
        kwargs = kwargs or {}
        call = self._call
        operator = _seen.get(func)
        if operator is None and isinstance(func, HigherOrderOperator):
            with self.resumed():
                if self.paused:
                    return func(*args, **kwargs)
                operator, args, result = self._higher_order(func, args, kwargs)
            call = _known(result)
        else:
            if self.paused or (operator is None and func in SILENT):
                if func is not DETACH:
                    return func(*args, **kwargs)
                if type(args[0]) is torch.nn.Parameter and not self.paused:
                    self.owned_storages(args[0], "parameter")  # of .data, which no longer is one
                if self.paused or not _accumulates():
                    return self._detach(func, types, args, kwargs)
            if types and any_takes_itself_apart(types):
                # The engine detaches a gradient past autograd, which makes torch 2.8 detach again
                # what is called anew.
                if self._lets_through or func is DETACH:
                    self._lets_through = False
                    return NotImplemented  # so that the subclass is asked
                before = len(self.recording.records)
                result = self._take_apart(func, args, kwargs)
                if len(self.recording.records) > before or not self._is_new(result, args):
                    return result
                call = self._known_around(result)  # it calls none that is seen: it is one itself
            elif self._below or _is_inference():
                # Composite operators (linear) come whole then; elsewhere autograd takes them apart.
                with self:
                    taken_apart = func.decompose(*args, **kwargs)
                if taken_apart is not NotImplemented:
                    return taken_apart
        recording = self.recording
        inputs: list[int] = []
        outputs: list[int] = []
        flags: list[bool] = []
        arguments = self._note(args, inputs, flags, "outside")
        keywords: tuple[tuple[str, Any], ...] = ()
        if kwargs:
            values = self._note(kwargs.values(), inputs, flags, "outside")
            keywords = tuple(zip(kwargs, values, strict=True))
        # Before it runs: a shape function written in Python may make nodes of its own.
        sequence = next_sequence_number() - 1
        if self.functions:
            # One node stands for all of it, also for further functions that it calls.
            sequence = self.function = sequence if self.function is None else self.function
        taken_apart = self._taken_apart
        if taken_apart is not None and is_below_autograd():
            sequence = taken_apart.sequence
            flags = [number in taken_apart.wanted for number in inputs]
        else:
            taken_apart = None
        out = call(func, types, args, kwargs)
        single = not isinstance(out, SEVERAL)
        if type(out) is tuple:
            out = results_apart(out)
        node = current_autograd_node()
        number = None if node is None else self._note_node(node, func, args)
        results = self._note((out,) if single else out, outputs, None, "made")
        if taken_apart is not None and any(flags):
            taken_apart.wanted.update(outputs)
        if operator is None:
            operator = operator_of(func)
            if func not in SILENT:
                _seen[func] = operator
        recording.records.append(
            _new_tuple(  # Record() itself would take longer
                Record,
                (
                    operator,
                    arguments,
                    keywords,
                    results[0] if single else (LIST, *results),
                    tuple(inputs),
                    tuple(outputs),
                    tuple(flags),
                    self.layer,
                    number,
                    sequence,
                    self.scope,
                    _is_grad_enabled(),
                    self.functions > 0,
                    self.hooks > 0,
                    taken_apart is not None,
                ),
            )
        )
        return out

    def _higher_order(
        self, func: HigherOrderOperator, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Operator, tuple[Any, ...], Any]:
        """Call a higher-order operator, and note what its functions call; what is noted of it
        itself, its arguments and its result."""
        if self.functions and self.function is None:  # before functions inside make nodes
            self.function = next_sequence_number() - 1
        before = len(self.recording.records)
        fake_mode, guessed = active_fake_mode(), False
        fake = any(isinstance(value, FakeTensor) for value in tree_iter(args))
        inside = partial(self._inside, fake_mode)
        if is_one_kernel(func):
            result = func(*args, **kwargs)
            if current_autograd_node() is None:
                self._note_mask(blocks_left(func, args))
        else:
            given = [Opened(value, inside) if is_function(value) else value for value in args]
            if fake:
                result, guessed = call_on_fakes(func, given, kwargs)
            else:
                result = func(*given, **kwargs)
        opened = len(self.recording.records) > before
        operator = operator_of_call(func, args, kwargs, opened=opened, guessed=guessed)
        return operator, noted_arguments(func, args, _recording_apart), result

    def _note_mask(self, blocks: tuple[int, int] | None) -> None:
        """What a block mask leaves of an attention, which counts in full all the same."""
        if blocks is None:
            return
        left, of = blocks
        layer = self.recording.layers[self.layer] or "the model"
        note = (
            f"flex_attention in {layer}: its block mask leaves {left} of {of} blocks "
            f"({left / of:.1%}); all are counted"
        )
        if note not in self.recording.notes:
            self.recording.notes.append(note)

    @contextmanager
    def _inside(self, fake_mode: FakeTensorMode | None) -> Iterator[None]:
        """A function of a higher-order operator runs."""
        self._below += 1
        try:
            with self.resumed(), fake_mode or nullcontext(), self:
                yield
        finally:
            self._below -= 1

    @contextmanager
    def preparing(self) -> Iterator[None]:
        """A higher-order operator prepares to run (it traces the functions that it is given), which
        is not of the step."""
        self._prepared_from.append(self.paused)
        self.paused = True
        try:
            yield
        finally:
            self.paused = self._prepared_from.pop()

    @contextmanager
    def resumed(self) -> Iterator[None]:
        """It runs."""
        before = self.paused
        if self._prepared_from:
            self.paused = self._prepared_from[0]
        try:
            yield
        finally:
            self.paused = before

    def _take_apart(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call the operator of a tensor subclass, and note what that calls in its place."""
        if self._taken_by_inner:
            return self._taken_by_inner.pop()
        # What it calls is handed on to the recorders around this one, but not the operator itself.
        all_of_us = [each for each in (self, *self.around) if each._taken_apart is None]
        for recorder in all_of_us:
            recorder._taken_apart = recorder._about_to_take_apart(args, kwargs)
        self._lets_through = True
        self._below += 1
        try:
            with self:
                return func(*args, **kwargs)
        finally:
            self._lets_through = False
            self._below -= 1
            for recorder in all_of_us:
                recorder._taken_apart = None

    def _about_to_take_apart(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _TakenApart:
        wanted = {
            number
            for value in tree_iter((args, kwargs))
            if isinstance(value, torch.Tensor) and value.requires_grad
            for number in self.storage_numbers(value)
        }
        return _TakenApart(next_sequence_number() - 1, wanted)

    def _known_around(self, result: Any) -> Callable[..., Any]:
        """A call of an operator that has been made, for the recorders around this one too."""
        outer = next((each for each in self.around if not each.paused), None)
        if outer is None:
            return _known(result)

        def call(func: Any, types: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            outer._taken_by_inner.append(result)
            return outer.__torch_dispatch__(func, types, args, kwargs)

        return call

    def _is_new(self, result: Any, args: tuple[Any, ...]) -> bool:
        """Whether what a tensor subclass gave was computed: it is on memory of its own, or the
        subclass is its own data."""
        return any(
            inner_tensors(tensor)[0] is tensor
            for tensor in tree_iter(args)
            if isinstance(tensor, torch.Tensor) and takes_itself_apart(type(tensor))
        ) or any(
            self._numbers.get(storage_address(inner.untyped_storage())) is None
            for tensor in tree_iter(result)
            if isinstance(tensor, torch.Tensor) and all(type(size) is int for size in tensor.shape)
            for inner in inner_tensors(tensor)
        )

    def _note_node(self, node: Any, func: Any, args: tuple[Any, ...]) -> int:
        """Note what only shows while a node of backward runs; its number."""
        recording, index = self.recording, len(self.recording.records)
        number = sequence_number(node)
        if number == ACCUMULATE_GRAD:
            variable = getattr(node, "variable", None)
            if variable is not None:
                recording.accumulated[index] = self.storage_number(variable)
        elif number not in recording.nodes:
            recording.nodes[number] = node.name()
        if func is ADD and self._taken_apart is None and not torch.is_grad_enabled():
            held = (
                references + self.inner * more
                for references, more in zip(self._alone, self._for_each_inner, strict=True)
            )
            recording.sums[index] = references_of(args[0]) == tuple(held)
        return number

    # -- saved tensors ----------------------------------------------------------------------

    def pack(self, tensor: torch.Tensor) -> Kept:
        """Called by autograd for each tensor that it keeps (``saved_tensors_hooks``)."""
        recording = self.recording
        records = recording.records
        node = next_sequence_number() - 1
        made = tensor.grad_fn
        original = True
        if made is not None:
            # Has the node that keeps it made it? Then the tensor refers to the node: together they
            # would stay alive. Operands are kept before their operator is recorded, results after.
            maker = sequence_number(made)
            if self.functions:
                original = maker < self.applied
            else:
                last = records[-1].sequence if records else maker
                original = maker < last or (maker == last and node == last + 1)
                if maker == last and not original:
                    node = maker
        notes: list[Saved] = []
        # What a backward recomputes is gone before it ends.
        if (current_autograd_node() is None or self.differentiable) and not self.paused:
            try:  # the common case of storage_number(), without the call
                number = self._numbers.get(storage_address(tensor.untyped_storage()))
            except NotImplementedError:
                number = -1
            if number is not None and number >= 0:
                notes.append(Saved(node, number, self.functions > 0, len(records)))
            else:
                untold = self.functions > 0 or takes_itself_apart(type(tensor))
                self.storage_number(tensor)  # joins the parts of a sparse one
                for each in self.storage_numbers(tensor):
                    notes.append(Saved(node, each, untold, len(records)))
            recording.saved += notes
        kept = Kept(tensor if original else tensor.detach(), original, notes, records)
        if self.outer is not None:
            kept.outer = self.outer.pack(tensor)
        return kept

    @staticmethod
    def unpack(kept: Kept) -> torch.Tensor:
        """Called by autograd for each of them that a backward needs.

        Raises:
            RuntimeError: it was written to meanwhile, which autograd does not look at under hooks.
        """
        tensor, version = kept.tensor, kept.version
        if tensor_version(tensor) != version:
            raise RuntimeError(
                "one of the variables needed for gradient computation has been modified by an "
                f"inplace operation: [{tensor.type()} {list(tensor.shape)}] is at version "
                f"{tensor_version(tensor)}; expected version {version} instead. Hint: enable "
                "anomaly detection to find the operation that failed to compute its gradient, with "
                "torch.autograd.set_detect_anomaly(True)."
            )
        if Kept.unpacked is not None:
            Kept.unpacked.append(kept)
        return tensor


def _recording_apart() -> tuple[Recorder, Recording]:
    """A recorder of its own, and what it records in."""
    recording = Recording()
    return Recorder(recording), recording


class _References(TorchDispatchMode):
    """Notes how many references the first operand of an addition in backward has."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counts: list[tuple[int, int]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if func is ADD and current_autograd_node() is not None:
            self.counts.append(references_of(args[0]))
        return out


class _Through(TorchDispatchMode):
    """Hands every operator on, as a recorder inside of another does."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        return func(*args, **(kwargs or {}))


@lru_cache(maxsize=1)
def references_of_the_engine() -> tuple[tuple[int, int], tuple[int, int]]:
    """How many references the recorder sees of a gradient that only the engine holds, and how many
    more for each recorder inside of it: a matter of how Python wraps tensors, so it is tried."""
    (tensors, storages), (more_tensors, more_storages) = _references_seen(0), _references_seen(1)
    return (tensors, storages), (more_tensors - tensors, more_storages - storages)


def _references_seen(inner: int) -> tuple[int, int]:
    mode = _References()
    with (
        disable_current_modes(),
        torch.inference_mode(mode=False),
        torch.enable_grad(),
        torch.device("cpu"),
        mode,
        ExitStack() as exits,
    ):
        for _ in range(inner):
            exits.enter_context(_Through())  # type: ignore[no-untyped-call]
        x = torch.zeros(1, requires_grad=True) * 1
        (x.exp() + x.sin()).sum().backward()
    (count,) = mode.counts
    return count
