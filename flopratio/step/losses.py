"""A loss for whatever a model returns: its own, or one that fits the shape of its output."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from flopratio.errors import UsageError
from flopratio.text.suggestions import did_you_mean

KINDS = ("auto", "cross_entropy", "mse", "sum")

_FIRST = ("logits", "last_hidden_state", "out")
"""Where models put their main output, among others that a loss seldom reads."""


def loss_of(output: Any, kind: str = "auto") -> Tensor:
    """The loss of a model's output, a scalar that requires a gradient.

    kind "auto": the output's own `.loss`, the sum of a dict of losses (detection), a scalar as it
    is, and else what fits each prediction: the cross entropy of [N, C] or [N, C, H, W] against
    class 0, the sum of any other shape. "cross_entropy", "mse" (against zeros) and "sum" are
    applied to the predictions, whatever else the output holds.

    UsageError: an unknown kind, a loss that doesn't fit, or nothing that requires a gradient.
    """
    if kind not in KINDS:
        raise UsageError(f"there is no loss {kind!r}{did_you_mean(kind, KINDS)}")
    if kind == "auto":
        losses = own_losses(output)
        if losses:
            return _total(losses)
    return _total(_loss(prediction, kind) for prediction in predictions(output))


def own_losses(output: Any) -> list[Tensor]:
    """The losses that an output holds itself: `.loss` (the mean, if it has one for each example), a
    dict of scalars, or a scalar."""
    own = output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", None)
    if isinstance(own, Tensor):
        return [own.mean()] if own.dim() else [own]
    parts = list(output.values()) if isinstance(output, Mapping) else [output]
    if parts and all(isinstance(part, Tensor) and part.dim() == 0 for part in parts):
        return [part for part in parts if part.requires_grad]
    return []


def predictions(output: Any) -> list[Tensor]:
    """The tensors of an output that a loss is taken of, all floating and requiring a gradient.

    Of named outputs the main one, with those of the auxiliary classifiers (`aux_logits`, `aux`); of
    a list (the refinements of an estimate) each; of any other collection the first.

    UsageError: there is none.
    """
    named = _named(output)
    found = [named[name] for name in _FIRST if _is_differentiable(named.get(name))][:1]
    if found:
        auxiliary = [value for name, value in named.items() if name.startswith("aux")]
        found += [v for v in auxiliary if _is_differentiable(v) and v.dim() == found[0].dim()]
    else:
        everything = [value for value in _tensors(output) if _is_differentiable(value)]
        found = everything if isinstance(output, list) else everything[:1]
    if not found:
        raise UsageError(
            f"the model returned {_describe(output)}, in which nothing requires a gradient: "
            "return a floating tensor that depends on a parameter that is not frozen"
        )
    return found


def _loss(prediction: Tensor, kind: str) -> Tensor:
    if kind == "auto":
        kind = "cross_entropy" if prediction.dim() in (2, 4) else "sum"
    if kind == "sum":
        return prediction.float().sum()
    if kind == "mse":
        return functional.mse_loss(prediction, prediction.new_zeros(prediction.shape))
    if prediction.dim() < 2:
        shape = "x".join(map(str, prediction.shape)) or "scalar"
        raise UsageError(f"a cross entropy needs an output of [N, C, ...], not {shape}: take 'sum'")
    batch, _, *positions = prediction.shape
    classes = prediction.new_zeros((batch, *positions), dtype=torch.int64)
    return functional.cross_entropy(prediction, classes)


def _total(losses: Iterable[Tensor]) -> Tensor:
    """The sum of losses, without an addition where there is one only."""
    first, *others = losses
    for other in others:
        first = first + other
    return first


def _named(output: Any) -> Mapping[str, Any]:
    """The parts of an output by name: of a dict, a named tuple or an object; a tensor has none."""
    if isinstance(output, Mapping):
        return output
    if isinstance(output, Tensor):
        return {}
    if isinstance(output, tuple) and hasattr(output, "_asdict"):
        named: Mapping[str, Any] = output._asdict()
        return named
    return getattr(output, "__dict__", {})


def _tensors(output: Any) -> Iterator[Tensor]:
    """Every tensor of a nested output, in order."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, list | tuple):
        for part in output:
            yield from _tensors(part)
    elif isinstance(output, Mapping) or dataclasses.is_dataclass(output):
        for part in _named(output).values():
            yield from _tensors(part)


def _is_differentiable(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and value.requires_grad


def _describe(output: Any) -> str:
    shapes = ["x".join(map(str, tensor.shape)) or "a scalar" for tensor in _tensors(output)]
    kind = "tensor" if isinstance(output, Tensor) else type(output).__name__
    return f"a {kind}" + (f" of {', '.join(shapes[:4])}" if shapes else "")
