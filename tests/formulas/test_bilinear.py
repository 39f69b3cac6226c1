"""The product of three operands: loops that count, gradients against autograd's."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flopratio.formulas import OPERATORS, Cost, Tensor
from tests.formulas.counting import counted, reset, tensor, values, zeros
from tests.formulas.executed import agrees_on_arrays_and_symbols, agrees_with_autograd

sizes = st.integers(1, 4)


def bilinear(rows: Any, one: Any, other: Any, features: Any) -> Cost:
    """Of the Bilinear layer: x1[N, I], weight[O, I, J], x2[N, J]."""
    return OPERATORS["aten._trilinear"](
        Tensor((rows, one)),
        Tensor((features, one, other)),
        Tensor((rows, other)),
        [1, 3],
        [0],
        [1, 2],
        [2, 3],
        out=Tensor((rows, features)),
    )


@settings(max_examples=20, deadline=None)
@given(rows=sizes, one=sizes, other=sizes, features=sizes)
def test_bilinear_in_loops(rows: int, one: int, other: int, features: int) -> None:
    x1, weight, x2 = (
        tensor((rows, one), 1),
        tensor((features, one, other), 2),
        tensor((rows, other), 3),
    )
    contraction = elementwise = 0
    out = zeros((rows, features))
    for o in range(features):
        reset()
        mixed, result = zeros((rows, other)), zeros((rows,))
        for n, j, i in np.ndindex(rows, other, one):
            mixed[n, j] = mixed[n, j] + x1[n, i] * weight[o, i, j]
        for n, j in np.ndindex(rows, other):
            result[n] = result[n] + mixed[n, j] * x2[n, j]
        contraction += counted()
        reset()
        for n in range(rows):
            out[n, o] = out[n, o] + result[n]
        elementwise += counted()
    expected = torch.nn.functional.bilinear(
        *(torch.tensor(values(array)) for array in (x1, x2, weight))
    )
    np.testing.assert_allclose(values(out), expected.numpy(), rtol=1e-6)
    cost = bilinear(rows, one, other, features)
    assert (cost.flops, cost.elementwise) == (contraction, elementwise)


@pytest.mark.parametrize("bias", [False, True])
def test_gradients_are_those_that_autograd_runs(bias: bool) -> None:
    operands = [torch.randn(7, 3), torch.randn(7, 5), torch.randn(4, 3, 5), torch.randn(4)]
    step = agrees_with_autograd(
        lambda *args: torch.nn.functional.bilinear(*args), *operands[: 3 + bias]
    )
    # Each gradient contracts the weight once more: 2 N I J for each of O outputs.
    assert sum(work.flops for work in step.backward) == 3 * 2 * 7 * 3 * 5 * 4


def test_sums_over_dimensions_of_one_operand_come_first() -> None:
    """out[n] = sum over i, j of a[n, i] b[n] c[n, j]: a and c have a dimension of their own."""
    a, b, c = torch.randn(7, 3), torch.randn(7), torch.randn(7, 5)
    dims = ([2], [1, 2], [1])
    out = torch.ops.aten._trilinear(a, b, c, *dims, [1, 2], 0)
    torch.testing.assert_close(out, a.sum(1) * b * c.sum(1))
    cost = OPERATORS["aten._trilinear"](
        Tensor((7, 3)), Tensor((7,)), Tensor((7, 5)), *dims, [1, 2], 0, out=Tensor((7,))
    )
    # Of each of 7 slices: 3 additions, a product; 5 additions, a product; into the output.
    assert (cost.flops, cost.elementwise) == (7 * (2 + 2), 7 * (3 + 5 + 1))


def test_arrays_and_symbols() -> None:
    def figures(rows: Any, one: Any, other: Any, features: Any) -> dict[str, Any]:
        cost = bilinear(rows, one, other, features)
        return {
            "forward": cost.flops,
            "backward": sum(gradient.flops for gradient in cost.gradients),
            "elementwise": cost.elementwise,
        }

    agrees_on_arrays_and_symbols(
        figures,
        {"rows": 7, "one": 3, "other": 5, "features": 4},
        {"rows": 2, "one": 8, "other": 6, "features": 9},
    )
