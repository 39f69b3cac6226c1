"""Activations, against each function written out on numbers that count, and against torch."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flopratio.formulas import LAYERS, OPERATORS, Call, LayerCost, Tensor
from tests.formulas import counting
from tests.formulas.counting import Counted, counted, values
from tests.formulas.executed import (
    agrees_on_arrays_and_symbols,
    agrees_with_torch,
    analytic,
    executed,
)

Number = Any
"""A counted number, or a plain one that no arithmetic made."""


def select(condition: bool, yes: Number, no: Number) -> Number:
    """The comparison that made the condition is the FLOP of a selection."""
    return yes if condition else no


def exp(x: Number) -> Number:
    return x.apply("exp")


def times(factor: float, x: Number) -> Number:
    """A multiplication, unless the factor is 1."""
    return x if factor == 1 else factor * x


def logistic(x: Number) -> Number:
    return 1 / (1 + exp(-x))


def clamped(x: Number, low: float, high: float) -> Number:
    x = select(x > low, x, Counted(low))
    return select(x > high, Counted(high), x)


def leaky_relu(x: Number, slope: float = 0.01) -> Number:
    scaled = slope * x
    return select(x > 0, x, scaled)


def leaky_relu_gradient(x: Number, y: Number, g: Number, slope: float = 0.01) -> Number:
    scaled = slope * g
    return select(x > 0, g, scaled)


def gelu(x: Number) -> Number:
    return (x * 0.5) * (1 + (x * math.sqrt(0.5)).apply("erf"))


def gelu_gradient(x: Number, y: Number, g: Number) -> Number:
    distribution = 0.5 * (1 + (x * math.sqrt(0.5)).apply("erf"))
    density = exp(x * x * -0.5) * (1 / math.sqrt(2 * math.pi))
    return g * (distribution + x * density)


def gelu_tanh(x: Number) -> Number:
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * (x * x * x))
    return (0.5 * x) * (1 + inner.apply("tanh"))


def gelu_tanh_gradient(x: Number, y: Number, g: Number) -> Number:
    square = x * x
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * (square * x))
    slope = math.sqrt(2 / math.pi) * (1 + (3 * 0.044715) * square)
    t = inner.apply("tanh")
    return g * (0.5 * (1 + t) + (0.5 * x) * (1 - t * t) * slope)


def silu_gradient(x: Number, y: Number, g: Number) -> Number:
    s = logistic(x)
    return (g * s) * (1 + x * (1 - s))


def mish(x: Number) -> Number:
    return x * (1 + exp(x)).apply("log").apply("tanh")


def mish_gradient(x: Number, y: Number, g: Number) -> Number:
    e = exp(x)
    sum_ = 1 + e
    t = sum_.apply("log").apply("tanh")
    s = e / sum_
    return g * (t + (x * s) * (1 - t * t))


def hardtanh_gradient(x: Number, y: Number, g: Number, low: float, high: float) -> Number:
    return select((x > low) & (x < high), g, 0)


def hardsigmoid_gradient(x: Number, y: Number, g: Number) -> Number:
    scaled = g / 6
    return select((x > -3) & (x < 3), scaled, 0)


def hardswish_gradient(x: Number, y: Number, g: Number) -> Number:
    between = g * (x / 3 + 0.5)
    return select(x > -3, select(x < 3, between, g), 0)


def elu(x: Number, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> Number:
    negative = times(scale * alpha, exp(times(input_scale, x)) - 1)
    positive = times(scale, x)
    return select(x > 0, positive, negative)


def elu_gradient(
    x: Number, y: Number, g: Number, alpha: float = 1, scale: float = 1, input_scale: float = 1
) -> Number:
    negative = g * times(scale * alpha * input_scale, exp(times(input_scale, x)))
    positive = times(scale, g)
    return select(x > 0, positive, negative)


def elu_gradient_of_result(
    x: Number, y: Number, g: Number, alpha: float = 1, scale: float = 1, input_scale: float = 1
) -> Number:
    negative = g * times(input_scale, y + scale * alpha)
    positive = times(scale, g)
    return select(y > 0, positive, negative)


def softplus(x: Number, beta: float = 1, threshold: float = 20) -> Number:
    scaled = times(beta, x)
    smooth = (1 + exp(scaled)).apply("log")
    if beta != 1:
        smooth = smooth / beta
    return select(scaled > threshold, x, smooth)


def softplus_gradient(
    x: Number, y: Number, g: Number, beta: float = 1, threshold: float = 20
) -> Number:
    scaled = times(beta, x)
    e = exp(scaled)
    smooth = g * (e / (1 + e))
    return select(scaled > threshold, g, smooth)


def log_sigmoid(x: Number) -> Number:
    z = exp(-abs(x))
    return select(x < 0, x, 0) - (1 + z).apply("log")


def log_sigmoid_gradient(x: Number, y: Number, g: Number) -> Number:
    z = math.exp(-abs(x.value))  # forward keeps it
    return g * (select(x < 0, 1, z) / (Counted(z) + 1))


def shrunk_gradient(x: Number, y: Number, g: Number, bound: float) -> Number:
    return select((x > bound) | (x < -bound), g, 0)


def softshrink(x: Number, bound: float) -> Number:
    lower, higher = x - bound, x + bound
    return select(x > bound, lower, select(x < -bound, higher, 0))


class Function(NamedTuple):
    """y(x) and grad_x(x, y, grad_y), with as little arithmetic as the definition needs."""

    op: str
    y: Callable[..., Number]
    gradient: Callable[..., Number]
    arguments: dict[str, Any] = {}  # noqa: RUF012
    numbers: tuple[float, ...] = ()
    """The arguments again, as the functions here take them."""


SELU = {"alpha": 1.6732632423543772, "scale": 1.0507009873554805}

FUNCTIONS = {
    "relu": Function("relu", lambda x: select(x > 0, x, 0), lambda x, y, g: select(y > 0, g, 0)),
    "threshold": Function(
        "threshold",
        lambda x, bound, value: select(x > bound, x, value),
        lambda x, y, g, bound, value: select(x > bound, g, 0),
        {"threshold": 0.2, "value": 3.0},
        (0.2, 3.0),
    ),
    "hardshrink": Function(
        "hardshrink",
        lambda x, bound: select((x > bound) | (x < -bound), x, 0),
        shrunk_gradient,
        {"lambd": 0.7},
        (0.7,),
    ),
    "softshrink": Function("softshrink", softshrink, shrunk_gradient, {"lambd": 0.7}, (0.7,)),
    "leaky_relu": Function("leaky_relu", leaky_relu, leaky_relu_gradient),
    "leaky_relu 0.2": Function(
        "leaky_relu", leaky_relu, leaky_relu_gradient, {"negative_slope": 0.2}, (0.2,)
    ),
    "sigmoid": Function("sigmoid", logistic, lambda x, y, g: g * (1 - y) * y),
    "tanh": Function("tanh", lambda x: x.apply("tanh"), lambda x, y, g: g * (1 - y * y)),
    "gelu": Function("gelu", gelu, gelu_gradient),
    "gelu tanh": Function("gelu", gelu_tanh, gelu_tanh_gradient, {"approximate": "tanh"}),
    "silu": Function("silu", lambda x: x / (1 + exp(-x)), silu_gradient),
    "mish": Function("mish", mish, mish_gradient),
    "hardtanh": Function(
        "hardtanh", clamped, hardtanh_gradient, {"min_val": -0.5, "max_val": 0.7}, (-0.5, 0.7)
    ),
    "relu6": Function("hardtanh", clamped, hardtanh_gradient, {"min_val": 0, "max_val": 6}, (0, 6)),
    "hardsigmoid": Function(
        "hardsigmoid", lambda x: clamped(x + 3, 0, 6) / 6, hardsigmoid_gradient
    ),
    "hardswish": Function("hardswish", lambda x: x * clamped(x + 3, 0, 6) / 6, hardswish_gradient),
    "elu": Function("elu", elu, elu_gradient),
    "elu 2": Function("elu", elu, elu_gradient, {"alpha": 2.0}, (2.0,)),
    "selu": Function("elu", elu, elu_gradient, SELU, tuple(SELU.values())),
    "celu": Function("celu", elu, elu_gradient),
    "celu 2": Function("celu", elu, elu_gradient, {"alpha": 2.0}, (2.0, 1, 0.5)),
    "softplus": Function("softplus", softplus, softplus_gradient),
    "softplus 2": Function(
        "softplus", softplus, softplus_gradient, {"beta": 2, "threshold": 1}, (2, 1)
    ),
    "log_sigmoid": Function("log_sigmoid_forward", log_sigmoid, log_sigmoid_gradient),
}

shapes = st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple)


def count(run: Callable[..., Any], *arguments: Any) -> tuple[Any, int]:
    counting.reset()
    result = run(*arguments)
    return result, counted()


def each(function: Callable[..., Number], *arrays: np.ndarray) -> np.ndarray:
    out = np.empty(arrays[0].shape, dtype=object)
    for index in np.ndindex(*out.shape):
        result = function(*(array[index] for array in arrays))
        out[index] = result if isinstance(result, Counted) else Counted(result)
    return out


def gradient_flops(call: Call) -> int:
    return sum(gradient.elementwise for gradient in call.cost.gradients)


def torch_call(op: str, x: torch.Tensor, arguments: dict[str, Any]) -> torch.Tensor:
    y = getattr(torch.ops.aten, op)(x, **arguments)
    return y[0] if isinstance(y, tuple) else y


@pytest.mark.oracle
@pytest.mark.parametrize("name", FUNCTIONS)
@settings(max_examples=10, deadline=None)
@given(shape=shapes)
def test_an_activation_and_its_gradient_are_counted(name: str, shape: tuple[int, ...]) -> None:
    function = FUNCTIONS[name]
    x, grad = 3 * counting.tensor(shape, 1), counting.tensor(shape, 2)
    y, flops = count(each, lambda x: function.y(x, *function.numbers), x)
    grad_x, gradient = count(
        each, lambda *xyg: function.gradient(*xyg, *function.numbers), x, y, grad
    )

    y_shape = Tensor(shape)
    out = (y_shape, Tensor(shape)) if "log_sigmoid" in function.op else y_shape
    call = Call(f"aten.{function.op}", {"self": Tensor(shape), **function.arguments}, out)
    assert (call.cost.flops, call.cost.elementwise) == (0, flops)
    assert gradient_flops(call) == gradient

    torch_x = torch.tensor(values(x), requires_grad=True)
    torch_y = torch_call(function.op, torch_x, function.arguments)
    torch_y.backward(torch.tensor(values(grad)))
    np.testing.assert_allclose(values(y), torch_y.detach(), rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(values(grad_x), torch_x.grad, rtol=1e-6, atol=1e-12)


@pytest.mark.oracle
@pytest.mark.parametrize(
    "arguments", [{}, {"alpha": 2.0}, SELU, {"alpha": 2.0, "input_scale": 0.5}]
)
def test_elu_from_its_result_is_counted(arguments: dict[str, float]) -> None:
    """In place, the gradient is told from y."""
    x, grad = counting.tensor((4, 5), 1), counting.tensor((4, 5), 2)
    y = each(lambda x: elu(x, **arguments), x)
    grad_x, flops = count(each, lambda *xyg: elu_gradient_of_result(*xyg, **arguments), x, y, grad)
    inside = Tensor((4, 5))
    call = Call("aten.elu_", {"self": inside, **arguments}, inside.view(4, 5))
    assert gradient_flops(call) == flops

    torch_x = torch.tensor(values(x), requires_grad=True)
    torch_y = torch.ops.aten.elu(torch_x, **arguments)
    torch_y.backward(torch.tensor(values(grad)))
    np.testing.assert_allclose(values(grad_x), torch_x.grad)


def test_log_sigmoid_takes_the_exponential_again_where_it_was_not_kept() -> None:
    def backward(buffer: Tensor) -> int:
        x = Tensor((4, 5))
        return OPERATORS["aten.log_sigmoid_backward"](x, x, buffer, out=x).elementwise

    again = count(lambda x: exp(-abs(x)), Counted(1.0))[1]
    assert backward(Tensor((0,))) == backward(Tensor((4, 5))) + 20 * again


@pytest.mark.oracle
@settings(max_examples=20, deadline=None)
@given(shape=shapes, number=st.integers(1, 3))
def test_glu_and_its_gradient_are_counted(shape: tuple[int, ...], number: int) -> None:
    a, b, grad = (counting.tensor((number, *shape), seed) for seed in (1, 2, 3))
    y, flops = count(each, lambda a, b: a / (1 + exp(-b)), a, b)

    def gradient(a: Number, b: Number, g: Number) -> tuple[Number, Number]:
        s = logistic(b)
        grad_a = g * s
        return grad_a, grad_a * (1 - s) * a

    (grads, gradient_count) = count(
        lambda: [gradient(*abg) for abg in zip(a.flat, b.flat, grad.flat, strict=True)]
    )
    layer = LAYERS["GLU"](Tensor((2 * number, *shape)), dim=0)
    (call,) = layer.calls
    assert layer.out.shape == (number, *shape)
    assert call.cost.elementwise == flops
    assert gradient_flops(call) == gradient_count

    torch_x = torch.tensor(values(np.concatenate([a, b])), requires_grad=True)
    torch_y = torch.nn.functional.glu(torch_x, 0)
    torch_y.backward(torch.tensor(values(grad)))
    np.testing.assert_allclose(values(y), torch_y.detach())
    found = np.array([[pair[half].value for pair in grads] for half in (0, 1)])
    np.testing.assert_allclose(found.reshape(torch_x.shape), torch_x.grad)


@pytest.mark.oracle
@settings(max_examples=20, deadline=None)
@given(batch=st.integers(1, 3), channels=st.integers(1, 3), length=st.integers(1, 3))
def test_prelu_and_its_gradients_are_counted(batch: int, channels: int, length: int) -> None:
    shape = (batch, channels, length)
    x, grad, slope = counting.tensor(shape, 1), counting.tensor(shape, 2), counting.tensor((3,), 3)
    slopes = np.broadcast_to(slope[:channels].reshape(1, -1, 1), shape)

    y, flops = count(each, leaky_relu, x, slopes)
    grad_x, of_input = count(each, lambda x, w, g: leaky_relu_gradient(x, x, g, w), x, slopes, grad)
    each_weight, of_weight = count(each, lambda x, g: select(x > 0, Counted(0), x * g), x, grad)
    grad_slope = counting.zeros((channels,))
    counting.reset()
    for index in np.ndindex(*shape):
        grad_slope[index[1]] = grad_slope[index[1]] + each_weight[index]

    (call,) = LAYERS["PReLU"](Tensor(shape), num_parameters=channels).calls
    of_operands = [gradient.elementwise for gradient in call.cost.gradients]
    assert call.cost.elementwise == flops
    # A weight of the input's own shape, [1, C, 1], is not summed.
    assert of_operands == [of_input, of_weight, counted()][: 2 if batch * length == 1 else 3]

    torch_x = torch.tensor(values(x), requires_grad=True)
    weight = torch.tensor(values(slope[:channels]), requires_grad=True)
    torch_y = torch.nn.functional.prelu(torch_x, weight)
    torch_y.backward(torch.tensor(values(grad)))
    np.testing.assert_allclose(values(y), torch_y.detach())
    np.testing.assert_allclose(values(grad_x), torch_x.grad)
    np.testing.assert_allclose(values(grad_slope), weight.grad)


def maximum(row: np.ndarray) -> Number:
    largest = Counted(-math.inf)
    for x in row:
        largest = select(x > largest, x, largest)
    return largest


def total(row: np.ndarray) -> Number:
    result = Counted(0)
    for x in row:
        result = result + x
    return result


def softmax(row: np.ndarray) -> np.ndarray:
    powers = each(exp, row - maximum(row))
    return powers / total(powers)


def softmax_gradient(y: np.ndarray, g: np.ndarray) -> np.ndarray:
    return (g - total(g * y)) * y


def log_softmax(row: np.ndarray) -> np.ndarray:
    shifted = row - maximum(row)
    return shifted - total(each(exp, shifted)).apply("log")


def log_softmax_gradient(y: np.ndarray, g: np.ndarray) -> np.ndarray:
    return g - each(exp, y) * total(g)


def safe_softmax(row: np.ndarray) -> np.ndarray:
    largest = maximum(row)
    if not largest > -math.inf:
        return row * Counted(0)
    powers = each(exp, row - largest)
    return powers / total(powers)


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("op", "forward", "gradient"),
    [
        ("_softmax", softmax, softmax_gradient),
        ("_log_softmax", log_softmax, log_softmax_gradient),
        ("_safe_softmax", safe_softmax, softmax_gradient),
    ],
)
@settings(max_examples=20, deadline=None)
@given(shape=shapes, data=st.data())
def test_softmaxes_and_their_gradients_are_counted(
    op: str, forward: Any, gradient: Any, shape: tuple[int, ...], data: st.DataObject
) -> None:
    dim = data.draw(st.integers(-len(shape), len(shape) - 1))
    x, grad = counting.tensor(shape, 1), counting.tensor(shape, 2)

    def along(function: Any, *arrays: np.ndarray) -> np.ndarray:
        moved = [np.moveaxis(array, dim, -1) for array in arrays]
        out = np.empty(moved[0].shape, dtype=object)
        for index in np.ndindex(*out.shape[:-1]):
            out[index] = function(*(array[index] for array in moved))
        return np.moveaxis(out, -1, dim)

    y, flops = count(along, forward, x)
    grad_x, gradient_count = count(along, gradient, y, grad)
    arguments: dict[str, Any] = {"dim": dim}
    if op != "_safe_softmax":
        arguments["half_to_float"] = False
    call = Call(f"aten.{op}", {"self": Tensor(shape), **arguments}, Tensor(shape))
    assert call.cost.elementwise == flops
    assert gradient_flops(call) == gradient_count

    torch_x = torch.tensor(values(x), requires_grad=True)
    torch_y = torch_call(op, torch_x, arguments)
    torch_y.backward(torch.tensor(values(grad)))
    np.testing.assert_allclose(values(y), torch_y.detach(), atol=1e-12)
    np.testing.assert_allclose(values(grad_x), torch_x.grad, atol=1e-12)


ARGUMENTS: dict[str, list[dict[str, Any]]] = {
    "ReLU": [{}, {"inplace": True}],
    "Threshold": [
        {"threshold": 0.2, "value": 3.0},
        {"threshold": 0.2, "value": 3.0, "inplace": True},
    ],
    "Hardshrink": [{}, {"lambd": 0.7}],
    "Softshrink": [{}, {"lambd": 0.7}],
    "LeakyReLU": [{}, {"negative_slope": 0.3}, {"inplace": True}],
    "Sigmoid": [{}],
    "Tanh": [{}],
    "GELU": [{}, {"approximate": "tanh"}],
    "SiLU": [{}, {"inplace": True}],
    "Mish": [{}, {"inplace": True}],
    "Hardtanh": [{}, {"min_val": -2.0, "max_val": 3.0, "inplace": True}],
    "ReLU6": [{}, {"inplace": True}],
    "Hardsigmoid": [{}, {"inplace": True}],
    "Hardswish": [{}, {"inplace": True}],
    "ELU": [{}, {"alpha": 2.0}, {"alpha": 2.0, "inplace": True}],
    "CELU": [{}, {"alpha": 2.0}, {"alpha": 2.0, "inplace": True}],
    "SELU": [{}, {"inplace": True}],
    "Softplus": [{}, {"beta": 2.0, "threshold": 5.0}],
    "LogSigmoid": [{}],
    "GLU": [{}, {"dim": 1}],
    "PReLU": [{}, {"num_parameters": 4}],
    "Softmax": [{"dim": -1}, {"dim": 1}],
    "LogSoftmax": [{"dim": -1}, {"dim": 1}],
}

CASES = [(name, arguments) for name, choices in ARGUMENTS.items() for arguments in choices]


@pytest.mark.parametrize(("name", "arguments"), CASES, ids=str)
def test_torch_runs_what_the_formula_says(name: str, arguments: dict[str, Any]) -> None:
    module = getattr(torch.nn, name)(**arguments)
    agrees_with_torch(LAYERS[name], module, torch.randn(2, 4, 3, 6), **arguments)


@pytest.mark.parametrize(
    ("name", "arguments"), [case for case in CASES if case[0] not in ("GLU", "PReLU")], ids=str
)
def test_between_layers_each_memory_is_kept_once(name: str, arguments: dict[str, Any]) -> None:
    """An output that the activation keeps is the next layer's input; an input that it keeps is not,
    not even if the output takes its memory: then torch copies it."""
    linear = {"in_features": 6, "out_features": 6}
    module = torch.nn.Sequential(
        torch.nn.Linear(6, 6), getattr(torch.nn, name)(**arguments), torch.nn.Linear(6, 6)
    )
    x = Tensor((2, 6))
    first = LAYERS["Linear"](x, **linear)
    middle = LAYERS[name](first.out, **arguments)
    last = LAYERS["Linear"](middle.out, **linear)
    parameters = {
        f"{number}.{name}": tensor
        for number, layer in enumerate((first, last))
        for name, tensor in layer.parameters.items()
    }
    whole = LayerCost(last.out, (*first.calls, *middle.calls, *last.calls), parameters)
    found = executed(module, torch.randn(2, 6), parameters=module.parameters())
    assert found == analytic(whole, *parameters.values())


@pytest.mark.parametrize("shape", [(6,), (1, 1), (3, 1)])
def test_torch_sums_the_slope_of_prelu_where_it_was_repeated(shape: tuple[int, ...]) -> None:
    agrees_with_torch(LAYERS["PReLU"], torch.nn.PReLU(), torch.randn(shape))


@pytest.mark.parametrize("op", ["sigmoid", "tanh", "gelu"])
def test_overwriting_operators_keep_what_their_gradient_needs(op: str) -> None:
    """Without a module: torch has them as operators alone."""
    run = getattr(torch.ops.aten, f"{op}_")
    x = Tensor((4, 6))
    layer = LayerCost(x, (Call(f"aten.{op}_", {"self": x}, x.view(4, 6)),))
    real = torch.randn(4, 6, requires_grad=True)
    assert executed(run, real) == analytic(layer, x)


def test_torch_runs_a_safe_softmax_as_the_formula_says() -> None:
    x, y = Tensor((4, 6)), Tensor((4, 6))
    layer = LayerCost(y, (Call("aten._safe_softmax", {"self": x, "dim": -1}, y),))
    real = torch.randn(4, 6, requires_grad=True)
    assert executed(lambda x: torch._safe_softmax(x, -1), real) == analytic(layer, x)


def test_a_softmax_of_a_number_is_one_row() -> None:
    assert OPERATORS["aten._log_softmax"](Tensor(()), 0, False, out=Tensor(())).elementwise == 6


@pytest.mark.parametrize(("name", "arguments"), CASES, ids=str)
def test_arrays_and_symbols_say_the_same(name: str, arguments: dict[str, Any]) -> None:
    def figures(**size: Any) -> dict[str, Any]:
        x = Tensor((size["batch"], 4, size["width"]))
        layer = LAYERS[name](x, **arguments)
        return analytic(layer, x, *layer.parameters.values()).figures

    agrees_on_arrays_and_symbols(
        figures,
        {"batch": 2, "width": 6},
        {"batch": 1, "width": 2},
        {"batch": 10**12, "width": 10**9},
    )
