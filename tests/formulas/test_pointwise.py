"""Elementwise operators: one element in plain arithmetic, against torch and against the formulas;
broadcast gradients in loops; and every gradient against what autograd runs."""

import math
from collections.abc import Callable
from inspect import signature
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis.extra.numpy import mutually_broadcastable_shapes

from flopratio.formulas import OPERATORS, Tensor
from flopratio.formulas.pointwise import DERIVATIVES, PER_ELEMENT, PER_ELEMENT_OUT_OF_PLACE
from tests.formulas.counting import Counted, counted, reset, tensor, values, zeros
from tests.formulas.executed import (
    agrees_on_arrays_and_symbols,
    agrees_with_autograd,
    executed,
)

aten = torch.ops.aten

WITHOUT_GRADIENT = {
    "div rounded",
    "floor_divide",
    "pow of tensor",
    "floor",
    "ceil",
    "trunc",
    "square",
} | {"xlogy", "frac", "sinc", "nan_to_num", "atan2", "hypot", "fmod", "copysign"}
"""No gradient, or a chain of operators that the formula leaves to a trace."""


def evaluate(function: Callable[..., float], *numbers: Counted) -> Counted:
    """One evaluation of a function."""
    return numbers[0]._did(function(*(number.value for number in numbers)))


def select(condition: bool, one: Any, other: Any) -> Counted:
    """One selection."""
    chosen = one if condition else other
    return Counted(0)._did(chosen.value if isinstance(chosen, Counted) else chosen)


def larger(x: Counted, y: Any) -> Any:
    return x if x > y else y


def log_of_sum(x: Counted, y: Counted) -> Counted:
    return larger(x, y) + (1 + (-abs(x - y)).apply("exp")).apply("log")


OF_THE_MATH_MODULE = """
    exp exp2 expm1 log log2 log10 log1p sqrt sin cos tan asin acos atan sinh cosh asinh atanh erf
    erfc lgamma floor ceil trunc
"""

CASES: dict[str, tuple[Callable[..., torch.Tensor], Callable[..., Counted]]] = {
    "add": (torch.add, lambda x, y: x + y),
    "add scaled": (lambda x, y: torch.add(x, y, alpha=0.5), lambda x, y: x + y * 0.5),
    "add number": (lambda x: x + 2, lambda x: x + 2),
    "sub": (torch.sub, lambda x, y: x - y),
    "sub scaled": (lambda x, y: torch.sub(x, y, alpha=0.5), lambda x, y: x - y * 0.5),
    "rsub": (torch.rsub, lambda x, y: y - x),
    "rsub scaled": (lambda x, y: torch.rsub(x, y, alpha=0.5), lambda x, y: y - x * 0.5),
    "rsub number": (lambda x: 2 - x, lambda x: 2 - x),
    "mul": (torch.mul, lambda x, y: x * y),
    "mul number": (lambda x: x * 2, lambda x: x * 2),
    "div": (torch.div, lambda x, y: x / y),
    "div number": (lambda x: x / 2, lambda x: x / 2),
    "div rounded": (
        lambda x, y: torch.div(x, y, rounding_mode="floor"),
        lambda x, y: (x / y).apply("floor"),
    ),
    "floor_divide": (torch.floor_divide, lambda x, y: (x / y).apply("floor")),
    "pow": (lambda x: x**3, lambda x: evaluate(lambda v: v**3, x)),
    "pow of number": (lambda x: 3**x, lambda x: evaluate(lambda v: 3**v, x)),
    "pow of tensor": (torch.pow, lambda x, y: evaluate(math.pow, x, y)),
    "maximum": (torch.maximum, larger),
    "minimum": (torch.minimum, lambda x, y: y if x > y else x),
    "logaddexp": (torch.logaddexp, log_of_sum),
    "xlogy": (torch.xlogy, lambda x, y: x * y.apply("log")),
    "clamp": (
        lambda x: x.clamp(0.3, 0.6),
        lambda x: (lambda low: Counted(0.6) if low > 0.6 else low)(larger(x, Counted(0.3))),
    ),
    "clamp min": (lambda x: x.clamp(min=0.3), lambda x: larger(x, Counted(0.3))),
    "clamp max": (
        lambda x: aten.clamp_max(x, 0.3),
        lambda x: Counted(0.3) if x > 0.3 else x,
    ),
    "addcmul": (torch.addcmul, lambda x, y, z: x + y * z),
    "addcmul scaled": (
        lambda x, y, z: torch.addcmul(x, y, z, value=0.5),
        lambda x, y, z: x + y * z * 0.5,
    ),
    "addcdiv": (torch.addcdiv, lambda x, y, z: x + y / z),
    "addcdiv scaled": (
        lambda x, y, z: torch.addcdiv(x, y, z, value=0.5),
        lambda x, y, z: x + y / z * 0.5,
    ),
    "lerp": (torch.lerp, lambda x, y, z: x + z * (y - x)),
    "lerp number": (lambda x, y: torch.lerp(x, y, 0.3), lambda x, y: x + (y - x) * 0.3),
    "frac": (torch.frac, lambda x: x - x.apply("trunc")),
    "sinc": (
        torch.sinc,
        lambda x: (lambda a: a.apply("sin") / a)(x * math.pi),
    ),
    "logit": (torch.logit, lambda x: (x / (1 - x)).apply("log")),
    "logit held": (
        lambda x: torch.logit(x, 0.2),
        lambda x: (lambda h: (h / (1 - h)).apply("log"))(
            (lambda low: Counted(0.8) if low > 0.8 else low)(larger(x, Counted(0.2)))
        ),
    ),
    "nan_to_num": (
        torch.nan_to_num,
        lambda x: select(
            math.isnan(x.value),
            0.0,
            select(x.value == math.inf, 0.0, select(x.value == -math.inf, 0.0, x)),
        ),
    ),
    "reciprocal": (torch.reciprocal, lambda x: 1 / x),
    "square": (aten.square, lambda x: x * x),
    "neg": (torch.neg, lambda x: -x),
    "abs": (torch.abs, lambda x: abs(x)),
    "rsqrt": (torch.rsqrt, lambda x: evaluate(lambda v: v**-0.5, x)),
    "atan2": (torch.atan2, lambda x, y: evaluate(math.atan2, x, y)),
    "hypot": (torch.hypot, lambda x, y: evaluate(math.hypot, x, y)),
    "fmod": (torch.fmod, lambda x, y: evaluate(math.fmod, x, y)),
    "copysign": (torch.copysign, lambda x, y: evaluate(math.copysign, x, y)),
    **{
        name: (getattr(torch, name), lambda x, name=name: x.apply(name))
        for name in OF_THE_MATH_MODULE.split()
    },
}
"""An operator; the same on one element, in counted arithmetic."""


@pytest.mark.oracle
@pytest.mark.parametrize("case", CASES)
def test_one_element_after_another(case: str) -> None:
    run, loop = CASES[case]
    operands = [
        np.vectorize(lambda v: Counted(1 / (1 + math.exp(v.value))), otypes=[object])(
            tensor((2, 3), seed)
        )
        for seed in range(len([p for p in signature(loop).parameters if p != "name"]))
    ]
    reset()
    out = np.empty((2, 3), dtype=object)
    for place in np.ndindex(2, 3):
        out[place] = loop(*(operand[place] for operand in operands))
    count = counted()
    real = [torch.tensor(values(operand)) for operand in operands]
    np.testing.assert_allclose(run(*real).numpy(), values(out), rtol=1e-6)
    step = executed(lambda *xs: run(*xs).requires_grad_(), *real)
    assert sum(work.elementwise for work in step.forward) == count


def test_the_power_1_copies() -> None:
    step = agrees_with_autograd(lambda x: x**1, torch.rand(2, 3) + 0.1)
    assert step.figures["elementwise_forward"] == 0


@pytest.mark.parametrize("case", sorted(CASES.keys() - WITHOUT_GRADIENT))
def test_gradients_are_those_that_autograd_runs(case: str) -> None:
    run, loop = CASES[case]
    count = len([p for p in signature(loop).parameters if p != "name"])
    agrees_with_autograd(run, *(torch.rand(2, 3) * 0.8 + 0.1 for _ in range(count)))


@pytest.mark.parametrize("name", sorted(DERIVATIVES))
def test_derivatives_are_those_that_autograd_runs(name: str) -> None:
    shift = 1.0 if name == "acosh" else 0.0
    agrees_with_autograd(getattr(aten, name), torch.rand(2, 3) * 0.8 + 0.1 + shift)


@pytest.mark.parametrize("name", sorted(DERIVATIVES))
def test_derivatives_save_what_autograd_saves(name: str) -> None:
    x = (torch.rand(2, 3) + (1.0 if name == "acosh" else 0.0)).requires_grad_()
    saved: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(saved.append, lambda tensor: tensor):
        y = getattr(aten, name)(x)
    named = {x.data_ptr(): "self", y.data_ptr(): "out"}
    assert [named[tensor.data_ptr()] for tensor in saved] == DERIVATIVES[name].saves.split()


BINARY: dict[str, Callable[..., torch.Tensor]] = {
    "add": torch.add,
    "add scaled": lambda x, y: torch.add(x, y, alpha=0.5),
    "sub": torch.sub,
    "rsub": torch.rsub,
    "mul": torch.mul,
    "div": torch.div,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "max": torch.max,
    "min": torch.min,
    "logaddexp": torch.logaddexp,
    "where": lambda x, y: torch.where(torch.tensor(True), x, y),
    "addcmul": lambda x, y: torch.addcmul(torch.zeros(()), x, y, value=0.5),
    "addcdiv": lambda x, y: torch.addcdiv(torch.zeros(()), x, y, value=0.5),
    "lerp": lambda x, y: torch.lerp(x, y, 0.3),
}


@pytest.mark.parametrize("name", BINARY)
@settings(max_examples=15, deadline=None)
@given(shapes=mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=3))
def test_broadcast_gradients_are_those_that_autograd_runs(name: str, shapes: Any) -> None:
    one, other = shapes.input_shapes
    agrees_with_autograd(BINARY[name], torch.rand(one) + 0.1, torch.rand(other) + 0.1)


def broadcast_gradients(
    g: np.ndarray, x: np.ndarray, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Of x * y: g * y and g * x, added up over the copies where there are any."""

    def gradient(of: np.ndarray, factor: np.ndarray) -> np.ndarray:
        factors = np.broadcast_to(factor, g.shape)
        products = np.empty(g.shape, dtype=object)
        for place in np.ndindex(*g.shape):
            products[place] = g[place] * factors[place]
        if of.shape == g.shape:
            return products
        own = np.broadcast_to(np.arange(of.size).reshape(of.shape), g.shape)
        sums = zeros((of.size,))
        for place in np.ndindex(*g.shape):
            sums[own[place]] = sums[own[place]] + products[place]
        return sums.reshape(of.shape)

    return gradient(x, y), gradient(y, x)


@pytest.mark.oracle
@settings(max_examples=30, deadline=None)
@given(shapes=mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=3))
def test_broadcast_product_in_loops(shapes: Any) -> None:
    one, other = shapes.input_shapes
    x, y, g = tensor(one, 1), tensor(other, 2), tensor(shapes.result_shape, 3)
    reset()
    grad_x, grad_y = broadcast_gradients(g, x, y)
    count = counted()

    real = [torch.tensor(values(array), requires_grad=True) for array in (x, y)]
    (real[0] * real[1]).backward(torch.tensor(values(g)))
    np.testing.assert_allclose(real[0].grad.numpy(), values(grad_x), rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(real[1].grad.numpy(), values(grad_y), rtol=1e-6, atol=1e-12)
    cost = OPERATORS["aten.mul"](Tensor(one), Tensor(other), out=Tensor(shapes.result_shape))
    assert sum(gradient.elementwise for gradient in cost.gradients) == count


TABLES = {
    **{name: flops for names, flops, *_ in PER_ELEMENT for name in names.split()},
    **{name: flops for names, flops, *_ in PER_ELEMENT_OUT_OF_PLACE for name in names.split()},
    **dict.fromkeys(DERIVATIVES, 1),
}


@pytest.mark.parametrize("name", sorted(TABLES))
def test_tables_name_operators_that_exist(name: str) -> None:
    """In place as well where they say so."""
    out_of_place = " ".join(names for names, *_ in PER_ELEMENT_OUT_OF_PLACE).split()
    for full in (name,) if name in out_of_place else (name, f"{name}_"):
        assert hasattr(aten, full), full
        cost = OPERATORS[f"aten.{full}"](Tensor((4, 5)), out=Tensor((4, 5)))
        assert cost.elementwise == 20 * TABLES[name]


def test_in_place_costs_the_same() -> None:
    step = executed(
        lambda x, y: x.mul_(2).add_(y).div_(y), torch.rand(4), torch.rand(4, requires_grad=True)
    )
    assert [work.elementwise for work in step.forward] == [4, 4, 4]


def test_arrays_and_symbols() -> None:
    def figures(rows: Any, columns: Any) -> dict[str, Any]:
        x, y = Tensor((rows, columns)), Tensor((columns,))
        out = Tensor((rows, columns))
        found = {}
        for name in ("add", "mul", "div", "maximum", "logaddexp"):
            cost = OPERATORS[f"aten.{name}"](x, y, out=out)
            found[name] = cost.elementwise
            found[f"{name} backward"] = sum(g.elementwise for g in cost.gradients)
            found[f"{name} saves"] = sum(t.nbytes for g in cost.gradients for t in g.saves)
        return found

    agrees_on_arrays_and_symbols(figures, {"rows": 2, "columns": 3}, {"rows": 5, "columns": 7})
