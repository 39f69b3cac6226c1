"""What a ledger says of attention: whose kernels ran, and whether a causal mask is discounted."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

import flopratio as fr

PROJECTION = 2 * 2 * 6 * 8 * 8
"""FLOP of [2 x 6, 8] @ [8, 8]."""

PRODUCT = 2 * 2 * 2 * 6 * 6 * 4
"""FLOP of Q @ K.T, or P @ V: 2 examples of 2 heads of 6 queries and keys of 4 entries."""

X = torch.empty(2, 6, 8)


class SelfAttention(nn.Module):
    """Two heads of 4, whose query, key and value are the same."""

    def __init__(self, *, causal: bool) -> None:
        super().__init__()
        self.causal = causal
        self.project = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q = self.project(x).unflatten(-1, (2, 4)).transpose(1, 2)
        return functional.scaled_dot_product_attention(q, q, q, is_causal=self.causal)


def count(*, is_causal: bool = True, **options: Any) -> fr.Ledger:
    return fr.count(nn.Sequential(SelfAttention(causal=is_causal)), X, loss="sum", **options)


@pytest.mark.parametrize(
    ("options", "backend"),
    [
        ({}, "efficient"),
        ({"dtype": "bfloat16"}, "flash"),
        ({"amp": "bf16"}, "flash"),
        ({"attention": "flash"}, "math"),  # CUDA's knows no float32
        ({"attention": "math"}, "math"),
        ({"attention": "efficient"}, "efficient"),
        ({"attention": "efficient", "dtype": "bfloat16"}, "math"),  # 4 entries are too few
        ({"target": "cpu"}, "flash"),
        ({"target": "cpu", "attention": "efficient"}, "math"),  # it has no such kernel
        ({"target": "cpu", "inference": True}, "flash"),
    ],
)
def test_the_kernels_that_ran_are_named(options: dict[str, Any], backend: str) -> None:
    assert count(**options).convention["attention"] == backend


def test_without_attention_there_is_no_backend() -> None:
    ledger = fr.count(nn.Linear(8, 8), X, loss="sum", attention="math")
    assert ledger.convention["attention"] == "none"


def test_a_causal_mask_counts_in_full_by_default() -> None:
    ledger = count()
    assert ledger.convention["causal"] == "full"
    assert ledger.totals.forward == PROJECTION + 2 * PRODUCT
    assert ledger.totals.recompute == PRODUCT


def test_half_discounts_both_products_their_gradients_and_the_recompute() -> None:
    ledger = count(causal="half")
    assert ledger.convention["causal"] == "half"
    assert ledger.totals.forward == PROJECTION + 2 * PRODUCT // 2
    assert ledger.totals.grad_input == 4 * PRODUCT // 2
    assert ledger.totals.grad_weight == PROJECTION
    assert ledger.totals.recompute == PRODUCT // 2
    assert ledger.reconciled  # the law and the executed step alike
    full = count().totals
    assert ledger.totals.elementwise_forward == full.elementwise_forward
    assert ledger.totals.elementwise_backward == full.elementwise_backward


def test_half_discounts_what_checkpointing_computes_again() -> None:
    ledger = count(causal="half", checkpoint="0")
    assert ledger.totals.recompute == PROJECTION + 3 * PRODUCT // 2
    assert ledger.reconciled


@pytest.mark.parametrize(
    "options",
    [
        {"is_causal": False},
        {"attention": "math"},  # which computes every score, the masked ones too
    ],
)
def test_half_leaves_other_attention_alone(options: dict[str, Any]) -> None:
    half, full = count(causal="half", **options), count(**options)
    assert half.rows == full.rows


def test_the_profiler_takes_it_too() -> None:
    model = SelfAttention(causal=True)
    with fr.Profiler(model, causal="half") as profiler:
        model(X).sum().backward()
    assert profiler.ledger.totals.forward == PROJECTION + 2 * PRODUCT // 2
