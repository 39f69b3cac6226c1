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


@pytest.mark.oracle
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


@pytest.mark.oracle
@settings(max_examples=20, deadline=None)
@given(rows=sizes, one=sizes, other=sizes, features=sizes)
def test_bilinear_gradients_in_loops(rows: int, one: int, other: int, features: int) -> None:
    """Output by output: a product with the gradient entry by entry, a contraction, and the sum into
    the gradient's zeroed memory."""
    x1, weight = tensor((rows, one), 1), tensor((features, one, other), 2)
    x2, g = tensor((rows, other), 3), tensor((rows, features), 4)
    gradients = {name: zeros(x.shape) for name, x in (("i1", x1), ("i2", weight), ("i3", x2))}
    counts = {name: {"contraction": 0, "elementwise": 0} for name in gradients}

    def note(name: str, kind: str) -> None:
        counts[name][kind] += counted()
        reset()

    reset()
    for o in range(features):
        share = np.array([weight[o] * g[n, o] for n in range(rows)])
        note("i1", "elementwise")
        of_x1 = zeros((rows, one))
        for n, i, j in np.ndindex(rows, one, other):
            of_x1[n, i] = of_x1[n, i] + share[n, i, j] * x2[n, j]
        note("i1", "contraction")
        gradients["i1"] += of_x1
        note("i1", "elementwise")

        share = np.array([x1[n] * g[n, o] for n in range(rows)])
        note("i2", "elementwise")
        of_weight = zeros((one, other))
        for n, i, j in np.ndindex(rows, one, other):
            of_weight[i, j] = of_weight[i, j] + share[n, i] * x2[n, j]
        note("i2", "contraction")
        gradients["i2"][o] += of_weight
        note("i2", "elementwise")

        of_x2 = zeros((rows, other))
        for n, i, j in np.ndindex(rows, one, other):
            of_x2[n, j] = of_x2[n, j] + x1[n, i] * weight[o, i, j]
        note("i3", "contraction")
        gradients["i3"] += np.array([of_x2[n] * g[n, o] for n in range(rows)])
        note("i3", "elementwise")

    real = [torch.tensor(values(x), requires_grad=True) for x in (x1, weight, x2)]
    out = torch.nn.functional.bilinear(real[0], real[2], real[1])
    out.backward(torch.tensor(values(g)))
    for found, operand in zip(gradients.values(), real, strict=True):
        np.testing.assert_allclose(values(found), operand.grad.numpy(), rtol=1e-6, atol=1e-12)
    assert {
        gradient.operand: {"contraction": gradient.flops, "elementwise": gradient.elementwise}
        for gradient in bilinear(rows, one, other, features).gradients
    } == counts


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
