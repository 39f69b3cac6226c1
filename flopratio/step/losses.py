"""A loss for whatever a model returns: its own, or one that fits the shape of its output."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from flopratio.errors import UsageError
from flopratio.models.explain import summary
from flopratio.step.options import LOSSES, LossFunction
from flopratio.step.out_of_memory import is_out_of_memory
from flopratio.text.suggestions import not_among

_FIRST = ("logits", "last_hidden_state", "out")
"""Where models put their main output, among others that a loss seldom reads."""


def loss_of(output: Any, loss: str | LossFunction = "auto") -> Tensor:
    """The loss of a model's output.

    Args:
        loss: a function of the output, or one of :data:`flopratio.step.options.LOSSES`. "auto": the
            output's own ``.loss``, the sum of a dict of losses (detection), a scalar as it is, and
            else what fits each prediction: the cross entropy of [N, C] or [N, C, H, W] against
            class 0, the sum of any other shape. "cross_entropy", "mse" (against zeros) and "sum"
            are applied to the predictions, whatever else the output holds.

    Raises:
        UsageError: an unknown name, a loss that doesn't fit, or a function that fails.
    """
    if not isinstance(loss, str):
        return _called(loss, output)
    if loss not in LOSSES:
        raise not_among("loss", loss, LOSSES)
    if loss == "auto":
        losses = own_losses(output)
        if losses:
            return _total(losses)
    return _total(_loss(prediction, loss) for prediction in predictions(output))


def _called(loss: LossFunction, output: Any) -> Tensor:
    try:
        return loss(output)
    except (Exception, SystemExit) as error:
        if is_out_of_memory(error):
            raise
        name = getattr(loss, "__name__", type(loss).__name__)
        raise UsageError(
            f"the loss {name} failed: {summary(error)}; it is called with the "
            "model's output alone: put the target into a function of it"
        ) from error


def check_loss(loss: Any) -> None:
    """Check that a backward can start at what a step takes for its loss.

    Raises:
        UsageError: it is no scalar tensor, or needs no gradient.
    """
    if not isinstance(loss, Tensor):
        raise UsageError(f"the loss should be a scalar tensor, not {type(loss).__name__}")
    if loss.numel() != 1:
        raise UsageError(f"the loss should be a scalar, not of shape {tuple(loss.shape)}")
    if not loss.requires_grad:
        raise UsageError("the loss needs no gradient: no trained parameter leads to it")


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
    chosen = [named[name] for name in _FIRST if _is_differentiable(named.get(name))][:1]
    if chosen:
        auxiliary = [value for name, value in named.items() if name.startswith("aux")]
        chosen += [v for v in auxiliary if _is_differentiable(v) and v.dim() == chosen[0].dim()]
    else:
        everything = [value for value in _tensors(output) if _is_differentiable(value)]
        chosen = everything if isinstance(output, list) else everything[:1]
    if not chosen:
        raise UsageError(
            f"the model returned {_in_words(output)}, in which nothing requires a gradient: "
            "return a floating tensor that depends on a parameter that is not frozen"
        )
    return chosen


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


def _in_words(output: Any) -> str:
    shapes = ["x".join(map(str, tensor.shape)) or "a scalar" for tensor in _tensors(output)]
    kind = "tensor" if isinstance(output, Tensor) else type(output).__name__
    return f"a {kind}" + (f" of {', '.join(shapes[:4])}" if shapes else "")
