"""Nested tensors: sequence by sequence, against loops that count and against torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

import flopratio as fr
from flopratio.formulas import OPERATORS, Cost, Tensor
from flopratio.formulas.formula import summed
from tests.formulas import counting
from tests.formulas.counting import counted, values, zeros

sizes = st.integers(1, 5)


def linear(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, int, int]:
    """x[L, I] @ weight[O, I].T + bias[O] in loops; the FLOP of the product, and of the rest."""
    counting.reset()
    product = zeros((x.shape[0], weight.shape[0]))
    for row, column, entry in np.ndindex(*product.shape, x.shape[1]):
        product[row, column] = product[row, column] + x[row, entry] * weight[column, entry]
    flops = counted()
    out = product + bias
    return out, flops, counted() - flops


@pytest.mark.oracle
@settings(max_examples=40, deadline=None)
@given(lengths=st.lists(sizes, min_size=1, max_size=4), inputs=sizes, outputs=sizes)
def test_a_layer_on_each_sequence_is_counted(lengths: list[int], inputs: int, outputs: int) -> None:
    weight, bias = counting.tensor((outputs, inputs), 1), counting.tensor((outputs,), 2)
    costs: list[Cost] = []
    flops = elementwise = 0
    for seed, length in enumerate(lengths):
        x = counting.tensor((length, inputs), 3 + seed)
        out, product, sums = linear(x, weight, bias)
        expected = functional.linear(*(torch.tensor(values(a)) for a in (x, weight, bias)))
        np.testing.assert_allclose(values(out), expected)
        flops, elementwise = flops + product, elementwise + sums
        shapes = [Tensor((1, length, inputs)), Tensor(weight.shape), Tensor(bias.shape)]
        costs.append(OPERATORS["aten.linear"](*shapes, out=Tensor((1, length, outputs))))
    cost = summed(costs)
    assert (cost.flops, cost.elementwise) == (flops, elementwise)
    # A gradient is a product of the same size; the bias's is the sum over all rows.
    work = {gradient.operand: (gradient.flops, gradient.elementwise) for gradient in cost.gradients}
    assert work == {"input": (flops, 0), "weight": (flops, 0), "bias": (0, elementwise)}


def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    out = zeros((a.shape[0], b.shape[1]))
    for m, n, k in np.ndindex(*out.shape, a.shape[1]):
        out[m, n] = out[m, n] + a[m, k] * b[k, n]
    return out


@pytest.mark.oracle
def test_a_linear_layer_on_each_sequence() -> None:
    weight, bias = counting.tensor((5, 4), 1), counting.tensor((5,), 2)
    lengths = (3, 1, 2)

    def total(of_each: Any) -> int:
        counting.reset()
        for length in lengths:
            of_each(counting.tensor((length, 4), length), counting.tensor((length, 5), length))
        return counted()

    def summed(grad: np.ndarray) -> np.ndarray:
        out = zeros((5,))
        for row in grad:
            for column in range(5):
                out[column] = out[column] + row[column]
        return out

    costs = [
        OPERATORS["aten.linear"](
            Tensor((1, length, 4)), Tensor((5, 4)), Tensor((5,)), out=Tensor((1, length, 5))
        )
        for length in lengths
    ]
    flops = sum(cost.flops for cost in costs)
    added = sum(cost.elementwise for cost in costs)
    assert flops == total(lambda x, grad: product(x, weight.T))
    assert flops + added == total(lambda x, grad: product(x, weight.T) + bias)

    backward = {
        gradient.operand: sum(
            one.flops + one.elementwise
            for cost in costs
            for one in cost.gradients
            if one.operand == gradient.operand
        )
        for gradient in costs[0].gradients
    }
    assert backward == {
        "input": total(lambda x, grad: product(grad, weight)),
        "weight": total(lambda x, grad: product(grad.T, x)),
        "bias": total(lambda x, grad: summed(grad)),
    }


@pytest.mark.parametrize("mask", [(True, True, True), (False, True, True), (True, False, False)])
def test_backward_is_what_forward_says(mask: tuple[bool, bool, bool]) -> None:
    x, weight, out = Tensor((1, 3, 4)), Tensor((5, 4)), Tensor((1, 3, 5))
    forward = OPERATORS["aten.linear"](x, weight, Tensor((5,)), out=out)
    backward = OPERATORS["aten.linear_backward"](x, out, weight, mask, out=(x, weight, None))
    asked = [g for g, wanted in zip(forward.gradients, mask, strict=True) if wanted]
    assert [(g.operand, g.flops, g.elementwise) for g in asked] == [
        (part.operand, part.flops, part.elementwise) for part in backward.parts
    ]


def test_unlike_gradients_have_no_sum() -> None:
    one, two = (Cost(gradients=OPERATORS[name](*shapes, out=shapes[0]).gradients)
                for name, shapes in (("aten.relu", [Tensor((2,))]),
                                     ("aten.mm", [Tensor((2, 2)), Tensor((2, 2))])))  # fmt: skip
    with pytest.raises(ValueError, match="argument"):
        summed([one, two])


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_attention_pads_its_products() -> None:
    """Two sequences of 2 and 4, four heads of 2: weights on 6 rows, scores of twice 4 by 4; the
    softmax is of 2 by 2 and 4 by 4."""
    attention = torch.nn.MultiheadAttention(8, 4, batch_first=True).eval()
    x = torch.nested.nested_tensor([torch.randn(2, 8), torch.randn(4, 8)])
    with torch.no_grad(), fr.Profiler(attention) as profiler:
        attention(x, x, x, need_weights=False)
    ledger = profiler.ledger
    rows, padded = 2 + 4, 2 * 4
    assert ledger.totals.forward == 4 * 2 * rows * 8 * 8 + 2 * 2 * padded * 4 * 8
    (row,) = (row for row in ledger.rows if row.op == "aten._native_multi_head_attention")
    # Three biases and the scale of padded rows, the softmax of each head, the last bias.
    softmax = 5 * 4 * (2 * 2 + 4 * 4)
    assert row.elementwise == 3 * padded * 8 + padded * 8 + softmax + rows * 8


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_bytes_of_weights_count_once() -> None:
    x = torch.nested.nested_tensor([torch.randn(3, 8), torch.randn(5, 8)])
    layer: Any = torch.nn.Linear(8, 16)
    with torch.no_grad(), fr.Profiler(layer) as profiler:
        layer(x)
    (row,) = (row for row in profiler.ledger.rows if row.op == "aten.linear")
    assert row.bytes_read == 4 * (8 * 8 + 16 * 8 + 16)
    assert row.bytes_written == 4 * 8 * 16
