"""Which of the events that torch's profiler shows are operators as a trace sees them."""

from __future__ import annotations

from functools import cache

from flopratio.torch_private import has_kernel, is_view_operator, operator_names

_MADE_UP = "CompositeImplicitAutograd"


@cache
def is_dispatched(name: str) -> bool:
    """Whether a trace sees an operator of this name (``aten::addmm``): one that is not made up of
    others."""
    overloads = _overloads().get(name, ())
    return bool(overloads) and not any(map(_is_made_up, overloads))


def _is_made_up(overload: str) -> bool:
    kernels = {key for key in (_MADE_UP, "CPU", "CUDA") if has_kernel(overload, key)}
    return kernels == {_MADE_UP}  # some are so on other devices only


@cache
def does_something(name: str) -> bool:
    """Whether a trace sees an operator of this name, and it computes or moves anything: it is no
    view, and no memory without values."""
    return is_dispatched(name) and not name.startswith("aten::empty") and not is_view_operator(name)


@cache
def _overloads() -> dict[str, list[str]]:
    """Name of an operator -> those of its overloads (``aten::add.Tensor``)."""
    overloads: dict[str, list[str]] = {}
    for overload in operator_names():
        overloads.setdefault(overload.partition(".")[0], []).append(overload)
    return overloads
