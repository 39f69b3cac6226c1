"""Pooling, against windows in plain loops, and against torch."""

import math
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flopratio.formulas import LAYERS, Call, LayerCost, Tensor
from flopratio.formulas.pooling import output_positions
from tests.formulas import counting
from tests.formulas.counting import Counted, counted, values, zeros
from tests.formulas.executed import (
    agrees_on_arrays_and_symbols,
    agrees_with_torch,
    analytic,
)

Index = tuple[int, ...]
Windows = dict[Index, list[range]]
"""Output index -> what its window covers along each dimension, batch and channel too."""


def count(run: Callable[..., Any], *arguments: Any) -> tuple[Any, int]:
    counting.reset()
    result = run(*arguments)
    return result, counted()


def inside(index: Index, shape: Index) -> bool:
    return all(0 <= i < size for i, size in zip(index, shape, strict=True))


def taps(x: np.ndarray, window: list[range], padding: float) -> Iterator[tuple[Index, Any]]:
    for index in product(*window):
        yield index, x[index] if inside(index, x.shape) else Counted(padding)


def array(found: dict[Index, Any]) -> np.ndarray:
    shape = tuple(last + 1 for last in max(found))
    return np.array([found[index] for index in np.ndindex(*shape)], dtype=object).reshape(shape)


def maxima(x: np.ndarray, windows: Windows) -> tuple[np.ndarray, dict[Index, Index]]:
    """The largest tap of each window, a comparison a tap; and where it lies."""
    largest, places = {}, {}
    for at, window in windows.items():
        largest[at] = Counted(-math.inf)
        for index, value in taps(x, window, -math.inf):
            if value > largest[at]:
                largest[at], places[at] = value, index
    return array(largest), places


def means(x: np.ndarray, windows: Windows, divisors: dict[Index, int]) -> np.ndarray:
    found = {}
    for at, window in windows.items():
        total = Counted(0)
        for _, value in taps(x, window, 0):
            total = total + value
        found[at] = total / divisors[at]
    return array(found)


def gradient_of_maxima(shape: Index, places: dict[Index, Index], grad: np.ndarray) -> np.ndarray:
    grad_x = zeros(shape)
    for at, index in places.items():
        grad_x[index] = grad_x[index] + grad[at]
    return grad_x


def gradient_of_means(
    shape: Index, windows: Windows, divisors: dict[Index, int], grad: np.ndarray
) -> np.ndarray:
    """Shares that fall on the padding are added too, and cut off."""
    grad_x, padding = zeros(shape), Counted(0)
    for at, window in windows.items():
        share = grad[at] / divisors[at]
        for index in product(*window):
            if inside(index, shape):
                grad_x[index] = grad_x[index] + share
            else:
                padding = padding + share
    return grad_x


def windows_of(out: Index, along: Callable[[int, int], range]) -> Windows:
    """``along(dimension, i)``: what window i covers along a spatial dimension."""
    return {
        at: [range(at[0], at[0] + 1), range(at[1], at[1] + 1)]
        + [along(dimension, i) for dimension, i in enumerate(at[2:])]
        for at in np.ndindex(*out)
    }


def figures_of(layer: LayerCost) -> tuple[int, int]:
    """Elementwise FLOP of the one operator, forward and backward."""
    (call,) = layer.calls
    (gradient,) = call.cost.gradients
    assert call.cost.flops == gradient.flops == 0
    return call.cost.elementwise, gradient.elementwise


def torch_step(module: torch.nn.Module, x: np.ndarray, grad: np.ndarray) -> tuple[Any, Any]:
    torch_x = torch.tensor(values(x), requires_grad=True)
    y = module(torch_x)
    y.backward(torch.tensor(values(grad)))
    return y.detach(), torch_x.grad


@st.composite
def sliding(draw: st.DrawFn, dilated: bool) -> dict[str, Any]:
    """A constructor's arguments, and a shape on which at least one window fits."""
    dimensions = draw(st.integers(1, 3))

    def each(smallest: int, largest: int) -> Index:
        return tuple(draw(st.integers(smallest, largest)) for _ in range(dimensions))

    kernel, stride = each(1, 3), each(1, 3)
    dilation = each(1, 2) if dilated else (1,) * dimensions
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    # An input that a window fits into: no window then lies on padding alone.
    positions = (r + draw(st.integers(0, 3)) for r in reach)
    arguments = {
        "kernel_size": kernel,
        "stride": stride,
        "padding": padding,
        "ceil_mode": draw(st.booleans()),
    }
    return {
        "shape": (draw(st.integers(1, 2)), draw(st.integers(1, 2)), *positions),
        "dimensions": dimensions,
        "dilation": dilation,
        "arguments": arguments,
    }


def sliding_windows(case: dict[str, Any], out: Index) -> Windows:
    arguments = case["arguments"]

    def along(dimension: int, i: int) -> range:
        kernel, stride, padding = (
            arguments[name][dimension] for name in ("kernel_size", "stride", "padding")
        )
        start, dilation = i * stride - padding, case["dilation"][dimension]
        return range(start, start + dilation * (kernel - 1) + 1, dilation)

    return windows_of(out, along)


@pytest.mark.oracle
@settings(max_examples=40, deadline=None)
@given(case=sliding(dilated=True))
def test_max_pooling_and_its_gradient_are_counted(case: dict[str, Any]) -> None:
    name = f"MaxPool{case['dimensions']}d"
    arguments = {**case["arguments"], "dilation": case["dilation"]}
    layer = LAYERS[name](Tensor(case["shape"]), **arguments)
    x, grad = counting.tensor(case["shape"], 1), counting.tensor(layer.out.shape, 2)

    (y, places), flops = count(maxima, x, sliding_windows(case, layer.out.shape))
    grad_x, gradient = count(gradient_of_maxima, x.shape, places, grad)

    assert figures_of(layer) == (flops, gradient)
    torch_y, torch_grad = torch_step(getattr(torch.nn, name)(**arguments), x, grad)
    np.testing.assert_allclose(values(y), torch_y)
    np.testing.assert_allclose(values(grad_x), torch_grad)


@pytest.mark.oracle
@settings(max_examples=40, deadline=None)
@given(case=sliding(dilated=False), include=st.booleans(), divisor=st.sampled_from([None, 5]))
def test_average_pooling_and_its_gradient_are_counted(
    case: dict[str, Any], include: bool, divisor: int | None
) -> None:
    name = f"AvgPool{case['dimensions']}d"
    arguments = {**case["arguments"], "count_include_pad": include}
    if case["dimensions"] > 1:
        arguments["divisor_override"] = divisor
    else:
        divisor = None
    layer = LAYERS[name](Tensor(case["shape"]), **arguments)
    x, grad = counting.tensor(case["shape"], 1), counting.tensor(layer.out.shape, 2)
    windows = sliding_windows(case, layer.out.shape)

    def entries(window: list[range]) -> int:
        """Taps on the input, and on its padding too if they are to count."""
        paddings = (0, 0, *case["arguments"]["padding"])
        sizes = zip(window, x.shape, paddings, strict=True)
        return math.prod(
            sum(-p * include <= i < size + p * include for i in along) for along, size, p in sizes
        )

    divisors = {at: divisor or entries(window) for at, window in windows.items()}
    y, flops = count(means, x, windows, divisors)
    grad_x, gradient = count(gradient_of_means, x.shape, windows, divisors, grad)

    assert figures_of(layer) == (flops, gradient)
    torch_y, torch_grad = torch_step(getattr(torch.nn, name)(**arguments), x, grad)
    np.testing.assert_allclose(values(y), torch_y, atol=1e-12)
    np.testing.assert_allclose(values(grad_x), torch_grad, atol=1e-12)


@pytest.mark.oracle
@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 7), st.integers(2, 7)), min_size=1, max_size=3),
    kind=st.sampled_from(["Max", "Avg"]),
)
def test_adaptive_pooling_and_its_gradient_are_counted(
    sizes: list[tuple[int, int]], kind: str
) -> None:
    positions, output_size = zip(*sizes, strict=True)
    name, arguments = f"Adaptive{kind}Pool{len(sizes)}d", {"output_size": output_size}
    layer = LAYERS[name](Tensor((2, 1, *positions)), **arguments)
    assert layer.out.shape == (2, 1, *output_size)
    x, grad = counting.tensor((2, 1, *positions), 1), counting.tensor(layer.out.shape, 2)

    def along(dimension: int, i: int) -> range:
        size, outputs = sizes[dimension]
        return range(math.floor(i * size / outputs), math.ceil((i + 1) * size / outputs))

    windows = windows_of(layer.out.shape, along)
    if kind == "Max":
        (y, places), flops = count(maxima, x, windows)
        grad_x, gradient = count(gradient_of_maxima, x.shape, places, grad)
    else:
        divisors = {at: math.prod(map(len, window)) for at, window in windows.items()}
        y, flops = count(means, x, windows, divisors)
        grad_x, gradient = count(gradient_of_means, x.shape, windows, divisors, grad)

    assert figures_of(layer) == (flops, gradient)
    module = getattr(torch.nn, name)(output_size if len(sizes) > 1 else output_size[0])
    torch_y, torch_grad = torch_step(module, x, grad)
    np.testing.assert_allclose(values(y), torch_y, atol=1e-12)
    np.testing.assert_allclose(values(grad_x), torch_grad, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(size=st.integers(1, 50), outputs=st.integers(1, 50))
def test_adaptive_windows_sum_to_the_closed_form(size: int, outputs: int) -> None:
    layer = LAYERS["AdaptiveMaxPool1d"](Tensor((1, 1, size)), output_size=outputs)
    assert figures_of(layer)[0] == size + outputs - math.gcd(size, outputs)


@settings(max_examples=40, deadline=None)
@given(
    size=st.integers(1, 40),
    kernel=st.integers(1, 9),
    stride=st.integers(1, 9),
    dilation=st.integers(1, 3),
    data=st.data(),
)
def test_ceil_mode_fits_as_many_windows_as_torch(
    size: int, kernel: int, stride: int, dilation: int, data: st.DataObject
) -> None:
    padding = data.draw(st.integers(0, kernel // 2))
    size = max(size, dilation * (kernel - 1) + 1 - 2 * padding)
    module = torch.nn.MaxPool1d(kernel, stride, padding, dilation, ceil_mode=True)
    expected = module(torch.zeros(1, 1, size)).shape[-1]
    assert output_positions(size, kernel, stride, padding, dilation, True) == expected


ARGUMENTS: dict[str, list[tuple[Index, dict[str, Any]]]] = {
    "MaxPool1d": [((2, 4, 9), {"kernel_size": 3, "stride": 2, "padding": 1})],
    "MaxPool2d": [
        ((2, 4, 9, 8), {"kernel_size": 2}),
        ((4, 9, 8), {"kernel_size": (3, 2), "stride": 2, "dilation": 2, "ceil_mode": True}),
    ],
    "MaxPool3d": [((2, 4, 5, 4, 6), {"kernel_size": 2, "padding": 1})],
    "AvgPool1d": [((2, 4, 9), {"kernel_size": 3, "stride": 2, "ceil_mode": True})],
    "AvgPool2d": [
        ((2, 4, 9, 8), {"kernel_size": 2}),
        ((4, 9, 8), {"kernel_size": (3, 2), "padding": 1, "count_include_pad": False}),
    ],
    "AvgPool3d": [((2, 4, 5, 4, 6), {"kernel_size": 2, "divisor_override": 3})],
    "AdaptiveAvgPool1d": [((2, 4, 9), {"output_size": 4}), ((2, 4, 9), {"output_size": 1})],
    "AdaptiveAvgPool2d": [
        ((2, 4, 9, 8), {"output_size": (4, None)}),
        ((2, 4, 9, 8), {"output_size": 1}),
        ((2, 4, 1, 1), {"output_size": (None, 1)}),
        ((4, 9, 8), {"output_size": 3}),
    ],
    "AdaptiveAvgPool3d": [
        ((2, 4, 5, 4, 6), {"output_size": 2}),
        ((4, 5, 4, 6), {"output_size": 1}),
    ],
    "AdaptiveMaxPool1d": [((2, 4, 9), {"output_size": 4})],
    "AdaptiveMaxPool2d": [((2, 4, 9, 8), {"output_size": (None, 1)})],
    "AdaptiveMaxPool3d": [((2, 4, 5, 4, 6), {"output_size": 1})],
}
CASES = [(name, *case) for name, cases in ARGUMENTS.items() for case in cases]


@pytest.mark.parametrize(("name", "shape", "arguments"), CASES, ids=str)
def test_torch_runs_what_the_formula_says(
    name: str, shape: Index, arguments: dict[str, Any]
) -> None:
    module = getattr(torch.nn, name)(**arguments)
    agrees_with_torch(LAYERS[name], module, torch.randn(shape), **arguments)


@pytest.mark.parametrize("op", ["max_pool2d_with_indices", "avg_pool3d"])
def test_one_size_of_a_kernel_stands_for_all(op: str) -> None:
    dimensions = 2 if "2d" in op else 3
    y = Tensor((2, 4) + (3,) * dimensions)
    out = (y, Tensor(y.shape, itemsize=8)) if op.startswith("max") else y
    x = Tensor((2, 4) + (9,) * dimensions)
    lone, all_ = (
        Call(f"aten.{op}", {"self": x, "kernel_size": [3] * number}, out).cost
        for number in (1, dimensions)
    )
    assert lone == all_


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("MaxPool2d", {"kernel_size": 3, "stride": 2, "padding": 1}),
        ("MaxPool2d", {"kernel_size": 3, "stride": 2, "ceil_mode": True}),
        ("AvgPool2d", {"kernel_size": 2, "ceil_mode": True}),
        ("AdaptiveAvgPool2d", {"output_size": (3, None)}),
        ("AdaptiveAvgPool2d", {"output_size": 1}),
        ("AdaptiveMaxPool2d", {"output_size": 4}),
    ],
    ids=str,
)
def test_arrays_and_symbols_say_the_same(name: str, arguments: dict[str, Any]) -> None:
    def figures(**size: Any) -> dict[str, Any]:
        x = Tensor((size["batch"], size["channels"], size["height"], size["width"]))
        return analytic(LAYERS[name](x, **arguments), x).figures

    agrees_on_arrays_and_symbols(
        figures,
        {"batch": 2, "channels": 3, "height": 9, "width": 8},
        {"batch": 7, "channels": 1, "height": 4, "width": 5},
        {"batch": 10**12, "channels": 4096, "height": 10**6, "width": 11},
    )
