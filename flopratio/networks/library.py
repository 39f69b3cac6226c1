"""The built-in networks by name, with their KEYs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from flopratio.errors import UsageError
from flopratio.formulas import Size
from flopratio.networks.description import LOSSES, Layer, Network, Repeat
from flopratio.text.grammar import check_keys, format_value
from flopratio.text.suggestions import did_you_mean

ACTIVATIONS = {
    "relu": "ReLU",
    "leaky_relu": "LeakyReLU",
    "gelu": "GELU",
    "silu": "SiLU",
    "tanh": "Tanh",
    "sigmoid": "Sigmoid",
}

Shapes = tuple[tuple[Layer | Repeat, ...], tuple[Size, ...]]
"""What a network's sizes determine: its layers, and the shape of its input."""


@dataclass(frozen=True)
class NetworkType:
    """A family of networks.

    Args:
        layers: makes the layers and the input's shape of the values of all KEYs but ``loss``.
        keys: each KEY and its default.
        minimum: the smallest legal value of a KEY, where it isn't 1.
        choices: the words that a KEY may be, where they are listed.
        instead: a KEY that says in other words what several KEYs say -> those. It has a value only
            where it is given, and they only where it is not; its default is an example.
    """

    layers: Callable[..., Shapes]
    keys: Mapping[str, Any]
    minimum: Mapping[str, int] = field(default_factory=dict)
    choices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    instead: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def settings(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The value of every KEY that has one.

        Raises:
            UsageError: KEYs are given that say the same.
        """
        left_out: set[str] = set()
        for key, others in self.instead.items():
            if key not in given:
                left_out.add(key)
                continue
            left_out |= {*others}
            if twice := [other for other in others if other in given]:
                raise UsageError(
                    f"{key}={format_value(given[key])} says what {' and '.join(others)} say: leave "
                    f"out {' and '.join(twice)}, or {key}"
                )
        values = {**self.keys, **given}
        return {key: value for key, value in values.items() if key not in left_out}


def _mlp(
    *,
    depth: Size = 1,
    width: Size = 1,
    hidden: Size | tuple[Size, ...] = (),
    input: Size,
    classes: Size,
    bias: bool,
    activation: str,
    batch: Size,
) -> Shapes:
    """``depth`` hidden layers of ``width`` units, or as many as ``hidden`` has widths, each
    followed by its activation, then the output layer: ``depth + 1`` linear layers in all."""
    function = Layer("activation", ACTIVATIONS[activation])

    def linear(name: str, inputs: Size, outputs: Size) -> Layer:
        return Layer(
            name,
            "Linear",
            {"in_features": inputs, "out_features": outputs, "bias": bias},
        )

    widths = hidden if isinstance(hidden, tuple) else (hidden,)  # 300: one layer
    first = widths[0] if widths else width
    between: list[Layer | Repeat] = []
    if widths:
        for number, (inputs, outputs) in enumerate(pairwise(widths)):
            prefix = f"hidden.{number}"
            between.append(linear(f"{prefix}.linear", inputs, outputs))
            between.append(Layer(f"{prefix}.activation", function.type))
    else:
        between.append(Repeat("hidden", (linear("linear", width, width), function), depth - 1))
    return (
        (
            linear("first.linear", input, first),
            Layer("first.activation", function.type),
            *between,
            linear("output", widths[-1] if widths else width, classes),
        ),
        (batch, input),
    )


def _convolution(name: str, inputs: Size, outputs: Size, kernel: int, stride: int) -> Layer:
    arguments = {
        "in_channels": inputs,
        "out_channels": outputs,
        "kernel_size": kernel,
        "stride": stride,
        "padding": kernel // 2,
        "bias": False,
    }
    return Layer(name, "Conv2d", arguments)


def _head(inputs: Size, classes: Size) -> tuple[Layer, ...]:
    return (
        Layer("pool", "AdaptiveAvgPool2d", {"output_size": 1}),
        Layer("flatten", "Flatten"),
        Layer("output", "Linear", {"in_features": inputs, "out_features": classes}),
    )


def _cnn(*, depth: Size, shared: bool, image: Size, classes: Size, batch: Size) -> Shapes:
    """DeeperConvNet of Hobbhahn & Sevilla 2021, Appendix A: a first convolution, ``depth`` middle
    ones of 3 x 3 and 32 channels (one module applied again and again if ``shared``, as there), a
    last one, the mean over the image and a linear layer."""
    return (
        (
            _convolution("first.conv", 3, 32, 7, 2),
            Layer("first.relu", "ReLU", {"inplace": True}),
            Layer("first.pool", "MaxPool2d", {"kernel_size": 3, "stride": 2}),
            Repeat(
                "middle",
                (
                    _convolution("conv", 32, 32, 3, 1),
                    Layer("relu", "ReLU", {"inplace": True}),
                ),
                depth,
                shared,
            ),
            _convolution("last.conv", 32, 64, 7, 2),
            Layer("last.relu", "ReLU"),
            *_head(64, classes),
        ),
        (batch, 3, image, image),
    )


def _convnet(*, image: Size, classes: Size, batch: Size) -> Shapes:
    """ConvNet of the same article: two convolutions and a linear layer."""
    relu = {"inplace": True}
    pool = {"kernel_size": 3, "stride": 2, "padding": 1}
    return (
        (
            _convolution("first.conv", 3, 32, 7, 2),
            Layer("first.relu", "ReLU", relu),
            Layer("first.pool", "MaxPool2d", pool),
            _convolution("last.conv", 32, 64, 7, 2),
            Layer("last.relu", "ReLU", relu),
            Layer("last.pool", "MaxPool2d", pool),
            *_head(64, classes),
        ),
        (batch, 3, image, image),
    )


def _three_linear(*, input: Size, classes: Size, bias: bool, batch: Size) -> Shapes:
    """LinearNet and OneNet of the same article: three linear layers with nothing between them."""
    sizes = (input, 4096, 128, classes)
    return (
        tuple(
            Layer(
                name,
                "Linear",
                {"in_features": inputs, "out_features": outputs, "bias": bias},
            )
            for name, inputs, outputs in zip(
                ("first", "second", "third"), sizes, sizes[1:], strict=False
            )
        ),
        (batch, input),
    )


_LOSS = {"loss": tuple(LOSSES)}

NETWORKS: dict[str, NetworkType] = {
    "mlp": NetworkType(
        _mlp,
        {
            "depth": 4,
            "width": 512,
            "hidden": (300, 100),
            "input": 784,
            "classes": 10,
            "bias": True,
            "activation": "relu",
            "loss": "cross_entropy",
            "batch": 64,
        },
        choices={"activation": tuple(ACTIVATIONS), **_LOSS},
        instead={"hidden": ("depth", "width")},
    ),
    "cnn": NetworkType(
        _cnn,
        {
            "depth": 10,
            "shared": True,
            "image": 224,
            "classes": 10,
            "loss": "cross_entropy",
            "batch": 64,
        },
        # An image of 5 is the least that leaves the pooling one window to look at.
        minimum={"depth": 0, "image": 5},
        choices=_LOSS,
    ),
    "convnet": NetworkType(
        _convnet,
        {"image": 224, "classes": 10, "loss": "cross_entropy", "batch": 64},
        choices=_LOSS,
    ),
    "linearnet": NetworkType(
        _three_linear,
        {
            "input": 3 * 224 * 224,
            "classes": 10,
            "bias": True,
            "loss": "cross_entropy",
            "batch": 64,
        },
        choices=_LOSS,
    ),
    "onenet": NetworkType(
        _three_linear,
        {"input": 1, "classes": 10, "bias": True, "loss": "cross_entropy", "batch": 64},
        choices=_LOSS,
    ),
}


def describe(model: str, **settings: Any) -> Network:
    """The description of a built-in network.

    Args:
        model: ``mlp``, ``cnn``, ``convnet``, ``linearnet`` or ``onenet``.
        settings: its KEYs; sizes may be ints, arrays of ints or symbols.

    Raises:
        UsageError: an unknown network, KEY or choice, or a size that is too small.
    """
    if model not in NETWORKS:
        raise UsageError(f"there is no built-in network {model!r}{did_you_mean(model, NETWORKS)}")
    family = NETWORKS[model]
    given = {key: (value,) for key, value in settings.items()}
    check_keys(model, given, family.keys, family.minimum, family.choices)
    values = family.settings(settings)
    sizes = {key: value for key, value in values.items() if key != "loss"}
    layers, input_shape = family.layers(**sizes)
    return Network(model, values, layers, input_shape, values["loss"])
