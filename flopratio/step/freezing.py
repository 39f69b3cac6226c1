"""What does not train: the parameters that match a pattern themselves, or that a module holds which
does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch

from flopratio.errors import UsageError
from flopratio.text.patterns import matches, matches_nothing
from flopratio.torch_private import named_parameters


@contextmanager
def frozen(module: torch.nn.Module, pattern: str | None) -> Iterator[None]:
    """The parameters that match require no gradient meanwhile.

    Raises:
        UsageError: none matches.
    """
    if pattern is None:
        yield
        return
    chosen = [
        (parameter, parameter.requires_grad)
        for name, parameter in named_parameters(module)
        if matches(name, pattern)
    ]
    if not chosen:
        names = [name for name, _ in named_parameters(module)]
        raise UsageError(matches_nothing("freeze", pattern, names))
    try:
        for parameter, _ in chosen:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter, before in chosen:
            parameter.requires_grad_(before)


def check_trained(pattern: str | None, tensors: Iterable[torch.Tensor]) -> None:
    """Check that a pattern leaves something to train.

    Args:
        tensors: parameters and inputs, as they are under :func:`frozen`.

    Raises:
        UsageError: none of them requires a gradient.
    """
    if pattern is not None and not any(tensor.requires_grad for tensor in tensors):
        raise nothing_to_train(pattern)


def nothing_to_train(pattern: str | None) -> UsageError:
    """The error for a pattern that matches every parameter."""
    return UsageError(
        f"freeze={pattern} leaves nothing to train, so there is no backward: freeze less, "
        "or ask for inference or for input_grad"
    )
