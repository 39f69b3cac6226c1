"""The input of a module that comes without any: by the sizes of its first layer."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

from torch import Tensor, nn

from flopratio.models.example import ModelError, Request
from flopratio.models.inputs import drawn, floats, integers, take_batch, take_image

CONVOLUTIONS = (
    nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d
)

_SEQ, _IMAGE, _FRAMES = 128, (224, 224), 16

_SIDES = (28, 32, 64, 96, 112, 128, 256, 299, 384, 512)
"""Of the images that models are made for, beside those of 224."""


def guess_input(request: Request, module: nn.Module) -> Tensor:
    """A batch for the first layer of `module` whose sizes tell what it reads.

    ModelError: there is no such layer, or forward takes another number of inputs than one.
    """
    needed = _required_inputs(module)
    if len(needed) == 1:
        for layer in module.modules():
            guess = _input_of(layer, request)
            if guess is not None:
                return guess
    shapes = ",".join(["SHAPE"] * max(len(needed), 1))
    raise ModelError(
        f"the inputs of {request.spec}, forward({', '.join(needed)}), can't be guessed: return "
        f"(module, example_inputs) from the factory, or write input={shapes}"
    )


def other_guesses(guess: Tensor) -> Iterator[Tensor]:
    """What a model may read that fails on a guess: images of the usual other sizes. (Behind a
    flattened image, a linear layer takes those of one size.)"""
    if guess.dim() >= 4:
        yield from (floats(*guess.shape[:-2], side, side) for side in _SIDES)


def first_layer(module: nn.Module) -> tuple[nn.Module | None, str]:
    """The first layer of a module whose sizes tell what it reads, and that: `Linear reads ...x64`.
    None and an empty text, where there is none."""
    sides = {1: "LENGTH", 2: "HEIGHTxWIDTH", 3: "FRAMESxHEIGHTxWIDTH"}
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            return layer, f"Linear reads ...x{layer.in_features}"
        if isinstance(layer, CONVOLUTIONS):
            name, positions = type(layer).__name__, sides[len(layer.kernel_size)]
            return layer, f"{name} reads BATCHx{layer.in_channels}x{positions}"
    return None, ""


def _input_of(layer: nn.Module, request: Request) -> Tensor | None:
    """What a layer reads; None if its sizes don't tell, as those of a lazy layer."""
    if isinstance(layer, nn.Linear) and layer.in_features:
        positions = [_seq(request)] if "seq" in request.settings else []
        return floats(take_batch(request), *positions, layer.in_features)
    if isinstance(layer, nn.Embedding | nn.EmbeddingBag):
        return drawn(request, integers(take_batch(request), _seq(request)), layer.num_embeddings)
    if isinstance(layer, CONVOLUTIONS) and layer.in_channels:
        dimensions = len(layer.kernel_size)
        sides = [_seq(request)] if dimensions == 1 else [*take_image(request, _IMAGE)]
        frames = [_FRAMES] if dimensions == 3 else []
        return floats(take_batch(request), layer.in_channels, *frames, *sides)
    if isinstance(layer, nn.RNNBase | nn.MultiheadAttention):
        width = layer.input_size if isinstance(layer, nn.RNNBase) else layer.embed_dim
        batch, seq = take_batch(request), _seq(request)
        return floats(*((batch, seq) if layer.batch_first else (seq, batch)), width)
    return None


def _seq(request: Request) -> int:
    return request.take_int("seq", _SEQ)


def _required_inputs(module: nn.Module) -> list[str]:
    """The names of the inputs that forward can't do without; a bare *args stands for one."""
    parameters = inspect.signature(module.forward).parameters.values()
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    needed = [p.name for p in parameters if p.kind in positional and p.default is p.empty]
    return needed or [p.name for p in parameters if p.kind is p.VAR_POSITIONAL]
