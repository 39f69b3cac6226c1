"""Steps under the Profiler, off which the published figures are read."""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn

import flopratio as fr


def profiled(step: Callable[[], Any], model: nn.Module | None = None) -> fr.Ledger:
    """The ledger of a step, in which every operator was counted and the law holds."""
    with fr.Profiler(model) as profiler:
        step()
    ledger = profiler.ledger
    assert ledger.uncounted_ops == {}
    assert ledger.mismatches == []
    return ledger


def trained(model: nn.Module, *inputs: torch.Tensor) -> fr.Ledger:
    """The ledger of a forward, the sum of its output as the loss, and a backward."""
    return profiled(lambda: model(*inputs).sum().backward(), model)


def part(ledger: fr.Ledger, pattern: str) -> fr.Ledger:
    """The layers whose paths match the pattern (``blocks.*.attention``)."""
    return fr.Ledger(
        [row for row in ledger.rows if fnmatchcase(row.layer, pattern)],
        parameters={
            layer: number
            for layer, number in ledger.parameters.items()
            if fnmatchcase(layer, pattern)
        },
    )


def model_flops(ledger: fr.Ledger) -> int:
    """Contractions of forward and backward."""
    return ledger.totals.forward + ledger.totals.backward


def hardware_flops(ledger: fr.Ledger) -> int:
    """Contractions of forward and backward, and those that backward evaluates again."""
    return model_flops(ledger) + ledger.totals.recompute
