"""What a MODEL spec becomes: a module, example inputs, and the fake mode that both live in."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from flopratio.errors import UsageError
from flopratio.models.conversion import convertible_modules
from flopratio.models.fakes import StepMode
from flopratio.models.importing import importing_from
from flopratio.torch_private import FakeTensor, buffers, parameters, tree_iter


class ModelError(UsageError):
    """A MODEL that can't be used as asked; one sentence: what is wrong, and what would be right."""


class ReadsValuesError(ModelError):
    """A model that asks for the value of a tensor, where there are shapes only.

    Attributes:
        reason: that it does, and where.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class FixedSizeError(ModelError):
    """A KEY that can't have the value given for it, or any other, because `input` says its size."""


class Inputs(NamedTuple):
    """The positional and the keyword inputs of a module."""

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = {}

    @classmethod
    def of(cls, batch: Any) -> Inputs:
        """A batch as users give it: a tuple of positional or a dict of keyword inputs; anything
        else, a list too, is one input."""
        if isinstance(batch, tuple):
            return cls(tuple(batch))
        if isinstance(batch, Mapping):
            return cls((), batch)
        return cls((batch,))

    @property
    def tensors(self) -> list[Tensor]:
        return [value for value in tree_iter(tuple(self)) if isinstance(value, Tensor)]


@dataclass
class Example:
    """A module in training mode with inputs that fit it, ready for one training step.

    Without `real`, parameters, buffers and floating inputs are fake tensors of `mode`: they have
    shapes and no values, so a step costs neither memory nor arithmetic.
    """

    module: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    mode: StepMode | None
    """The mode of the fake tensors; None when the example is real."""
    enter_mode: bool
    """Whether the step runs inside `mode`, if no sparse tensor is real. If not, only operators on
    fake tensors are faked: what the model computes from integers alone (masks, positions) is
    computed, and may be read."""
    settings: dict[str, object]
    """The KEY=VALUE that were used, with the defaults of batch, seq and image."""
    kind: str
    """classifier, detection, segmentation, causal-lm, masked-lm, seq2seq, encoder, vision, speech
    or module."""
    tokens: int | None
    """batch * seq of a language model, else None."""
    for_loss: frozenset[str] = frozenset()
    """The keyword inputs that are there for the loss alone: labels."""
    guessed: bool = False
    """Whether the input is a guess, by the sizes of the module's first layer."""
    computed: Mapping[str, Tensor] = field(default_factory=dict)
    """As in :class:`flopratio.models.built.Copy`."""
    directory: Path | None = None
    """Where the imports of the user's own code start."""
    quiet: Callable[[], AbstractContextManager[None]] = nullcontext
    """Keeps to itself meanwhile what a model's package has to say of how it was built."""

    @property
    def inputs(self) -> Inputs:
        """Of a training step."""
        return Inputs(self.args, self.kwargs)

    @property
    def inference_inputs(self) -> Inputs:
        """Of a forward alone: without those that are there for the loss. A decoder that would read
        the labels, shifted, is given as many tokens."""
        kwargs = {name: value for name, value in self.kwargs.items() if name not in self.for_loss}
        reads = inspect.signature(self.module.forward).parameters
        if "labels" in self.for_loss & self.kwargs.keys() and "decoder_input_ids" in reads:
            kwargs.setdefault("decoder_input_ids", self.kwargs["labels"])
        return Inputs(self.args, kwargs)

    @contextmanager
    def context(self) -> Iterator[None]:
        """The context in which forward, loss, backward and update of this example run."""
        enters = self.enter_mode and not self._has_sparse_values()
        with importing_from(self.directory), self.quiet():
            if self.mode is None:
                yield
                return
            with convertible_modules(), self.mode if enters else nullcontext():
                yield

    def _has_sparse_values(self) -> bool:
        """Whether a sparse tensor is a real one: inside of the mode, its transpose would be one
        with an unknown number of non-zeros."""
        inputs = tree_iter((self.args, self.kwargs))
        return any(
            tensor.layout is not torch.strided and not isinstance(tensor, FakeTensor)
            for tensor in (*parameters(self.module), *buffers(self.module), *inputs)
            if isinstance(tensor, torch.Tensor)
        )


@dataclass
class Draft:
    """An example before its tensors are made fake or real: floats are meta, integers real."""

    module: nn.Module
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    kind: str = "module"
    tokens: int | None = None
    enter_mode: bool = True
    alternatives: list[dict[str, Any]] = field(default_factory=list)
    """Other keyword inputs, for a model that doesn't run with `kwargs`."""
    forms: dict[str, list[Any]] = field(default_factory=dict)
    """The forms that each input may have, for a model that runs with none of the alternatives."""
    cast: bool = True
    """Whether the module is still to be cast to the dtype of the request."""
    for_loss: frozenset[str] = frozenset()
    guessed: bool = False
    """Both as in `Example`."""
    select_all: bool = False
    spread: bool = False
    """Both as in `StepMode`."""
    quiet: Callable[[], AbstractContextManager[None]] = nullcontext
    """As in `Example`."""


@dataclass
class Request:
    """One call of `load`, as the loaders of the model families see it."""

    spec: str
    """The whole MODEL, for messages."""
    name: str
    """The MODEL without its prefix."""
    settings: Mapping[str, object]
    dtype: torch.dtype | None
    device: torch.device | None = None
    """Where a real example is made; None: it is of fake tensors."""
    used: dict[str, object] = field(default_factory=dict)
    """The settings taken so far, defaults included."""

    @property
    def real(self) -> bool:
        """Whether parameters and inputs are to have values."""
        return self.device is not None

    def take(self, key: str, default: object) -> Any:
        """The setting `key`, or `default`."""
        self.used[key] = self.settings.get(key, default)
        return self.used[key]

    def take_int(self, key: str, default: int) -> int:
        """The setting `key` as a positive whole number, or `default`; ModelError for another."""
        value = self.take(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ModelError(f"{key}={value} is not a positive whole number: write {key}={default}")
        return value

    def take_rest(self, *, but: tuple[str, ...] = ()) -> dict[str, object]:
        """The settings that are not taken yet, except `but`: they go to the constructor."""
        rest = {k: v for k, v in self.settings.items() if k not in self.used and k not in but}
        self.used |= rest
        return rest
