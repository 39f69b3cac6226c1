"""Every private name of torch that this package rests on: imported or wrapped here, nowhere else.

Private names come and go with torch's versions. What cannot be done without is imported plainly;
what can is looked up by :func:`optional`, and its users ask whether it is there. :data:`PROBES`
tells of each what stops working without it; :func:`missing` tries them all.
"""

from __future__ import annotations

import logging
import math
import operator
import re
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from functools import cache, reduce
from typing import Any, ClassVar, NamedTuple
from weakref import WeakKeyDictionary

import torch
import torch.utils.checkpoint
from torch import nn
from torch._C import _functorch as functorch
from torch._decomp import decomposition_table
from torch._ops import HigherOrderOperator, OperatorBase, OpOverload
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
)
from torch._subclasses.functional_tensor import FunctionalTensor
from torch.autograd import forward_ad
from torch.library import _scoped_library as scoped_library
from torch.utils._python_dispatch import (
    TorchDispatchMode,
    _get_current_dispatch_mode,
    _pop_mode_temporarily,
    is_traceable_wrapper_subclass,
    transform_subclass,
)
from torch.utils._python_dispatch import _disable_current_modes as disable_current_modes
from torch.utils._pytree import (
    TreeSpec,
    tree_flatten,
    tree_iter,
    tree_leaves,
    tree_map,
    tree_map_only,
    tree_unflatten,
)

from flopratio.errors import UntestedTorch
from flopratio.version import release_of, torch_release

__all__ = [
    "DataDependentOutputException",
    "DynamicOutputShapeException",
    "FakeTensor",
    "FakeTensorMode",
    "FunctionalTensor",
    "HigherOrderOperator",
    "OpOverload",
    "OperatorBase",
    "TorchDispatchMode",
    "TreeSpec",
    "decomposition_table",
    "disable_current_modes",
    "is_traceable_wrapper_subclass",
    "scoped_library",
    "transform_subclass",
    "tree_flatten",
    "tree_iter",
    "tree_leaves",
    "tree_map",
    "tree_map_only",
    "tree_unflatten",
]

TESTED = ((2, 8), (2, 15))
"""The oldest and the newest torch that the whole test suite is run with."""


class Probe(NamedTuple):
    """A private name.

    Args:
        name: dotted, from ``torch`` on.
        without: what stops working where this torch lacks it, in one sentence.
    """

    name: str
    without: str


PROBES: list[Probe] = []


def optional(name: str, without: str) -> Any:
    """The object of that dotted name; None where this torch lacks it.

    Args:
        without: what stops working then, in one sentence.
    """
    PROBES.append(Probe(name, without))
    try:
        return reduce(getattr, name.split(".")[1:], torch)
    except AttributeError:
        return None


def missing() -> list[Probe]:
    """The private names that this torch lacks."""

    def lacks(probe: Probe) -> bool:
        try:
            reduce(getattr, probe.name.split(".")[1:], torch)
        except AttributeError:
            return True
        return False

    return [probe for probe in PROBES if lacks(probe)]


# -- versions -------------------------------------------------------------------------------------


def untested(version: str) -> str | None:
    """What is not tested of a version of torch, in one line; None of one that is.

    Args:
        version: as in ``torch.__version__``.
    """
    oldest, newest = TESTED
    if oldest <= release_of(version) <= newest:
        return None
    return "; ".join(
        [
            f"flopratio is tested with torch {_dotted(oldest)} to {_dotted(newest)}; this is "
            f"{version}: what its operators cost, and how autograd calls them, is not tested",
            *(f"it has no {probe.name}: {probe.without}" for probe in missing()),
        ]
    )


@cache
def check_version() -> None:
    """Warn, once a process, that the torch at hand is older or newer than the tested ones."""
    message = untested(torch.__version__)
    if message is not None:
        warnings.warn(message, UntestedTorch, stacklevel=2)


def _dotted(release: tuple[int, int]) -> str:
    return ".".join(map(str, release))


# -- attributes -----------------------------------------------------------------------------------

schema_of: Callable[[Any], Any] = operator.attrgetter("_schema")
"""An ``OpOverload``'s schema: its name and arguments."""

storage_address: Callable[[torch.UntypedStorage], int] = operator.attrgetter("_cdata")
"""What tells one storage from another while both are alive."""

sequence_number: Callable[[Any], int] = operator.methodcaller("_sequence_nr")
"""Of an autograd node: the number that joins it with its forward operator."""

tensor_version: Callable[[torch.Tensor], int] = operator.attrgetter("_version")
"""How often a tensor has been written to."""

# -- models ---------------------------------------------------------------------------------------


class RuledFakeTensorMode(FakeTensorMode):
    """A fake mode in which some operators are done otherwise than by torch. It overrides
    ``dispatch``, to which every operator on fake tensors comes, and
    ``validate_and_convert_non_fake_tensors``, which makes real operands fake."""

    rules: ClassVar[Mapping[Any, Callable[..., Any]]] = {}
    """Operator -> what is done in its place, a function of the mode, the operator, its positional
    and its keyword arguments; :meth:`plain` is what torch would do."""

    def __init__(self) -> None:
        super().__init__(allow_non_fake_inputs=True)
        self._has_no_device = super().avoid_device_init  # asked for with most operators

    @property
    def avoid_device_init(self) -> bool:
        """Whether tensors on a GPU that is not there can be made. Only in the main thread: for this
        torch 2.11 keeps something in the thread that comes first, and crashes when another thread
        comes after that one has ended."""
        return self._has_no_device and threading.get_ident() == threading.main_thread().ident

    def dispatch(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> object:
        rule = self.rules.get(func)
        if rule is not None:
            return rule(self, func, args, kwargs or {})
        return super().dispatch(func, types, args, kwargs or {})

    def plain(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """What torch's own fake mode makes of a call."""
        return super().dispatch(func, (), args, kwargs)

    def validate_and_convert_non_fake_tensors(
        self, func: Any, converter: Any, flat_args: Sequence[Any], args_spec: Any
    ) -> Any:
        """As in torch, without its warning about a real tensor with a history that is to have a
        ``.grad``: a table of zeros, say, into which a model writes fake results. A sparse one may
        be a view, too, the transpose of another, which torch knows not how to make fake."""
        flat_args = [
            arg.detach()
            if isinstance(arg, torch.Tensor)
            and not isinstance(arg, FakeTensor)
            and (not arg.is_leaf or arg.layout is not torch.strided)
            else arg
            for arg in flat_args
        ]
        return super().validate_and_convert_non_fake_tensors(func, converter, flat_args, args_spec)


def make_fake(mode: FakeTensorMode, shape: torch.Tensor) -> torch.Tensor:
    """The fake CPU tensor of a mode with the shape and dtype of a meta tensor, which
    ``mode.from_tensor`` would leave on the meta device."""
    fake: torch.Tensor = FakeTensor(mode, shape, torch.device("cpu"))
    return fake


@contextmanager
def silent_fake_tensors() -> Iterator[None]:
    """Meanwhile, errors of operators on fake tensors are raised, and not written to torch's log as
    well; who asks for the address of one is not warned (transformers does, of the weights of
    experts, with torch before 2.11)."""
    log = logging.getLogger("torch._subclasses.fake_tensor")
    was_disabled, log.disabled = log.disabled, True
    with ExitStack() as exits:
        exits.callback(setattr, log, "disabled", was_disabled)
        if torch_release() < (2, 11):
            exits.enter_context(warnings.catch_warnings())
            warnings.filterwarnings("ignore", "Accessing the data pointer of FakeTensor")
        yield


Convert = Callable[[torch.Tensor], torch.Tensor]


def convert_module(module: nn.Module, convert: Convert) -> None:
    """Convert a module's tensors as ``.to``, ``.half`` and their like do."""
    module._apply(convert)


@contextmanager
def conversion_replaced(takes: Callable[[nn.Module, Convert, bool], bool]) -> Iterator[None]:
    """Replace ``nn.Module._apply``, through which ``.to``, ``.half`` and their like convert a
    module, for the modules that ``takes`` converts itself.

    Args:
        takes: given a module, the conversion of a tensor, and whether submodules are meant too,
            converts the module and returns True, or leaves it to torch and returns False.
    """
    original: Any = nn.Module._apply

    def apply(module: nn.Module, convert: Convert, recurse: bool = True) -> Any:
        return module if takes(module, convert, recurse) else original(module, convert, recurse)

    nn.Module._apply = apply  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module._apply = original  # type: ignore[method-assign]


def is_compiled(module: nn.Module) -> bool:
    """Whether a module is made by ``torch.compile``, or was compiled in place."""
    return hasattr(module, "_orig_mod") or module._compiled_call_impl is not None


# What a module really holds: classes override ``parameters()``, ``named_parameters()`` and their
# like, to tell an optimizer what to train or with arguments of their own.


def own_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that a module itself holds, by name."""
    return {name: one for name, one in module._parameters.items() if one is not None}


def own_buffers(module: nn.Module) -> dict[str, torch.Tensor]:
    """The buffers that a module itself holds, by name."""
    return {name: one for name, one in module._buffers.items() if one is not None}


def named_submodules(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """A module and all that it holds, each once, with their paths; outer ones first."""
    waiting, seen = [(prefix, module)], set()
    while waiting:
        path, one = waiting.pop()
        if one in seen:
            continue
        seen.add(one)
        yield path, one
        children = [(name, child) for name, child in one._modules.items() if child is not None]
        waiting += [(f"{path}.{name}" if path else name, child) for name, child in children[::-1]]


def named_parameters(module: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """All parameters of a module with their paths, each once."""
    seen = set()
    for path, submodule in named_submodules(module):
        for name, parameter in own_parameters(submodule).items():
            if parameter not in seen:
                seen.add(parameter)
                yield f"{path}.{name}" if path else name, parameter


def parameters(module: nn.Module) -> list[nn.Parameter]:
    """All parameters of a module, each once."""
    return [parameter for _, parameter in named_parameters(module)]


def buffers(module: nn.Module) -> list[torch.Tensor]:
    """All buffers of a module, each once."""
    held = (own_buffers(submodule) for _, submodule in named_submodules(module))
    return list({id(one): one for own in held for one in own.values()}.values())


# -- autograd -------------------------------------------------------------------------------------

current_autograd_node: Callable[[], Any] = torch._C._current_autograd_node
"""The node that is running in backward; None outside of it."""

next_sequence_number: Callable[[], int] = torch._C._autograd._get_sequence_nr
"""The number that the next autograd node of this thread gets."""

ENGINE = "_engine_run_backward"
"""What both ``torch.autograd.backward`` and ``torch.autograd.grad`` call, in ``torch.autograd``."""

is_transformed: Callable[[torch.Tensor], bool] = functorch.is_functorch_wrapped_tensor
"""Whether a tensor is one of ``torch.func``'s transforms (``grad``, ``vmap``), around another."""


transforms_are_active: Callable[[], bool] = torch._C._are_functorch_transforms_active
"""Whether this runs inside of a transform of ``torch.func``."""


def untransformed(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor that operators are dispatched with, inside of all transforms."""
    while is_transformed(tensor):
        tensor = functorch.get_unwrapped(tensor)
    return tensor


def _batches(tensor: torch.Tensor) -> dict[int, int]:
    """Level -> size, of each ``vmap`` that a tensor is in a batch of."""
    batches = {}
    while is_transformed(tensor):
        inside = functorch.get_unwrapped(tensor)
        if functorch.is_batchedtensor(tensor):
            level, dimension = functorch.maybe_get_level(tensor), functorch.maybe_get_bdim(tensor)
            batches[level] = inside.shape[dimension]
        tensor = inside
    if functorch.is_legacy_batchedtensor(tensor):  # of torch.autograd's own, older vmap
        level = torch._C._vmapmode_increment_nesting() - 1
        torch._C._vmapmode_decrement_nesting()
        batches[-level] = torch._remove_batch_dim(tensor, level, 1, 0).shape[0]
    return batches


def gradients_at_once(roots: Iterable[torch.Tensor], gradients: Iterable[torch.Tensor]) -> int:
    """How many gradients of each root are handed to a backward at once: by how many each of its
    operators is larger than what it differentiates."""
    of_roots = {level for root in roots for level in _batches(root)}
    of_gradients = {
        level: size for gradient in gradients for level, size in _batches(gradient).items()
    }
    return math.prod(size for level, size in of_gradients.items() if level not in of_roots)


def has_tangents() -> bool:
    """Whether a level of forward mode is open (``forward_ad.dual_level``, or ``torch.func.jvp`` and
    its kin): operators then compute directional derivatives besides."""
    level: int = forward_ad._current_level
    return level >= 0


KEEP_CHECKPOINT_INPUT = "_make_saved_tensor"
"""How ``torch.utils.checkpoint`` keeps what enters a checkpoint, in the torch versions that have
it; earlier ones have an ``autograd.Function`` for it."""


def references_of(tensor: torch.Tensor) -> tuple[int, int]:
    """How many references a tensor has, and how many its storage."""
    uses: int = tensor._use_count()  # type: ignore[attr-defined]
    try:
        storage = tensor.untyped_storage()
    except NotImplementedError:  # sparse and other layouts have none
        return uses, 0
    return uses, torch._C._storage_Use_Count(storage_address(storage))


def compiler_is_loaded() -> bool:
    """Whether anything can have been compiled. (Loading the compiler to ask takes seconds.)"""
    return "torch._dynamo" in sys.modules


def topmost_saved_tensors_hook() -> Callable[[torch.Tensor], Any] | None:
    """The pack hook on saved tensors that is in force, if there is one."""
    top = torch._C._autograd._top_saved_tensors_default_hooks(False)
    return None if top is None else top[0]


def is_topmost_saved_tensors_hook(pack: Callable[[torch.Tensor], Any]) -> bool:
    """Whether this is the pack hook on saved tensors that is in force."""
    return topmost_saved_tensors_hook() == pack


push_saved_tensors_hooks: Callable[[Any, Any], None] = (
    torch._C._autograd._push_saved_tensors_default_hooks
)
pop_saved_tensors_hooks: Callable[[], None] = torch._C._autograd._pop_saved_tensors_default_hooks
"""Hooks on saved tensors, in and out of the order in which they were entered."""

# -- compiled and scripted regions ----------------------------------------------------------------

COMPILER_FRAMES, COMPILER_CALLBACK = "torch._dynamo.eval_frame", "_callback_from_stance"
"""A module of the compiler, if that is loaded, and what that calls, with its backend, when a
compiled region is entered."""

STEP_RANGE = "Optimizer.step#"
"""How the names of the profiler's ranges begin (``torch.autograd.profiler.record_function``) in
which each ``Optimizer.step`` runs, its hooks included."""


def class_name(module: nn.Module) -> str:
    """The name of a module's class; of a scripted or traced one, that of the class it is of."""
    if isinstance(module, torch.jit.ScriptModule):
        return str(module.original_name)
    return type(module).__name__


SCRIPTED: tuple[type, ...] = (torch._C.ScriptFunction, torch._C.ScriptMethod)
"""What a call of scripted code calls."""


def forget_optimised_script(scripted: Any) -> None:
    """What the script compiler made of a function or method is made anew when it is called, by the
    options that are then in force."""
    # One that has not run yet, or with the oldest kind of executor, has nothing to forget.
    with suppress(RuntimeError):
        scripted._debug_flush_compilation_cache()


# -- operators ------------------------------------------------------------------------------------


def _overloads(*packets: Any) -> frozenset[Any]:
    return frozenset(
        getattr(packet, overload) for packet in packets for overload in packet.overloads()
    )


SILENT_OPERATORS: frozenset[Any] = frozenset(
    {
        torch.ops.aten.is_same_size.default,
        torch.ops.aten._version.default,
        torch.ops.aten._nnz.default,
        torch.ops.aten.is_coalesced.default,
        torch.ops.aten.sparse_dim.default,
        torch.ops.aten.dense_dim.default,
        torch.ops.aten._values.default,
        torch.ops.aten._indices.default,
    }
) | _overloads(
    *(
        getattr(torch.ops.aten, name)
        for name in (
            *("sym_size", "sym_stride", "sym_numel", "sym_storage_offset", "sym_is_contiguous"),
            *("size", "stride", "numel", "storage_offset", "dim", "is_contiguous"),
            *("is_strides_like_format", "is_non_overlapping_and_dense", "_nested_tensor_size"),
            *("_nested_tensor_strides", "_nested_tensor_storage_offsets"),
        )
        if hasattr(torch.ops.aten, name)
    ),
    torch.ops.prim.layout,
    torch.ops.profiler._record_function_enter_new,
    torch.ops.profiler._record_function_exit,
)
"""Operators that answer a question, mark a range or look at the parts of a sparse tensor: they
compute, move and allocate nothing."""

# -- sparse tensors -------------------------------------------------------------------------------

_COMPRESSED = {
    torch.sparse_csr: ("crow_indices", "col_indices"),
    torch.sparse_bsr: ("crow_indices", "col_indices"),
    torch.sparse_csc: ("ccol_indices", "row_indices"),
    torch.sparse_bsc: ("ccol_indices", "row_indices"),
}
"""Layout -> the methods that give its indices."""


def sparse_parts(tensor: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The values of a sparse tensor, and then its indices, as they lie in memory; nothing of a
    tensor of another layout."""
    if tensor.layout is torch.strided:  # nearly all are, and to leave the modes takes long
        return ()
    with torch.no_grad(), disable_current_modes():
        if tensor.layout is torch.sparse_coo:
            return tensor._values(), tensor._indices()
        methods = _COMPRESSED.get(tensor.layout, ())
        return tuple(getattr(tensor, method)() for method in ("values", *methods) if methods)


# -- fake tensors below a dispatch mode -----------------------------------------------------------
#
# An operator that a dispatch mode hands on goes through torch's dispatcher only to come out in the
# fake mode's Python again; and ``detach``, which hooks on saved tensors and AccumulateGrad call
# nearly as often as all other operators are called together, makes its result by way of an empty
# meta tensor. Both ways can be cut short. Where a torch lacks what that takes, nothing is: the
# ordinary call gives the same result.

_SLOWER = "a trace takes about a third longer"
_stack_size = optional("torch._C._len_torch_dispatch_stack", _SLOWER)
_get_mode = optional("torch._C._get_dispatch_mode", _SLOWER)
_set_mode = optional("torch._C._set_dispatch_mode", _SLOWER)
_unset_mode = optional("torch._C._unset_dispatch_mode", _SLOWER)
_FAKE = optional("torch._C._TorchDispatchModeKey.FAKE", _SLOWER)
_disable_dispatch = optional("torch._C._DisableTorchDispatch", _SLOWER)
_make_subclass = optional("torch.Tensor._make_subclass", _SLOWER)
_transforms = optional("torch._C._functorch.maybe_current_level", _SLOWER)

CAN_CALL_DIRECTLY = None not in (_stack_size, _get_mode, _set_mode, _unset_mode, _FAKE)
CAN_DETACH_DIRECTLY = CAN_CALL_DIRECTLY and None not in (
    _disable_dispatch,
    _make_subclass,
    _transforms,
)


def active_fake_mode() -> FakeTensorMode | None:
    """The fake mode that is in force."""
    mode: FakeTensorMode | None = None if _get_mode is None else _get_mode(_FAKE)
    return mode


def call_below(func: Any, types: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """``func(*args, **kwargs)``, from inside of a dispatch mode: straight from the fake mode if
    that is the one mode below. (While a mode handles an operator it is off the stack.)"""
    mode = _get_mode(_FAKE)
    if mode is None or _stack_size() != 1:
        return func(*args, **kwargs)
    _unset_mode(_FAKE)
    try:
        result = mode.__torch_dispatch__(func, types, args, kwargs)
    finally:
        _set_mode(mode)
    return func(*args, **kwargs) if result is NotImplemented else result


def results_apart(results: tuple[Any, ...]) -> tuple[Any, ...]:
    """The results of an operator on fake tensors, each a tensor of its own, as an operator that
    makes them returns them. A shape function may give one tensor as two of them (the gradients of
    an LSTM's two biases); and torch's cache of fake results has them apart, from the second call
    on."""
    if len(set(map(id, results))) == len(results):
        return results
    apart: list[Any] = []
    for result in results:
        twice = isinstance(result, FakeTensor) and any(result is other for other in apart)
        apart.append(torch.empty_like(result) if twice else result)
    return tuple(apart)


_fresh: WeakKeyDictionary[FakeTensorMode, dict[torch.device, dict[str, Any]]] = WeakKeyDictionary()
"""Of each mode and device, the attributes of a fake tensor that has just been made."""


def detach_below(func: Any, types: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """``aten.detach(tensor)``, likewise: a plain fake tensor over the same storage."""
    (tensor, *_) = args
    if type(tensor) is not FakeTensor:
        return func(*args, **kwargs)
    mode, device = tensor.fake_mode, tensor.fake_device
    if (
        tensor.constant is not None
        or mode.shape_env is not None
        or mode.in_kernel_invocation
        or tensor.layout is not torch.strided
        or _stack_size() != (1 if _get_mode(_FAKE) is mode else 0)
        or _transforms() is not None
        or torch.is_inference_mode_enabled()
        or tensor.is_inference()
    ):
        return func(*args, **kwargs)
    attributes = _fresh.setdefault(mode, {}).get(device)
    if attributes is None:
        result = func(*args, **kwargs)
        made = dict(vars(result))
        del made["fake_mode"]  # which would hold itself
        others = {name for name, value in made.items() if value is not None}
        if others <= {"fake_device", "_fake_device"}:
            _fresh[mode][device] = made
        return result
    with _disable_dispatch():
        result = _make_subclass(
            FakeTensor, tensor, False, dispatch_device=True, device_for_backend_keys=device
        )
    result.__dict__.update(attributes, fake_mode=mode)
    return result


# -- tensor subclasses ----------------------------------------------------------------------------

disabled_torch_dispatch: Any = torch._C._disabled_torch_dispatch_impl
"""The ``__torch_dispatch__`` of tensors whose operators are the ordinary ones."""


def inner_names(tensor: torch.Tensor) -> list[str]:
    """The attributes in which a tensor subclass may hold other tensors: those that it names itself
    (``__tensor_flatten__``), else all that it has."""
    if hasattr(tensor, "__tensor_flatten__"):
        return list(tensor.__tensor_flatten__()[0])
    slots = (vars(kind).get("__slots__", ()) for kind in type(tensor).__mro__)
    named = [(slot,) if isinstance(slot, str) else tuple(slot) for slot in slots]
    return list(dict.fromkeys([*vars(tensor), *(name for names in named for name in names)]))


def nested_shapes(tensor: torch.Tensor) -> tuple[tuple[int, ...], ...]:
    """The shapes of the tensors in a nested tensor of torch's strided layout, each as a batch of
    one."""
    with disable_current_modes():
        sizes: torch.Tensor = tensor._nested_tensor_size()
        return tuple((1, *shape) for shape in sizes.tolist())


def is_below_autograd() -> bool:
    """Whether operators that are called now are not followed by autograd, whatever they are given:
    as from within the ``__torch_dispatch__`` of a tensor subclass."""
    return torch._C._dispatch_tls_is_dispatch_key_excluded(
        torch._C.DispatchKey.AutogradFunctionality
    )


SHARDING = "torch.distributed.tensor._sharding_prop", "ShardingPropagator"
"""The module and class that work out how a DTensor's operator is sharded, once that is imported."""

SHARDED_SHAPES = "_propagate_tensor_meta_non_cached"
"""Its method that runs an operator on fake tensors, to know the shape of what it gives."""

# -- higher-order operators -----------------------------------------------------------------------

HIGHER_ORDER_MODULES = ("torch._higher_order_ops.", "torch.nn.attention.flex_attention")
"""Where torch compiles, with a backend that runs the graph as it is, what somebody calls a
higher-order operator with: its functions then take all that they refer to as arguments."""

FLEX_ATTENTION = "torch.nn.attention.flex_attention"
FLEX_DEVICES = "_validate_device"
"""The module of attention with a function on each score, once that is imported, and how it refuses
operands for their device: on the CPU it has no backward."""

TRACING = "torch.fx.experimental.proxy_tensor", "_MakefxTracer"
TRACE = "_trace_inner"
"""The module, class and method by which torch traces a function into a graph."""

DISPATCH = "dispatch"
"""How a ``HigherOrderOperator`` goes to its implementation for a dispatch key."""

PYTHON_KEY = torch._C.DispatchKey.Python
"""The dispatch key of modes and tensor subclasses."""


def eager_kernel(operator: HigherOrderOperator) -> Callable[..., Any]:
    """How an operator is executed on real tensors, whatever the device."""
    kernel = operator.py_kernels.get(torch._C.DispatchKey.CompositeExplicitAutograd)
    return operator if kernel is None else kernel


MODES_TAKE_HIGHER_ORDER = hasattr(TorchDispatchMode, "supports_higher_order_operators")
"""Whether torch asks a mode that says that it takes higher-order operators; torch 2.8 asks none."""


def without_top_mode() -> AbstractContextManager[Any]:
    """The mode that is asked first is not asked meanwhile; given is that mode."""
    return _pop_mode_temporarily()


def is_of_higher_order(function: Any) -> bool:
    """Whether a node, or an ``autograd.Function``, is that of a higher-order operator."""
    kind = getattr(type(function), "_forward_cls", function)
    return str(getattr(kind, "__module__", "")).startswith(HIGHER_ORDER_MODULES)


def top_mode() -> TorchDispatchMode | None:
    """The dispatch mode that is asked first."""
    mode: TorchDispatchMode | None = _get_current_dispatch_mode()
    return mode


def backend_of_compiler(backend: Any) -> Callable[..., Any]:
    """A backend of ``torch.compile``, by its name or itself."""
    if not isinstance(backend, str):
        return backend  # type: ignore[no-any-return]
    from torch._dynamo.backends.registry import lookup_backend  # takes seconds

    found: Callable[..., Any] = lookup_backend(backend)
    return found


def indexing_without_values() -> AbstractContextManager[Any]:
    """``x[i]`` looks up by a tensor ``i`` of no dimensions, and does not ask for its value."""
    from torch._dynamo._trace_wrapped_higher_order_op import TransformGetItemToIndex

    return TransformGetItemToIndex()


# -- step -----------------------------------------------------------------------------------------


def has_kernel(name: str, key: str) -> bool:
    """Whether an operator has a kernel of its own for a dispatch key.

    Args:
        name: with its overload: ``aten::add.Tensor``.
        key: ``CompositeImplicitAutograd``: it is made up of other operators.
    """
    return torch._C._dispatch_has_kernel_for_dispatch_key(name, key)


def operator_names() -> list[str]:
    """The names of all operators: ``aten::add.Tensor``."""
    return list(torch._C._dispatch_get_all_op_names())


def is_view_operator(name: str) -> bool:
    """Whether an operator only gives another view of what it is given, or makes it one.

    Args:
        name: without an overload: ``aten::select``.
    """
    namespace, _, short = name.partition("::")
    packet = getattr(getattr(torch.ops, namespace), short, None)
    if packet is None:
        return False
    overloads = [getattr(packet, overload) for overload in packet.overloads()]
    of_tensors = [
        each for each in overloads if any("Tensor" in str(r.type) for r in each._schema.returns)
    ]
    return bool(of_tensors) and all(map(_is_view, of_tensors))


def _is_view(overload: OpOverload) -> bool:
    aliases = [each.alias_info for each in overload._schema.returns if each.alias_info is not None]
    only_read = bool(aliases) and not any(alias.is_write for alias in aliases)
    return only_read or torch.Tag.inplace_view in overload.tags


def taken_apart(operator: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
    """Call a composite ``OpOverload`` as if it had no kernel. (Not by its ``decompose``: torch has
    another dropout there, which copies when there is nothing to drop.)"""
    composite = torch._C.DispatchKey.CompositeImplicitAutograd
    result: torch.Tensor = operator._op_dk(composite, *args, **kwargs)
    return result


def apart_from_cpu_autocast() -> AbstractContextManager[Any]:
    """Operators go past the CPU's autocast meanwhile: from within one of its kernels."""
    key = torch._C.DispatchKey.AutocastCPU
    return torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(key))


optional(
    "torch.utils.checkpoint._make_saved_tensor",
    "what enters a checkpoint is kept by an autograd.Function: its bytes stand in the row of the "
    "operator that comes next, not of the one before",
)


def make_saved_tensor(tensor: torch.Tensor) -> Any:
    """What ``torch.utils.checkpoint`` keeps a tensor in that enters a checkpoint: its ``unpack``
    gives it back. None where this torch has an ``autograd.Function`` for that.

    Looked up each time: the profiler replaces it.
    """
    make = getattr(torch.utils.checkpoint, "_make_saved_tensor", None)
    return None if make is None else make(tensor, is_output=False)


# -- measure --------------------------------------------------------------------------------------

cuda_sleep: Callable[[int], None] = optional(
    "torch.cuda._sleep",
    "a short step's time on CUDA holds the gaps in which the device waits for Python",
) or (lambda cycles: None)
"""Keep the device busy for so many of its clock's cycles."""

_KINETO_EVENT = "torch._C._autograd._KinetoEvent"
_kind_of_event: Callable[[Any], str] = optional(
    f"{_KINETO_EVENT}.activity_type",
    "calls of the CUDA runtime are told from operators by their names",
)
_is_hidden_event: Callable[[Any], bool] = optional(
    f"{_KINETO_EVENT}.is_hidden_event", "the profiler's own events count as operators"
) or (lambda event: False)

_OWN_EVENTS = frozenset(
    {
        *("[memory]", "[OutOfMemory]", "profiler::_record_function_enter"),
        *("profiler::_record_function_enter_new", "profiler::_record_function_exit"),
        *("aten::is_leaf", "aten::output_nr", "aten::_version"),
    }
)
"""What the profiler notes of itself and of autograd's bookkeeping, and shows nobody."""


def profiler_events(profiler: Any) -> list[Any]:
    """All that a ``torch.autograd.profiler.profile`` saw, in torch's own form: on the host and the
    device. (``profiler.function_events`` are objects with forty attributes each, which take several
    times as long to make; and there a call of the device's runtime outside of all operators is
    given the kernels of the operator that happens to have its number.)"""
    return list(profiler.kineto_results.events())


def is_host_operator(event: Any) -> bool:
    """Whether one of :func:`profiler_events` is an operator, a node of backward or a marked range
    on the host; and not a call of the device's runtime, or something of the profiler's own."""
    if event.device_type().name != "CPU" or event.is_async() or _is_hidden_event(event):
        return False
    name = event.name()
    if name in _OWN_EVENTS:
        return False
    if _kind_of_event is not None:
        return _kind_of_event(event) in ("cpu_op", "user_annotation")
    is_of_runtime = event.linked_correlation_id() or re.match(r"(cuda|cu|hip)[A-Z]", name)
    return not is_of_runtime


def is_kernel(event: Any) -> bool:
    """Whether one of :func:`profiler_events` is something that the device does: a kernel, a copy or
    a filling of memory; and not a marked range around some, or a wait."""
    if event.device_type().name == "CPU" or event.is_user_annotation():
        return False
    return _kind_of_event is None or _kind_of_event(event) not in ("cuda_sync", "overhead")
