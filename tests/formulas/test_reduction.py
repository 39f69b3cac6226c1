"""Reductions in loops, against torch and against the formulas; gradients against autograd's."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flopratio.formulas import OPERATORS, Tensor
from flopratio.formulas.reduction import REDUCTIONS
from tests.formulas.counting import Counted, counted, reset, tensor, values
from tests.formulas.executed import (
    agrees_on_arrays_and_symbols,
    agrees_with_autograd,
    executed,
)

Row = Sequence[Counted]


def total(row: Row) -> Counted:
    """Every element added into a zeroed accumulator."""
    accumulator = Counted(0)
    for x in row:
        accumulator = accumulator + x
    return accumulator


def product(row: Row) -> Counted:
    accumulator = Counted(1)
    for x in row:
        accumulator = accumulator * x
    return accumulator


def largest(row: Row) -> Counted:
    best = Counted(-math.inf)
    for x in row:
        best = x if x > best else best
    return best


def mean(row: Row) -> Counted:
    return total(row) / len(row)


def variance(row: Row) -> Counted:
    center = mean(row)
    differences = [x - center for x in row]
    return total([d * d for d in differences]) / (len(row) - 1)


def log_sum_exp(row: Row) -> Counted:
    top = largest(row)
    return total([(x - top).apply("exp") for x in row]).apply("log") + top


def p_norm(row: Row) -> Counted:
    powers = total([abs(x)._did(abs(x.value) ** 3) for x in row])
    return powers._did(powers.value ** (1 / 3))


CASES: dict[str, tuple[Callable[..., torch.Tensor], Callable[[Row], Counted]]] = {
    "sum": (lambda x: x.sum(1), total),
    "mean": (lambda x: x.mean(1), mean),
    "prod": (lambda x: x.prod(1), product),
    "amax": (lambda x: x.amax(1), largest),
    "max": (lambda x: x.max(1).values, largest),
    "var": (lambda x: x.var(1), variance),
    "std": (lambda x: x.std(1), lambda row: variance(row).sqrt()),
    "var_mean": (lambda x: torch.var_mean(x, 1)[0], variance),
    "logsumexp": (lambda x: x.logsumexp(1), log_sum_exp),
    "vector_norm": (
        lambda x: torch.linalg.vector_norm(x, dim=1),
        lambda row: total([x * x for x in row]).sqrt(),
    ),
    "vector_norm 1": (
        lambda x: torch.linalg.vector_norm(x, 1, dim=1),
        lambda row: total([abs(x) for x in row]),
    ),
    "vector_norm inf": (
        lambda x: torch.linalg.vector_norm(x, math.inf, dim=1),
        lambda row: largest([abs(x) for x in row]),
    ),
    "vector_norm 3": (lambda x: torch.linalg.vector_norm(x, 3, dim=1), p_norm),
    "norm": (
        lambda x: torch.ops.aten.norm(x, 2, [1]),
        lambda row: total([x * x for x in row]).sqrt(),
    ),
}
"""An operator along the rows; the same on one row, in counted arithmetic."""


@pytest.mark.oracle
@pytest.mark.parametrize("case", CASES)
@settings(max_examples=15, deadline=None)
@given(rows=st.integers(1, 4), columns=st.integers(2, 5))
def test_row_after_row(case: str, rows: int, columns: int) -> None:
    run, loop = CASES[case]
    x = tensor((rows, columns))
    reset()
    out = np.array([loop(row) for row in x], dtype=object)
    count = counted()
    real = torch.tensor(values(x), requires_grad=True)
    np.testing.assert_allclose(run(real).detach().numpy(), values(out), rtol=1e-6, atol=1e-12)
    assert sum(work.elementwise for work in executed(run, real).forward) == count


def mean_gradient(row: Row, g: Counted) -> list[Counted]:
    return [g / len(row) for _ in row]


def cumsum_gradient(row: Row, g: Row) -> list[Counted]:
    """The sum of g from each place to the end, g being one for each place."""
    sums, running = [], Counted(0)
    for each in reversed(g):
        running = running + each
        sums.append(running)
    return sums[::-1]


def variance_gradient(row: Row, g: Counted) -> list[Counted]:
    center = mean(row)
    factor = g * (2 / (len(row) - 1))
    return [factor * (x - center) for x in row]


def deviation_gradient(row: Row, g: Counted) -> list[Counted]:
    """Its three FLOP apart, by the variance's; the deviation itself comes from forward."""
    deviation = Counted(np.std([x.value for x in row], ddof=1))
    share = g / (deviation * 2)
    share = share if deviation > 0 else Counted(0)
    return variance_gradient(row, share)


def extremum_gradient(row: Row, g: Counted) -> list[Counted]:
    best = max(x.value for x in row)
    chosen = [x._did(float(x.value == best)) for x in row]
    share = g / total(chosen)
    return [one * share for one in chosen]


def log_sum_exp_gradient(row: Row, g: Counted) -> list[Counted]:
    out = np.log(sum(np.exp(x.value) for x in row))
    return [g * (x - out).apply("exp") for x in row]


def norm_gradient(row: Row, g: Counted) -> list[Counted]:
    out = Counted(np.sqrt(sum(x.value**2 for x in row)))
    g = g if out > 0 else Counted(0)
    return [g * (x / out) for x in row]


def absolute_gradient(row: Row, g: Counted) -> list[Counted]:
    return [x._did(np.sign(x.value)) * g for x in row]


OF_ROWS: dict[str, tuple[Callable[..., torch.Tensor], Callable[..., list[Counted]]]] = {
    "mean": (lambda x: x.mean(1), mean_gradient),
    "cumsum": (lambda x: x.cumsum(1), cumsum_gradient),
    "var": (lambda x: x.var(1), variance_gradient),
    "std": (lambda x: x.std(1), deviation_gradient),
    "amax": (lambda x: x.amax(1), extremum_gradient),
    "logsumexp": (lambda x: x.logsumexp(1), log_sum_exp_gradient),
    "vector_norm": (lambda x: torch.linalg.vector_norm(x, dim=1), norm_gradient),
    "vector_norm 1": (lambda x: torch.linalg.vector_norm(x, 1, dim=1), absolute_gradient),
}
"""An operator along the rows; the gradient of one row, in counted arithmetic."""


@pytest.mark.oracle
@pytest.mark.parametrize("case", OF_ROWS)
@settings(max_examples=15, deadline=None)
@given(rows=st.integers(1, 4), columns=st.integers(2, 5))
def test_gradient_of_row_after_row(case: str, rows: int, columns: int) -> None:
    run, loop = OF_ROWS[case]
    x = tensor((rows, columns))
    real = torch.tensor(values(x), requires_grad=True)
    out = run(real)
    g = tensor(tuple(out.shape), 2)
    reset()
    gradient = np.array([loop(row, each) for row, each in zip(x, g, strict=True)], dtype=object)
    count = counted()
    out.backward(torch.tensor(values(g)))
    np.testing.assert_allclose(values(gradient), real.grad.numpy(), rtol=1e-6, atol=1e-12)
    executed_backward = executed(run, torch.tensor(values(x), requires_grad=True)).backward
    assert sum(work.elementwise for work in executed_backward) == count


GRADIENTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "sum": lambda x: x.sum(),
    "sum of rows": lambda x: x.sum(1),
    "mean": lambda x: x.mean(),
    "mean of rows": lambda x: x.mean(1, keepdim=True),
    "cumsum": lambda x: x.cumsum(1),
    "var": lambda x: x.var(),
    "var of rows": lambda x: x.var(1),
    "std of rows": lambda x: x.std(1),
    "var_mean": lambda x: torch.var_mean(x, 1)[0],
    "amax": lambda x: x.amax(1),
    "amin": lambda x: x.amin(0),
    "max": lambda x: x.max(1)[0],
    "min": lambda x: x.min(1)[0],
    "logsumexp": lambda x: x.logsumexp(1),
    "vector_norm": lambda x: torch.linalg.vector_norm(x),
    "vector_norm of rows": lambda x: torch.linalg.vector_norm(x, dim=1),
    "vector_norm 1": lambda x: torch.linalg.vector_norm(x, 1),
}


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients_are_those_that_autograd_runs(name: str) -> None:
    agrees_with_autograd(GRADIENTS[name], torch.randn(3, 4))


@pytest.mark.parametrize(("names", "per_element"), [row[:2] for row in REDUCTIONS])
def test_table_names_operators_that_exist(names: str, per_element: int) -> None:
    for name in names.split():
        if name == "hash_tensor" and not hasattr(torch.ops.aten, name):
            pytest.skip("torch had no hash_tensor then")
        assert hasattr(torch.ops.aten, name), name
        cost = OPERATORS[f"aten.{name}"](Tensor((4, 5)), out=Tensor((0,)))
        assert cost.elementwise == 20 * per_element


def test_comparisons_and_running_reductions() -> None:
    x = torch.randn(3, 4)
    runs: list[tuple[Callable[[], Any], int]] = [
        (lambda: x.argmax(1), 12),
        (lambda: x.max(), 12),
        (lambda: torch.max(x, x), 12),
        (lambda: torch.aminmax(x), 24),
        (lambda: torch.equal(x, x), 12),
        (lambda: (x > 0).any(), 24),
        (lambda: x.cumprod(1), 12),
        (lambda: x.cummax(1), 12),
        (lambda: x.count_nonzero(), 24),
        (lambda: x.nansum(), 24),
        (lambda: torch.std_mean(x, 1), 57),
    ]
    for run, expected in runs:
        step = executed(lambda y, run=run: (run(), y + 0)[1], torch.ones(0, requires_grad=True))
        assert sum(work.elementwise for work in step.forward) == expected


def test_arrays_and_symbols() -> None:
    def figures(rows: Any, columns: Any) -> dict[str, Any]:
        found = {}
        for name in ("sum", "mean", "var", "std", "logsumexp", "linalg_vector_norm"):
            cost = OPERATORS[f"aten.{name}"](Tensor((rows, columns)), out=Tensor((rows,)))
            found[name] = cost.elementwise
            found[f"{name} backward"] = sum(g.elementwise for g in cost.gradients)
        return found

    agrees_on_arrays_and_symbols(figures, {"rows": 2, "columns": 3}, {"rows": 5, "columns": 7})
