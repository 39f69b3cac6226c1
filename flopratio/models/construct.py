"""Calling a constructor that others wrote, with one sentence for why it can't be called."""

from __future__ import annotations

import inspect
import re
import traceback
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from flopratio.errors import message_of
from flopratio.models.example import ModelError, Request
from flopratio.models.explain import origin, summary
from flopratio.models.weightless import build_weightless
from flopratio.text import suggestions

_SIZE_KEYWORDS = ("image_size", "img_size", "input_size", "spatial_size")
"""What constructors call the size of the images that a model is built for."""

_IMAGE_KEYS = ("batch", "image", "input")
"""The KEYs that models of images have for their inputs."""

_UNKNOWN_KEYWORD = re.compile(r"(?:(\w+)\.__init__)?\(\) got .*unexpected keyword argument '(\w+)'")


def construct(request: Request, make: Callable[..., Any], options: Mapping[str, object]) -> Any:
    """`make(**options)`: real if the request says so, else without weights.

    ModelError: a keyword that the constructor does not know, or whatever it raises.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of initialisations that will change, and the like
            if request.device is not None:
                with request.device:
                    return make(**options)
            return build_weightless(lambda: make(**options))
    except ModelError:
        raise
    except (Exception, SystemExit) as error:  # whatever foreign code raises becomes one sentence
        if request.device is not None and isinstance(error, MemoryError | torch.OutOfMemoryError):
            raise  # a device that is too small is told by who chose it
        unknown = (
            _UNKNOWN_KEYWORD.search(message_of(error)) if isinstance(error, TypeError) else None
        )
        if unknown is not None and unknown[2] in options:
            known = keywords(make) | _class_keywords(unknown[1], error) | {*_IMAGE_KEYS}
            raise unknown_key(request, unknown[2], known) from error
        reason = f"{summary(error)}{origin(error)}"
        raise ModelError(f"{request.spec} can't be built: {reason}") from error


def unknown_key(request: Request, key: str, known: set[str]) -> ModelError:
    """The error for a KEY that a model does not have, with the nearest one that it has."""
    return suggestions.unknown_key(request.spec, key, known, ModelError)


def keywords(function: Callable[..., Any]) -> set[str]:
    """The names of the keyword arguments of a function or class."""
    parameters = inspect.signature(function).parameters.values()
    return {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}


def resized(
    request: Request,
    make: Callable[..., Any],
    options: Mapping[str, object],
    module: nn.Module,
    images: Tensor,
) -> nn.Module:
    """`module` built anew for the size of `images`, if its class asks for a size at all."""
    known = keywords(type(module))
    keyword = next((key for key in _SIZE_KEYWORDS if key in known and key not in options), None)
    if keyword is None:
        return module
    height, width = images.shape[-2:]
    square = keyword == "image_size" and height == width  # torchvision's takes a number only
    size = height if square else (height, width)
    rebuilt: nn.Module = construct(request, make, {**options, keyword: size})
    return rebuilt


def _class_keywords(name: str | None, error: BaseException) -> set[str]:
    """The keyword arguments of the class of that name, which the code that failed has at hand."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        for value in (*frame.f_locals.values(), *frame.f_globals.values()):
            if isinstance(value, type) and value.__name__ == name:
                return keywords(value)
    return set()
