"""What the recorder notes of a step: plain data, which everything after reads.

Nothing in here refers to a tensor, a module or a function of torch: a :class:`Recording` can be
pickled, kept, or sent from one rank to another, and be worked out there.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple

import torch

TENSOR = "tensor"
LIST = "list"
NESTED = "nested"
FUNCTION = "function"

TensorNote = tuple[str, tuple[int, ...], torch.dtype]
"""What a signature holds in a tensor's place: :data:`TENSOR`, shape, element type; of a sparse
tensor a :class:`SparseNote` besides.

Other notes start otherwise: a list with :data:`LIST`; a nested tensor of torch's strided layout
with :data:`NESTED`, and has in the shape's place those of the tensors in it, each as a batch of
one; a function that a higher-order operator is given with :data:`FUNCTION`, and the operators that
it calls follow, or None if that is not known."""

OPENED, GUESSED = "opened", "guessed"
"""The overload of a higher-order operator of which the operators that its functions call are
recorded; and of one of which a value tells that is not there: which function runs, or how often."""


class SparseNote(NamedTuple):
    """What a signature holds of a sparse tensor, beside its shape and element type."""

    layout: str
    """``sparse_coo``, ``sparse_csr`` and so on."""
    stored: int | None
    """How many values are stored; None if that is not known."""
    indices_nbytes: int


ACCUMULATE_GRAD = (1 << 64) - 1
"""The sequence number of AccumulateGrad nodes: they have none of their own."""

OUTSIDE = "(step)"
"""The layer of operators that no module's forward called."""

Scope = Literal["forward", "backward", "recompute", "update"]
"""Who runs: the user's code, autograd's engine, what backward calls again (a module, the function
of a checkpoint), or ``Optimizer.step``."""


class Argument(NamedTuple):
    """An argument of an operator, by its schema."""

    name: str
    is_tensor: bool
    """Or a list of them."""
    is_out: bool
    """Whether an ``out=`` overload writes to it."""
    kwarg_only: bool
    has_default: bool
    is_written: bool
    """Whether the operator writes to it."""
    is_returned: bool = False
    """Whether what is written comes back as a result as well."""


class Operator:
    """An overload of an operator of torch, by what the passes over a recording ask of it.

    Equal ones are one object (see :meth:`of`), also after unpickling.

    Attributes:
        name: ``aten.addmm``.
        overload: ``default``.
        arguments: in order.
        is_mutable: whether it writes to an argument.
        is_random: whether it draws numbers.
    """

    __slots__ = ("arguments", "is_mutable", "is_random", "name", "overload")
    _known: ClassVar[dict[tuple[Any, ...], Operator]] = {}

    name: str
    overload: str
    arguments: tuple[Argument, ...]
    is_mutable: bool
    is_random: bool

    @classmethod
    def of(
        cls,
        name: str,
        overload: str,
        arguments: tuple[Argument, ...],
        is_mutable: bool,
        is_random: bool,
    ) -> Operator:
        """The one object for this overload."""
        values = name, overload, arguments, is_mutable, is_random
        known = cls._known.get(values)
        if known is None:
            known = cls._known[values] = cls()
            known.name, known.overload, known.arguments = name, overload, arguments
            known.is_mutable, known.is_random = is_mutable, is_random
        return known

    def __reduce__(self) -> Any:
        values = self.name, self.overload, self.arguments, self.is_mutable, self.is_random
        return Operator.of, values

    def __repr__(self) -> str:
        return f"{self.name}.{self.overload}"


class Record(NamedTuple):
    """One dispatched operator."""

    op: Operator
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
    """Index into :attr:`Recording.layers`."""
    node: int | None
    """Sequence number of the running autograd node; None outside of backward."""
    sequence: int
    """The number of the node that autograd made for this operator, if it made one."""
    scope: Scope
    grad_enabled: bool
    in_function: bool
    """Whether it ran inside of a user-defined ``autograd.Function``'s forward."""
    hooked: bool
    """Whether somebody else's hooks decided what its node keeps (a checkpoint's), or it keeps more
    for directional derivatives."""
    taken_apart: bool = False
    """Whether a tensor subclass called it in its own place: autograd follows the subclass, so that
    its node and what needs a gradient are noted of that, and several operators may share them."""


class Storage:
    """A storage seen in the step.

    Args:
        number: counts up from 0; never used twice, unlike addresses.
        nbytes: its size.
        born: index of the record that allocated it; -1 if it was there before.
        kind: ``parameter``, ``buffer``, ``outside`` (seen as an argument first) or ``made``.

    Attributes:
        died: number of records made when it was released; None if it outlived the recording.
    """

    __slots__ = ("born", "died", "kind", "nbytes", "number")

    def __init__(self, number: int, nbytes: int, born: int, kind: str) -> None:
        self.number = number
        self.nbytes = nbytes
        self.born = born
        self.died: int | None = None
        self.kind = kind


class Saved:
    """A tensor that autograd keeps for a backward.

    Args:
        node: sequence number of the node that keeps it.
        storage: its storage's number.
        in_function: whether a user-defined ``autograd.Function`` keeps it, or it is inside of a
            tensor subclass: no formula tells.
        born: number of records made when it was kept.

    Attributes:
        died: number of records made when its node let go of it, after it ran or with its graph;
            None if it outlived the recording.
    """

    __slots__ = ("born", "died", "in_function", "node", "storage")

    def __init__(self, node: int, storage: int, in_function: bool, born: int) -> None:
        self.node = node
        self.storage = storage
        self.in_function = in_function
        self.born = born
        self.died: int | None = None


class FunctionCall(NamedTuple):
    """A call of a user-defined ``autograd.Function``."""

    layer: int
    """Of the module that called it; index into :attr:`Recording.layers`."""
    inputs: tuple[int, ...]
    """Storage numbers of its tensor arguments, in order: of its node's edges."""


@dataclass
class Graph:
    """What one call of backward could reach, as it was before it ran.

    Args:
        create_graph: whether the backward itself is differentiable.
        nodes: sequence number of every node that the roots depend on -> for each of its operands,
            whether a gradient is asked of it.
        functions: sequence numbers of the nodes of user-defined ``autograd.Function``s.
        records: the range of records that this backward made.
        on_views: sequence numbers of the nodes of operators that wrote to a view.
        readers: sequence numbers of the nodes that were made for a view once more, because its base
            had been written to -> of the node that first read it so, which is older.
        layer: of the module that called for it; index into :attr:`Recording.layers`.
        within: the backward that called for it, by its place in :attr:`Recording.graphs`, and the
            sequence number of the node that ran; None if none did.
        restricted: whether only some of the gradients were asked for.
        batch: how many gradients of each root are handed in at once (``is_grads_batched``, ``vmap``
            around the backward).
        transformed: whether it was called for by ``torch.func``.
        inputs: then, the storages of what is differentiated for.
        foreign: whether nodes of another thread are in it: two have one number, or one has a number
            that this thread has not given.
        ended: whether it ran to its end.
        within_update: whether an optimizer called it, from inside of its ``step``.
    """

    create_graph: bool
    nodes: dict[int, tuple[bool, ...]]
    functions: set[int]
    records: range
    on_views: set[int] = field(default_factory=set)
    readers: dict[int, int] = field(default_factory=dict)
    layer: int = 0
    within: tuple[int, int] | None = None
    restricted: bool = False
    batch: int = 1
    transformed: bool = False
    inputs: tuple[int, ...] = ()
    foreign: bool = False
    ended: bool = False
    within_update: bool = False


@dataclass
class Owners:
    """Whose a storage is: storage number -> path of the layer.

    Args:
        parameters, buffers: of the model.
        gradients: of parameters, as far as no backward of the step has touched them.
        state: of the optimizer.
        fresh_state: storages of the optimizer's state that its ``step`` made.
    """

    parameters: dict[int, str] = field(default_factory=dict)
    buffers: dict[int, str] = field(default_factory=dict)
    gradients: dict[int, str] = field(default_factory=dict)
    state: dict[int, str] = field(default_factory=dict)
    fresh_state: set[int] = field(default_factory=set)


@dataclass
class Recording:
    """A step as it ran.

    Args:
        target: whose allocator its memory is predicted for.
        causal: how attention under a causal mask counts, ``full`` or ``half``.
        records: the operators, in order.
        storages: every storage seen, by number.
        saved: what autograd keeps for a backward, in order. What it keeps while a backward runs
            is there if that one is differentiable itself; what one recomputes is not.
        graphs: one for each call of backward.
        layers: paths of the modules that ran, by index; the first is :data:`OUTSIDE`.
        types: path -> class of every module.
        parameters: path -> number of a module's own parameters.
        owners: whose the storages are.
        notes: what ran otherwise than it would without the profiler, and what else to know of the
            figures, a sentence each.
        nodes: sequence number -> name of every autograd node that ran an operator.
        accumulated: record index -> the parameter whose gradient AccumulateGrad was adding to.
        sums: record index of an addition in backward -> whether nothing but autograd's engine
            holds its first operand.
        indices: of the sparse tensors, storage number of the values and layout -> storage numbers
            of the indices. In all other places a sparse tensor goes by the storage of its values.
        nonzeros: storage number of a buffer that may be a mask -> how many of its elements are not
            0, as far as that is known.
        functions: sequence number -> the call of a user-defined ``autograd.Function``.
        unseen: what ran and was not seen, each in a few words, with how often.
        nbytes_on: device -> bytes of the storages that were there before, as they were first seen;
            ``meta`` is where fake tensors have theirs.
    """

    target: str = "cuda"
    causal: str = "full"
    records: list[Record] = field(default_factory=list)
    storages: list[Storage] = field(default_factory=list)
    saved: list[Saved] = field(default_factory=list)
    graphs: list[Graph] = field(default_factory=list)
    layers: list[str] = field(default_factory=lambda: [OUTSIDE])
    types: dict[str, str] = field(default_factory=lambda: {OUTSIDE: ""})
    parameters: dict[str, int] = field(default_factory=dict)
    owners: Owners = field(default_factory=Owners)
    notes: list[str] = field(default_factory=list)
    nodes: dict[int, str] = field(default_factory=dict)
    accumulated: dict[int, int] = field(default_factory=dict)
    sums: dict[int, bool] = field(default_factory=dict)
    indices: dict[tuple[int, str], tuple[int, ...]] = field(default_factory=dict)
    nonzeros: dict[int, int] = field(default_factory=dict)
    functions: dict[int, FunctionCall] = field(default_factory=dict)
    unseen: Counter[str] = field(default_factory=Counter)
    nbytes_on: Counter[str] = field(default_factory=Counter)

    @property
    def device(self) -> str:
        """Where the tensors are that the step began with: ``cuda:0``; where they have no values,
        ``fake``. Of several devices that with the most bytes comes first; empty if there were no
        such tensors."""
        devices = [device for device, _ in self.nbytes_on.most_common()]
        return ", ".join("fake" if device == "meta" else device for device in devices)

    def layer_of(self, record: Record) -> str:
        """The path of the module whose forward called an operator."""
        return self.layers[record.layer]

    def records_of(self, graph: Graph) -> range:
        """The indices of the records that a backward made, also of one that still runs."""
        is_open = not graph.ended and not graph.records
        return range(graph.records.start, len(self.records)) if is_open else graph.records

    def kept_for_backward(self) -> list[Saved]:
        """What autograd keeps in memory of its own: parameters are there anyway."""
        storages = self.storages
        return [
            kept
            for kept in self.saved
            if kept.storage >= 0 and storages[kept.storage].kind != "parameter"
        ]
