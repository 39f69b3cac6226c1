"""Interpolation and sampling against plain loops that count, and against what torch dispatches."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import sympy
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st

from flopratio.formulas import OPERATORS, Tensor, exact
from tests.formulas.counting import Counted, counted, reset, tensor, values, zeros
from tests.formulas.fused import (
    agrees_with_torch,
    executed,
    work_by_operand,
)

aten = torch.ops.aten


def count(work: Callable[[], Any]) -> tuple[Any, int]:
    reset()
    result = work()
    return result, counted()


def real(array: np.ndarray) -> torch.Tensor:
    return torch.tensor(values(array), requires_grad=True)


# -- to another size ----------------------------------------------------------------------------

Taps = list[tuple[int, float]]
"""Position along one dimension, weight."""


def cubic(x: float, a: float) -> float:
    """The cubic filter (Keys, 1981)."""
    x = abs(x)
    if x < 1:
        return ((a + 2) * x - (a + 3)) * x * x + 1
    return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a if x < 2 else 0.0


def taps_along(mode: str, size: int, places: int, align_corners: bool) -> list[Taps]:
    """For each place of one dimension its taps."""
    found = []
    for place in range(places):
        if align_corners:
            source = place * (size - 1) / (places - 1) if places > 1 else 0.0
        else:
            source = (place + 0.5) * size / places - 0.5
        if mode == "cubic":
            left = math.floor(source)
            taps = [(left + i, cubic(source - left - i, -0.75)) for i in range(-1, 3)]
        else:
            source = max(source, 0.0)
            left = min(math.floor(source), size - 1)
            taps = [(left, 1 - source + left), (left + 1, source - left)]
        found.append([(min(max(i, 0), size - 1), weight) for i, weight in taps])
    return found


def resample(array: np.ndarray, along: list[list[Taps]], back: bool, shape: Any) -> np.ndarray:
    """x -> y, or grad_y -> grad_x (``back``), ``shape`` being that of the result."""
    out = zeros(shape)
    batch = array.shape[:2]
    for places in itertools.product(*(range(len(taps)) for taps in along)):
        chosen = [taps[place] for taps, place in zip(along, places, strict=True)]
        for taps in itertools.product(*chosen):
            weight = math.prod(weight for _, weight in taps)
            source = tuple(position for position, _ in taps)
            for n, c in np.ndindex(*batch):
                to, of = (source, places) if back else (places, source)
                out[(n, c, *to)] += array[(n, c, *of)] * weight
    return out


SIZE = st.integers(1, 4)


@pytest.mark.oracle
@settings(max_examples=30, deadline=None)
@given(data=st.data(), align_corners=st.booleans())
@pytest.mark.parametrize(
    ("mode", "dimensions"), [("linear", 1), ("bilinear", 2), ("trilinear", 3), ("bicubic", 2)]
)
def test_interpolation_oracle(
    mode: str, dimensions: int, data: st.DataObject, align_corners: bool
) -> None:
    """GIVEN any sizes, THEN the formula is what the loops count and the loops are torch's."""
    sizes = data.draw(st.tuples(*[SIZE] * dimensions))
    places = data.draw(st.tuples(*[SIZE] * dimensions))
    kind = "cubic" if mode == "bicubic" else "linear"
    along = [
        taps_along(kind, size, number, align_corners)
        for size, number in zip(sizes, places, strict=True)
    ]
    x = tensor((1, 2, *sizes), seed=1)
    grad_y = tensor((1, 2, *places), seed=2)
    y, forward = count(lambda: resample(x, along, False, grad_y.shape))
    grad_x, backward = count(lambda: resample(grad_y, along, True, x.shape))

    real_x = real(x)
    real_y = F.interpolate(real_x, places, mode=mode, align_corners=align_corners)
    real_y.backward(torch.tensor(values(grad_y)))
    np.testing.assert_allclose(values(y), real_y.detach().numpy(), atol=1e-12)
    np.testing.assert_allclose(values(grad_x), real_x.grad.numpy(), atol=1e-12)

    name = f"aten.upsample_{mode}{dimensions}d"
    small, large = Tensor(x.shape), Tensor(y.shape)
    cost = OPERATORS[name](small, places, out=large)
    assert cost.elementwise == forward
    assert [gradient.elementwise for gradient in cost.gradients] == [backward]
    back = OPERATORS[f"{name}_backward"](large, places, x.shape, out=small)
    assert back.elementwise == backward


@pytest.mark.oracle
@pytest.mark.parametrize("kind", ["nearest", "nearest-exact"])
@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_nearest_oracle(kind: str, dimensions: int) -> None:
    """GIVEN nearest neighbours, THEN forward copies, and backward adds up the copies' gradients."""
    sizes, places = (2, 3, 4)[:dimensions], (5, 3, 2)[:dimensions]
    x = tensor((2, 2, *sizes), seed=1)
    grad_y = tensor((2, 2, *places), seed=2)
    shift = 0.5 if kind == "nearest-exact" else 0.0

    def source(position: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(
            math.floor((i + shift) * size / number)
            for i, size, number in zip(position, sizes, places, strict=True)
        )

    def back() -> np.ndarray:
        grad_x = zeros(x.shape)
        for n, c, *position in np.ndindex(*grad_y.shape):
            grad_x[(n, c, *source(position))] += grad_y[(n, c, *position)]
        return grad_x

    grad_x, backward = count(back)
    real_x = real(x)
    real_y = F.interpolate(real_x, places, mode=kind)
    real_y.backward(torch.tensor(values(grad_y)))
    np.testing.assert_allclose(values(grad_x), real_x.grad.numpy(), atol=1e-12)
    name = f"upsample_nearest{dimensions}d"
    name = f"aten._upsample_nearest_exact{dimensions}d" if shift else f"aten.{name}"
    cost = OPERATORS[name](Tensor(x.shape), places, out=Tensor(grad_y.shape))
    assert (cost.elementwise, cost.gradients[0].elementwise) == (0, backward)


def antialiased_along(reach: int, size: int, places: int) -> list[Taps]:
    """For each place its taps, those beyond the edge too (with a weight of 0)."""
    scale = size / places
    stretch = max(scale, 1.0)
    found = []
    for place in range(places):
        center = scale * (place + 0.5)
        low, high = (math.floor(center + sign * reach / 2 * stretch + 0.5) for sign in (-1, 1))
        weights = []
        for i in range(low, high):
            x = (i + 0.5 - center) / stretch
            weight = max(1 - abs(x), 0.0) if reach == 2 else cubic(x, -0.5)
            weights.append(weight if 0 <= i < size else 0.0)
        total = sum(weights)
        found.append(
            [
                (min(max(i, 0), size - 1), weight / total)
                for i, weight in zip(range(low, high), weights, strict=True)
            ]
        )
    return found


@pytest.mark.oracle
@settings(max_examples=30, deadline=None)
@given(sizes=st.tuples(*[st.integers(2, 7)] * 2), places=st.tuples(*[st.integers(2, 9)] * 2))
@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_antialiased_oracle(mode: str, sizes: tuple[int, int], places: tuple[int, int]) -> None:
    """GIVEN an antialiased interpolation, up or down along each dimension, THEN the taps of its
    two passes are as many as the formula says. (Not to one column: torch 2.13 repeats its first row
    then.)"""
    reach = 2 if mode == "bilinear" else 4
    rows = [[(i, 1.0)] for i in range(sizes[0])]
    columns = [[(i, 1.0)] for i in range(places[1])]
    x = tensor((1, 1, *sizes), seed=1)

    def forward() -> np.ndarray:
        across = resample(
            x,
            [rows, antialiased_along(reach, sizes[1], places[1])],
            False,
            (1, 1, sizes[0], places[1]),
        )
        down = [antialiased_along(reach, sizes[0], places[0]), columns]
        return resample(across, down, False, (1, 1, *places))

    y, flops = count(forward)
    expected = F.interpolate(real(x), places, mode=mode, antialias=True)
    np.testing.assert_allclose(values(y), expected.detach().numpy(), atol=1e-9)
    name = f"aten._upsample_{mode}2d_aa"
    small, large = Tensor(x.shape), Tensor(y.shape)
    cost = OPERATORS[name](small, places, False, out=large)
    assert cost.elementwise == flops
    back = OPERATORS[f"{name}_backward"](large, places, x.shape, False, out=small)
    assert back.elementwise == cost.gradients[0].elementwise == flops


# -- at given places ----------------------------------------------------------------------------


class Coordinate:
    """One coordinate of one place, its arithmetic counted: taps, their weights, and the weights'
    derivatives."""

    def __init__(self, g: Any, size: int, mode: int, align_corners: bool) -> None:
        point = (g + 1) * (0.5 * (size - 1 if align_corners else size))
        if not align_corners:
            point = point - 0.5
        self.mode = mode
        self.factor = 0.5 * (size - 1 if align_corners else size)
        if mode == 1:
            self.taps, self.weights = [round(value_of(rounded(point)))], []
            return
        left = rounded(point)
        self.t = t = point - left
        first = round(value_of(left))
        if mode == 0:
            self.taps = [first, first + 1]
            self.weights = [1 - t, t]
            return
        self.taps = [first + i for i in range(-1, 3)]
        a = -0.75
        self.distances = [t + 1, t, 1 - t, 2 - t]
        self.weights = [
            (((d * a - 5 * a) * d + 8 * a) * d - 4 * a)
            if outer
            else ((d * (a + 2) - (a + 3)) * d * d + 1)
            for d, outer in zip(self.distances, (True, False, False, True), strict=True)
        ]

    def derivatives(self) -> list[Any]:
        """Of the weights, in t. A linear one's are -1 and 1, which multiply nothing."""
        if self.mode == 0:
            return [-1, 1]
        a = -0.75
        found = []
        for d, outer, sign in zip(
            self.distances, (True, False, False, True), (1, 1, -1, -1), strict=True
        ):
            # The sign is in the constants.
            if outer:
                found.append((d * (3 * a * sign) - 10 * a * sign) * d + 8 * a * sign)
            else:
                found.append((d * (3 * (a + 2) * sign) - 2 * (a + 3) * sign) * d)
        return found


def rounded(point: Counted) -> Counted:
    """One FLOP: to the point below (or, of nearest neighbours, nearest; places below avoid the
    difference)."""
    return point.apply("floor")


def value_of(number: Counted) -> float:
    return number.value


class Sampling:
    """grid_sample in loops, zeros beyond the edge."""

    def __init__(self, x: np.ndarray, grid: np.ndarray, mode: int, align_corners: bool) -> None:
        self.x, self.grid, self.mode, self.align = x, grid, mode, align_corners
        self.sizes = x.shape[2:]
        self.places = list(np.ndindex(*grid.shape[:-1]))

    def coordinates(self, place: tuple[int, ...]) -> list[Coordinate]:
        # The last dimension of the input comes first in the grid.
        return [
            Coordinate(g, size, self.mode, self.align)
            for g, size in zip(self.grid[place], reversed(self.sizes), strict=True)
        ]

    def products(self, lists: list[list[Any]]) -> list[Any]:
        """Products of one of each, the first two lists' products made once."""
        pairs = [a * b for b in lists[1] for a in lists[0]]
        return pairs if len(lists) == 2 else [pair * c for c in lists[2] for pair in pairs]

    def positions(self, coordinates: list[Coordinate]) -> Iterator[tuple[int, ...]]:
        return itertools.product(*(c.taps for c in reversed(coordinates)))

    def inside(self, position: tuple[int, ...]) -> bool:
        return all(0 <= i < size for i, size in zip(position, self.sizes, strict=True))

    def entry(self, n: int, c: int, position: tuple[int, ...]) -> Any:
        return self.x[(n, c, *position)] if self.inside(position) else Counted(0.0)

    def make_places(self) -> None:
        self.at = {}
        for place in self.places:
            coordinates = self.coordinates(place)
            weights = [] if self.mode == 1 else self.products([c.weights for c in coordinates])
            self.at[place] = (coordinates, weights)

    def forward(self) -> np.ndarray:
        n, *rest = self.grid.shape[:-1]
        out = zeros((n, self.x.shape[1], *rest))
        for place in self.places:
            coordinates, weights = self.at[place]
            for c in range(self.x.shape[1]):
                target = (place[0], c, *place[1:])
                positions = self.positions(coordinates)
                if self.mode == 1:
                    out[target] = self.entry(place[0], c, next(positions))
                    continue
                for position, weight in zip(positions, weights, strict=True):
                    out[target] += self.entry(place[0], c, position) * weight
        return out

    def grad_input(self, grad_y: np.ndarray) -> np.ndarray:
        out = zeros(self.x.shape)
        for place in self.places:
            coordinates, weights = self.at[place]
            for c in range(self.x.shape[1]):
                grad = grad_y[(place[0], c, *place[1:])]
                for index, position in enumerate(self.positions(coordinates)):
                    beyond = zeros(())
                    there = (place[0], c, *position) if self.inside(position) else ()
                    target = out if there else beyond
                    added = grad if self.mode == 1 else grad * weights[index]
                    target[there] = target[there] + added
        return out

    def grad_grid(self, grad_y: np.ndarray) -> np.ndarray:
        out = zeros(self.grid.shape)
        for place in self.places:
            coordinates, _ = self.at[place]
            sums = []
            for position in self.positions(coordinates):
                s = Counted(0.0)
                for c in range(self.x.shape[1]):
                    s = s + self.entry(place[0], c, position) * grad_y[(place[0], c, *place[1:])]
                sums.append(s)
            for d in range(len(coordinates)):
                out[(*place, d)] = self.grad_coordinate(coordinates, d, sums)
        return out

    def grad_coordinate(self, coordinates: list[Coordinate], d: int, sums: list[Any]) -> Any:
        """The sum over the taps of s, the derivative of this weight and the others' product."""
        other = [c.weights for index, c in enumerate(coordinates) if index != d]
        others = other[0] if len(other) == 1 else self.products(other)
        derivatives = coordinates[d].derivatives()
        total = Counted(0.0)
        numbers = [range(len(c.taps)) for c in reversed(coordinates)]
        for s, chosen in zip(sums, itertools.product(*numbers), strict=True):
            chosen = chosen[::-1]
            rest = [i for index, i in enumerate(chosen) if index != d]
            weight = others[rest[0] if len(rest) == 1 else rest[0] + 2 * rest[1]]
            derivative = derivatives[chosen[d]]
            if self.mode == 0:
                term = s * weight
                total = total + term if derivative == 1 else total - term
            else:
                total = total + s * (derivative * weight)
        return total * coordinates[d].factor


@pytest.mark.oracle
@settings(max_examples=10, deadline=None)
@given(align_corners=st.booleans(), channels=st.integers(1, 2), seed=st.integers(0, 99))
@pytest.mark.parametrize(("dimensions", "mode"), [(2, 0), (2, 1), (2, 2), (3, 0), (3, 1)])
def test_grid_sampler_oracle(
    dimensions: int, mode: int, align_corners: bool, channels: int, seed: int
) -> None:
    """GIVEN places in and around images, THEN each part of the formula is what the loops count,
    and the loops are torch's grid_sample."""
    sizes, places = (3, 4, 2)[:dimensions], (2, 1, 2)[:dimensions]
    x = tensor((2, channels, *sizes), seed=seed)
    grid = tensor((2, *places, dimensions), seed=seed + 1)
    if mode == 1:  # places a bit beyond points, so that the point below is the nearest
        points = np.random.default_rng(seed).integers(0, 2, size=grid.shape) + 0.25
        for index in np.ndindex(*grid.shape):
            size = sizes[::-1][index[-1]]
            scaled = points[index] / (size - 1) if align_corners else (points[index] + 0.5) / size
            grid[index] = Counted(2 * scaled - 1)
    loops = Sampling(x, grid, mode, align_corners)
    counts = {}
    _, counts["places"] = count(loops.make_places)
    y, counts["forward"] = count(loops.forward)
    grad_y = tensor(y.shape, seed=seed + 2)
    grad_x, counts["grad_input"] = count(lambda: loops.grad_input(grad_y))
    grad_grid, counts["grad_grid"] = (
        (zeros(grid.shape), 0) if mode == 1 else count(lambda: loops.grad_grid(grad_y))
    )

    real_x, real_grid = real(x), real(grid)
    name = ("bilinear", "nearest", "bicubic")[mode]
    real_y = F.grid_sample(real_x, real_grid, mode=name, align_corners=align_corners)
    real_y.backward(torch.tensor(values(grad_y)))
    np.testing.assert_allclose(values(y), real_y.detach().numpy(), atol=1e-9)
    np.testing.assert_allclose(values(grad_x), real_x.grad.numpy(), atol=1e-9)
    np.testing.assert_allclose(values(grad_grid), real_grid.grad.numpy(), atol=1e-9)

    operation = f"aten.grid_sampler_{dimensions}d"
    operands = (Tensor(x.shape), Tensor(grid.shape), mode, 0, align_corners)
    cost = OPERATORS[operation](*operands, out=Tensor(y.shape))
    assert cost.elementwise == counts["places"] + counts["forward"]
    back = OPERATORS[f"{operation}_backward"](
        Tensor(y.shape), *operands, (True, True), out=operands[:2]
    )
    assert {part.operand: part.elementwise for part in back.parts} == {
        ("input", "grid"): counts["places"],
        "input": counts["grad_input"],
        "grid": counts["grad_grid"],
    }
    assert work_by_operand(cost.gradients) == work_by_operand(back.parts)


def test_cudnn_grid_sampler() -> None:
    """cuDNN's is the bilinear one, zeros beyond the edge, corners aligned."""
    x, grid, y = Tensor((2, 3, 4, 5)), Tensor((2, 3, 2, 2)), Tensor((2, 3, 3, 2))
    plain = OPERATORS["aten.grid_sampler_2d"](x, grid, 0, 0, True, out=y)
    cost = OPERATORS["aten.cudnn_grid_sampler"](x, grid, out=y)
    back = OPERATORS["aten.cudnn_grid_sampler_backward"](x, grid, y, out=(x, grid))
    assert cost.elementwise == plain.elementwise
    assert work_by_operand(cost.gradients) == work_by_operand(back.parts)
    operands = [gradient.operand for gradient in cost.gradients]
    assert operands == [("self", "grid"), "self", "grid"]
    found = [gradient.elementwise for gradient in cost.gradients]
    assert found == [gradient.elementwise for gradient in plain.gradients]


def test_padding_modes() -> None:
    """Border: 2 comparisons a coordinate; reflection: 11; the gradient is masked, 1 each."""
    x, grid, y = Tensor((1, 2, 4, 4)), Tensor((1, 3, 5, 2)), Tensor((1, 2, 3, 5))
    costs = [
        OPERATORS["aten.grid_sampler_2d"](x, grid, 0, padding, True, out=y) for padding in range(3)
    ]
    zeros_, border, reflection = (cost.elementwise for cost in costs)
    assert border - zeros_ == 2 * 30
    assert reflection - zeros_ == 11 * 30
    of_grid = [cost.gradients[2].elementwise for cost in costs]
    assert of_grid[1] - of_grid[0] == of_grid[2] - of_grid[0] == 30


# -- against torch ------------------------------------------------------------------------------

IMAGES = {1: (2, 3, 5), 2: (2, 3, 5, 6), 3: (2, 3, 4, 5, 6)}


@pytest.mark.parametrize(
    ("mode", "dimensions", "antialias", "op"),
    [
        ("nearest", 1, False, "upsample_nearest1d"),
        ("nearest", 2, False, "upsample_nearest2d"),
        ("nearest", 3, False, "upsample_nearest3d"),
        ("nearest-exact", 1, False, "_upsample_nearest_exact1d"),
        ("nearest-exact", 2, False, "_upsample_nearest_exact2d"),
        ("nearest-exact", 3, False, "_upsample_nearest_exact3d"),
        ("linear", 1, False, "upsample_linear1d"),
        ("bilinear", 2, False, "upsample_bilinear2d"),
        ("bicubic", 2, False, "upsample_bicubic2d"),
        ("trilinear", 3, False, "upsample_trilinear3d"),
        ("bilinear", 2, True, "_upsample_bilinear2d_aa"),
        ("bicubic", 2, True, "_upsample_bicubic2d_aa"),
    ],
)
def test_interpolation_executed(mode: str, dimensions: int, antialias: bool, op: str) -> None:
    """GIVEN each mode, THEN forward and backward are the operators that the formula names, of the
    work that it says, and nothing is kept."""
    x = torch.randn(IMAGES[dimensions], requires_grad=True)
    step = executed(lambda: F.interpolate(x, scale_factor=2, mode=mode, antialias=antialias))
    (forward,), (backward,) = step.forward, step.backward
    (gradient,) = forward.cost.gradients
    assert (forward.op, backward.op) == (f"aten.{op}", f"aten.{op}_backward")
    assert (gradient.op, gradient.elementwise) == (backward.op, backward.cost.elementwise)
    assert gradient.operand == "self"
    assert step.saved_bytes == 0
    x = x.detach()
    with torch.inference_mode():
        whole = executed(lambda: F.interpolate(x, scale_factor=2, mode=mode, antialias=antialias))
    assert whole.forward[0].cost.elementwise == forward.cost.elementwise


@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
@pytest.mark.parametrize("padding_mode", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_grid_sampler_executed(mode: str, padding_mode: str, dimensions: int) -> None:
    """GIVEN each kind of sampling, THEN backward does what forward's formula says, whichever of
    input and grid needs a gradient, and both are kept."""
    if (mode, dimensions) == ("bicubic", 3):
        return
    places = (4, 3, 2)[:dimensions]
    inputs = {
        "input": torch.randn(IMAGES[dimensions]),
        "grid": torch.rand(2, *places, dimensions) * 2 - 1,
    }
    agrees_with_torch(
        f"aten.grid_sampler_{dimensions}d",
        lambda input, grid: F.grid_sample(
            input, grid, mode=mode, padding_mode=padding_mode, align_corners=False
        ),
        inputs,
    )


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_affine_grid(dimensions: int, align_corners: bool) -> None:
    """GIVEN an affine grid, THEN its product is there forward and backward, and the grid's own
    arithmetic in both."""
    theta = torch.randn(2, dimensions, dimensions + 1, requires_grad=True)
    size = IMAGES[dimensions]
    step = executed(lambda: F.affine_grid(theta, size, align_corners=align_corners))
    (forward,) = step.forward
    found = [(work.op, work.cost.flops, work.cost.elementwise) for work in step.backward]
    assert found == [(g.op, g.flops, g.elementwise) for g in forward.cost.gradients]
    assert {gradient.operand for gradient in forward.cost.gradients} == {"theta"}
    assert step.saved_bytes == 0
    places = math.prod(size[2:])
    assert step.flops == (forward.cost.flops, forward.cost.flops)
    assert forward.cost.flops == 2 * 2 * places * dimensions * (dimensions + 1)
    assert forward.cost.elementwise == (0 if align_corners else 2 * sum(size[2:]))


# -- torchvision's operators (its compiled part is not always there) ----------------------------


@pytest.mark.oracle
def test_nms_oracle() -> None:
    """GIVEN boxes, THEN the formula counts their areas and the overlap of every pair."""
    boxes = np.sort(tensor((5, 2, 2)), axis=1).reshape(5, 4)

    def pairs() -> None:
        areas = [(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in boxes]
        for i, j in itertools.combinations(range(5), 2):
            a, b = boxes[i], boxes[j]
            x1, y1 = (a[k] if a[k] > b[k] else b[k] for k in (0, 1))
            x2, y2 = (b[k] if a[k] > b[k] else a[k] for k in (2, 3))
            width, height = x2 - x1, y2 - y1
            width = width if width > 0 else Counted(0.0)
            height = height if height > 0 else Counted(0.0)
            shared = width * height
            assert (shared / (areas[i] + areas[j] - shared) > 0.5) in (True, False)

    _, flops = count(pairs)
    cost = OPERATORS["torchvision.nms"](Tensor((5, 4)), Tensor((5,)), 0.5, out=Tensor((5,), 8))
    assert cost.elementwise == flops


def bilinear(x: np.ndarray, sample: tuple[Any, Any]) -> tuple[list[tuple[int, int]], list[Any]]:
    """The taps of a place inside and their weights, its arithmetic counted."""
    lows = [coordinate.apply("floor") for coordinate in sample]
    fractions = [coordinate - low for coordinate, low in zip(sample, lows, strict=True)]
    rest = [1 - t for t in fractions]
    i, j = (round(low.value) for low in lows)
    taps = [(i + a, j + b) for a in (0, 1) for b in (0, 1)]
    (v, h), (one_v, one_h) = fractions, rest
    return taps, [one_v * one_h, one_v * h, v * one_h, v * h]


@pytest.mark.oracle
@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("ratio", [1, 2])
def test_roi_align_oracle(aligned: bool, ratio: int) -> None:
    """GIVEN regions inside of images, THEN the formula is what the loops count, forward and
    backward, and the loops' values are means of sampled ones."""
    channels, pooled = 2, (2, 3)
    x = tensor((1, channels, 12, 12), seed=1)
    edges_of = [[2.0, 4.0, 9.0, 13.0], [3.5, 5.0, 14.0, 16.5], [3.0, 3.0, 9.0, 8.0]]
    rois = np.array([[0, *edges] for edges in edges_of])
    grad_y = tensor((3, channels, *pooled), seed=2)

    def places() -> list[Any]:
        """(region, bin) -> its samples."""
        found = []
        for k, roi in enumerate(rois):
            edges = [Counted(edge) * 0.5 for edge in roi[1:]]
            if aligned:
                edges = [edge - 0.5 for edge in edges]
            sides = [edges[2] - edges[0], edges[3] - edges[1]]
            if not aligned:
                sides = [side if side > 1 else Counted(1.0) for side in sides]
            steps = [sides[0] / (pooled[1] * ratio), sides[1] / (pooled[0] * ratio)]
            for i, j in np.ndindex(*pooled):
                for a, b in np.ndindex(ratio, ratio):
                    y = steps[1] * (i * ratio + a + 0.5) + edges[1]
                    at = steps[0] * (j * ratio + b + 0.5) + edges[0]
                    found.append(((k, i, j), (y, at), bilinear(x, (y, at))))
        return found

    def forward() -> np.ndarray:
        out = zeros(grad_y.shape)
        for (k, i, j), _, (taps, weights) in places():
            for c in range(channels):
                for tap, weight in zip(taps, weights, strict=True):
                    out[k, c, i, j] += x[(0, c, *tap)] * weight
        return out / (ratio * ratio)

    def backward() -> np.ndarray:
        out = zeros(x.shape)
        shared = grad_y / (ratio * ratio)
        for (k, i, j), _, (taps, weights) in places():
            for c in range(channels):
                for tap, weight in zip(taps, weights, strict=True):
                    out[(0, c, *tap)] += shared[k, c, i, j] * weight
        return out

    y, flops = count(forward)
    grad_x, backward_flops = count(backward)

    real_x = real(x)
    real_y = torch.zeros(grad_y.shape, dtype=torch.float64)
    for (k, i, j), (v, h), _ in places():
        grid = torch.tensor([[[[2 * p.value / 11 - 1 for p in (h, v)]]]], dtype=torch.float64)
        sample = F.grid_sample(real_x, grid, align_corners=True)
        real_y[k, :, i, j] += sample[0, :, 0, 0] / (ratio * ratio)
    real_y.backward(torch.tensor(values(grad_y)))
    np.testing.assert_allclose(values(y), real_y.detach().numpy(), atol=1e-12)
    np.testing.assert_allclose(values(grad_x), real_x.grad.numpy(), atol=1e-12)

    sizes = (0.5, *pooled)
    regions, out = Tensor(rois.shape), Tensor(y.shape)
    cost = OPERATORS["torchvision.roi_align"](
        Tensor(x.shape), regions, *sizes, ratio, aligned, out=out
    )
    back = OPERATORS["torchvision._roi_align_backward"](
        out, regions, *sizes, *x.shape, ratio, aligned, out=Tensor(x.shape)
    )
    (gradient,) = cost.gradients
    assert cost.elementwise == flops
    assert back.elementwise == gradient.elementwise == backward_flops
    assert (gradient.operand, gradient.saves) == ("input", (regions,))

    # With channels of their own for every bin it is the same work, aligned.
    if aligned:
        mapping = Tensor(y.shape)
        own = OPERATORS["torchvision.ps_roi_align"](
            Tensor(x.shape), regions, *sizes, ratio, out=(out, mapping)
        )
        own_back = OPERATORS["torchvision._ps_roi_align_backward"](
            out, regions, mapping, *sizes, ratio, *x.shape, out=Tensor(x.shape)
        )
        assert own.elementwise == own_back.elementwise == flops
        assert own.gradients[0].saves == (regions, mapping)


class Deformed:
    """A deformable convolution of stride 1 without padding, in loops. Places lie inside."""

    def __init__(self, x: np.ndarray, weight: np.ndarray, offset: np.ndarray, mask: Any) -> None:
        self.x, self.weight, self.offset, self.mask = x, weight, offset, mask
        self.n, self.channels = x.shape[:2]
        self.outputs, self.inputs, *self.kernel = weight.shape
        self.taps = list(np.ndindex(*self.kernel))
        self.positions = list(np.ndindex(self.n, *offset.shape[2:]))
        self.offset_groups = offset.shape[1] // (2 * len(self.taps))
        self.groups = self.channels // self.inputs

    def make_places(self) -> None:
        self.at = {}
        for group, (t, tap), (n, i, j) in itertools.product(
            range(self.offset_groups), enumerate(self.taps), self.positions
        ):
            first = 2 * (group * len(self.taps) + t)
            place = (
                self.offset[n, first, i, j] + (i + tap[0]),
                self.offset[n, first + 1, i, j] + (j + tap[1]),
            )
            self.at[group, t, n, i, j] = (*bilinear(self.x, place), place)

    def entries(self) -> Iterator[tuple[tuple[int, ...], Any]]:
        """Index of each entry of the columns (channel, tap, image, position), and its place."""
        share = self.channels // self.offset_groups
        for c, t, (n, i, j) in itertools.product(
            range(self.channels), range(len(self.taps)), self.positions
        ):
            yield (c, t, n, i, j), self.at[c // share, t, n, i, j]

    def mask_at(self, entry: tuple[int, ...]) -> Any:
        c, t, n, i, j = entry
        group = c // (self.channels // self.offset_groups)
        return n, group * len(self.taps) + t, i, j

    def sample(self) -> None:
        self.values = {}
        for entry, (taps, weights, _) in self.entries():
            value = Counted(0.0)
            for tap, weight in zip(taps, weights, strict=True):
                value = value + self.x[(entry[2], entry[0], *tap)] * weight
            self.values[entry] = value

    def apply_mask(self) -> None:
        self.columns = {
            entry: value if self.mask is None else value * self.mask[self.mask_at(entry)]
            for entry, value in self.values.items()
        }

    def product(self, use: Callable[..., None]) -> None:
        """Every multiply-add of the convolution, as (output, entry of the weight and columns)."""
        per_group = self.outputs // self.groups
        for o, c, (t, tap), position in itertools.product(
            range(self.outputs), range(self.inputs), enumerate(self.taps), self.positions
        ):
            n, i, j = position
            channel = o // per_group * self.inputs + c
            use((n, o, i, j), (o, c, *tap), (channel, t, n, i, j))

    def forward_product(self) -> np.ndarray:
        out = zeros((self.n, self.outputs, *self.offset.shape[2:]))

        def use(y: Any, w: Any, column: Any) -> None:
            out[y] += self.weight[w] * self.columns[column]

        self.product(use)
        return out

    def grad_columns(self, grad_y: np.ndarray) -> dict[Any, Any]:
        out = {entry: Counted(0.0) for entry in self.columns}

        def use(y: Any, w: Any, column: Any) -> None:
            out[column] = out[column] + self.weight[w] * grad_y[y]

        self.product(use)
        return out

    def grad_weight(self, grad_y: np.ndarray) -> np.ndarray:
        out = zeros(self.weight.shape)

        def use(y: Any, w: Any, column: Any) -> None:
            out[w] += self.columns[column] * grad_y[y]

        self.product(use)
        return out

    def grad_values(self, grad_columns: dict[Any, Any]) -> dict[Any, Any]:
        if self.mask is None:
            return grad_columns
        return {e: grad * self.mask[self.mask_at(e)] for e, grad in grad_columns.items()}

    def grad_mask(self, grad_columns: dict[Any, Any]) -> np.ndarray:
        out = zeros(self.mask.shape)
        for entry, grad in grad_columns.items():
            out[self.mask_at(entry)] += self.values[entry] * grad
        return out

    def grad_input(self, grad_values: dict[Any, Any]) -> np.ndarray:
        out = zeros(self.x.shape)
        for entry, (taps, weights, _) in self.entries():
            for tap, weight in zip(taps, weights, strict=True):
                out[(entry[2], entry[0], *tap)] += grad_values[entry] * weight
        return out

    def grad_offset(self, grad_values: dict[Any, Any]) -> np.ndarray:
        out = zeros(self.offset.shape)
        sums = {place: [Counted(0.0) for _ in range(4)] for place in self.at}
        share = self.channels // self.offset_groups
        for (c, t, n, i, j), (taps, _, _) in self.entries():
            found = sums[c // share, t, n, i, j]
            for index, tap in enumerate(taps):
                found[index] = found[index] + self.x[(n, c, *tap)] * grad_values[c, t, n, i, j]
        for (group, t, n, i, j), (taps, _, place) in self.at.items():
            v, h = (Counted(p.value - low) for p, low in zip(place, taps[0], strict=True))
            one_v, one_h = Counted(1 - v.value), Counted(1 - h.value)
            s = sums[group, t, n, i, j]
            first = 2 * (group * len(self.taps) + t)
            zero = Counted(0.0)
            out[n, first, i, j] = zero - s[0] * one_h - s[1] * h + s[2] * one_h + s[3] * h
            out[n, first + 1, i, j] = zero - s[0] * one_v + s[1] * one_v - s[2] * v + s[3] * v
        return out


@pytest.mark.oracle
@settings(max_examples=8, deadline=None)
@given(
    n=st.integers(1, 2),
    groups=st.integers(1, 2),
    offset_groups=st.integers(1, 2),
    outputs=st.integers(1, 2),
    masked=st.booleans(),
)
def test_deform_conv2d_oracle(
    n: int, groups: int, offset_groups: int, outputs: int, masked: bool
) -> None:
    """GIVEN a deformable convolution, THEN each part of the formula is what the loops count, and
    the loops are sampling and a product in torch."""
    channels, kernel, positions, taps = 2, (3, 1), (2, 2), 3
    x = tensor((n, channels, 5, 5), seed=1)
    weight = tensor((outputs * groups, channels // groups, *kernel), seed=2)
    drawn = np.random.default_rng(3).uniform(0.1, 0.9, (n, 2 * taps * offset_groups, *positions))
    offset = np.vectorize(Counted, otypes=[object])(drawn)
    mask = tensor((n, taps * offset_groups, *positions), seed=4) if masked else None
    loops = Deformed(x, weight, offset, mask)
    counts = {}
    _, counts["places"] = count(loops.make_places)
    _, counts["values"] = count(loops.sample)
    _, counts["mask"] = count(loops.apply_mask)
    y, counts["product"] = count(loops.forward_product)
    grad_y = tensor(y.shape, seed=5)
    grad_columns, counts["grad_columns"] = count(lambda: loops.grad_columns(grad_y))
    grad_weight, counts["grad_weight"] = count(lambda: loops.grad_weight(grad_y))
    grad_values, counts["grad_values"] = count(lambda: loops.grad_values(grad_columns))
    grad_x, counts["grad_input"] = count(lambda: loops.grad_input(grad_values))
    grad_offset, counts["grad_offset"] = count(lambda: loops.grad_offset(grad_values))
    found = [grad_x, grad_weight, grad_offset]
    if masked:
        grad_mask, counts["grad_mask"] = count(lambda: loops.grad_mask(grad_columns))
        found.append(grad_mask)

    # In torch: sample the columns, then multiply.
    operands = [real(array) for array in (x, weight, offset)]
    real_mask = real(mask) if masked else torch.ones(n, taps * offset_groups, *positions)
    share, columns = channels // offset_groups, []
    for t, tap in enumerate(np.ndindex(*kernel)):
        sampled = []
        for group in range(offset_groups):
            shift = operands[2][:, 2 * (group * taps + t) :][:, :2]
            at = torch.stack(
                [
                    shift[:, 1] + torch.arange(2)[None, None] + tap[1],
                    shift[:, 0] + torch.arange(2)[None, :, None] + tap[0],
                ],
                dim=-1,
            )
            part = operands[0][:, group * share : (group + 1) * share]
            value = F.grid_sample(part, at / 2 - 1, align_corners=True)
            sampled.append(value * real_mask[:, group * taps + t][:, None])
        columns.append(torch.cat(sampled, dim=1))
    stacked = torch.stack(columns, dim=2).view(n, groups, channels // groups, taps, *positions)
    by_group = operands[1].view(groups, outputs, channels // groups, taps)
    real_y = torch.einsum("goct,ngctij->ngoij", by_group, stacked.double()).reshape(y.shape)
    real_y.backward(torch.tensor(values(grad_y)))
    np.testing.assert_allclose(values(y), real_y.detach().numpy(), atol=1e-9)
    if masked:
        operands.append(real_mask)
    for array, operand in zip(found, operands, strict=True):
        np.testing.assert_allclose(values(array), operand.grad.numpy(), atol=1e-9)

    shapes = [Tensor(array.shape) for array in (x, weight, offset)]
    mask_shape = Tensor(mask.shape) if masked else Tensor((n, 0, 1, 1))
    arguments = (
        *shapes,
        mask_shape,
        Tensor((outputs * groups,)),
        *(1, 1, 0, 0, 1, 1, groups, offset_groups, masked),
    )
    out = Tensor(y.shape)
    cost = OPERATORS["torchvision.deform_conv2d"](*arguments, out=out)
    assert cost.flops == counts["product"]
    forward = counts["places"] + counts["values"] + counts["mask"]
    assert cost.elementwise == forward + y.size
    back = OPERATORS[cost.gradients[0].op](out, *arguments, out=())
    assert work_by_operand(cost.gradients) == work_by_operand(back.parts)
    work = work_by_operand(back.parts)
    also = ("mask",) if masked else ()
    expected = {
        (("input", "offset", *also), "flops"): counts["grad_columns"],
        (("weight",), "flops"): counts["grad_weight"],
        (("input", "weight", "offset", *also), "elementwise"): counts["places"],
        (("input",), "elementwise"): counts["grad_input"],
        (("offset",), "elementwise"): counts["grad_offset"],
        (("bias",), "elementwise"): y.size,
    }
    if masked:
        expected |= {
            (("weight",), "elementwise"): counts["mask"],
            (("weight", "mask"), "elementwise"): counts["values"],
            (("input", "offset"), "elementwise"): counts["grad_values"],
            (("mask",), "elementwise"): counts["grad_mask"],
        }
    else:
        expected[("weight",), "elementwise"] = counts["values"]
    assert work == expected


def figures(n: Any, c: Any, h: Any, w: Any) -> dict[str, Any]:
    """Interpolation to fixed and to multiple sizes, sampling, a region of interest."""
    x, y = Tensor((n, c, h, w)), Tensor((n, c, 2 * h, 7))
    grid = Tensor((n, h, 3, 2))
    sampled = OPERATORS["aten.grid_sampler_2d"](x, grid, 0, 1, False, out=Tensor((n, c, h, 3)))
    boxes = OPERATORS["torchvision.nms"](Tensor((h * w, 4)), Tensor((h * w,)), 0.5, out=x)
    return {
        "bilinear": OPERATORS["aten.upsample_bilinear2d"](x, out=y).elementwise,
        "antialiased": OPERATORS["aten._upsample_bicubic2d_aa"](x, out=y).elementwise,
        "sampled": sampled.elementwise,
        "gradient": sum(gradient.elementwise for gradient in sampled.gradients),
        "boxes": boxes.elementwise,
    }


def test_arrays_and_symbols() -> None:
    """The same formula takes ints, arrays of ints and symbols."""
    points = [(1, 2, 3, 4), (6, 1, 4, 8), (2, 3, 5, 256)]
    by_arrays = figures(*(exact(column) for column in zip(*points, strict=True)))
    symbols = sympy.symbols("n c h w", integer=True, positive=True)
    by_symbols = figures(*symbols)
    for index, point in enumerate(points):
        for name, expected in figures(*point).items():
            assert by_arrays[name][index] == expected
            assert by_symbols[name].subs(dict(zip(symbols, point, strict=True))) == expected
