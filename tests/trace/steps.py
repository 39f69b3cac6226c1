"""What the tests of the trace share: a step under the Profiler, and its figures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

import flopratio as fr


def profiled(model: nn.Module | None, step: Callable[[], Any]) -> fr.Ledger:
    """The ledger of a step."""
    with fr.Profiler(model) as profiler:
        step()
    return profiler.ledger


def reconciled(model: nn.Module | None, step: Callable[[], Any]) -> fr.Ledger:
    """The ledger of a step, which the law must agree with."""
    ledger = profiled(model, step)
    assert ledger.mismatches == []
    assert ledger.uncounted_ops == {}
    assert ledger.reconciled is True
    return ledger


def split(ledger: fr.Ledger) -> tuple[int, int, int, int]:
    """Contraction FLOP: forward, grad_input, grad_weight, recompute."""
    total = ledger.totals
    return total.forward, total.grad_input, total.grad_weight, total.recompute


def by_name(ledger: fr.Ledger) -> dict[str, Any]:
    """Layer path -> its figures."""
    return {layer.name: layer for layer in ledger.layers()}


class Product(torch.autograd.Function):
    """x @ w by hand; both gradients, whoever asked for them."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x, w)
        return x @ w

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        x, w = ctx.saved_tensors
        return grad @ w.t(), x.t() @ grad
