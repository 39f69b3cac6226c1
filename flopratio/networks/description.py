"""The description of a network: its layers, in the order in which they are applied. The analytic
ledger and the ``nn.Module`` of a built-in network are both made from it.

A layer takes what the one before it gave, unless it names the layers that it reads: so a list of
layers is a graph, and the sum of a residual connection is a layer that reads two."""

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


INPUT = ""
"""What a list of layers is given, by the name under which a layer reads it: the network's input,
or of the layers of a :class:`Repeat` that of the round."""


@dataclass(frozen=True)
class Layer:
    """One layer.

    Args:
        name: its path in the module (``first.conv``).
        type: its class in ``torch.nn``, or in :mod:`flopratio.networks.layers`.
        arguments: of that class's constructor.
        reads: the layers whose results it takes, by their names in the same list, or
            :data:`INPUT`; empty: that of the layer before.
        tied: a parameter of its own -> the path of that of an earlier layer, which it is.
    """

    name: str
    type: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    reads: tuple[str, ...] = ()
    tied: Mapping[str, str] = field(default_factory=dict)


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

    @property
    def is_block(self) -> bool:
        """Whether a round is more than a chain of layers."""
        return any(layer.reads for layer in self.layers)


@dataclass(frozen=True)
class Network:
    """A network as a list of layers.

    Args:
        model: its name on the command line.
        settings: the values of all its KEYs.
        layers: what is applied to the input, in order.
        input_shape: with the batch.
        output_shape: a row of numbers (a number a class) for each example or position.
        loss: one of :data:`LOSSES`.
        tokens: how many there are, if the input is tokens, numbers that name a row of a table;
            else it is floating.
    """

    model: str
    settings: Mapping[str, Any]
    layers: tuple[Layer | Repeat, ...]
    input_shape: tuple[Size, ...]
    output_shape: tuple[Size, ...]
    loss: str
    tokens: Size | None = None
