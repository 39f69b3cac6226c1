"""The optimizers by their names on the command line, as torch makes them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from flopratio.errors import UsageError

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


def make_optimizer(
    name: str, parameters: Iterable[torch.Tensor], **options: Any
) -> torch.optim.Optimizer | None:
    """An optimizer of the parameters that train; None for ``none``, or if no parameter trains.

    Args:
        name: one of :data:`NAMES`.
        parameters: all of a module's.
        options: the optimizer's own. ``foreach`` is off unless given (None: as torch sees fit): the
            plain implementation goes parameter by parameter.

    Raises:
        UsageError: an unknown name.
    """
    if name == "none":
        return None
    if name not in _CLASSES:
        raise UsageError(f"there is no optimizer {name!r}: it should be one of {', '.join(NAMES)}")
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    if not trained:
        return None
    make, defaults = _CLASSES[name]
    options.setdefault("foreach", False)
    settings: dict[str, Any] = {"lr": LEARNING_RATE, **defaults, **options}
    return make(trained, **settings)
