"""Exact FLOPs, bytes and saved activations of a training step, per layer and phase."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from flopratio.version import __version__

if TYPE_CHECKING:
    from flopratio.errors import UsageError
    from flopratio.formulas import Cost, Gradient, Part, register
    from flopratio.ledger import Ledger
    from flopratio.measure.loop import Profiler
    from flopratio.report.graph import graph
    from flopratio.report.show import show
    from flopratio.verbs.count import count
    from flopratio.verbs.fit import Fit, fit
    from flopratio.verbs.formula import ClosedForm, formula
    from flopratio.verbs.profile import Profile, profile
    from flopratio.verbs.sweep import sweep

__all__ = [
    "ClosedForm",
    "Cost",
    "Fit",
    "Gradient",
    "Ledger",
    "Part",
    "Profile",
    "Profiler",
    "UsageError",
    "__version__",
    "count",
    "fit",
    "formula",
    "graph",
    "profile",
    "register",
    "show",
    "sweep",
]

_HOMES = {
    **dict.fromkeys(("Cost", "Gradient", "Part", "register"), "flopratio.formulas"),
    "Ledger": "flopratio.ledger",
    "Profiler": "flopratio.measure.loop",
    "UsageError": "flopratio.errors",
    "count": "flopratio.verbs.count",
    **dict.fromkeys(("Fit", "fit"), "flopratio.verbs.fit"),
    **dict.fromkeys(("ClosedForm", "formula"), "flopratio.verbs.formula"),
    **dict.fromkeys(("Profile", "profile"), "flopratio.verbs.profile"),
    "graph": "flopratio.report.graph",
    "show": "flopratio.report.show",
    "sweep": "flopratio.verbs.sweep",
}
"""The names that are imported when somebody asks for them: the package itself comes in
milliseconds, without torch, pandas or NumPy."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'flopratio' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
