"""Qi et al., Zero Bubble Pipeline Parallelism, 2024, table 1: what the passes of a transformer
layer cost, where backward is split into B, the gradient of the input, and W, that of the weights.

Its convention: matrix products only, 2 FLOP a multiply-add; activations in 16 bits, with dropout
masks of one byte. s: sequence, b: batch, h: width, a: heads.
"""

import pytest
import torch

import flopratio as fr
from experiments.literature.gpt import Block, Sizes
from experiments.literature.reference import evaluate, rows
from experiments.literature.steps import trained

PUBLISHED = {row["pass"][0]: row for row in rows("zerobubble_table1_flops_mem")}

SIZES = [
    {"s": 16, "b": 1, "h": 8, "a": 1},
    {"s": 16, "b": 3, "h": 8, "a": 2},
    {"s": 48, "b": 3, "h": 8, "a": 2},
    {"s": 48, "b": 3, "h": 40, "a": 4},
    {"s": 40, "b": 2, "h": 24, "a": 3},
    {"s": 1024, "b": 6, "h": 2304, "a": 24},  # the layers of their models, table 3
    {"s": 1024, "b": 3, "h": 4096, "a": 32},
    {"s": 1024, "b": 1, "h": 5120, "a": 40},
    {"s": 1024, "b": 1, "h": 6144, "a": 48},
]


def layer(sizes: dict[str, int]) -> fr.Ledger:
    """A layer of the inside of a pipeline: its input asks for a gradient."""
    s, b, h, a = (sizes[name] for name in "sbha")
    with torch.device("meta"):
        block = Block(Sizes(1, h, a, vocabulary=0, context=s, dropout=0.1)).bfloat16()
        x = torch.empty(b, s, h, dtype=torch.bfloat16, requires_grad=True)
    return trained(block, x)


@pytest.fixture(params=SIZES, ids=lambda sizes: "-".join(map(str, sizes.values())))
def sizes(request: pytest.FixtureRequest) -> dict[str, int]:
    found: dict[str, int] = request.param
    return found


def test_flops(sizes: dict[str, int]) -> None:
    total = layer(sizes).totals
    found = {"F": total.forward, "B": total.grad_input, "W": total.grad_weight}
    formulas = {name: row["flops_per_layer_formula"] for name, row in PUBLISHED.items()}
    assert found == {name: evaluate(formula, **sizes) for name, formula in formulas.items()}


def test_activations_that_backward_finds(sizes: dict[str, int]) -> None:
    """All that forward saves. The paper leaves out the two norms' means and inverse deviations: 2
    fp32 numbers a token each."""
    statistics = 2 * 2 * 4 * sizes["s"] * sizes["b"]
    formula = PUBLISHED["B"]["activation_mem_bytes_formula"]
    assert layer(sizes).totals.saved_bytes - statistics == evaluate(formula, **sizes)


def test_activations_that_weight_gradients_find(sizes: dict[str, int]) -> None:
    """What the products of W read: the inputs of the four linear layers (2 + 2 + 2 + 8 bytes s b h)
    and the gradients of their outputs (6 + 2 + 8 + 2)."""
    products = [row for row in layer(sizes).rows if row.phase == "grad_weight" and row.flops]
    assert len(products) == 4
    formula = PUBLISHED["W"]["activation_mem_bytes_formula"]
    assert sum(row.bytes_read for row in products) == evaluate(formula, **sizes)
