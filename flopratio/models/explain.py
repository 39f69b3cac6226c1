"""Why a model can't be built or run, in one sentence that names the line of the model."""

from __future__ import annotations

import linecache
import os
import textwrap
import traceback
from pathlib import Path

import torch

from flopratio.errors import message_of
from flopratio.models.example import Example, ModelError, ReadsValuesError
from flopratio.models.guess import first_layer
from flopratio.torch_private import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    tree_flatten,
)

_OURS = str(Path(__file__).parent.parent) + os.sep
_TORCH = str(Path(torch.__file__).parent) + os.sep
_LONGEST = 240

VALUE_READERS = (DataDependentOutputException, DynamicOutputShapeException)
"""What a fake tensor raises when a model asks for a value."""


def explain_failure(error: BaseException, example: Example, *, runs_with: str = "") -> ModelError:
    """The sentence for an error that the step of `example` raised.

    It names the line of the model that reads a value, or the line that failed with the inputs.

    Args:
        runs_with: in the place of a guess, as the setting `input` has it, if such inputs were
            found.
    """
    if isinstance(error, VALUE_READERS):
        reason = f"the model reads the value of a tensor{origin(error)}"
        return ReadsValuesError(
            f"{reason}, and a trace has shapes only: make that step depend on shapes, or put "
            "fr.Profiler around a step on real CPU tensors",
            reason,
        )
    named = [*example.kwargs.items(), *((f"input {i}", arg) for i, arg in enumerate(example.args))]
    inputs = ", ".join(_sizes(*item) for item in named)
    reason = f"{summary(error)}{origin(error)}"
    if example.guessed:
        (guess,) = example.args
        cure = "return (module, example_inputs) from the factory, or "
        cure += f"write input={runs_with or 'SHAPE'}"
        return ModelError(
            f"the model failed on the guessed input {'x'.join(map(str, guess.shape))}: {reason}; "
            + (f"{cure}, with which it runs" if runs_with else cure)
        )
    failed = f"the model failed{inputs and f' on {inputs}'}: {reason}"
    reads = _first_layer_fails(error, example) if example.kind == "module" else ""
    return ModelError(f"{failed}{reads and f'; its first layer, {reads}'}")


def _first_layer_fails(error: BaseException, example: Example) -> str:
    """What the first layer of a module reads, if that is what failed; else empty."""
    layer, reads = first_layer(example.module)
    frames = traceback.walk_tb(error.__traceback__)
    return reads if any(frame.f_locals.get("self") is layer for frame, _ in frames) else ""


def summary(error: BaseException) -> str:
    """The type and the message of an error, on one line and of bearable length."""
    if isinstance(error, SystemExit):
        code = "" if error.code is None else repr(error.code)
        return f"it ends the process, by sys.exit({code})"
    message = textwrap.shorten(message_of(error), _LONGEST, placeholder=" …").rstrip(".")
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def origin(error: BaseException) -> str:
    """` at FILE:LINE (the source line)` of the innermost frame outside torch, flopratio and the
    dispatch modes of others."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.filename.startswith((_OURS, _TORCH, "<")) or frame.name == "__torch_dispatch__":
            continue
        source = linecache.getline(frame.filename, frame.lineno or 0).strip()
        return f" at {Path(frame.filename).name}:{frame.lineno} ({source})"
    return ""


def _sizes(name: str, value: object) -> str:
    shapes = ["x".join(map(str, t.shape)) for t in tree_flatten(value)[0] if hasattr(t, "shape")]
    return f"{name} of {', '.join(shapes)}" if shapes else f"{name}={value}"
