"""Every private name of torch that this package rests on: imported or wrapped here, nowhere else.

Private names come and go with torch's versions. What cannot be done without is imported plainly;
what can is looked up by :func:`optional`, and its users ask whether it is there. :data:`PROBES`
tells of each what stops working without it; :func:`missing` tries them all.
"""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cache, reduce
from typing import Any, NamedTuple

import torch
import torch.utils.checkpoint
from torch._decomp import decomposition_table
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
)
from torch.library import _scoped_library as scoped_library
from torch.utils._python_dispatch import TorchDispatchMode
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

__all__ = [
    "DataDependentOutputException",
    "DynamicOutputShapeException",
    "FakeTensor",
    "FakeTensorMode",
    "TorchDispatchMode",
    "TreeSpec",
    "decomposition_table",
    "disable_current_modes",
    "scoped_library",
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
    if oldest <= _release(version) <= newest:
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


def _release(version: str) -> tuple[int, int]:
    major, minor = version.split(".")[:2]
    return int(major), int(minor)


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

# -- autograd -------------------------------------------------------------------------------------

current_autograd_node: Callable[[], Any] = torch._C._current_autograd_node
"""The node that is running in backward; None outside of it."""

next_sequence_number: Callable[[], int] = torch._C._autograd._get_sequence_nr
"""The number that the next autograd node of this thread gets."""

# -- fake tensors ---------------------------------------------------------------------------------

FAKE_TENSOR_LOG = "torch._subclasses.fake_tensor"
"""The name of the log in which fake tensors tell of operators that failed on them."""

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
