"""The built-in networks. Each is one description, from which come both the analytic ledger (see
``analytic.py``) and the ``nn.Module`` that is really run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flopratio.errors import UsageError
from flopratio.formulas import Size
from flopratio.text.suggestions import did_you_mean, unknown_key

if TYPE_CHECKING:
    import torch

ACTIVATIONS = {
    "relu": "ReLU",
    "leaky_relu": "LeakyReLU",
    "gelu": "GELU",
    "silu": "SiLU",
    "tanh": "Tanh",
    "sigmoid": "Sigmoid",
}

LOSSES = {"cross_entropy": "CrossEntropyLoss", "mse": "MSELoss", "sum": "SumLoss"}

LOSS_LAYER = "loss"
"""The name under which the loss stands in a ledger."""


@dataclass(frozen=True)
class Layer:
    """One layer: its path in the module, its ``torch.nn`` type and constructor arguments."""

    name: str
    type: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Repeat:
    """Layers applied ``times`` over: as modules of their own, numbered, or as one shared module."""

    name: str
    layers: tuple[Layer, ...]
    times: Size
    shared: bool = False


@dataclass(frozen=True)
class Network:
    """A network as a list of layers.

    Args:
        model: its name on the command line.
        settings: the values of all its keys.
        layers: what is applied to the input, in order.
        input_shape: with the batch.
        loss: one of :data:`LOSSES`.
    """

    model: str
    settings: Mapping[str, Any]
    layers: tuple[Layer | Repeat, ...]
    input_shape: tuple[Size, ...]
    loss: str


@dataclass(frozen=True)
class NetworkType:
    """A family of networks: its keys with their defaults, and what they must be at least."""

    layers: Callable[..., tuple[tuple[Layer | Repeat, ...], tuple[Size, ...]]]
    keys: Mapping[str, Any]
    minimum: Mapping[str, int] = field(default_factory=dict)
    choices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


# -- the networks ---------------------------------------------------------------------------------

Shapes = tuple[tuple[Layer | Repeat, ...], tuple[Size, ...]]
"""What a network's sizes determine: its layers, and the shape of its input."""


def _mlp(
    *,
    depth: Size,
    width: Size,
    input: Size,
    classes: Size,
    bias: bool,
    activation: str,
    batch: Size,
) -> Shapes:
    """``depth`` hidden layers of ``width`` units, each followed by its activation, then the output
    layer: ``depth + 1`` linear layers in all."""
    function = Layer("activation", ACTIVATIONS[activation])

    def linear(name: str, inputs: Size, outputs: Size) -> Layer:
        return Layer(
            name,
            "Linear",
            {"in_features": inputs, "out_features": outputs, "bias": bias},
        )

    return (
        (
            linear("first.linear", input, width),
            Layer("first.activation", function.type),
            Repeat("hidden", (linear("linear", width, width), function), depth - 1),
            linear("output", width, classes),
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
            "input": 784,
            "classes": 10,
            "bias": True,
            "activation": "relu",
            "loss": "cross_entropy",
            "batch": 64,
        },
        choices={"activation": tuple(ACTIVATIONS), **_LOSS},
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
        settings: its keys; sizes may be ints, arrays of ints or symbols.

    Raises:
        UsageError: an unknown network, key or choice, or a size that is too small.
    """
    if model not in NETWORKS:
        raise UsageError(f"there is no built-in network {model!r}{did_you_mean(model, NETWORKS)}")
    kind = NETWORKS[model]
    values = {**kind.keys, **settings}
    for key, value in values.items():
        if key not in kind.keys:
            raise unknown_key(model, key, kind.keys, UsageError)
        if key in kind.choices and value not in kind.choices[key]:
            raise UsageError(f"{key}={value} is not one of {', '.join(kind.choices[key])}")
        default = kind.keys[key]
        if isinstance(default, bool) and not isinstance(value, bool):
            raise UsageError(f"{key}={value} should be true or false")
        if isinstance(default, int) and not isinstance(default, bool):
            if isinstance(value, str | float | bool):
                raise UsageError(f"{key}={value} should be a whole number")
            least = kind.minimum.get(key, 1)
            if isinstance(value, int) and value < least:
                raise UsageError(f"{key}={value} should be at least {least}")
    sizes = {key: value for key, value in values.items() if key != "loss"}
    layers, input_shape = kind.layers(**sizes)
    return Network(model, values, layers, input_shape, values["loss"])


# -- the module -----------------------------------------------------------------------------------


def build(network: Network) -> torch.nn.Module:
    """The ``nn.Module`` of a description; its submodules have the ledger's layer names."""
    from torch import nn

    class Built(nn.Module):
        """A description's layers, applied in order."""

        def __init__(self) -> None:
            super().__init__()
            self.order: list[str] = []
            for item in network.layers:
                if isinstance(item, Layer):
                    self.put(item.name, item)
                    self.order.append(item.name)
                    continue
                for number in range(item.times):
                    prefix = item.name if item.shared else f"{item.name}.{number}"
                    for layer in item.layers:
                        if number == 0 or not item.shared:
                            self.put(f"{prefix}.{layer.name}", layer)
                        self.order.append(f"{prefix}.{layer.name}")

        def put(self, path: str, layer: Layer) -> None:
            *parents, last = path.split(".")
            module: nn.Module = self
            for parent in parents:
                if not hasattr(module, parent):
                    module.add_module(parent, nn.Module())
                module = getattr(module, parent)
            module.add_module(last, getattr(nn, layer.type)(**layer.arguments))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for path in self.order:
                x = self.get_submodule(path)(x)
            return x

    return Built()


def build_loss(network: Network) -> torch.nn.Module:
    """The loss as a module that makes its own target: class 0, or zeros."""
    from torch import nn
    from torch.nn import functional

    class Loss(nn.Module):
        """The loss of a built-in network against a target of zeros."""

        def forward(self, x: torch.Tensor, target: torch.Tensor | None) -> torch.Tensor:
            if network.loss == "sum":
                return x.sum()
            assert target is not None
            if network.loss == "mse":
                return functional.mse_loss(x, target)
            return functional.cross_entropy(x, target)

    return Loss()


def batch_of(network: Network) -> tuple[torch.Tensor, torch.Tensor | None]:
    """An example batch and its target, made under whatever tensor mode is in force."""
    import torch

    x = torch.randn(network.input_shape)
    batch, classes = network.input_shape[0], network.settings["classes"]
    if network.loss == "sum":
        return x, None
    if network.loss == "mse":
        return x, torch.zeros(batch, classes)
    return x, torch.zeros(batch, dtype=torch.long)
