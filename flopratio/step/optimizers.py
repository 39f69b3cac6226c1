"""The optimizers by their names on the command line, as torch makes them."""

from __future__ import annotations

from collections.abc import Iterable
from inspect import signature
from typing import Any

import torch

from flopratio.errors import UsageError
from flopratio.text.suggestions import did_you_mean

LEARNING_RATE = 1e-6
"""Too small to change what is measured."""

_CLASSES: dict[str, tuple[type[torch.optim.Optimizer], dict[str, Any]]] = {
    "sgd": (torch.optim.SGD, {}),
    "momentum": (torch.optim.SGD, {"momentum": 0.9}),
    "nesterov": (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
    "adagrad": (torch.optim.Adagrad, {}),
    "rmsprop": (torch.optim.RMSprop, {}),
    "adam": (torch.optim.Adam, {}),
    "adamw": (torch.optim.AdamW, {}),
}

NAMES = ("none", *_CLASSES)

IMPLEMENTATIONS: dict[str, dict[str, bool]] = {
    "plain": {"foreach": False},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
}
"""How torch runs an update, and how it is told: parameter by parameter; operator by operator, each
on all the parameters, with temporaries as large as they are; or all in one kernel."""


def make_optimizer(
    name: str,
    parameters: Iterable[torch.Tensor],
    implementation: str | None = "plain",
    **options: Any,
) -> torch.optim.Optimizer | None:
    """An optimizer of the parameters that train; None for ``none``, or if no parameter trains.

    Args:
        name: one of :data:`NAMES`.
        parameters: all of a module's.
        implementation: one of :data:`IMPLEMENTATIONS`; None: as torch sees fit.
        options: the optimizer's own.

    Raises:
        UsageError: an unknown name, or an implementation that torch does not have.
    """
    if name == "none":
        return None
    if name not in _CLASSES:
        raise UsageError(f"there is no optimizer {name!r}{did_you_mean(name, NAMES)}")
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    if not trained:
        return None
    make, defaults = _CLASSES[name]
    how = IMPLEMENTATIONS[implementation] if implementation is not None else {}
    if not signature(make).parameters.keys() >= how.keys():
        raise UsageError(
            f"torch has no {implementation} {make.__name__}: its implementation should be "
            "plain or foreach"
        )
    settings: dict[str, Any] = {"lr": LEARNING_RATE, **defaults, **how, **options}
    return make(trained, **settings)
