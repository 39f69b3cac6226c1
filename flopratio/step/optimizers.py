"""The optimizers by their names on the command line, as torch makes them."""

from __future__ import annotations

from collections.abc import Iterable
from inspect import signature
from typing import TYPE_CHECKING, Any

from flopratio.errors import UsageError
from flopratio.text.suggestions import not_among

if TYPE_CHECKING:
    import torch

LEARNING_RATE = 1e-6
"""Too small to change what is measured."""

CLASSES: dict[str, tuple[str, dict[str, Any]]] = {
    "sgd": ("SGD", {}),
    "momentum": ("SGD", {"momentum": 0.9}),
    "nesterov": ("SGD", {"momentum": 0.9, "nesterov": True}),
    "adagrad": ("Adagrad", {}),
    "rmsprop": ("RMSprop", {}),
    "adam": ("Adam", {}),
    "adamw": ("AdamW", {}),
}
"""Name -> its class in ``torch.optim``, and what that is told."""

NAMES = ("none", *CLASSES)

IMPLEMENTATIONS: dict[str, dict[str, bool]] = {
    "plain": {"foreach": False},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
}
"""How torch runs an update, and how it is told: parameter by parameter; operator by operator, each
on all the parameters, with temporaries as large as they are; or all in one kernel."""


def parameters_to_train(module: torch.nn.Module) -> list[torch.Tensor]:
    """What a module hands to an optimizer: what its ``parameters()`` gives, perhaps in groups; its
    class may override it. All that it holds, where that can't be called without arguments.

    Raises:
        UsageError: they are no tensors.
    """
    import torch

    from flopratio.torch_private import parameters

    given: list[Any] = []
    try:
        for part in module.parameters():
            group: Any = part["params"] if isinstance(part, dict) else part
            given += [group] if isinstance(group, torch.Tensor) else group
    except Exception:  # of the user's code
        return list(parameters(module))
    if not all(isinstance(one, torch.Tensor) for one in given):
        raise UsageError(
            f"{type(module).__name__}.parameters(), which an optimizer is given, should give "
            "tensors or groups of them"
        )
    return given


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
    if name not in CLASSES:
        raise not_among("optimizer", name, NAMES)
    import torch

    from flopratio.torch_private import is_traceable_wrapper_subclass

    trained = [parameter for parameter in parameters if parameter.requires_grad]
    if not trained:
        return None
    kind, defaults = CLASSES[name]
    make = getattr(torch.optim, kind)
    if implementation == "foreach" and any(map(is_traceable_wrapper_subclass, trained)):
        implementation = "plain"  # as torch sees fit: DTensors and others don't mix with the rest
    how = IMPLEMENTATIONS[implementation] if implementation is not None else {}
    if not signature(make).parameters.keys() >= how.keys():
        raise UsageError(
            f"torch has no {implementation} {kind}: its implementation should be plain or foreach"
        )
    settings: dict[str, Any] = {"lr": LEARNING_RATE, **defaults, **how, **options}
    optimizer: torch.optim.Optimizer = make(trained, **settings)
    return optimizer
