"""Fourier transforms.

A fast Fourier transform of n = 2^L numbers (Cooley and Tukey, 1965) has L passes of n / 2
butterflies a + w b, a - w b of complex numbers: a product, 6 real FLOP, and two sums, 2 each; 10.
Together 5 n L = 5 n log2 n. For other lengths L is log2 n rounded up, so that the figure stays an
integer: the passes of the next power of two, over n numbers. A transform of real numbers, whose
result is symmetric, is half of that, rounded down. For powers of two both are the convention of
FFTW's benchmarks, 5 n log2 n and 2.5 n log2 n; what a library really executes depends on how it
splits n.

In several dimensions each is a transform of all lines along it. Unlike elsewhere, sizes have to be
ints or arrays of ints: a logarithm rounded up is no polynomial.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from flopratio.formulas.formula import (
    EXAMPLES,
    Cost,
    Example,
    Gradient,
    Size,
    Tensor,
    operator,
    prod,
)


def passes(length: Size) -> Size:
    """log2 of a length, rounded up."""
    return np.frompyfunc(lambda n: (n - 1).bit_length(), 1, 1)(length)


def complex_flops(shape: Sequence[Size], dim: Sequence[int]) -> Size:
    """FLOP of a transform of complex numbers along some dimensions: for each, 5 L a number."""
    return sum(5 * prod(shape) * passes(shape[d]) for d in dim)


def real_flops(shape: Sequence[Size], dim: Sequence[int]) -> Size:
    """FLOP of a transform between real numbers of this shape and complex ones, of whose last
    dimension n only n // 2 + 1 are kept: half a transform of the lines along the last dimension;
    whole ones of what is kept, along the others."""
    *others, last = (d % len(shape) for d in dim)
    kept = [n // 2 + 1 if d == last else n for d, n in enumerate(shape)]
    return 5 * prod(shape) * passes(shape[last]) // 2 + complex_flops(kept, others)


def scaling_flops(normalization: int, numbers: Size) -> Size:
    """Unless ``normalization`` is 0, the result is times a real factor."""
    return numbers if normalization else 0


@operator("aten._fft_c2c", knows_complex=True)
def fft_c2c(
    self: Tensor, dim: Sequence[int], normalization: int, forward: bool, *, out: Tensor
) -> Cost:
    """Complex to complex. The gradient is the transform the other way; nothing is kept."""
    work = complex_flops(self.shape, dim) + scaling_flops(normalization, 2 * out.numel)
    return Cost(elementwise=work, gradients=(Gradient("self", "aten._fft_c2c", elementwise=work),))


@operator("aten._fft_r2c", knows_complex=True)
def fft_r2c(
    self: Tensor, dim: Sequence[int], normalization: int, onesided: bool, *, out: Tensor
) -> Cost:
    """Real to complex; not onesided, the other half is a copy. The gradient does not make use of
    the symmetry: it is the transform of as many complex numbers as there were real ones. The input
    is kept, though only its size is needed."""
    last = self.shape[dim[-1]]
    scaled = 2 * (self.numel // last) * (last // 2 + 1)
    gradient = complex_flops(self.shape, dim) + scaling_flops(normalization, 2 * self.numel)
    return Cost(
        elementwise=real_flops(self.shape, dim) + scaling_flops(normalization, scaled),
        gradients=(Gradient("self", "aten._fft_c2c", elementwise=gradient, saves=(self,)),),
    )


@operator("aten._fft_c2r", knows_complex=True)
def fft_c2r(
    self: Tensor, dim: Sequence[int], normalization: int, last_dim_size: Size, *, out: Tensor
) -> Cost:
    """Complex to real. The gradient is the transform of the real numbers back; then those that
    stand for their symmetric partners too, times 2. Nothing is kept."""
    twins = self.numel // self.shape[dim[-1]] * (last_dim_size - self.shape[dim[-1]])
    transform = real_flops(out.shape, dim)
    back = transform + scaling_flops(normalization, 2 * self.numel)
    return Cost(
        elementwise=transform + scaling_flops(normalization, out.numel),
        gradients=(
            Gradient("self", "aten._fft_r2c", elementwise=back),
            Gradient("self", "aten.mul_", elementwise=twins),
        ),
    )


EXAMPLES += [
    Example(
        "aten._fft_c2c",
        {
            "self": Tensor((3, 8), 8),
            "dim": (1,),
            "normalization": 0,
            "forward": True,
            "out": Tensor((3, 8), 8),
        },
        {"flops": 0, "elementwise": 360},
        "3 transforms of 8 = 2^3 numbers: 3 * 5 * 8 * 3 = 360",
    ),
    Example(
        "aten._fft_r2c",
        {
            "self": Tensor((4, 6)),
            "dim": (0, 1),
            "normalization": 1,
            "onesided": True,
            "out": Tensor((4, 4), 8),
        },
        {"elementwise": 372},
        "4 rows of 6 < 2^3: 4 * 5 * 6 * 3 / 2 = 180; 4 columns of 4 = 2^2: 4 * 5 * 4 * 2 = 160; "
        "16 complex numbers scaled, 32",
    ),
]
