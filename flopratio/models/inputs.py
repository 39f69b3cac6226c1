"""Example inputs: floats on the meta device, since their shape is all; integers with values."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from flopratio.models.example import FixedSizeError, ModelError, Request
from flopratio.text.dtypes import dtype_name, parse_dtype
from flopratio.text.grammar import format_value

_SHAPE = re.compile(r"\d+(x\d+)*")


def floats(*shape: int) -> Tensor:
    """A floating input of the given shape, without values; it takes the model's dtype later."""
    return torch.empty(shape, device="meta")


def integers(*shape: int, value: int = 0) -> Tensor:
    """An int64 input (tokens, classes) of the given shape, every element `value`."""
    return torch.full(shape, value)


def drawn(request: Request, tensor: Tensor, below: int) -> Tensor:
    """An integer input as it is, or for a real step with each element drawn below a number: to look
    up one row of a table many times takes another time than to look up many."""
    return torch.randint_like(tensor, below) if request.real else tensor


def with_values(tensor: Tensor, device: torch.device) -> Tensor:
    """A real tensor of the shape: random where it is floating and has no values, else ones."""
    if not tensor.is_meta:
        return tensor.to(device)
    made = torch.randn_like if tensor.is_floating_point() else torch.ones_like
    return made(tensor, device=device, requires_grad=tensor.requires_grad)


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

    `8x3x224x224`, or its sides as a tuple, is floating; `8x128:int64` says another dtype. The
    setting `batch`, if it is given too, takes the place of the first side, in each input that has
    the first one's: so one `input` will do for every batch.
    """
    if "input" not in request.settings:
        return []
    value = request.take("input", None)
    if isinstance(value, list | tuple) and all(type(side) is int for side in value):
        value = "x".join(map(str, value))
    parts = value if isinstance(value, list | tuple) else str(value).split(",")
    inputs = [_input(str(part).strip()) for part in parts]
    if "batch" not in request.settings:
        return inputs
    batch, before = request.take_int("batch", 2), inputs[0].size(0)
    inputs = [_of_batch(batch, x) if x.size(0) == before else x for x in inputs]
    request.used["input"] = as_setting(inputs)
    return inputs


def _of_batch(batch: int, tensor: Tensor) -> Tensor:
    return tensor.new_zeros(batch, *tensor.shape[1:])


def as_setting(inputs: Sequence[Tensor]) -> str:
    """Tensors as the setting `input` has them."""
    return ",".join(map(_written, inputs))


def _written(tensor: Tensor) -> str:
    dtype = "" if tensor.dtype is torch.float32 else f":{dtype_name(tensor.dtype)}"
    return "x".join(map(str, tensor.shape)) + dtype


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
    """The first side of a given input, or the setting `batch`; 2 by default.

    One example would do for counting, but batch normalisation refuses to train on one value.
    """
    if inputs:
        request.used["batch"] = inputs[0].size(0)
        return inputs[0].size(0)
    return request.take_int("batch", 2)


def refuse_beside_input(request: Request, key: str) -> None:
    """Check that a size is not given beside an `input` that says another, or none of it.

    FixedSizeError: it is.
    """
    if key in request.settings and request.used.get(key) != request.settings[key]:
        size: Any = request.settings[key]
        shape: Any = request.used["input"]
        raise FixedSizeError(
            f"{key}={format_value(size)} and input={format_value(shape)} both say what the model "
            "reads: leave one out"
        )


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
