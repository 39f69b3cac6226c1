"""Distances between points: norms of differences, and Euclidean distances by a product.

In the formulas x1[*B, P, D] and x2[*B, R, D] are P and R points of D coordinates, so that there are
B P R pairs and B P R D differences; d is the distance of a pair, g its gradient.
"""

from __future__ import annotations

from typing import Any

from flopratio.formulas.formula import (
    EXAMPLES,
    Cost,
    Example,
    Gradient,
    Size,
    Tensor,
    operator,
)
from flopratio.formulas.reduction import norm_flops


def distance_flops(differences: Size, pairs: Size, order: float) -> Size:
    """A subtraction for each difference, then the norm of each pair."""
    return differences + norm_flops(differences, pairs, order)


def distance_gradient_flops(differences: Size, pairs: Size, order: float) -> Size:
    """FLOP of the gradients of all coordinates, each added where it belongs; 0 where d is 0.

    - p = 2: (g / d) (x - y): a comparison and a division a pair; a subtraction, a multiplication,
      an addition a difference.
    - p = 1: g sgn(x - y): a subtraction, a sign, a multiplication, an addition a difference.
    - p = infinity: that where abs(x - y) equals d: also an absolute value, a comparison, a
      multiplication.
    - p = 0: none.
    - any other: (g / d ** (p - 1)) sgn(x - y) abs(x - y) ** (p - 1): a comparison, a power, a
      division a pair; a subtraction, a sign, an absolute value, a power, two multiplications, an
      addition a difference.
    """
    if order == 2:
        return 3 * differences + 2 * pairs
    if order == 1:
        return 4 * differences
    if order == float("inf"):
        return 7 * differences
    if order == 0:
        return 0
    return 7 * differences + 3 * pairs


@operator("aten._cdist_forward")
def cdist(x1: Tensor, x2: Tensor, p: float, compute_mode: Any = None, *, out: Tensor) -> Cost:
    """The distance of every pair, as the norm of its difference. Either gradient is an operator of
    its own."""
    differences = out.numel * x1.shape[-1]
    backward = distance_gradient_flops(differences, out.numel, p)
    kept = (x1, x2, out)
    return Cost(
        elementwise=distance_flops(differences, out.numel, p),
        gradients=(
            Gradient("x1", "aten._cdist_backward", elementwise=backward, saves=kept),
            Gradient("x2", "aten._cdist_backward", elementwise=backward, saves=kept),
        ),
    )


@operator("aten._cdist_backward")
def cdist_backward(
    grad: Tensor, /, x1: Tensor, x2: Tensor, p: float, cdist: Tensor, *, out: Tensor
) -> Cost:
    """The gradient of x1 (of x2, with the two exchanged). (``grad`` is ``grad_output`` in torch
    2.15, here as in pdist's.)"""
    pairs = cdist.numel
    return Cost(elementwise=distance_gradient_flops(pairs * x1.shape[-1], pairs, p))


@operator("aten._euclidean_dist")
def euclidean_dist(x1: Tensor, x2: Tensor, *, out: Tensor) -> Cost:
    """d = sqrt(x x - 2 x y + y y), which torch takes for more than 25 points.

    1. The squares summed: 2 for each coordinate of either; x1 times -2: 1.
    2. One product [P, D + 2] @ [D + 2, R] of (-2 x, x x, 1) and (y, 1, y y) adds up all three:
       2 P R (D + 2) for each of B.
    3. Held above 0; the root: 2 a pair.

    With r = g / d, 0 where d is 0 (a division and a comparison a pair), grad_x1 = x1 * (the sums of
    r along R) - r @ x2: a product, B P R additions, a multiplication and a subtraction a
    coordinate; grad_x2 likewise. Autograd computes both if it needs either.
    """
    pairs, coordinates = out.numel, x1.shape[-1]
    product = 2 * pairs * coordinates
    op = "aten.mm" if len(out.shape) == 2 else "aten.bmm"
    either = ("x1", "x2")
    gradients = [
        Gradient(either, "aten.div", elementwise=pairs, saves=(x1, x2, out)),
        Gradient(either, "aten.eq", elementwise=pairs),
    ]
    for points in (x1, x2):
        gradients += [
            Gradient(either, op, flops=product),
            Gradient(either, "aten.sum", elementwise=pairs),
            Gradient(either, "aten.mul", elementwise=points.numel),
            Gradient(either, "aten.sub", elementwise=points.numel),
        ]
    return Cost(
        flops=product + 4 * pairs,
        elementwise=3 * x1.numel + 2 * x2.numel + 2 * pairs,
        gradients=tuple(gradients),
    )


@operator("aten._pdist_forward")
def pdist(self: Tensor, p: float = 2, *, out: Tensor) -> Cost:
    """The distances of P points from each other, every pair once: P (P - 1) / 2."""
    differences = out.numel * self.shape[-1]
    return Cost(
        elementwise=distance_flops(differences, out.numel, p),
        gradients=(
            Gradient(
                "self",
                "aten._pdist_backward",
                elementwise=pdist_backward_flops(differences, out.numel, p),
                saves=(self, out),
            ),
        ),
    )


def pdist_backward_flops(differences: Size, pairs: Size, order: float) -> Size:
    """Of a pair both points get the gradient, with either sign: a subtraction more a difference."""
    twice = 0 if order == 0 else differences
    return distance_gradient_flops(differences, pairs, order) + twice


@operator("aten._pdist_backward")
def pdist_backward(grad: Tensor, /, self: Tensor, p: float, pdist: Tensor, *, out: Tensor) -> Cost:
    pairs = pdist.numel
    return Cost(elementwise=pdist_backward_flops(pairs * self.shape[-1], pairs, p))


EXAMPLES += [
    Example(
        "aten._cdist_forward",
        {
            "x1": Tensor((2, 5, 3)),
            "x2": Tensor((2, 4, 3)),
            "p": 2.0,
            "out": Tensor((2, 5, 4)),
        },
        {"flops": 0, "elementwise": 400},
        "2 * 5 * 4 = 40 pairs, 120 differences: -, *, +: 360; 40 roots",
    ),
    Example(
        "aten._euclidean_dist",
        {"x1": Tensor((2, 30, 3)), "x2": Tensor((2, 28, 3)), "out": Tensor((2, 30, 28))},
        {"flops": 16_800, "elementwise": 4_236},
        "1,680 pairs: 2 * 1,680 * (3 + 2) = 16,800; 3 * 180 + 2 * 168 = 876, 2 * 1,680 = 3,360",
    ),
    Example(
        "aten._pdist_forward",
        {"self": Tensor((5, 3)), "p": 1.0, "out": Tensor((10,))},
        {"elementwise": 90},
        "5 * 4 / 2 = 10 pairs, 30 differences: -, abs, +",
    ),
]
