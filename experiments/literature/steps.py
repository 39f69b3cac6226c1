"""Steps under the Profiler, off which the published figures are read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, dataclass
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


@dataclass(frozen=True)
class Counts:
    """What papers tell of a model's step.

    Args:
        parameters: but for those of the norms and positions.
        forward, backward, recompute: FLOP of products.
        attention: forward FLOP of Q Kᵀ and P V.
    """

    parameters: int
    norms: int
    positions: int
    forward: int
    backward: int
    recompute: int
    attention: int

    @property
    def model_flops(self) -> int:
        return self.forward + self.backward

    @property
    def hardware_flops(self) -> int:
        return self.model_flops + self.recompute


def counts_of(ledger: fr.Ledger) -> Counts:
    total = ledger.totals
    norms, positions = (part(ledger, name).totals.parameters for name in ("*norm", "*.positions"))
    attention = (row for row in ledger.rows if row.phase == "forward" and row.op == "aten.bmm")
    return Counts(
        total.parameters - norms - positions,
        norms,
        positions,
        total.forward,
        total.backward,
        total.recompute,
        sum(row.flops for row in attention),
    )


def of_layers(model: Callable[[int], nn.Module], layers: int, *inputs: torch.Tensor) -> Counts:
    """The counts of a model of so many layers. These are alike, so that a model of one layer and
    one of two tell them: each of the others costs what the second does."""
    one, two = (astuple(counts_of(trained(model(few), *inputs))) for few in (1, 2))
    return Counts(
        *(first + (layers - 1) * (both - first) for first, both in zip(one, two, strict=True))
    )
