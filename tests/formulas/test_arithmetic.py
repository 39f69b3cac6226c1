"""Complex numbers: every count is that of loops over their real and imaginary parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import flopratio as fr
from flopratio.formulas import OPERATORS, Tensor
from tests.formulas import counting
from tests.formulas.counting import Counted, counted


class Complex:
    """A complex number of two that count."""

    def __init__(self, real: Any, imag: Any) -> None:
        self.real = real if isinstance(real, Counted) else Counted(real)
        self.imag = imag if isinstance(imag, Counted) else Counted(imag)

    def __add__(self, other: Complex) -> Complex:
        return Complex(self.real + other.real, self.imag + other.imag)

    def __sub__(self, other: Complex) -> Complex:
        return Complex(self.real - other.real, self.imag - other.imag)

    def __mul__(self, other: Any) -> Complex:
        if not isinstance(other, Complex):
            return Complex(self.real * other, self.imag * other)
        real = self.real * other.real - self.imag * other.imag
        return Complex(real, self.real * other.imag + self.imag * other.real)

    def __truediv__(self, other: Any) -> Complex:
        if not isinstance(other, Complex):
            return Complex(self.real / other, self.imag / other)
        real = self.real * other.real + self.imag * other.imag
        imag = self.imag * other.real - self.real * other.imag
        size = other.squared()
        return Complex(real / size, imag / size)

    def __neg__(self) -> Complex:
        return Complex(-self.real, -self.imag)

    def squared(self) -> Counted:
        return self.real * self.real + self.imag * self.imag

    def __abs__(self) -> Counted:
        return self.squared().sqrt()

    @property
    def value(self) -> complex:
        return complex(self.real.value, self.imag.value)


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    real, imag = counting.tensor(shape, seed), counting.tensor(shape, seed + 100)
    made = np.empty(shape, dtype=object)
    for place in np.ndindex(*shape):
        made[place] = Complex(real[place], imag[place])
    return made


def as_torch(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.vectorize(lambda number: number.value)(array))


def seen(*shape: int) -> Tensor:
    return Tensor(shape, 8, is_complex=True)


def count(run: Callable[..., Any], *arguments: Any) -> tuple[Any, int]:
    counting.reset()
    result = run(*arguments)
    return result, counted()


def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    out = np.empty((a.shape[0], b.shape[1]), dtype=object)
    for place in np.ndindex(*out.shape):
        out[place] = Complex(0.0, 0.0)
    for m, n, k in np.ndindex(*out.shape, a.shape[1]):
        out[m, n] = out[m, n] + a[m, k] * b[k, n]
    return out


@pytest.mark.oracle
def test_a_multiply_add_is_eight() -> None:
    a, b = numbers(3, 4, seed=1), numbers(4, 5, seed=2)
    out, flops = count(product, a, b)
    cost = OPERATORS["aten.mm"](seen(3, 4), seen(4, 5), out=seen(3, 5))
    assert cost.flops == flops == 8 * 3 * 4 * 5
    assert [gradient.flops for gradient in cost.gradients] == [flops, flops]
    np.testing.assert_allclose(as_torch(out), as_torch(a) @ as_torch(b))


x, y, real = numbers(6, seed=1), numbers(6, seed=2), counting.tensor((6,), 3)
C, R = seen(6), Tensor((6,))

ELEMENTWISE: dict[str, tuple[Callable[[], Any], tuple[Any, ...], Tensor]] = {
    "add": (lambda: x + y, (C, C), C),
    "sub": (lambda: x - y, (C, C), C),
    "mul": (lambda: x * y, (C, C), C),
    "mul by a real tensor": (lambda: x * real, (C, R), C),
    "mul by a number": (lambda: x * 2.0, (C, 2.0), C),
    "div": (lambda: x / y, (C, C), C),
    "div by a real tensor": (lambda: x / real, (C, R), C),
    "neg": (lambda: -x, (C,), C),
    "abs": (lambda: [abs(number) for number in x], (C,), R),
    "square": (lambda: x * x, (C,), C),
    "addcmul": (lambda: y + x * y, (C, C, C), C),
    "addcdiv": (lambda: y + x / y, (C, C, C), C),
    "sgn": (lambda: [number / abs(number) for number in x], (C,), C),
}


@pytest.mark.oracle
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise_operators_are_those_of_the_parts(name: str) -> None:
    run, operands, out = ELEMENTWISE[name]
    _, flops = count(run)
    op = f"aten.{name.partition(' ')[0]}"
    assert OPERATORS[op](*operands, out=out).elementwise == flops > 0


@pytest.mark.oracle
def test_reductions_are_those_of_the_parts() -> None:
    zero = Complex(0.0, 0.0)

    def total() -> Complex:
        result = zero
        for number in x:
            result = result + number
        return result

    def multiplied() -> Complex:
        result = Complex(1.0, 0.0)
        for number in x:
            result = result * number
        return result

    def norm() -> Counted:
        result = Counted(0.0)
        for number in x:
            result = result + number.squared()
        return result.sqrt()

    def variance() -> Counted:
        mean = total() / 6.0
        result = Counted(0.0)
        for number in x:
            result = result + (number - mean).squared()
        return result / 5.0

    scalar, one = Tensor((), 8, is_complex=True), Tensor(())
    for op, run, out in (
        ("sum", total, scalar),
        ("prod", multiplied, scalar),
        ("linalg_vector_norm", norm, one),
        ("var", variance, one),
    ):
        assert OPERATORS[f"aten.{op}"](C, out=out).elementwise == count(run)[1], op


def c(*shape: int) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.complex64, requires_grad=True)


a, b = c(3, 4), c(4, 5)
STEPS: dict[str, tuple[Callable[[], torch.Tensor], int]] = {
    "mm": (lambda: a @ b, 60),
    "bmm": (lambda: c(2, 3, 4) @ c(2, 4, 5), 120),
    "addmm": (lambda: torch.addmm(c(5), a, b, beta=2, alpha=3), 60),
    "baddbmm": (lambda: torch.baddbmm(c(2, 3, 5), c(2, 3, 4), c(2, 4, 5)), 120),
    "mv": (lambda: a @ c(4), 12),
    "mv of a conjugate": (lambda: a.mH @ c(3), 12),
    "mm of a conjugate": (lambda: a.conj().T @ c(3, 5), 60),
    "dot": (lambda: torch.dot(c(4), c(4)), 4),
    "vdot": (lambda: torch.vdot(c(4), c(4)), 4),
    "einsum": (lambda: torch.einsum("bij,jk->bik", c(2, 3, 4), b), 120),
    "einsum of a conjugate": (
        lambda: torch.einsum("bij,bik->bjk", c(2, 3, 4).conj(), c(2, 3, 5)),
        120,
    ),
    "linear": (lambda: nn.functional.linear(a, c(5, 4), c(5)), 60),
    "scaled first": (lambda: (a * torch.randn(3, 4, requires_grad=True)) @ b, 60),
}


@pytest.mark.parametrize("name", STEPS)
def test_contractions_in_a_step_are_eight_a_multiply_add(name: str) -> None:
    run, multiply_adds = STEPS[name]
    with fr.Profiler() as profiler:
        run().abs().sum().backward()
    ledger = profiler.ledger
    assert ledger.totals.forward == 8 * multiply_adds
    assert ledger.totals.backward == 16 * multiply_adds
    assert ledger.mismatches == []
    assert ledger.saved_mismatches == []
    assert ledger.uncounted_ops == {}


def test_the_real_view_of_complex_numbers_counts_as_real() -> None:
    with fr.Profiler() as profiler:
        torch.view_as_real(a) @ torch.randn(2, 3)
    assert profiler.ledger.totals.forward == 2 * 3 * 4 * 2 * 3


def test_a_complex_convolution_is_the_three_real_ones_that_torch_makes_of_it() -> None:
    image, kernel = c(2, 3, 6, 6), c(4, 3, 3, 3)
    with fr.Profiler() as profiler:
        nn.functional.conv2d(image, kernel).abs().sum().backward()
    ledger = profiler.ledger
    real_one = 2 * (4 * 3 * 3 * 3) * 2 * (4 * 4)
    assert (ledger.totals.forward, ledger.totals.backward) == (3 * real_one, 6 * real_one)
    assert ledger.mismatches == []


def test_a_model_of_complex_numbers_is_counted_without_running() -> None:
    model = nn.Linear(4, 5, dtype=torch.complex64)
    ledger = fr.count(model, torch.randn(3, 4, dtype=torch.complex64), loss=lambda y: y.abs().sum())
    totals = ledger.totals
    assert (totals.forward, totals.grad_weight, totals.grad_input) == (480, 480, 0)
    assert ledger.reconciled


def test_a_factorization_of_complex_numbers_counts_four_times() -> None:
    real_one = OPERATORS["aten.linalg_cholesky_ex"](
        Tensor((4, 4)), out=(Tensor((4, 4)), Tensor(()))
    )
    complex_one = OPERATORS["aten.linalg_cholesky_ex"](seen(4, 4), out=(seen(4, 4), Tensor(())))
    assert complex_one.elementwise == 4 * real_one.elementwise
    assert [g.flops for g in complex_one.gradients] == [4 * g.flops for g in real_one.gradients]
