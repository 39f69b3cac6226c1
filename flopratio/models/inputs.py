"""Example inputs: floats on the meta device, since their shape is all; integers with values."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch import Tensor

from flopratio.models.example import ModelError, Request
from flopratio.text.dtypes import parse_dtype

_SHAPE = re.compile(r"\d+(x\d+)*")


def floats(*shape: int) -> Tensor:
    """A floating input of the given shape, without values; it takes the model's dtype later."""
    return torch.empty(shape, device="meta")


def integers(*shape: int, value: int = 0) -> Tensor:
    """An int64 input (tokens, classes) of the given shape, every element `value`."""
    return torch.full(shape, value)


def take_image(request: Request, default: tuple[int, int]) -> tuple[int, int]:
    """(height, width) in pixels by the setting `image`: 224, or 224x160."""
    height, width = default
    value = request.take("image", height if height == width else f"{height}x{width}")
    sizes = parse_shape("image", value, example="224")
    if len(sizes) > 2:
        raise ModelError(f"image={value} has {len(sizes)} sides: write image=HEIGHTxWIDTH")
    return sizes[0], sizes[-1]


def take_input(request: Request) -> list[Tensor]:
    """The inputs of the setting `input`: none, one, or several (a list, or comma-separated).

    `8x3x224x224`, or its sides as a tuple, is floating; `8x128:int64` says another dtype.
    """
    if "input" not in request.settings:
        return []
    value = request.take("input", None)
    if isinstance(value, list | tuple) and all(type(side) is int for side in value):
        value = "x".join(map(str, value))
    parts = value if isinstance(value, list | tuple) else str(value).split(",")
    return [_input(str(part).strip()) for part in parts]


def take_images(
    request: Request, channels: int, native: tuple[int, int], *, frames: tuple[int, ...] = ()
) -> Tensor:
    """Images [N, C, H, W] or clips [N, C, T, H, W], by `input`, or by `batch` and `image`.

    ModelError: `input` has not the sides of an image or a clip, or other channels.
    """
    given = take_input(request)
    if not given:
        return floats(take_batch(request), channels, *frames, *take_image(request, native))
    images = given[0]
    wanted = (take_batch(request, given), channels, *frames, *native)
    if images.dim() != len(wanted) or images.size(1) != channels:
        raise ModelError(
            f"input={request.settings['input']} doesn't fit {request.spec}: write "
            f"input={'x'.join(map(str, wanted))}"
        )
    return images


def take_batch(request: Request, inputs: Sequence[Tensor] = ()) -> int:
    """The setting `batch`, or the first side of a given input; 2 by default.

    One example would do for counting, but batch normalisation refuses to train on one value.
    """
    if inputs:
        request.used["batch"] = inputs[0].size(0)
        return inputs[0].size(0)
    return request.take_int("batch", 2)


def parse_shape(key: str, value: object, *, example: str) -> tuple[int, ...]:
    """`8x3x224x224` -> (8, 3, 224, 224); ModelError if it is no shape, or an empty one."""
    text = str(value).strip()
    shape = tuple(int(side) for side in text.split("x")) if _SHAPE.fullmatch(text) else ()
    if not shape or 0 in shape:
        raise ModelError(f"{key}={text} is not a size: write it like {key}={example}")
    return shape


def _input(text: str) -> Tensor:
    sides, _, dtype_name = text.partition(":")
    shape = parse_shape("input", sides, example="8x3x224x224")
    dtype = parse_dtype(dtype_name) if dtype_name else torch.float32
    return floats(*shape).to(dtype) if dtype.is_floating_point else integers(*shape).to(dtype)
