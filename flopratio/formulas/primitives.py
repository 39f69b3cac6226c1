"""The operators of ``torch.ops.prims``, of which torch makes up others where those have no kernel
(under ``jvp``, say): each computes what the operator of the same name in ``aten`` computes.

They have no gradients of their own: autograd has taken the derivative before it comes to them.
"""

from __future__ import annotations

from typing import Any

from flopratio.formulas.arithmetic import division, multiplication
from flopratio.formulas.formula import EXAMPLES, OPERATORS, Cost, Example, Tensor, operator
from flopratio.formulas.movement import moves, views
from flopratio.formulas.pointwise import elementwise
from flopratio.formulas.spectral import fft_c2c, fft_c2r, fft_r2c

ONE_EACH = """
    abs acos acosh add asin asinh atan atan2 atanh bessel_i0 bessel_i0e bessel_i1 bessel_i1e
    bessel_j0 bessel_j1 bitwise_and bitwise_not bitwise_or bitwise_xor cbrt ceil cos cosh digamma eq
    erf erf_inv erfc erfcx exp exp2 expm1 floor fmax fmin fmod gcd ge gt hypot igamma igammac
    isfinite le lgamma log log10 log1p log2 lt maximum minimum ndtri ne neg nextafter pow
    reciprocal remainder round rsqrt shift_left shift_right_arithmetic sign signbit sin sinh
    spherical_bessel_j0 sqrt sub tan tanh trunc where zeta
"""
"""One operation an element: arithmetic, a comparison, a function of one or two numbers."""

MOVED = """
    as_strided_scatter cat clone conj_physical convert_element_type copy_strided copy_to device_put
    empty empty_permuted empty_strided fill full full_like iota item maximum_value minimum_value
    normal uniform resize rev scalar_tensor reshape
"""
LOOKED_AT = """
    as_strided broadcast_in_dim collapse collapse_view conj imag real split_dim squeeze transpose
    view_of view_of_dtype _make_token _sink_tokens
"""

for _name in ONE_EACH.split():
    operator(f"prims.{_name}")(elementwise(1))
for _name in MOVED.split():
    operator(f"prims.{_name}")(moves)
for _name in LOOKED_AT.split():
    operator(f"prims.{_name}")(views)


@operator("prims.mul", knows_complex=True)
def mul(self: Any, other: Any, *, out: Tensor) -> Cost:
    return Cost(elementwise=multiplication(self, other) * out.numel)


@operator("prims.div", knows_complex=True)
def div(self: Any, other: Any, *, out: Tensor) -> Cost:
    return Cost(elementwise=division(self, other) * out.numel)


@operator("prims.frexp")
def frexp(self: Tensor, *, out: tuple[Tensor, Tensor]) -> Cost:
    """One operation an element gives both parts."""
    return Cost(elementwise=self.numel)


@operator("prims.sum", "prims.prod", "prims.amax", "prims.amin", "prims.xor_sum")
def reduced(inp: Tensor, *arguments: Any, out: Tensor, **options: Any) -> Cost:
    """One operation an element."""
    return Cost(elementwise=inp.numel)


@operator("prims.var")
def var(inp: Tensor, *arguments: Any, out: Tensor, **options: Any) -> Cost:
    """As ``aten.var``: 4 an element and 2 a result."""
    return Cost(elementwise=4 * inp.numel + 2 * out.numel)


@operator("prims.fft_c2c", knows_complex=True)
def transform(self: Tensor, *, dim: Any, forward: bool, out: Tensor) -> Cost:
    return Cost(elementwise=fft_c2c(self, dim, 0, forward, out=out).elementwise)


@operator("prims.fft_r2c", knows_complex=True)
def transform_of_real(self: Tensor, *, dim: Any, onesided: bool, out: Tensor) -> Cost:
    return Cost(elementwise=fft_r2c(self, dim, 0, onesided, out=out).elementwise)


@operator("prims.fft_c2r", knows_complex=True)
def transform_to_real(self: Tensor, *, dim: Any, last_dim_size: Any, out: Tensor) -> Cost:
    return Cost(elementwise=fft_c2r(self, dim, 0, last_dim_size, out=out).elementwise)


@operator("prims.svd", knows_complex=True)
def decomposed(A: Tensor, *, full_matrices: bool, out: tuple[Tensor, Tensor, Tensor]) -> Cost:
    cost = OPERATORS["aten._linalg_svd"](A, full_matrices, out=out)
    return Cost(elementwise=cost.elementwise)


EXAMPLES += [
    Example(
        "prims.mul",
        {"self": Tensor((4, 6)), "other": 2.0, "out": Tensor((4, 6))},
        {"flops": 0, "elementwise": 24},
        "one multiplication for each of 24 elements",
    ),
]
