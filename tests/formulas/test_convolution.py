"""Convolutions, against plain loops, against torch, and against published counts."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flopratio.formulas import LAYERS, OPERATORS, Call, Tensor
from tests.formulas import counting
from tests.formulas.counting import counted, values, zeros
from tests.formulas.executed import (
    agrees_on_arrays_and_symbols,
    agrees_with_torch,
    analytic,
)

LITERALS = Path(__file__).parent.parent / "reference" / "pytorch_test_flop_counter_literals.csv"


@dataclass(frozen=True)
class Case:
    """The sizes of a convolution; one kernel, stride, ... for each spatial dimension."""

    batch: int
    groups: int
    channels: int
    out_channels: int
    """Channels, in and out, of one group."""
    positions: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    output_padding: tuple[int, ...]

    @property
    def dimensions(self) -> int:
        return len(self.kernel)

    @property
    def reach(self) -> list[int]:
        return [d * (k - 1) + 1 for d, k in zip(self.dilation, self.kernel, strict=True)]

    def arguments(self, transposed: bool) -> dict[str, Any]:
        arguments = {
            "in_channels": self.channels * self.groups,
            "out_channels": self.out_channels * self.groups,
            "kernel_size": self.kernel,
            "stride": self.stride,
            "padding": self.padding,
            "dilation": self.dilation,
            "groups": self.groups,
        }
        return arguments | ({"output_padding": self.output_padding} if transposed else {})

    def module(self, transposed: bool, **options: Any) -> torch.nn.Module:
        name = f"Conv{'Transpose' if transposed else ''}{self.dimensions}d"
        module: torch.nn.Module = getattr(torch.nn, name)(**self.arguments(transposed), **options)
        return module


@st.composite
def cases(draw: st.DrawFn) -> Case:
    dimensions = draw(st.integers(1, 3))
    small = 3 if dimensions < 3 else 2

    def each(smallest: int, largest: int) -> tuple[int, ...]:
        return tuple(draw(st.integers(smallest, largest)) for _ in range(dimensions))

    kernel, stride, dilation = each(1, small), each(1, 3), each(1, 2)
    padding = tuple(draw(st.integers(0, k)) for k in kernel)
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    # At least one output position, of the plain convolution and of the transposed one.
    smallest = [
        max(r - 2 * p, 1 + -(-max(2 * p - r + 1, 0) // s), 1)
        for r, p, s in zip(reach, padding, stride, strict=True)
    ]
    positions = tuple(low + draw(st.integers(0, 2)) for low in smallest)
    output_padding = tuple(
        draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True)
    )
    return Case(
        batch=draw(st.integers(1, 2)),
        groups=draw(st.integers(1, 3)),
        channels=draw(st.integers(1, 2)),
        out_channels=draw(st.integers(1, 2)),
        positions=positions,
        kernel=kernel,
        stride=stride,
        padding=padding,
        dilation=dilation,
        output_padding=output_padding,
    )


def pad(array: np.ndarray, before: tuple[int, ...], after: tuple[int, ...]) -> np.ndarray:
    """Zeros around the spatial dimensions."""
    sizes = zip(array.shape[2:], before, after, strict=True)
    padded = zeros((*array.shape[:2], *(size + low + high for size, low, high in sizes)))
    padded[crop_index(array, before)] = array
    return padded


def crop_index(array: np.ndarray, before: tuple[int, ...]) -> tuple[slice, ...]:
    inside = zip(array.shape[2:], before, strict=True)
    return (slice(None), slice(None), *(slice(low, low + size) for size, low in inside))


class Loops:
    """A convolution as its definition says, a multiplication and an addition at a time.

    ``triples`` lists (x index, weight index, y index) of all multiply-adds, on x and y with their
    padding; forward and both gradients only differ in which of the three they add into.
    """

    def __init__(self, case: Case, transposed: bool) -> None:
        self.case, self.transposed = case, transposed
        c = case
        self.x_shape = (c.batch, c.groups * c.channels, *c.positions)
        if transposed:
            self.weight_shape = (c.groups * c.channels, c.out_channels, *c.kernel)
            whole = [
                (size - 1) * s + reach + extra
                for size, s, reach, extra in zip(
                    c.positions, c.stride, c.reach, c.output_padding, strict=True
                )
            ]
            y = [size - 2 * p for size, p in zip(whole, c.padding, strict=True)]
        else:
            self.weight_shape = (c.groups * c.out_channels, c.channels, *c.kernel)
            y = []
            for size, s, p, reach in zip(c.positions, c.stride, c.padding, c.reach, strict=True):
                starts = range(0, size + 2 * p - reach + 1, s)
                y.append(len(starts))
        self.y_shape = (c.batch, c.groups * c.out_channels, *y)

    def triples(self) -> Any:
        c = self.case
        moving = c.positions if self.transposed else self.y_shape[2:]
        for n, group, i, o in np.ndindex(c.batch, c.groups, c.channels, c.out_channels):
            channel, out_channel = group * c.channels + i, group * c.out_channels + o
            for position in np.ndindex(*moving):
                for tap in np.ndindex(*c.kernel):
                    met = tuple(
                        p * s + t * d
                        for p, s, t, d in zip(position, c.stride, tap, c.dilation, strict=True)
                    )
                    if self.transposed:
                        yield (n, channel, *position), (channel, o, *tap), (n, out_channel, *met)
                    else:
                        yield (
                            (n, channel, *met),
                            (out_channel, i, *tap),
                            (n, out_channel, *position),
                        )

    def padded(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        both = self.case.padding, self.case.padding
        return (x, pad(y, *both)) if self.transposed else (pad(x, *both), y)

    def cropped(self, array: np.ndarray, like: np.ndarray) -> np.ndarray:
        return array[crop_index(like, self.case.padding)]

    def forward(self, x: np.ndarray, weight: np.ndarray) -> np.ndarray:
        y = zeros(self.y_shape)
        padded_x, padded_y = self.padded(x, y)
        for at_x, at_weight, at_y in self.triples():
            padded_y[at_y] = padded_y[at_y] + padded_x[at_x] * weight[at_weight]
        return self.cropped(padded_y, y) if self.transposed else padded_y

    def grad_input(self, weight: np.ndarray, grad: np.ndarray) -> np.ndarray:
        x = zeros(self.x_shape)
        padded_x, padded_grad = self.padded(x, grad)
        for at_x, at_weight, at_y in self.triples():
            padded_x[at_x] = padded_x[at_x] + padded_grad[at_y] * weight[at_weight]
        return padded_x if self.transposed else self.cropped(padded_x, x)

    def grad_weight(self, x: np.ndarray, grad: np.ndarray) -> np.ndarray:
        weight = zeros(self.weight_shape)
        padded_x, padded_grad = self.padded(x, grad)
        for at_x, at_weight, at_y in self.triples():
            weight[at_weight] = weight[at_weight] + padded_grad[at_y] * padded_x[at_x]
        return weight

    def add_bias(self, y: np.ndarray, bias: np.ndarray) -> np.ndarray:
        return y + bias.reshape(1, -1, *(1,) * self.case.dimensions)

    def grad_bias(self, grad: np.ndarray) -> np.ndarray:
        bias = zeros((grad.shape[1],))
        for index in np.ndindex(*grad.shape):
            bias[index[1]] = bias[index[1]] + grad[index]
        return bias


def count(run: Any, *arguments: Any) -> tuple[Any, int]:
    counting.reset()
    result = run(*arguments)
    return result, counted()


@pytest.mark.oracle
@pytest.mark.parametrize("transposed", [False, True], ids=["plain", "transposed"])
@settings(max_examples=30, deadline=None)
@given(case=cases())
def test_a_convolution_and_its_gradients_are_counted(transposed: bool, case: Case) -> None:
    loops = Loops(case, transposed)
    x, weight = counting.tensor(loops.x_shape, 1), counting.tensor(loops.weight_shape, 2)
    bias, grad = counting.tensor((loops.y_shape[1],), 3), counting.tensor(loops.y_shape, 4)

    product, flops = count(loops.forward, x, weight)
    y, bias_flops = count(loops.add_bias, product, bias)
    grad_x, grad_x_flops = count(loops.grad_input, weight, grad)
    grad_weight, grad_weight_flops = count(loops.grad_weight, x, grad)
    grad_bias, grad_bias_flops = count(loops.grad_bias, grad)

    name = f"Conv{'Transpose' if transposed else ''}{case.dimensions}d"
    layer = LAYERS[name](Tensor(x.shape), **case.arguments(transposed))
    assert layer.out.shape == y.shape
    (call,) = layer.calls
    cost = call.cost
    assert (cost.flops, cost.elementwise) == (flops, bias_flops)
    expected = {
        "input": (grad_x_flops, 0),
        "weight": (grad_weight_flops, 0),
        "bias": (0, grad_bias_flops),
    }
    assert {g.operand: (g.flops, g.elementwise) for g in cost.gradients} == expected
    backward = backward_cost(call, (True, True, True))
    assert {part.operand: (part.flops, part.elementwise) for part in backward.parts} == expected

    # The loops are this very layer: torch gets the same values.
    module = case.module(transposed, dtype=torch.float64)
    with torch.no_grad():
        module.weight.copy_(torch.tensor(values(weight)))
        module.bias.copy_(torch.tensor(values(bias)))
    torch_x = torch.tensor(values(x), requires_grad=True)
    torch_y = module(torch_x)
    torch_y.backward(torch.tensor(values(grad)))
    np.testing.assert_allclose(values(y), torch_y.detach(), atol=1e-12)
    np.testing.assert_allclose(values(grad_x), torch_x.grad, atol=1e-12)
    np.testing.assert_allclose(values(grad_weight), module.weight.grad, atol=1e-12)
    np.testing.assert_allclose(values(grad_bias), module.bias.grad, atol=1e-12)


def backward_cost(call: Call, output_mask: tuple[bool, ...]) -> Any:
    operands = {name: value for name, value in call.operands.items() if name != "bias"}
    return OPERATORS["aten.convolution_backward"](
        grad_output=call.out, **operands, bias_sizes=None, output_mask=output_mask, out=()
    )


@pytest.mark.parametrize("mask", [(False, True, False), (True, False, True), (False, False, True)])
def test_backward_does_what_its_mask_asks_for(mask: tuple[bool, ...]) -> None:
    (call,) = LAYERS["Conv1d"](
        Tensor((2, 4, 9)), in_channels=4, out_channels=6, kernel_size=3
    ).calls
    parts = backward_cost(call, (True, True, True)).parts
    asked = tuple(part for part, wanted in zip(parts, mask, strict=True) if wanted)
    cost = backward_cost(call, mask)
    assert cost.parts == asked
    assert cost.flops == sum(part.flops for part in asked)


def test_the_weight_gradient_is_not_times_the_groups() -> None:
    """A depthwise convolution costs as much in each gradient as forward."""
    x = Tensor((1, 32, 8, 8))
    (call,) = LAYERS["Conv2d"](
        x, in_channels=32, out_channels=32, kernel_size=3, padding=1, groups=32
    ).calls
    assert call.cost.flops == 2 * 32 * 1 * 9 * 64
    assert [g.flops for g in call.cost.gradients[:2]] == [call.cost.flops] * 2


EXECUTED: dict[str, tuple[str, tuple[int, ...], dict[str, Any]]] = {
    "1d grouped": ("Conv1d", (2, 4, 9), {"kernel_size": 3, "groups": 2}),
    "2d": ("Conv2d", (2, 4, 9, 8), {"kernel_size": 3, "padding": 1}),
    "2d strided": ("Conv2d", (2, 4, 9, 8), {"kernel_size": (3, 2), "stride": (2, 3)}),
    "2d without bias": ("Conv2d", (2, 4, 9, 8), {"kernel_size": 1, "bias": False}),
    "2d depthwise": ("Conv2d", (2, 4, 9, 8), {"kernel_size": 3, "groups": 4, "out_channels": 4}),
    "2d one image": ("Conv2d", (4, 9, 8), {"kernel_size": 3, "dilation": 2}),
    "3d": ("Conv3d", (2, 4, 5, 4, 3), {"kernel_size": 2}),
    "valid": ("Conv2d", (2, 4, 9, 8), {"kernel_size": 3, "padding": "valid"}),
    "same": ("Conv2d", (2, 4, 9, 8), {"kernel_size": 3, "dilation": 2, "padding": "same"}),
    "same, odd": ("Conv2d", (2, 4, 9, 8), {"kernel_size": (4, 3), "padding": "same"}),
    "same, odd, one image": ("Conv1d", (4, 9), {"kernel_size": 2, "padding": "same"}),
    "transposed 1d": (
        "ConvTranspose1d",
        (2, 4, 5),
        {"kernel_size": 3, "stride": 2, "output_padding": 1, "groups": 2},
    ),
    "transposed 2d": ("ConvTranspose2d", (2, 4, 5, 4), {"kernel_size": 3, "padding": 1}),
    "transposed 2d without bias": ("ConvTranspose2d", (4, 5, 4), {"kernel_size": 3, "bias": False}),
    "transposed 3d": ("ConvTranspose3d", (2, 4, 3, 3, 3), {"kernel_size": 2, "dilation": 2}),
}


@pytest.mark.parametrize("case", EXECUTED)
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
def test_torch_runs_what_the_formula_says(case: str) -> None:
    name, shape, options = EXECUTED[case]
    arguments = {"in_channels": 4, "out_channels": 6} | options
    module = getattr(torch.nn, name)(**arguments)
    agrees_with_torch(LAYERS[name], module, torch.randn(shape), **arguments)


def test_half_precision_keeps_half_the_bytes() -> None:
    arguments = {"in_channels": 4, "out_channels": 6, "kernel_size": 3}
    module = torch.nn.Conv2d(**arguments, dtype=torch.bfloat16)
    x = torch.randn(2, 4, 9, 8, dtype=torch.bfloat16)
    agrees_with_torch(LAYERS["Conv2d"], module, x, **arguments)


@pytest.mark.parametrize("name", ["Conv2d", "ConvTranspose2d"])
def test_arrays_and_symbols_say_the_same(name: str) -> None:
    def figures(**size: Any) -> dict[str, Any]:
        x = Tensor((size["batch"], size["channels"], size["height"], size["width"]))
        layer = LAYERS[name](
            x,
            in_channels=size["channels"],
            out_channels=size["out"],
            kernel_size=(size["kernel"], 3),
            stride=2,
            padding=1,
        )
        return analytic(layer, x, *layer.parameters.values()).figures

    small = {"batch": 2, "channels": 3, "height": 9, "width": 8, "out": 5, "kernel": 2}
    odd = {"batch": 1, "channels": 4, "height": 6, "width": 11, "out": 4, "kernel": 4}
    huge = {"batch": 10**9, "channels": 4096, "height": 10**5, "width": 7, "out": 1, "kernel": 3}
    agrees_on_arrays_and_symbols(figures, small, odd, huge)


@pytest.mark.parametrize("padding", [0, "same"])
def test_grouped_arrays_and_symbols_say_the_same(padding: Any) -> None:
    def figures(**size: Any) -> dict[str, Any]:
        x = Tensor((size["batch"], size["groups"] * 3, size["length"]))
        layer = LAYERS["Conv1d"](
            x,
            in_channels=size["groups"] * 3,
            out_channels=size["groups"] * 2,
            kernel_size=4,
            groups=size["groups"],
            padding=padding,
        )
        return analytic(layer, x, *layer.parameters.values()).figures

    agrees_on_arrays_and_symbols(
        figures,
        {"batch": 2, "groups": 1, "length": 9},
        {"batch": 5, "groups": 7, "length": 4},
    )


def test_published_counts() -> None:
    with LITERALS.open() as file:
        published = {row["case"]: int(row["flops"]) for row in csv.DictReader(file)}

    def step(name: str, shape: tuple[int, ...], **arguments: Any) -> tuple[int, int, int]:
        """Contractions: forward, gradient of the input, gradient of the weight."""
        (call,) = LAYERS[name](Tensor(shape), **arguments, bias=False).calls
        of_input, of_weight = (gradient.flops for gradient in call.cost.gradients)
        return call.cost.flops, of_input, of_weight

    one = {"in_channels": 1, "out_channels": 1}
    forward, *backward = step("Conv2d", (1, 1, 2, 2), **one, kernel_size=1)
    assert forward == published["conv2d x(1,1,2,2) w(1,1,1,1)"]
    assert sum(backward) == 2 * forward
    forward, *backward = step("ConvTranspose2d", (1, 1, 2, 2), **one, kernel_size=2)
    assert forward == published["conv_transpose2d x(1,1,2,2) w(1,1,2,2)"]
    assert sum(backward) == 2 * forward

    wide = {"in_channels": 3, "out_channels": 6, "kernel_size": 4, "padding": 1}
    forward, *_ = step("Conv2d", (2, 3, 6, 6), **wide)
    assert forward == published["conv2d x(2,3,6,6) w(6,3,4,4) pad1"]
    forward, *_ = step("Conv1d", (2, 3, 6), **wide)
    assert forward == published["conv1d x(2,3,6) w(6,3,4) pad1"]

    # The input is data: forward and the weight's gradient, 50 times.
    up = {"in_channels": 4, "out_channels": 8, "kernel_size": 2, "stride": 2}
    forward, _, of_weight = step("ConvTranspose2d", (1, 4, 30, 2), **up)
    total = published["ConvTranspose2d(4,8,2,stride 2), x(1,4,30,2) no grad, 50 iterations"]
    assert 50 * (forward + of_weight) == total
