"""What a wild training step is, and the registry of them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from importlib import import_module
from pkgutil import iter_modules, resolve_name
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn


@dataclass(frozen=True)
class WildStep:
    """One training step as somebody would write it.

    Args:
        run: one whole step; gives back its losses (a tensor or a tuple of them).
        model: what ``fr.Profiler`` is given.
        state: all else whose values, modes and hooks must be as without the Profiler: optimizers,
            further modules, tensors, generators.
        profiler: further arguments of ``fr.Profiler``.
        by_hand: figures worked out with pencil and paper, ``forward``, ``grad_input``,
            ``grad_weight``, ``recompute``, ``update`` (contraction FLOP), ``elementwise_update``
            (the rest of the update), ``backward`` or ``ratio``; of one layer ``0.fc: grad_weight``.
        not_compared: why the law can't be held against this step, in the ledger's words:
            ``reconciled`` is None then.
        differs: why the law does not hold for this step, whatever counts it: ``reconciled`` is
            false then, and the ledger names where.
        unseen: what of the step runs where no Profiler sees it, in the ledger's words: its figures
            are too small then, and it is never reconciled.
        saved_unseen: why the saved bytes can't be compared (a step's own hooks keep them, or
            ``torch.func`` forbids hooks).
        memory_unseen: why it can't be told what memory the step leaves (a mode that looks would be
            in the compiler's way).
        uncounted: operators without a formula, which the ledger has to name.
        own_update: the step updates its parameters itself, with products, outside of any
            ``Optimizer.step``: forward and update are compared together.
    """

    run: Callable[[], Any]
    model: nn.Module | None = None
    state: Iterable[Any] = ()
    profiler: dict[str, Any] = field(default_factory=dict)
    by_hand: dict[str, float] = field(default_factory=dict)
    not_compared: str = ""
    differs: str = ""
    unseen: str = ""
    saved_unseen: str = ""
    memory_unseen: str = ""
    uncounted: frozenset[str] = frozenset()
    own_update: bool = False


Builder = Callable[[], WildStep]

STEPS: dict[str, Builder] = {}
"""Name -> what builds the step."""


def wild(builder: Builder) -> Builder:
    """Register a step by the name of the function that builds it."""
    name = builder.__name__
    assert name not in STEPS, f"two steps are called {name}"
    STEPS[name] = builder
    return builder


def build(name: str) -> WildStep:
    """A step, built from a fixed seed: twice the same."""
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)
    return STEPS[name]()


def needs(*names: str) -> None:
    """Skip a step that uses what this torch, or this machine, does not have.

    Args:
        names: attributes of torch, such as ``ops.aten._grouped_mm`` or ``nn.functional.rms_norm``.
    """
    for name in names:
        try:
            resolve_name(f"torch.{name}")
        except (AttributeError, ImportError, RuntimeError):
            pytest.skip(f"this torch has no torch.{name}")


def needs_kernel(call: Callable[[], Any]) -> None:
    """Skip a step whose operator has no kernel for the CPU in this torch."""
    try:
        call()
    except NotImplementedError as error:
        pytest.skip(str(error).partition(".")[0])


def load_steps() -> dict[str, Builder]:
    """All steps of tests/wild/steps."""
    package = import_module("tests.wild.steps")
    for module in iter_modules(package.__path__):
        import_module(f"tests.wild.steps.{module.name}")
    return STEPS
