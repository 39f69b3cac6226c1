"""Activation checkpointing of any model, from outside: of the modules that match a pattern, or of
its chain of blocks in K segments, whatever loop the blocks are called from.

A segment is one non-reentrant checkpoint (as ``torch.utils.checkpoint`` makes them) over several
calls: it is entered when a block is called and left when the block returns, so that what the model
does between two blocks is left alone. It keeps what enters the segment; what one of its blocks
hands to the next it computes again. torch's own can't be entered twice, and its parts are private
and differ by version: the segment has its own, made of public hooks on saved tensors.
"""

from __future__ import annotations

import math
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from fnmatch import fnmatch
from functools import partial
from typing import Any, NamedTuple, TypeGuard

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint as torch_checkpoint
from torch.utils.checkpoint import get_device_states, set_device_states

from flopratio.errors import UsageError
from flopratio.step.options import AUTO, segments_of
from flopratio.text.patterns import matches_nothing, near, owners
from flopratio.torch_private import (
    TreeSpec,
    make_saved_tensor,
    tensor_version,
    tree_flatten,
    tree_leaves,
    tree_unflatten,
)

NOT_THE_SAME = (
    f"checkpoint={AUTO}: a block keeps other tensors when it is computed again than it did in "
    "forward: leave it out, by a pattern such as 'layer1.*'"
)

Forward = Callable[..., Any]

EnterLayer = Callable[[str], AbstractContextManager[Any]]
"""What is entered while a module is computed again, given its name."""


@contextmanager
def checkpointed(
    module: nn.Module,
    checkpoint: str | None,
    forward: Callable[[], object],
    *,
    layer: EnterLayer = nullcontext,
    preserve_rng_state: bool = True,
) -> Iterator[None]:
    """Parts of a module forget their activations meanwhile, and compute them again in backward.

    Args:
        module: left as it was afterwards.
        checkpoint: a pattern: the outermost modules that match it and have a forward, each by
            itself. ``auto:K``: the chain of blocks in K segments, as many blocks in each as in any
            other or one more; K beyond the number of blocks: each block by itself. ``auto``: K is
            the root of the number of blocks, which takes the least memory if each keeps as much as
            it hands on. None: nothing.
        forward: runs the module once; ``auto`` looks at the order in which it calls the blocks. A
            later forward that calls them in another order is divided after as many calls.
        layer: entered while a module is computed again, given its name.
        preserve_rng_state: whether random numbers are drawn again as they were, as in
            ``torch.utils.checkpoint``; needless on tensors without values.

    Raises:
        UsageError: the pattern matches no module, or, at the end, none that ran; or there is no
            chain of blocks.
    """
    number = segments_of(checkpoint)
    ran: set[str] = set()
    if checkpoint is None:
        forwards: Mapping[nn.Module, Forward] = {}
    elif number is None:
        forwards = _by_pattern(module, checkpoint, layer, preserve_rng_state, ran)
    else:
        chain = _chain(module, forward, preserve_rng_state)
        number = min(number or round(math.sqrt(len(chain.starts))), len(chain.starts))
        forwards = _Segments(module, chain, number, layer, preserve_rng_state).forwards
    with _replaced(forwards):
        yield
    if checkpoint is not None and number is None and not ran:
        raise UsageError(
            f"checkpoint={checkpoint} matches modules that the model never calls: name those that "
            f"hold them, or {AUTO}"
        )


@contextmanager
def _replaced(forwards: Mapping[nn.Module, Forward]) -> Iterator[None]:
    """Modules with other forwards meanwhile."""
    before = {module: vars(module).get("forward") for module in forwards}
    try:
        for module, forward in forwards.items():
            module.forward = forward
        yield
    finally:
        for module, own in before.items():
            vars(module).pop("forward", None)
            if own is not None:
                module.forward = own


# -- by a pattern ---------------------------------------------------------------------------------


def _by_pattern(
    module: nn.Module,
    pattern: str,
    layer: EnterLayer,
    preserve_rng_state: bool,
    ran: set[str],
) -> dict[nn.Module, Forward]:
    """The outermost modules that match and have a forward, and those forwards under a checkpoint
    each.

    Args:
        ran: is given the name of each that runs.
    """
    parts = {name: part for name, part in module.named_modules() if name}
    chosen: dict[str, nn.Module] = {}
    holders: list[str] = []
    for name, part in parts.items():
        if not fnmatch(name, pattern) or any(owner in chosen for owner in owners(name)):
            continue
        if _has_forward(part):
            chosen[name] = part
        else:
            holders.append(name)
    if not chosen:
        names = [name for name, part in parts.items() if _has_forward(part)]
        if not holders:
            raise UsageError(matches_nothing("checkpoint", pattern, names, "module"))
        inside = [name for name in names if name.startswith(f"{holders[0]}.")]
        raise UsageError(
            f"checkpoint={pattern} matches {holders[0]}, which has no forward and never runs: "
            f"{near(pattern, inside or names)}, or {AUTO} finds the blocks"
        )

    def under_checkpoint(name: str, forward: Forward) -> Forward:
        def again(*args: Any, **kwargs: Any) -> Any:
            ran.add(name)
            with layer(name):
                return forward(*args, **kwargs)

        return partial(
            torch_checkpoint, again, use_reentrant=False, preserve_rng_state=preserve_rng_state
        )

    return {
        submodule: under_checkpoint(name, submodule.forward) for name, submodule in chosen.items()
    }


def _has_forward(module: nn.Module) -> bool:
    """Whether a module can be called: a ``ModuleList`` can't."""
    return getattr(module.forward, "__func__", None) is not nn.Module.forward


# -- the chain of blocks --------------------------------------------------------------------------


class _Chain(NamedTuple):
    """Blocks that a forward calls, some perhaps more than once."""

    names: dict[nn.Module, str]
    calls: int
    starts: list[int]
    """The calls at which a segment may begin."""


def _chain(module: nn.Module, forward: Callable[[], object], preserve_rng_state: bool) -> _Chain:
    """The elements of the model's lists of modules; where it has none, the modules that have no
    parts."""
    leaves = {name: part for name, part in module.named_modules() if name and not _has_parts(part)}
    for blocks in (dict(_listed(module)), leaves):
        names: dict[nn.Module, str] = {}
        for name, block in blocks.items():
            names.setdefault(block, name)
        chain = _as_called(names, forward, preserve_rng_state)
        if chain is not None and len(chain.starts) > 1:
            return chain
    raise UsageError(
        f"checkpoint={AUTO} finds no chain of blocks in {type(module).__name__}: "
        "name the modules by a pattern, such as 'layer1.*'"
    )


def _listed(
    parent: nn.Module, prefix: str = "", *, in_list: bool = False
) -> Iterator[tuple[str, nn.Module]]:
    """The elements of the outermost lists of modules (``Sequential``, ``ModuleList``), and of lists
    of blocks that are elements. A stage, which has a list of equal blocks itself, stands for these.
    An element that is a list of layers without parts is a block."""
    in_list = in_list or (_is_list(parent) and len(parent) > 1)
    for key, child in parent.named_children():
        name = f"{prefix}.{key}" if prefix else key
        if not in_list or (_is_list(child) and any(map(_has_parts, child.children()))):
            yield from _listed(child, name, in_list=in_list)
        elif any(_is_list_of_blocks(part) for part in child.children()):
            for own, part in child.named_children():
                if _is_list_of_blocks(part):
                    yield from _listed(part, f"{name}.{own}")
        else:
            yield name, child


def _has_parts(module: nn.Module) -> bool:
    return any(True for _ in module.children())


def _is_list(module: nn.Module) -> TypeGuard[nn.Sequential | nn.ModuleList]:
    return isinstance(module, nn.Sequential | nn.ModuleList)


def _is_list_of_blocks(module: nn.Module) -> bool:
    """Whether it lists modules of one class, which have parts and are no lists themselves."""
    parts = list(module.children())
    return (
        _is_list(module)
        and len(parts) > 1
        and len({type(part) for part in parts}) == 1
        and all(_has_parts(part) and not _is_list(part) for part in parts)
    )


def _as_called(
    names: dict[nn.Module, str], forward: Callable[[], object], preserve_rng_state: bool
) -> _Chain | None:
    """Run the forward, and note which of some modules it calls.

    A call that writes to a tensor that it is given must be in the segment of the call that made it,
    for it can't be kept; None if no call has made it.
    """
    calls = 0
    inner: set[int] = set()
    outside = False
    versions: list[list[int]] = []
    made: dict[int, tuple[weakref.ref[Tensor], int]] = {}

    def enter(block: nn.Module, args: Any, kwargs: Any) -> None:
        versions.append([tensor_version(tensor) for tensor in _tensors((args, kwargs))])

    def leave(block: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        nonlocal calls, outside
        before = versions.pop()
        if versions:  # inside of another block
            return
        given = _tensors((args, kwargs))
        for tensor, version in zip(given, before, strict=True):
            if tensor_version(tensor) == version:
                continue
            reference, maker = made.get(id(tensor), (None, -1))
            if reference is not None and reference() is tensor:
                inner.update(range(maker + 1, calls + 1))
            else:
                outside = True
        for tensor in _tensors(output):
            if all(tensor is not other for other in given):
                made[id(tensor)] = weakref.ref(tensor), calls
        calls += 1

    with ExitStack() as exits:
        for block in names:
            entered = block.register_forward_pre_hook(enter, with_kwargs=True)
            exits.callback(entered.remove)
            left = block.register_forward_hook(leave, with_kwargs=True)
            exits.callback(left.remove)
        exits.enter_context(torch.random.fork_rng(enabled=preserve_rng_state))
        exits.enter_context(torch.no_grad())
        forward()
    if outside:
        return None
    return _Chain(names, calls, [call for call in range(calls) if call not in inner])


def _tensors(values: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


# -- segments -------------------------------------------------------------------------------------


class _Segments:
    """A chain of blocks in segments: which of them a call belongs to.

    Attributes:
        forwards: of the module and of its blocks, to be put in the place of their own.
    """

    def __init__(
        self,
        module: nn.Module,
        chain: _Chain,
        number: int,
        layer: EnterLayer,
        preserve_rng_state: bool,
    ) -> None:
        starts = chain.starts
        self._ends = {starts[part * len(starts) // number] for part in range(1, number)}
        self._ends.add(chain.calls)
        self._layer = layer
        self._preserve_rng_state = preserve_rng_state
        self._position = 0
        self._segment: _Segment | None = None
        self._inside = False
        self.forwards: dict[nn.Module, Forward] = {
            block: partial(self._call, name, block.forward) for block, name in chain.names.items()
        }
        self.forwards[module] = partial(self._begin, module.forward)

    def _begin(self, forward: Forward, *args: Any, **kwargs: Any) -> Any:
        """The forward of the whole module."""
        self._position, self._segment = 0, None
        try:
            return forward(*args, **kwargs)
        finally:
            self._segment = None

    def _call(self, name: str, forward: Forward, *args: Any, **kwargs: Any) -> Any:
        """The forward of a block."""
        if self._inside or not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        if self._segment is None:
            self._segment = _Segment(self._layer, self._preserve_rng_state)
        segment = self._segment
        self._position += 1
        if self._position in self._ends:
            self._segment = None  # what it keeps is the graph's alone
        self._inside = True
        try:
            return segment.call(name, forward, args, kwargs)
        finally:
            self._inside = False


class _Source(NamedTuple):
    """Where a tensor comes from that a block of a segment is given."""

    call: int
    """The call of the segment that made it; -1: it is kept."""
    position: int
    """Among what that call returned, or among what is kept."""


class _Recorded(NamedTuple):
    """A call of a segment, to be made again."""

    name: str
    forward: Forward
    values: list[Any]
    """The arguments, a :class:`_Source` in each tensor's place."""
    structure: TreeSpec
    random: tuple[Tensor, Any, Any] | None
    """The state of the random numbers before it: the CPU's, and what devices there are and theirs.
    """


class _Segment:
    """Calls that are checkpointed together.

    What the graph of these calls refers to (the frame) must not refer to the segment: it is to go
    when the graph goes.
    """

    def __init__(self, layer: EnterLayer, preserve_rng_state: bool) -> None:
        self._preserve_rng_state = preserve_rng_state
        # By identity and version: one that the model has written to since is another.
        self._sources: dict[int, tuple[weakref.ref[Tensor], int, _Source]] = {}
        self._calls: list[_Recorded] = []
        self._frame = _Frame(partial(_replay, self._calls, _autocast_now(), layer))

    def call(
        self, name: str, forward: Forward, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Call a block as the next of the segment."""
        leaves, structure = tree_flatten((args, kwargs))
        values = [self._source(leaf) if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        random = None
        if self._preserve_rng_state:
            random = torch.get_rng_state(), *get_device_states(*_tensors(leaves))
        self._calls.append(_Recorded(name, forward, values, structure, random))
        with self._frame.forgetting():
            output = forward(*args, **kwargs)
        for position, leaf in enumerate(tree_leaves(output)):
            if isinstance(leaf, Tensor):
                self._note(leaf, _Source(len(self._calls) - 1, position))
        return output

    def _note(self, tensor: Tensor, source: _Source) -> None:
        self._sources[id(tensor)] = weakref.ref(tensor), tensor_version(tensor), source

    def _source(self, tensor: Tensor) -> _Source:
        """Where a block's argument comes from. What no block of the segment made is kept."""
        if id(tensor) in self._sources:
            reference, version, source = self._sources[id(tensor)]
            if reference() is tensor and tensor_version(tensor) == version:
                return source
        # Without its history, which may lead to an earlier block of the segment, and so back here.
        kept = tensor.detach().requires_grad_(tensor.requires_grad)
        source = _Source(-1, self._frame.keep(kept))
        self._note(tensor, source)
        return source


class _Slot:
    """What the graph refers to in the place of a tensor: the tensor is there from when it has been
    computed again until it is asked for."""

    __slots__ = ("__weakref__", "dtype", "shape", "tensor")

    def __init__(self, tensor: Tensor) -> None:
        self.shape, self.dtype = tensor.shape, tensor.dtype
        self.tensor: Tensor | None = None

    def fill(self, tensor: Tensor) -> None:
        if (tensor.shape, tensor.dtype) != (self.shape, self.dtype):
            raise UsageError(NOT_THE_SAME)
        self.tensor = tensor


class _Complete(Exception):  # noqa: N818 - no error: ends what is computed again
    """All that the graph refers to is there again."""


class _Frame:
    """What a segment keeps, and how it comes to the rest: all of it is computed again as soon as
    the graph asks for a tensor that is not there, and no further than to the last that it needs.

    Args:
        replay: makes the calls of the segment again; given what was kept, in order.
    """

    def __init__(self, replay: Callable[..., None]) -> None:
        self._replay = replay
        self._kept: list[Callable[[], Tensor]] = []
        self._slots: list[weakref.ref[_Slot]] = []

    def keep(self, tensor: Tensor) -> int:
        """Keep a tensor that enters the segment; its position among those that are kept."""
        self._kept.append(_keep(tensor))
        return len(self._kept) - 1

    def forgetting(self) -> saved_tensors_hooks:
        """Within it, the graph keeps slots in the place of tensors."""
        return saved_tensors_hooks(self._pack, self._unpack)

    def _pack(self, tensor: Tensor) -> _Slot:
        slot = _Slot(tensor)
        self._slots.append(weakref.ref(slot))
        return slot

    def _unpack(self, slot: _Slot) -> Tensor:
        if slot.tensor is None:
            self._compute_again()
        tensor, slot.tensor = slot.tensor, None
        if tensor is None:
            raise UsageError(NOT_THE_SAME)
        return tensor

    def _compute_again(self) -> None:
        """Fill the slots that the graph still refers to."""
        position = 0

        def pack(tensor: Tensor) -> Tensor:
            nonlocal position
            tensor = tensor.detach() if tensor.requires_grad else tensor
            slot = self._slots[position]() if position < len(self._slots) else None
            if slot is not None:
                slot.fill(tensor)
            position += 1
            if position >= len(self._slots):
                raise _Complete
            return tensor

        kept = [unpack() for unpack in self._kept]
        hooks = saved_tensors_hooks(pack, lambda tensor: tensor)
        with suppress(_Complete), hooks, torch.enable_grad():
            self._replay(*kept)


class _Keep(torch.autograd.Function):
    """Saves a tensor, and has no part in the model."""

    @staticmethod
    def forward(ctx: Any, anchor: Tensor, tensor: Tensor) -> Tensor:
        ctx.save_for_backward(tensor)
        return anchor.detach()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        raise AssertionError("nothing depends on what it returns")


def _keep(tensor: Tensor) -> Callable[[], Tensor]:
    """Save a tensor as this torch's own checkpoint does what enters it, so that hooks on saved
    tensors see it (the profiler's; those of offloading); what is returned gives it back."""
    saved = make_saved_tensor(tensor)
    if saved is not None:
        unpack: Callable[[], Tensor] = saved.unpack
        return unpack
    anchor = torch.empty(0, requires_grad=True)
    output: Any = _Keep.apply(anchor, tensor)  # type: ignore[no-untyped-call]
    return lambda: output.grad_fn.saved_tensors[0]


def _replay(
    calls: list[_Recorded], autocast: Callable[[], ExitStack], layer: EnterLayer, *kept: Tensor
) -> None:
    """Make the calls of a segment again, from what it kept."""
    uses = Counter(value for call in calls for value in call.values if isinstance(value, _Source))
    made = {_Source(-1, position): tensor for position, tensor in enumerate(kept)}

    def value_of(value: Any) -> Any:
        if not isinstance(value, _Source):
            return value
        uses[value] -= 1  # no block's output outlives its last use
        return made[value] if uses[value] else made.pop(value)

    random = any(call.random is not None for call in calls)
    with autocast(), torch.random.fork_rng(enabled=random):
        for number, call in enumerate(calls):
            values = [value_of(value) for value in call.values]
            args, kwargs = tree_unflatten(values, call.structure)
            del values
            if call.random is not None:
                torch.set_rng_state(call.random[0])
                set_device_states(*call.random[1:])
            with layer(call.name):
                output = call.forward(*args, **kwargs)
            for position, leaf in enumerate(tree_leaves(output)):
                if _Source(number, position) in uses:
                    made[_Source(number, position)] = leaf


def _autocast_now() -> Callable[[], ExitStack]:
    """What autocast does now, to be entered later."""
    devices = {"cpu", *(("cuda",) if torch.cuda.is_available() else ())}
    states = [
        (device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device))
        for device in sorted(devices)
    ]
    caching = torch.is_autocast_cache_enabled()

    def enter() -> ExitStack:
        exits = ExitStack()
        for state in states:
            exits.enter_context(torch.autocast(*state, caching))
        return exits

    return enter
