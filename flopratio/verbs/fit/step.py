"""A training step whose size by one KEY is open, traced at any value of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from flopratio.errors import UsageError
from flopratio.ledger import Ledger
from flopratio.models import FixedSizeError, Inputs
from flopratio.step.options import StepOptions
from flopratio.text.grammar import format_value
from flopratio.torch_private import FakeTensor, tree_leaves, tree_map_only
from flopratio.verbs.count import count_step
from flopratio.verbs.fit.search import Tried

FIRST_SIZES = sorted({factor << power for factor in (1, 3) for power in range(12)})
"""Tried in this order, where the model does not tell a size of its own: some do not run with the
smallest."""


class OpenStep:
    """The step of a model at any value of a KEY.

    Args:
        model, batch: as :func:`flopratio.count` takes them. Of a built module, the KEY is
            ``batch``, the leading dimension of the inputs.
        settings: of a spec; if the KEY is among them, that is the value to start from.

    Attributes:
        name: of the model.
        given: the value that was given for the KEY.
        start: the value to try first, if one is known: that, or of a module its example's batch.

    Raises:
        UsageError: the KEY, or the value given for it, is no size.
    """

    def __init__(
        self, model: torch.nn.Module | str, batch: Any, key: str, settings: Mapping[str, Any]
    ) -> None:
        self._model, self._key, self._settings = model, key, dict(settings)
        self._inputs: Any = None
        self.given: int | None = None
        start: int | None = None
        self.name = model if isinstance(model, str) else type(model).__name__
        if isinstance(model, torch.nn.Module):
            if key != "batch" or settings:
                raise UsageError(
                    "a module that is built already has its sizes, all but the batch: give the "
                    "others to a model spec, such as file.py:factory"
                )
            if batch is None:
                raise UsageError("give the module an example batch: fit(model, batch, memory=...)")
            self._inputs, start = batch, _leading_dimension(batch)
        elif batch is not None:
            self._settings["batch"] = batch
        if key in self._settings:
            self.given = self._size(self._settings.pop(key))
        self.start = self.given or start

    def first(self, options: StepOptions) -> Tried:
        """The step at the given value, at the model's own, or at the first that runs.

        Raises:
            UsageError: it runs at none.
        """
        if self.start is not None:
            return self._counted(options, self.start)
        failures: list[UsageError] = []
        try:
            ledger = count_step(self._model, None, self._settings, options)
        except UsageError as error:
            failures.append(error)
        else:
            if self._key in ledger.settings:
                return _tried(self._size(ledger.settings[self._key]), ledger)
        for size in FIRST_SIZES:
            try:
                return self._counted(options, size)
            except FixedSizeError:
                raise
            except UsageError as error:
                failures.append(error)
            if size == FIRST_SIZES[0] and len(set(map(str, failures))) < len(failures):
                break  # it fails with and without the KEY alike
        if len(set(map(str, failures))) == 1:
            raise failures[0]
        raise UsageError(
            f"{self.name} runs with no {self._key} of {FIRST_SIZES[0]}, {FIRST_SIZES[1]}, … "
            f"{FIRST_SIZES[-1]:,}: give one to start from, such as {self._key}=768 "
            f"({failures[-1]})"
        )

    def trace(self, options: StepOptions, size: int) -> Tried:
        """The step at a size; or why the model refuses that, in a sentence.

        Args:
            options: how it is run.

        Raises:
            UsageError: the size can't be set, for another KEY sets it.
        """
        try:
            return self._counted(options, size)
        except FixedSizeError:
            raise
        except UsageError as error:
            return Tried(size, refusal=str(error))

    def _counted(self, options: StepOptions, size: int) -> Tried:
        if self._inputs is not None:
            resized = _resized(self._inputs, size)
            return _tried(size, count_step(self._model, resized, {}, options))
        settings = {**self._settings, self._key: size}
        return _tried(size, count_step(self._model, None, settings, options))

    def _size(self, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UsageError(
                f"{self._key}={format_value(value)} is no size: fit looks for a whole number from "
                "1 on, such as the batch"
            )
        return value


def _tried(size: int, ledger: Ledger) -> Tried:
    total, memory = ledger.totals, ledger.memory
    return Tried(
        size,
        memory=dict(memory),
        at_peak=memory.at_peak.by_category,
        flops=total.forward + total.backward + total.recompute + total.update,
        settings=ledger.settings,
    )


def _inputs_of(batch: Any) -> list[Any]:
    """The inputs of a module, one by one."""
    args, kwargs = Inputs.of(batch)
    return [*args, *kwargs.values()]


def _leading_dimension(batch: Any) -> int:
    """How many examples there are: the first dimension of each tensor; in a list, its length."""
    sizes: set[int] = set()
    for part in _inputs_of(batch):
        if isinstance(part, list):
            sizes.add(len(part))
        else:
            tensors = [leaf for leaf in tree_leaves(part) if isinstance(leaf, Tensor)]
            sizes |= {tensor.size(0) for tensor in tensors if tensor.dim()}
    if len(sizes) != 1:
        raise UsageError(
            "the inputs of the module have no leading dimension in common that is the batch: give "
            "fit a factory instead, such as file.py:factory, that takes batch=VALUE"
        )
    return sizes.pop()


def _resized(batch: Any, size: int) -> Any:
    """Inputs with another number of examples: tensors with another leading dimension, and lists
    with their first examples, over and over. Integers keep values that they may have, for they may
    be looked up; nothing else has any."""

    def resized(part: Any) -> Any:
        if isinstance(part, list):
            return [part[index % len(part)] for index in range(size)]
        return tree_map_only(Tensor, resize, part)

    def resize(tensor: Tensor) -> Tensor:
        if not tensor.dim():
            return tensor
        shape = (size, *tensor.shape[1:])
        if isinstance(tensor, FakeTensor) or tensor.is_meta:
            resized = tensor.new_empty(shape)
        elif tensor.is_floating_point() or tensor.is_complex():
            resized = tensor.new_empty(shape, device="meta")
        else:
            return tensor[:1].repeat(size, *[1] * (tensor.dim() - 1))
        return resized.requires_grad_(tensor.requires_grad)

    if isinstance(batch, tuple):
        return tuple(map(resized, batch))
    if isinstance(batch, Mapping):
        return {name: resized(part) for name, part in batch.items()}
    return resized(batch)
