"""The recorder: one dispatch mode that writes down every operator of a step, and nothing else.

It runs inside the step, so it only notes; what the notes mean is worked out afterwards (see
``attribution.py``). Tensors are never kept: of each it takes shape, element type and the number of
its storage, and weak references tell when a storage is released.
"""

from __future__ import annotations

import weakref
from typing import Any, NamedTuple

import torch

from flopratio.torch_private import FakeTensor, TorchDispatchMode

TensorNote = tuple[str, tuple[int, ...], torch.dtype]
"""What a signature holds in a tensor's place: a marker, shape, element type."""

TENSOR = "tensor"
LIST = "list"

ACCUMULATE_GRAD = (1 << 64) - 1
"""The sequence number of AccumulateGrad nodes: they have none of their own."""

# Neither computes, moves nor allocates anything.
DEVICE = torch.ops.prim.device.default
DETACH = torch.ops.aten.detach.default
ADD = torch.ops.aten.add.Tensor
SILENT = {
    DEVICE,
    DETACH,
    torch.ops.aten.is_same_size.default,
    torch.ops.aten._version.default,
}
for _packet in (
    *(
        getattr(torch.ops.aten, name)
        for name in ("sym_size", "sym_stride", "sym_numel", "sym_storage_offset", "size", "stride")
        if hasattr(torch.ops.aten, name)
    ),
    torch.ops.profiler._record_function_enter_new,
    torch.ops.profiler._record_function_exit,
):
    SILENT |= {getattr(_packet, overload) for overload in _packet.overloads()}


class Record(NamedTuple):
    """One dispatched operator."""

    op: Any
    """The ``OpOverload``."""
    arguments: tuple[Any, ...]
    """Positional arguments, a :data:`TensorNote` in each tensor's place."""
    keywords: tuple[tuple[str, Any], ...]
    results: Any
    """What it returned, likewise."""
    inputs: tuple[int, ...]
    """Storage numbers of its tensor arguments, in order."""
    outputs: tuple[int, ...]
    requires_grad: tuple[bool, ...]
    """Which tensor arguments autograd follows, in order."""
    layer: int
    """Index into :attr:`Recorder.layers`."""
    node: int | None
    """Sequence number of the running autograd node; None outside of backward."""
    sequence: int
    """The number of the node that autograd made for this operator, if it made one."""
    scope: int
    """Which phase of the step, see :class:`Recorder`."""
    grad_enabled: bool
    in_function: bool
    """Whether it ran inside of a user-defined ``autograd.Function``'s forward."""
    hooked: bool
    """Whether somebody else's hooks decided what its node keeps (a checkpoint's)."""


class Storage:
    """A storage seen in the step.

    Args:
        number: counts up from 0; never used twice, unlike addresses.
        nbytes: its size.
        born: index of the record that allocated it; -1 if it was there before.
        died: number of records made when it was released; None if it outlived the recording.
        kind: ``parameter``, ``buffer``, ``outside`` (seen as an argument first) or ``made``.
    """

    __slots__ = ("born", "died", "kind", "nbytes", "number")

    def __init__(self, number: int, nbytes: int, born: int, kind: str) -> None:
        self.number = number
        self.nbytes = nbytes
        self.born = born
        self.died: int | None = None
        self.kind = kind


class _Watch(weakref.ref):  # type: ignore[type-arg]
    """A weak reference that knows which storage it watches."""

    __slots__ = ("address", "number")
    address: int
    number: int


def references(tensor: torch.Tensor) -> tuple[int, int]:
    """How many references a tensor has, and how many its storage."""
    uses: int = tensor._use_count()  # type: ignore[attr-defined]
    try:
        storage = tensor.untyped_storage()
    except NotImplementedError:  # sparse and other layouts have none
        return uses, 0
    return uses, torch._C._storage_Use_Count(storage._cdata)


FORWARD, BACKWARD, UPDATE = 0, 1, 2


def _accumulates() -> bool:
    """Whether AccumulateGrad runs: the first gradient of a parameter is kept by a detach, which
    is all that shows of that node."""
    node = torch._C._current_autograd_node()
    return node is not None and node._sequence_nr() == ACCUMULATE_GRAD


class Recorder(TorchDispatchMode):
    """Notes every operator.

    Attributes:
        records: the operators, in order.
        storages: every storage seen, by number.
        saved: (sequence number of the node, storage number, whether a user-defined function keeps
            it) of each tensor that autograd keeps.
        layers: paths of the modules that ran, by index; ``layer`` is the current one.
        scope: ``FORWARD``, ``BACKWARD`` (autograd's engine runs) or ``UPDATE`` (inside of
            ``Optimizer.step``).
        paused: operators pass unseen.
        functions: how many calls of ``autograd.Function.apply`` are under way.
        hooks: how many hooks on saved tensors are in force that are not the profiler's.
        nodes: sequence number -> name of every autograd node that ran an operator.
        accumulated: record index -> the parameter whose gradient AccumulateGrad was adding to.
        sums: record index of an addition in backward -> how many references its first operand has,
            and how many that one's storage.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.records: list[Record] = []
        self.storages: list[Storage] = []
        self.saved: list[tuple[int, int, bool]] = []
        self.layers: list[str] = [""]
        self.layer = 0
        self.scope = FORWARD
        self.paused = False
        self.functions = 0
        self.function: int | None = None
        """The node of the outermost of these calls, once an operator has run in it."""
        self.hooks = 0
        self.nodes: dict[int, str] = {}
        self.accumulated: dict[int, int] = {}
        self.sums: dict[int, tuple[int, int]] = {}
        self._numbers: dict[int, int] = {}
        self._watches: dict[int, _Watch] = {}
        self._kinds: dict[type, int] = {
            torch.Tensor: 1,
            torch.nn.Parameter: 1,
            list: 2,
            tuple: 2,
        }
        for plain in (
            int,
            float,
            bool,
            str,
            type(None),
            torch.dtype,
            torch.device,
            complex,
        ):
            self._kinds[plain] = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Not wrapped: a compiled region calls no mode, and the wrapper costs on each call."""
        return False

    # -- storages ---------------------------------------------------------------------------

    def storage_number(self, tensor: torch.Tensor, kind: str = "outside") -> int:
        """The number of a tensor's storage; a new one is watched from here on."""
        try:
            storage = tensor.untyped_storage()
        except NotImplementedError:  # sparse and other layouts have none
            return -1
        address = storage._cdata
        number = self._numbers.get(address)
        if number is None:
            if kind == "outside" and isinstance(tensor, torch.nn.Parameter):
                kind = "parameter"  # of a module that the profiler was not told of
            number = len(self.storages)
            born = -1 if kind != "made" else len(self.records)
            self.storages.append(Storage(number, storage.nbytes(), born, kind))
            self._numbers[address] = number
            watch = _Watch(storage, self._released)
            watch.address = address
            watch.number = number
            self._watches[number] = watch
        return number

    def _released(self, watch: _Watch) -> None:
        self.storages[watch.number].died = len(self.records)
        del self._watches[watch.number]
        if self._numbers.get(watch.address) == watch.number:
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
            if what == 0:
                notes.append(value)
            elif what == 1:
                try:  # the common case of storage_number(), without the call
                    number = numbers.get(value.untyped_storage()._cdata)
                except NotImplementedError:
                    number = -1
                storages.append(self.storage_number(value, kind) if number is None else number)
                if flags is not None:
                    flags.append(value.requires_grad)
                # A plain tuple: unlike torch.Size, the garbage collector need not follow it.
                notes.append((TENSOR, tuple(value.shape), value.dtype))
            elif what == 2 and value and type(value[0]) is int:  # sizes, strides, paddings
                notes.append((LIST, *value))
            elif what == 2:
                notes.append((LIST, *self._note(value, storages, flags, kind)))
            else:
                notes.append(repr(value))
        return tuple(notes)

    def _classify(self, value: Any) -> int:
        if isinstance(value, torch.Tensor):
            what = 1
        elif isinstance(value, list | tuple):
            what = 2
        else:
            try:
                hash(value)
                what = 0
            except TypeError:
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
        if self.paused or (func in SILENT and not (func is DETACH and _accumulates())):
            return func(*args, **kwargs)
        if torch.is_inference_mode_enabled():
            # Composite operators (linear) come whole then; elsewhere autograd takes them apart.
            with self:
                taken_apart = func.decompose(*args, **kwargs)
            if taken_apart is not NotImplemented:
                return taken_apart
        inputs: list[int] = []
        outputs: list[int] = []
        flags: list[bool] = []
        arguments = self._note(args, inputs, flags, "outside")
        keywords: tuple[tuple[str, Any], ...] = ()
        if kwargs:
            keywords = tuple(
                zip(
                    kwargs,
                    self._note(kwargs.values(), inputs, flags, "outside"),
                    strict=True,
                )
            )
        # Before it runs: a shape function written in Python may make nodes of its own.
        sequence = torch._C._autograd._get_sequence_nr() - 1
        if self.functions:
            # One node stands for all of it, also for further functions that it calls.
            sequence = self.function = sequence if self.function is None else self.function
        out = func(*args, **kwargs)
        node = torch._C._current_autograd_node()
        number: int | None = None
        if node is not None:
            number = node._sequence_nr()
            if number == ACCUMULATE_GRAD:
                variable = getattr(node, "variable", None)
                if variable is not None:
                    self.accumulated[len(self.records)] = self.storage_number(variable)
            elif number not in self.nodes:
                self.nodes[number] = node.name()
            if func is ADD and not torch.is_grad_enabled():
                self.sums[len(self.records)] = references(args[0])
        single = not isinstance(out, list | tuple)
        results = self._note((out,) if single else out, outputs, None, "made")
        self.records.append(
            Record(
                func,
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
                torch.is_grad_enabled(),
                self.functions > 0,
                self.hooks > 0,
            )
        )
        return out

    # -- saved tensors ----------------------------------------------------------------------

    def pack(self, tensor: torch.Tensor) -> torch.Tensor:
        """Called by autograd for each tensor that it keeps (``saved_tensors_hooks``)."""
        if torch._C._current_autograd_node() is None:  # recomputed activations are short-lived
            number = self.storage_number(tensor)
            node = torch._C._autograd._get_sequence_nr() - 1
            self.saved.append((node, number, self.functions > 0))
        return tensor

    @staticmethod
    def unpack(tensor: torch.Tensor) -> torch.Tensor:
        return tensor
