"""Every private name of torch that this package rests on: imported or wrapped here, nowhere else.

Private names come and go with torch's versions. What cannot be done without is imported plainly;
what can is looked up by :func:`optional`, and its users ask whether it is there. :data:`PROBES`
tells of each what stops working without it; :func:`missing` tries them all.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import reduce
from typing import Any, NamedTuple

import torch
from torch._decomp import decomposition_table
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
)
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

__all__ = [
    "DataDependentOutputException",
    "DynamicOutputShapeException",
    "FakeTensor",
    "FakeTensorMode",
    "TorchDispatchMode",
    "TreeSpec",
    "decomposition_table",
    "disable_current_modes",
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


# -- attributes -----------------------------------------------------------------------------------

schema_of: Callable[[Any], Any] = operator.attrgetter("_schema")
"""An ``OpOverload``'s schema: its name and arguments."""

every_operator: Callable[[], list[str]] = torch._C._dispatch_get_all_op_names
"""``aten::addmm.out``: every overload that the dispatcher knows."""

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
