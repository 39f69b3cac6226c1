"""Nested tensors: a linear layer on sequences of unlike lengths, in loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from flopratio.formulas import OPERATORS, Tensor
from tests.formulas import counting
from tests.formulas.counting import counted, zeros


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
