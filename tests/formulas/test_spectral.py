"""Fourier transforms against a counted one, and against what torch dispatches and keeps."""

from __future__ import annotations

import cmath
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from flopratio.formulas import OPERATORS, Tensor, exact
from flopratio.formulas.spectral import complex_flops, passes, real_flops
from tests.formulas.counting import Counted, counted, reset
from tests.formulas.fused import executed

Complex = tuple[Counted, Counted]


def butterfly(a: Complex, b: Complex, w: complex) -> tuple[Complex, Complex]:
    """a + w b and a - w b."""
    real = b[0] * w.real - b[1] * w.imag
    imaginary = b[0] * w.imag + b[1] * w.real
    return (a[0] + real, a[1] + imaginary), (a[0] - real, a[1] - imaginary)


def transform(numbers: list[Complex]) -> list[Complex]:
    """Cooley and Tukey's, for a power of two."""
    n = len(numbers)
    if n == 1:
        return numbers
    even, odd = transform(numbers[::2]), transform(numbers[1::2])
    pairs = [butterfly(even[k], odd[k], cmath.exp(-2j * cmath.pi * k / n)) for k in range(n // 2)]
    return [first for first, _ in pairs] + [second for _, second in pairs]


@pytest.mark.oracle
@pytest.mark.parametrize("length", [2, 4, 8, 32])
def test_oracle(length: int) -> None:
    """GIVEN a power of two, THEN the formula is what the transform counts, which is NumPy's."""
    drawn = np.random.default_rng(length).normal(size=(length, 2))
    reset()
    found = transform([(Counted(real), Counted(imaginary)) for real, imaginary in drawn])
    assert complex_flops((length,), (0,)) == counted()
    expected = np.fft.fft(drawn[:, 0] + 1j * drawn[:, 1])
    np.testing.assert_allclose([a.value + 1j * b.value for a, b in found], expected, atol=1e-12)


def test_other_lengths() -> None:
    """As many passes as the next power of two has, over the numbers themselves."""
    assert [passes(n) for n in (1, 2, 3, 4, 5, 8, 9)] == [0, 1, 2, 2, 3, 3, 4]
    assert complex_flops((7,), (0,)) == 5 * 7 * 3


def test_several_dimensions() -> None:
    """Lines along each dimension; of real numbers half along the last one, and only the kept half
    along the others."""
    assert complex_flops((3, 8, 4), (1, 2)) == 3 * (4 * 5 * 8 * 3 + 8 * 5 * 4 * 2)
    assert real_flops((3, 8, 4), (1, 2)) == 3 * (8 * 5 * 4 * 2 // 2 + 3 * 5 * 8 * 3)
    assert real_flops((8, 4), (1, 0)) == 4 * 5 * 8 * 3 // 2 + 5 * 5 * 4 * 2
    assert real_flops((8, 4), (-1, -2)) == real_flops((8, 4), (1, 0))


def test_normalization() -> None:
    """A factor: 2 a complex number, 1 a real one."""
    real, half, whole = Tensor((3, 8)), Tensor((3, 5), 8), Tensor((3, 8), 8)
    cases: list[tuple[str, Tensor, Tensor, Any, int]] = [
        ("aten._fft_c2c", whole, whole, True, 48),
        ("aten._fft_r2c", real, half, True, 30),
        ("aten._fft_r2c", real, whole, False, 30),
        ("aten._fft_c2r", half, real, 8, 24),
    ]
    for name, x, y, setting, expected in cases:
        plain, scaled = (
            OPERATORS[name](x, (1,), normalization, setting, out=y).elementwise
            for normalization in (0, 1)
        )
        assert scaled - plain == expected


REAL = {"dtype": torch.float32}
COMPLEX = {"dtype": torch.complex64}


@pytest.mark.parametrize(
    ("run", "shape", "kind"),
    [
        (torch.fft.fft, (3, 8), COMPLEX),
        (lambda x: torch.fft.ifft(x, norm="ortho"), (3, 8), COMPLEX),
        (torch.fft.fftn, (3, 7), COMPLEX),
        (torch.fft.rfft, (3, 8), REAL),
        (lambda x: torch.fft.rfft(x, norm="ortho"), (3, 7), REAL),
        (torch.fft.fft, (3, 8), REAL),
        (torch.fft.rfft2, (2, 8, 6), REAL),
        (torch.fft.irfft, (3, 5), COMPLEX),
        (lambda x: torch.fft.irfft(x, 7), (3, 4), COMPLEX),
        (torch.fft.irfft2, (2, 8, 4), COMPLEX),
    ],
)
def test_executed(run: Callable[..., Any], shape: tuple[int, ...], kind: dict[str, Any]) -> None:
    """GIVEN each transform, THEN backward runs the operators that the formula names, of the work
    that it says, and autograd keeps the bytes that it says."""
    x = torch.randn(shape, **kind, requires_grad=True)
    step = executed(lambda: run(x))
    (forward,) = step.forward
    found = [(work.op, work.cost.elementwise) for work in step.backward]
    assert found == [(g.op, g.elementwise) for g in forward.cost.gradients]
    kept = sum(tensor.nbytes for g in forward.cost.gradients for tensor in g.saves)
    assert kept == step.saved_bytes
    assert step.flops == (0, 0)


def test_arrays() -> None:
    """The same formula takes ints and arrays of ints."""

    def figures(n: Any, m: Any) -> list[Any]:
        x, half = Tensor((2, n, m)), Tensor((2, n, m // 2 + 1), 8)
        cost = OPERATORS["aten._fft_r2c"](x, (1, 2), 1, True, out=half)
        return [cost.elementwise, cost.gradients[0].elementwise]

    points = [(4, 8), (5, 9), (64, 100)]
    by_arrays = figures(*(exact(column) for column in zip(*points, strict=True)))
    for index, point in enumerate(points):
        assert [figure[index] for figure in by_arrays] == figures(*point)
