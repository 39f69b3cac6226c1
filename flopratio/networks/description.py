"""The description of a network: its layers, in the order in which they are applied. The analytic
ledger and the ``nn.Module`` of a built-in network are both made from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flopratio.formulas import Size

LOSSES = {"cross_entropy": "CrossEntropyLoss", "mse": "MSELoss", "sum": "SumLoss"}
"""The losses of a network -> their layer types."""

LOSS_LAYER = "loss"
"""The name under which the loss stands in a ledger."""

DECAY_LAYER = "weight_decay"
"""The name under which a term of the loss that decays the weights does."""


@dataclass(frozen=True)
class Layer:
    """One layer.

    Args:
        name: its path in the module (``first.conv``).
        type: its class in ``torch.nn``.
        arguments: of that class's constructor.
    """

    name: str
    type: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Repeat:
    """Layers that are applied several times, one round after another.

    Args:
        name: the path of what holds them; each round has its number below it, ``hidden.0``.
        layers: of one round, named from there.
        times: how many rounds.
        shared: whether all rounds are one set of modules, without a number, instead of one each.
    """

    name: str
    layers: tuple[Layer, ...]
    times: Size
    shared: bool = False


@dataclass(frozen=True)
class Network:
    """A network as a list of layers.

    Args:
        model: its name on the command line.
        settings: the values of all its KEYs.
        layers: what is applied to the input, in order.
        input_shape: with the batch.
        loss: one of :data:`LOSSES`.
    """

    model: str
    settings: Mapping[str, Any]
    layers: tuple[Layer | Repeat, ...]
    input_shape: tuple[Size, ...]
    loss: str
