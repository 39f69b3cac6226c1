"""The built-in networks by name, with their KEYs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np

from flopratio.errors import UsageError
from flopratio.formulas import Size, exact, quotient
from flopratio.networks.description import INPUT, LOSSES, Layer, Network, Repeat
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

NORMS = {"layer": "LayerNorm", "rms": "RMSNorm"}

POSITIONS = {
    "learned": ("LearnedPositions",),
    "sinusoidal": ("SinusoidalPositions",),
    "rotary": (),
    "none": (),
}
"""How positions are told from each other -> the layer that adds them to the embedding; rotary ones
turn each query and key."""


class Shapes(NamedTuple):
    """What a network's sizes determine; see :class:`flopratio.networks.description.Network`."""

    layers: tuple[Layer | Repeat, ...]
    input_shape: tuple[Size, ...]
    output_shape: tuple[Size, ...]
    tokens: Size | None = None


@dataclass(frozen=True)
class NetworkType:
    """A family of networks.

    Args:
        layers: makes the layers and the shapes of the values of all KEYs but ``loss``.
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

    def check(self, model: str, given: Mapping[str, Sequence[Any]]) -> None:
        """Check that the network of that name has these KEYs, and that they can have the values.

        Raises:
            UsageError: an unknown KEY or choice, or a size that is too small.
        """
        check_keys(model, given, self.keys, self.minimum, self.choices)

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
    return Shapes(
        (
            linear("first.linear", input, first),
            Layer("first.activation", function.type),
            *between,
            linear("output", widths[-1] if widths else width, classes),
        ),
        (batch, input),
        (batch, classes),
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
    return Shapes(
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
        (batch, classes),
    )


def _convnet(*, image: Size, classes: Size, batch: Size) -> Shapes:
    """ConvNet of the same article: two convolutions and a linear layer."""
    relu = {"inplace": True}
    pool = {"kernel_size": 3, "stride": 2, "padding": 1}
    return Shapes(
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
        (batch, classes),
    )


def _three_linear(*, input: Size, classes: Size, bias: bool, batch: Size) -> Shapes:
    """LinearNet and OneNet of the same article: three linear layers with nothing between them."""
    sizes = (input, 4096, 128, classes)
    return Shapes(
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
        (batch, classes),
    )


def _transformer(
    *,
    kind: str,
    depth: Size,
    width: Size,
    heads: Size,
    kv_heads: Size,
    feed_forward: Size,
    gated: bool,
    vocabulary: Size,
    seq: Size,
    positions: str,
    norm: str,
    tied: bool,
    bias: bool,
    activation: str,
    batch: Size,
) -> Shapes:
    """``depth`` blocks of attention and feed-forward layers on tokens, between an embedding and a
    head that gives each position its scores: a decoder, whose attention is causal (GPT-2, and with
    other choices of norm, positions, gate and heads Llama), or an encoder, whose isn't. Norms stand
    before what they are for, and at the end."""
    kv_heads, feed_forward = _as_many(kv_heads, heads), _as_many(feed_forward, 4 * width)
    _check_divides("width", width, "heads", heads)
    _check_divides("heads", heads, "kv_heads", kv_heads)
    head_width = quotient(width, heads)
    if positions == "rotary":
        _check_divides("width / heads, where positions are rotary,", head_width, "", 2)

    def linear(name: str, inputs: Size, outputs: Size, *reads: str) -> Layer:
        sizes = {"in_features": inputs, "out_features": outputs, "bias": bias}
        return Layer(name, "Linear", sizes, reads)

    def normalization(name: str, *reads: str) -> Layer:
        arguments = {"normalized_shape": width} | ({"bias": bias} if norm == "layer" else {})
        return Layer(name, NORMS[norm], arguments, reads)

    attention = (
        normalization("attention.norm", INPUT),
        linear("attention.query", width, width, "attention.norm"),
        linear("attention.key", width, kv_heads * head_width, "attention.norm"),
        linear("attention.value", width, kv_heads * head_width, "attention.norm"),
        Layer(
            "attention.products",
            "Attention",
            {
                "heads": heads,
                "kv_heads": kv_heads,
                "head_width": head_width,
                "causal": kind == "decoder",
                "rotary": seq if positions == "rotary" else None,
            },
            ("attention.query", "attention.key", "attention.value"),
        ),
        linear("attention.output", width, width),
        Layer("attention.sum", "Add", reads=(INPUT, "attention.output")),
    )
    gate = (
        linear("feed_forward.gate", width, feed_forward, "feed_forward.norm"),
        Layer("feed_forward.activation", ACTIVATIONS[activation]),
        linear("feed_forward.up", width, feed_forward, "feed_forward.norm"),
        Layer(
            "feed_forward.product",
            "Multiply",
            reads=("feed_forward.activation", "feed_forward.up"),
        ),
    )
    plain = (
        linear("feed_forward.up", width, feed_forward),
        Layer("feed_forward.activation", ACTIVATIONS[activation]),
    )
    feed = (
        normalization("feed_forward.norm"),
        *(gate if gated else plain),
        linear("feed_forward.down", feed_forward, width),
        Layer("feed_forward.sum", "Add", reads=("attention.sum", "feed_forward.down")),
    )
    table = {"num_embeddings": vocabulary, "embedding_dim": width}
    added = {"positions": seq, "width": width}
    return Shapes(
        (
            Layer("embedding", "Embedding", table),
            *(Layer("positions", kind, added) for kind in POSITIONS[positions]),
            Repeat("layers", (*attention, *feed), depth),
            normalization("norm"),
            Layer(
                "head",
                "Linear",
                {"in_features": width, "out_features": vocabulary, "bias": False},
                tied={"weight": "embedding.weight"} if tied else {},
            ),
        ),
        (batch, seq),
        (batch, seq, vocabulary),
        tokens=vocabulary,
    )


def _as_many(size: Size, default: Size) -> Size:
    """A size, or where it is 0 another."""
    if isinstance(size, np.ndarray):
        return np.where(size == 0, default, size)
    return default if size == 0 else size


def _check_divides(name: str, size: Size, by_name: str, by: Size) -> None:
    """Check that one size divides another; of symbols it is taken for granted.

    Raises:
        UsageError: it doesn't.
    """
    if not all(isinstance(one, Integral | np.ndarray) for one in (size, by)):
        return
    sizes, divisors = np.broadcast_arrays(exact(size), exact(by))
    for one, divisor in zip(sizes.flat, divisors.flat, strict=True):
        if one % divisor:
            raise UsageError(
                f"{name}={one} should be a multiple of "
                f"{f'{by_name}={divisor}' if by_name else divisor}"
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
    "transformer": NetworkType(
        _transformer,
        {
            "kind": "decoder",
            "depth": 6,
            "width": 512,
            "heads": 8,
            "kv_heads": 0,
            "feed_forward": 0,
            "gated": False,
            "vocabulary": 8192,
            "seq": 128,
            "positions": "learned",
            "norm": "layer",
            "tied": True,
            "bias": True,
            "activation": "gelu",
            "loss": "cross_entropy",
            "batch": 8,
        },
        # 0: as many as heads; 4 times the width.
        minimum={"kv_heads": 0, "feed_forward": 0},
        choices={
            "kind": ("decoder", "encoder"),
            "positions": tuple(POSITIONS),
            "norm": tuple(NORMS),
            "activation": tuple(ACTIVATIONS),
            **_LOSS,
        },
    ),
}


def describe(model: str, **settings: Any) -> Network:
    """The description of a built-in network.

    Args:
        model: ``mlp``, ``cnn``, ``transformer``, ``convnet``, ``linearnet`` or ``onenet``.
        settings: its KEYs; sizes may be ints, arrays of ints or symbols.

    Raises:
        UsageError: an unknown network, KEY or choice, or a size that is too small.
    """
    if model not in NETWORKS:
        raise UsageError(f"there is no built-in network {model!r}{did_you_mean(model, NETWORKS)}")
    family = NETWORKS[model]
    family.check(model, {key: (value,) for key, value in settings.items()})
    values = family.settings(settings)
    sizes = {key: value for key, value in values.items() if key != "loss"}
    shapes = family.layers(**sizes)
    return Network(
        model,
        values,
        shapes.layers,
        shapes.input_shape,
        shapes.output_shape,
        values["loss"],
        shapes.tokens,
    )
