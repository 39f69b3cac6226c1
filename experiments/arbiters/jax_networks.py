"""The built-in mlp, cnn and transformer written once more, in JAX: of their definition's words, not
of the package's descriptions. Everything has shapes and no values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Parameters = Mapping[str, Any]
"""``hidden.0.linear.weight`` -> an array, or its shape."""

ACTIVATIONS: Mapping[str, Callable[[Any], Any]] = {
    "relu": jax.nn.relu,
    "gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
}

IMAGES = ("NCHW", "OIHW", "NCHW")
"""The layouts of a convolution's input, weight and output."""


@dataclass(frozen=True)
class JaxNetwork:
    """A network and its loss.

    Args:
        parameters: their shapes.
        x, target: the shapes of the batch.
        embed: from the batch to what is differentiable: the identity, or the look-up of tokens.
        scores: from there to the output.
        loss: of output and target.
    """

    parameters: Parameters
    x: jax.ShapeDtypeStruct
    target: jax.ShapeDtypeStruct
    scores: Callable[[Parameters, Any], Any]
    loss: Callable[[Any, Any], Any]
    embed: Callable[[Parameters, Any], Any] = lambda parameters, x: x


def shape(*sizes: int, dtype: str = "float32") -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(sizes, dtype)


def linear(parameters: Parameters, layer: str, x: Any) -> Any:
    with jax.named_scope(layer):
        y = x @ parameters[f"{layer}.weight"].T
        if f"{layer}.bias" in parameters:
            y = y + parameters[f"{layer}.bias"]
        return y


def linear_shapes(layer: str, inputs: int, outputs: int, bias: bool) -> dict[str, Any]:
    weight = {f"{layer}.weight": shape(outputs, inputs)}
    return weight | ({f"{layer}.bias": shape(outputs)} if bias else {})


def loss_of(loss: str, x: tuple[int, ...], classes: int) -> tuple[Any, Callable[[Any, Any], Any]]:
    """The target's shape and the loss, of an output ``[*x, classes]``."""

    def cross_entropy(y: Any, target: Any) -> Any:
        chosen = jax.nn.one_hot(target, classes, dtype=y.dtype)
        return -(jax.nn.log_softmax(y) * chosen).sum() / target.size

    losses = {
        "cross_entropy": (shape(*x, dtype="int32"), cross_entropy),
        "mse": (shape(*x, classes), lambda y, target: jnp.square(y - target).mean()),
        "sum": (shape(), lambda y, target: y.sum()),
    }
    return losses[loss]


def mlp(
    *,
    batch: int,
    depth: int = 4,
    width: int = 512,
    input: int = 784,
    classes: int = 10,
    bias: bool = True,
    activation: str = "relu",
    loss: str = "cross_entropy",
    scan: bool = False,
) -> JaxNetwork:
    """``depth`` hidden layers of ``width`` units, each with its activation, and the output layer.

    Args:
        scan: whether the layers but the first and the last are one loop over stacked weights.
    """
    function = ACTIVATIONS[activation]
    hidden = ["hidden.linear"] if scan else [f"hidden.{i}.linear" for i in range(depth - 1)]
    parameters = linear_shapes("first.linear", input, width, bias)
    for layer in hidden:
        parameters |= linear_shapes(layer, width, width, bias)
    if scan:
        parameters = {
            name: shape(depth - 1, *each.shape) if name.startswith("hidden") else each
            for name, each in parameters.items()
        }
    parameters |= linear_shapes("output", width, classes, bias)

    def scores(parameters: Parameters, x: Any) -> Any:
        x = function(linear(parameters, "first.linear", x))
        if scan:
            stacked = {name: parameters[name] for name in parameters if name.startswith("hidden")}
            x, _ = lax.scan(
                lambda x, one: (function(linear(one, "hidden.linear", x)), None), x, stacked
            )
        else:
            for layer in hidden:
                x = function(linear(parameters, layer, x))
        return linear(parameters, "output", x)

    return JaxNetwork(parameters, shape(batch, input), *_with(scores, loss, (batch,), classes))


def _with(
    scores: Callable[[Parameters, Any], Any], loss: str, x: tuple[int, ...], classes: int
) -> tuple[Any, Any, Any]:
    target, function = loss_of(loss, x, classes)
    return target, scores, function


def convolution(parameters: Parameters, layer: str, x: Any, stride: int) -> Any:
    weight = parameters[f"{layer}.weight"]
    padding = weight.shape[-1] // 2
    with jax.named_scope(layer):
        return lax.conv_general_dilated(
            x, weight, (stride, stride), [(padding, padding)] * 2, dimension_numbers=IMAGES
        )


def max_pool(layer: str, x: Any, padding: int) -> Any:
    """The maximum of windows of 3 x 3, every second one."""
    with jax.named_scope(layer):
        return lax.reduce_window(
            x, -jnp.inf, lax.max, (1, 1, 3, 3), (1, 1, 2, 2),
            ((0, 0), (0, 0), (padding, padding), (padding, padding)),
        )  # fmt: skip


def mean_and_output(parameters: Parameters, x: Any) -> Any:
    with jax.named_scope("pool"):
        x = x.mean((2, 3))
    return linear(parameters, "output", x)


def cnn(
    *,
    batch: int,
    depth: int = 10,
    shared: bool = True,
    image: int = 224,
    classes: int = 10,
    loss: str = "cross_entropy",
    scan: bool = False,
) -> JaxNetwork:
    """A convolution of 7 x 7, a pooling, ``depth`` convolutions of 3 x 3 and 32 channels, another
    of 7 x 7, the mean over the image and a linear layer.

    Args:
        shared: whether the middle is one convolution that is applied again and again.
        scan: whether it is a loop, over stacked weights if they are not shared.
    """
    one = shared or scan
    middle = ["middle.conv"] if one else [f"middle.{i}.conv" for i in range(depth)]
    stack = (depth,) if scan and not shared else ()
    parameters = {"first.conv.weight": shape(32, 3, 7, 7)}
    parameters |= {f"{layer}.weight": shape(*stack, 32, 32, 3, 3) for layer in middle if depth}
    parameters |= {"last.conv.weight": shape(64, 32, 7, 7)}
    parameters |= linear_shapes("output", 64, classes, True)

    def scores(parameters: Parameters, x: Any) -> Any:
        def again(x: Any, layer: str, parameters: Parameters = parameters) -> Any:
            return jax.nn.relu(convolution(parameters, layer, x, 1))

        def round_of(x: Any, weight: Any) -> tuple[Any, None]:
            own = parameters if shared else {"middle.conv.weight": weight}
            return again(x, "middle.conv", own), None

        x = jax.nn.relu(convolution(parameters, "first.conv", x, 2))
        x = max_pool("first.pool", x, 0)
        if scan:
            stacked = None if shared else parameters["middle.conv.weight"]
            x, _ = lax.scan(round_of, x, stacked, length=depth)
        else:
            for layer in middle * depth if shared else middle:
                x = again(x, layer)
        x = jax.nn.relu(convolution(parameters, "last.conv", x, 2))
        return mean_and_output(parameters, x)

    return JaxNetwork(
        parameters, shape(batch, 3, image, image), *_with(scores, loss, (batch,), classes)
    )


def convnet(
    *, batch: int, image: int = 224, classes: int = 10, loss: str = "cross_entropy"
) -> JaxNetwork:
    """Two convolutions, each with a pooling, the mean over the image and a linear layer."""
    parameters = {"first.conv.weight": shape(32, 3, 7, 7), "last.conv.weight": shape(64, 32, 7, 7)}
    parameters |= linear_shapes("output", 64, classes, True)

    def scores(parameters: Parameters, x: Any) -> Any:
        for part in ("first", "last"):
            x = jax.nn.relu(convolution(parameters, f"{part}.conv", x, 2))
            x = max_pool(f"{part}.pool", x, 1)
        return mean_and_output(parameters, x)

    return JaxNetwork(
        parameters, shape(batch, 3, image, image), *_with(scores, loss, (batch,), classes)
    )


def normalize(parameters: Parameters, layer: str, x: Any, norm: str) -> Any:
    with jax.named_scope(layer):
        if norm == "layer":
            x = x - x.mean(-1, keepdims=True)
        y = x * lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-5)
        y = y * parameters[f"{layer}.weight"]
        return y + parameters[f"{layer}.bias"] if f"{layer}.bias" in parameters else y


def angles_of(seq: int, width: int) -> Any:
    """Of each position and pair of channels (Vaswani et al. 2017, section 3.5)."""
    return np.arange(seq)[:, None] * 10_000.0 ** (-np.arange(0, width, 2) / width)


def rotated(x: Any) -> Any:
    """Each head's halves, turned by an angle that grows with the position."""
    angles = angles_of(x.shape[1], x.shape[-1])[:, None, :]  # alike in every head
    cosine, sine = (each(angles).astype(np.float32) for each in (np.cos, np.sin))
    first, second = jnp.split(x, 2, -1)
    return jnp.concatenate([first * cosine - second * sine, second * cosine + first * sine], -1)


def attention(query: Any, key: Any, value: Any, causal: bool) -> Any:
    """Of query[B, L, K, G, D] to key and value[B, L, K, D]: G heads share one key and value."""
    scores = jnp.einsum("blkgd,bmkd->bkglm", query, key) / query.shape[-1] ** 0.5
    if causal:
        scores = scores + np.triu(np.full(scores.shape[-2:], -np.inf, np.float32), 1)
    return jnp.einsum("bkglm,bmkd->blkgd", jax.nn.softmax(scores), value)


def transformer(
    *,
    batch: int,
    kind: str = "decoder",
    depth: int = 6,
    width: int = 512,
    heads: int = 8,
    kv_heads: int = 0,
    feed_forward: int = 0,
    gated: bool = False,
    vocabulary: int = 8192,
    seq: int = 128,
    positions: str = "learned",
    norm: str = "layer",
    tied: bool = True,
    bias: bool = True,
    activation: str = "gelu",
    loss: str = "cross_entropy",
    scan: bool = False,
) -> JaxNetwork:
    """``depth`` blocks of attention and feed-forward layers, a norm before each, between an
    embedding and a head.

    Args:
        scan: whether the blocks are one loop over stacked weights.
    """
    kv_heads, feed_forward = kv_heads or heads, feed_forward or 4 * width
    head = width // heads

    def norm_shapes(layer: str) -> dict[str, Any]:
        affine = ("weight", "bias") if norm == "layer" and bias else ("weight",)
        return {f"{layer}.{each}": shape(width) for each in affine}

    def block_shapes(block: str) -> dict[str, Any]:
        sizes = {
            "attention.query": (width, width),
            "attention.key": (width, kv_heads * head),
            "attention.value": (width, kv_heads * head),
            "attention.output": (width, width),
            "feed_forward.up": (width, feed_forward),
            "feed_forward.down": (feed_forward, width),
        } | ({"feed_forward.gate": (width, feed_forward)} if gated else {})
        shapes = norm_shapes(f"{block}.attention.norm") | norm_shapes(f"{block}.feed_forward.norm")
        for layer, (inputs, outputs) in sizes.items():
            shapes |= linear_shapes(f"{block}.{layer}", inputs, outputs, bias)
        return shapes

    blocks = ["layers"] if scan else [f"layers.{i}" for i in range(depth)]
    parameters = {"embedding.weight": shape(vocabulary, width)}
    if positions == "learned":
        parameters |= {"positions.weight": shape(seq, width)}
    for block in blocks:
        parameters |= {
            name: shape(depth, *each.shape) if scan else each
            for name, each in block_shapes(block).items()
        }
    parameters |= norm_shapes("norm")
    parameters |= {} if tied else linear_shapes("head", width, vocabulary, False)

    def apply_block(parameters: Parameters, block: str, x: Any) -> Any:
        def project(layer: str, x: Any) -> Any:
            return linear(parameters, f"{block}.{layer}", x)

        def heads_of(layer: str, x: Any, number: int) -> Any:
            y = project(layer, x).reshape(*x.shape[:2], number, head)
            is_turned = positions == "rotary" and layer != "attention.value"
            return rotated(y) if is_turned else y

        y = normalize(parameters, f"{block}.attention.norm", x, norm)
        query = heads_of("attention.query", y, heads)
        query = query.reshape(*x.shape[:2], kv_heads, heads // kv_heads, head)
        key, value = (heads_of(f"attention.{of}", y, kv_heads) for of in ("key", "value"))
        with jax.named_scope(f"{block}.attention.products"):
            y = attention(query, key, value, kind == "decoder").reshape(x.shape)
        x = x + project("attention.output", y)
        y = normalize(parameters, f"{block}.feed_forward.norm", x, norm)
        function = ACTIVATIONS[activation]
        up = project("feed_forward.up", y)
        y = function(project("feed_forward.gate", y)) * up if gated else function(up)
        return x + project("feed_forward.down", y)

    def embed(parameters: Parameters, tokens: Any) -> Any:
        x = parameters["embedding.weight"][tokens]
        return x + parameters["positions.weight"] if positions == "learned" else x

    def scores(parameters: Parameters, x: Any) -> Any:
        if positions == "sinusoidal":
            angles = angles_of(seq, width)
            x = x + np.concatenate([np.sin(angles), np.cos(angles)], -1).astype(np.float32)
        if scan:
            stacked = {name: parameters[name] for name in parameters if name.startswith("layers.")}
            x, _ = lax.scan(lambda x, one: (apply_block(one, "layers", x), None), x, stacked)
        else:
            for block in blocks:
                x = apply_block(parameters, block, x)
        x = normalize(parameters, "norm", x, norm)
        weight = parameters["embedding.weight" if tied else "head.weight"]
        return linear({"head.weight": weight}, "head", x)

    tokens = shape(batch, seq, dtype="int32")
    target, function = loss_of(loss, (batch, seq), vocabulary)
    return JaxNetwork(parameters, tokens, target, scores, function, embed)


NETWORKS: Mapping[str, Callable[..., JaxNetwork]] = {
    "mlp": mlp,
    "cnn": cnn,
    "convnet": convnet,
    "transformer": transformer,
}
