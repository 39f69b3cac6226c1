"""Every private name of torch that this package rests on: imported or wrapped here, nowhere else.

Private names come and go with torch's versions. What cannot be done without is imported plainly;
what can is looked up by :func:`optional`, and its users ask whether it is there. :data:`PROBES`
tells of each what stops working without it; :func:`missing` tries them all.
"""

from __future__ import annotations

import logging
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import reduce
from typing import Any, ClassVar, NamedTuple

import torch
from torch import nn
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
        ``.grad``: a table of zeros, say, into which a model writes fake results."""
        flat_args = [
            arg.detach()
            if isinstance(arg, torch.Tensor) and not isinstance(arg, FakeTensor) and not arg.is_leaf
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
    well."""
    log = logging.getLogger("torch._subclasses.fake_tensor")
    was_disabled, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = was_disabled


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


# -- autograd -------------------------------------------------------------------------------------

current_autograd_node: Callable[[], Any] = torch._C._current_autograd_node
"""The node that is running in backward; None outside of it."""

next_sequence_number: Callable[[], int] = torch._C._autograd._get_sequence_nr
"""The number that the next autograd node of this thread gets."""
