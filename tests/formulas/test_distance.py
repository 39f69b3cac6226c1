"""Distances between points: loops that count, gradients against autograd's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flopratio.formulas import OPERATORS, Tensor
from tests.formulas.counting import Counted, counted, reset, tensor, values, zeros
from tests.formulas.executed import agrees_on_arrays_and_symbols, agrees_with_autograd

ORDERS = [0.0, 1.0, 2.0, 3.0, float("inf")]
sizes = st.integers(1, 4)


def larger(one: Counted, other: Counted) -> Counted:
    return one if one > other else other


def power(x: Counted, exponent: float) -> Counted:
    """One evaluation of a function."""
    one = x.apply("fabs")
    one.value **= exponent
    return one


def sign(x: Counted) -> Counted:
    one = x.apply("fabs")
    one.value = float(np.sign(x.value))
    return one


def norm(differences: list[Counted], order: float) -> Counted:
    """Each term added to (compared with) a zeroed accumulator; a root where there is one."""
    total = Counted(0)
    for d in differences:
        if order == float("inf"):
            total = larger(abs(d), total)
        elif order == 0:
            total = total + float(d > 0 or d.value < 0)
        elif order == 1:
            total = total + abs(d)
        elif order == 2:
            total = total + d * d
        else:
            total = total + power(abs(d), order)
    if order == 2:
        return total.sqrt()
    return total if order in (0, 1, float("inf")) else power(total, 1 / order)


def share(d: Counted, distance: Counted, order: float, ratio: Counted) -> Counted:
    """The gradient of one difference; ``ratio`` is what those of a pair have in common."""
    if order == 2:
        return ratio * d
    if order == 1:
        return ratio * sign(d)
    if order == float("inf"):
        reaches = Counted(float(not (abs(d) < distance.value)))
        return ratio * sign(d) * reaches
    return ratio * sign(d) * power(abs(d), order - 1)


@pytest.mark.oracle
@pytest.mark.parametrize("order", [1.0, 2.0, 3.0, float("inf")])
@settings(max_examples=10, deadline=None)
@given(rows=sizes, others=sizes, coordinates=sizes)
def test_distances_and_gradient_in_loops(
    order: float, rows: int, others: int, coordinates: int
) -> None:
    """GIVEN two sets of points, THEN distances and the gradient of the first set, computed in
    loops, are torch's, and as many operations as the formulas say."""
    x, y = tensor((rows, coordinates), 1), tensor((others, coordinates), 2)
    g = tensor((rows, others), 3)
    reset()
    distances = np.empty((rows, others), dtype=object)
    for i, j in np.ndindex(rows, others):
        distances[i, j] = norm([a - b for a, b in zip(x[i], y[j], strict=True)], order)
    forward = counted()
    reset()
    grad = zeros((rows, coordinates))
    for i, j in np.ndindex(rows, others):
        distance, ratio = distances[i, j], g[i, j]
        if order not in (1, float("inf")):
            assert distance > 0
            ratio = ratio / (distance if order == 2 else power(distance, order - 1))
        for k in range(coordinates):
            grad[i, k] = grad[i, k] + share(x[i, k] - y[j, k], distance, order, ratio)
    backward = counted()

    real = torch.tensor(values(x), requires_grad=True)
    out = torch.cdist(real, torch.tensor(values(y)), p=order)
    np.testing.assert_allclose(out.detach().numpy(), values(distances), rtol=1e-6)
    out.backward(torch.tensor(values(g)))
    np.testing.assert_allclose(real.grad.numpy(), values(grad), rtol=1e-6, atol=1e-9)

    one, other = Tensor((rows, coordinates)), Tensor((others, coordinates))
    result = Tensor((rows, others))
    cost = OPERATORS["aten._cdist_forward"](one, other, order, out=result)
    assert cost.elementwise == forward
    assert cost.gradients[0].elementwise == backward


def test_how_many_coordinates_differ_has_no_gradient() -> None:
    cost = OPERATORS["aten._cdist_forward"](Tensor((5, 3)), Tensor((4, 3)), 0.0, out=Tensor((5, 4)))
    assert cost.elementwise == 3 * 60  # a subtraction, a comparison, an addition
    assert [gradient.elementwise for gradient in cost.gradients] == [0, 0]


RUNS: dict[str, tuple[Callable[..., torch.Tensor], tuple[int, ...], tuple[int, ...]]] = {
    "few points": (torch.cdist, (5, 3), (4, 3)),
    "few points, batch": (torch.cdist, (2, 5, 3), (2, 4, 3)),
    "by a product": (torch.cdist, (30, 3), (28, 3)),
    "by products, batch": (torch.cdist, (2, 30, 3), (2, 28, 3)),
}


@pytest.mark.parametrize("name", RUNS)
def test_gradients_are_those_that_autograd_runs(name: str) -> None:
    run, one, other = RUNS[name]
    step = agrees_with_autograd(run, torch.randn(one), torch.randn(other))
    assert any(work.flops for work in step.forward) == ("product" in name)


@pytest.mark.parametrize("order", ORDERS)
def test_every_order_is_what_autograd_runs(order: float) -> None:
    agrees_with_autograd(
        lambda x, y: torch.cdist(x, y, p=order), torch.randn(5, 3), torch.randn(4, 3)
    )
    agrees_with_autograd(lambda x: torch.pdist(x, p=order), torch.randn(5, 3))


def test_distances_within_a_set_are_those_of_its_pairs() -> None:
    """Half of what both halves of the square table without its diagonal cost; in backward the same
    and a subtraction more a difference, for either point gets its share."""
    points, pairs = Tensor((5, 3)), Tensor((10,))
    among = OPERATORS["aten._pdist_forward"](points, 2.0, out=pairs)
    between = OPERATORS["aten._cdist_forward"](points, points, 2.0, out=Tensor((5, 5)))
    assert among.elementwise == between.elementwise * 10 // 25
    (gradient,) = among.gradients
    assert gradient.elementwise == between.gradients[0].elementwise * 10 // 25 + 30


@pytest.mark.oracle
def test_product_in_loops() -> None:
    """(-2 x, x x, 1) @ (y, 1, y y): the multiply-adds of the one product, entry by entry."""
    x, y = tensor((6, 3), 1), tensor((4, 3), 2)
    reset()
    squares = [sum((a * a for a in point), Counted(0)) for point in x]
    others = [sum((b * b for b in point), Counted(0)) for point in y]
    scaled = x * -2
    one = [[*point, square, Counted(1)] for point, square in zip(scaled, squares, strict=True)]
    other = [[*point, Counted(1), square] for point, square in zip(y, others, strict=True)]
    beside = counted()
    reset()
    sums = zeros((6, 4))
    for i, j, k in np.ndindex(6, 4, 5):
        sums[i, j] = sums[i, j] + one[i][k] * other[j][k]
    product = counted()
    reset()
    distances = [larger(total, Counted(0)).sqrt() for total in sums.flat]
    beside += counted()
    expected = torch.cdist(torch.tensor(values(x)), torch.tensor(values(y))).flatten()
    np.testing.assert_allclose([d.value for d in distances], expected.numpy(), rtol=1e-5)
    cost = OPERATORS["aten._euclidean_dist"](Tensor((6, 3)), Tensor((4, 3)), out=Tensor((6, 4)))
    assert (cost.flops, cost.elementwise) == (product, beside)


def test_arrays_and_symbols() -> None:
    def figures(points: Any, others: Any, coordinates: Any) -> dict[str, Any]:
        x, y = Tensor((points, coordinates)), Tensor((others, coordinates))
        cost = OPERATORS["aten._euclidean_dist"](x, y, out=Tensor((points, others)))
        return {
            "forward": cost.flops,
            "elementwise": cost.elementwise,
            "backward": sum(gradient.flops for gradient in cost.gradients),
        }

    agrees_on_arrays_and_symbols(
        figures,
        {"points": 30, "others": 28, "coordinates": 3},
        {"points": 40, "others": 26, "coordinates": 8},
    )
