"""Elementwise arithmetic: what an operator computes for each element of its output on its own.

In the formulas N is the number of elements of the output, and g the gradient of the output. An
operand of fewer elements is repeated (broadcast) to the shape of the output; its gradient is then
the sum over the copies, one addition into a zeroed accumulator for each of the N elements of g.

Of complex numbers, what the operators of a backward chain do is left to a trace, which sees them.

Gradients are given where autograd runs a short chain of operators. Where the chain is long
(``pow`` with a tensor as exponent, ``atan2``, ``copysign``) at most what it keeps is given: a trace
counts it, as it sees each backward operator by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flopratio.formulas.arithmetic import addition, division, modulus, multiplication
from flopratio.formulas.formula import (
    EXAMPLES,
    Call,
    Cost,
    Example,
    Gradient,
    LayerCost,
    OperatorFormula,
    Size,
    Tensor,
    layer,
    operator,
    same_shape,
)
from flopratio.version import torch_release

Keeps = Mapping[str, str]
"""Operand that has a gradient -> what forward keeps for it: operands, and ``out``."""

NOTHING: Keeps = {}
ITSELF: Keeps = {"self": "self"}
ITSELF_AND_RESULT: Keeps = {"self": "self out"}
BOTH: Keeps = {"self": "self other", "other": "self other"}
OF_OTHER: Keeps = {"other": "self other"}
HANDED_ON_OR_BOTH: Keeps = {"self": "", **OF_OTHER}

PER_ELEMENT: tuple[tuple[str, int, str, Keeps], ...] = (
    ("sign", 1, "one operation on one number", NOTHING),
    ("digamma i0", 1, "one evaluation of a function", ITSELF),
    ("floor ceil round trunc", 1, "one rounding", NOTHING),
    ("frac", 2, "x - trunc(x)", NOTHING),
    ("sinc", 3, "sin(pi x) / (pi x): a multiplication, a sine, a division", ITSELF),
    ("nan_to_num", 3, "three selections: for nan, inf and -inf", ITSELF),
    (
        "hypot",
        1,
        "one evaluation of a function of two numbers",
        {"self": "self out", "other": "other out"},
    ),
    ("fmod remainder", 1, "one evaluation of a function of two numbers", HANDED_ON_OR_BOTH),
    ("copysign", 1, "one operation on two numbers", ITSELF_AND_RESULT),
    ("nextafter", 1, "one operation on two numbers", BOTH),
    ("gcd lcm", 1, "one evaluation of a function of two numbers", NOTHING),
    ("igamma igammac", 1, "one evaluation of a function of two numbers", OF_OTHER),
    ("floor_divide", 2, "a division and a rounding", NOTHING),
    ("xlogy", 2, "x log(y): a logarithm and a multiplication", BOTH),
    (
        "ldexp",
        2,
        "x 2^y: a power and a multiplication",
        {"self": "other", "other": "out"},
    ),
    ("heaviside", 1, "one selection", NOTHING),
    ("eq ne lt le gt ge", 1, "one comparison", NOTHING),
    ("logical_and logical_or logical_xor logical_not", 1, "one operation on truth values", NOTHING),
    ("bitwise_and bitwise_or bitwise_xor bitwise_not", 1, "one operation on bits", NOTHING),
    ("bitwise_left_shift bitwise_right_shift", 1, "one operation on bits", NOTHING),
)
"""Operators, FLOP for each element of the output, why, and what they keep; also in place
(``aten.sign_``). Which operators compute their gradients, where they have one, is left to a trace.
"""

PER_ELEMENT_OUT_OF_PLACE: tuple[tuple[str, int, str, Keeps], ...] = (
    (
        "special_erfcx special_i0e special_i1 special_i1e special_log_ndtr",
        1,
        "one evaluation of a function",
        ITSELF_AND_RESULT,
    ),
    ("special_ndtri", 1, "one evaluation of a function", {"self": "out"}),
    (
        """
        special_airy_ai special_bessel_j0 special_bessel_j1 special_bessel_y0 special_bessel_y1
        special_modified_bessel_i0 special_modified_bessel_i1 special_modified_bessel_k0
        special_modified_bessel_k1 special_scaled_modified_bessel_k0
        special_scaled_modified_bessel_k1 special_spherical_bessel_j0
        """,
        1,
        "one evaluation of a function",
        NOTHING,
    ),
    ("special_zeta", 1, "one evaluation of a function of two numbers", OF_OTHER),
    (
        """
        special_chebyshev_polynomial_t special_chebyshev_polynomial_u
        special_chebyshev_polynomial_v special_chebyshev_polynomial_w special_hermite_polynomial_h
        special_hermite_polynomial_he special_laguerre_polynomial_l special_legendre_polynomial_p
        special_shifted_chebyshev_polynomial_t special_shifted_chebyshev_polynomial_u
        special_shifted_chebyshev_polynomial_v special_shifted_chebyshev_polynomial_w
        """,
        1,
        "one evaluation of a function, of a number and a degree that is a value too",
        NOTHING,
    ),
    ("special_entr", 3, "-x log(x): a logarithm, a multiplication, a sign", ITSELF),
    ("special_xlog1py", 2, "x log1p(y): a logarithm and a multiplication", BOTH),
    ("fmax fmin", 1, "one comparison, which selects", BOTH),
    ("isnan isinf isposinf isneginf signbit", 1, "one comparison", NOTHING),
    ("__lshift__ __rshift__ __ilshift__ __irshift__", 1, "one operation on bits", NOTHING),
    ("_masked_scale", 2, "x mask scale: two multiplications", NOTHING),
    ("_standard_gamma_grad _dirichlet_grad", 1, "one evaluation of a function", NOTHING),
)
"""The same for operators that torch does not have in place."""


@dataclass(frozen=True, slots=True)
class Derivative:
    """How autograd computes the gradient of a function of one variable.

    Args:
        chain: the operators that it runs, each 1 FLOP an element.
        saves: what forward keeps for it: ``self`` (the input), ``out`` (the output) or nothing.
    """

    chain: str
    saves: str = ""


DERIVATIVES = {
    "neg": Derivative("neg"),  # -g
    "deg2rad": Derivative("mul"),  # g pi / 180
    "rad2deg": Derivative("mul"),  # g 180 / pi
    "exp": Derivative("mul", "out"),  # g y
    "exp2": Derivative("mul mul", "out"),  # (g y) log(2)
    "expm1": Derivative("add mul", "out"),  # g (y + 1)
    "log": Derivative("div", "self"),  # g / x
    "log2": Derivative("mul div", "self"),  # g / (x log(2))
    "log10": Derivative("mul div", "self"),  # g / (x log(10))
    "log1p": Derivative("add div", "self"),  # g / (x + 1)
    "sqrt": Derivative("mul div", "out"),  # g / (2 y)
    "rsqrt": Derivative("pow mul mul", "out"),  # (-1/2 g) y^3
    "sin": Derivative("cos mul", "self"),  # g cos(x)
    "cos": Derivative("sin neg mul", "self"),  # g (-sin(x))
    "tan": Derivative("pow add mul", "out"),  # g (1 + y^2)
    "asin": Derivative("neg mul add rsqrt mul", "self"),  # g rsqrt(-x x + 1)
    "acos": Derivative("neg mul add rsqrt neg mul", "self"),  # g (-rsqrt(-x x + 1))
    "atan": Derivative("mul add div", "self"),  # g / (x x + 1)
    "sinh": Derivative("cosh mul", "self"),  # g cosh(x)
    "cosh": Derivative("sinh mul", "self"),  # g sinh(x)
    "asinh": Derivative("pow add rsqrt mul", "self"),  # g rsqrt(x^2 + 1)
    "atanh": Derivative("pow sub_ mul div", "self"),  # g / (1 - x^2)
    "acosh": Derivative("mul sub rsqrt mul", "self"),  # g rsqrt(x x - 1)
    "erf": Derivative("pow neg exp mul mul", "self"),  # g 2 / sqrt(pi) exp(-x^2)
    "erfc": Derivative("pow neg exp mul mul", "self"),  # g (-2 / sqrt(pi)) exp(-x^2)
    "erfinv": Derivative("erfinv pow exp mul mul", "self"),  # g sqrt(pi) / 2 exp(erfinv(x)^2)
    "lgamma": Derivative("digamma mul", "self"),  # g digamma(x)
}
"""Function of one variable, 1 FLOP an element, also in place -> its derivative, with x its input, y
its output, g the gradient."""


def elementwise_gradients(
    operand: str, chain: str, work: Size, *saves: Tensor
) -> tuple[Gradient, ...]:
    """One gradient for each operator of a chain, each 1 FLOP for each of ``work`` elements."""
    return chain_gradients(operand, [(op, work) for op in chain.split()], saves)


def chain_gradients(
    operand: str, chain: Sequence[tuple[str, Size]], saves: tuple[Tensor, ...]
) -> tuple[Gradient, ...]:
    """One gradient for each operator of a chain, given with its elements, 1 FLOP for each."""
    return tuple(Gradient(operand, f"aten.{op}", 0, work, saves) for op, work in chain)


Chain = str | Sequence[tuple[str, Size]]
"""Operators that compute a gradient one after another; with the elements that each works on."""


def operand_gradients(
    out: Tensor, *operands: tuple[str, Any, Chain, tuple[Any, ...]]
) -> tuple[Gradient, ...]:
    """The gradients of broadcast operands, each given as its name, itself, the chain of operators
    (at the size of the output, unless told otherwise), and what these save. An operand that is a
    plain number has no gradient and is not saved.

    Autograd's nodes go through the operands in alphabetical order (an accident of how their code is
    generated); the sums over copies come last, in the order of the arguments.
    """
    chains: dict[str, tuple[Gradient, ...]] = {}
    sums: list[Gradient] = []
    for name, operand, chain, saves in operands:
        if not isinstance(operand, Tensor):
            continue
        kept = tuple(saved for saved in saves if isinstance(saved, Tensor))
        if isinstance(chain, str):
            chain = [(op, out.numel) for op in chain.split()]
        chains[name] = chain_gradients(name, chain, kept)
        if not same_shape(operand.shape, out.shape):
            sums += elementwise_gradients(name, "sum", out.numel)
        if not chain:
            chains[name] = (Gradient(name, "", saves=kept),)
    return *(gradient for name in sorted(chains) for gradient in chains[name]), *sums


def scaling(factor: object) -> int:
    """Multiplications an element by a factor: none by 1."""
    return 0 if factor == 1 else 1


def elementwise(flops: int, keeps: Keeps = NOTHING) -> OperatorFormula:
    """The formula of an operator of ``PER_ELEMENT``."""

    def formula(*operands: Any, out: Tensor, **named: Any) -> Cost:
        known = {**dict(zip(("self", "other"), operands, strict=False)), **named, "out": out}
        gradients = (
            Gradient(
                operand,
                "",
                saves=tuple(
                    known[name] for name in kept.split() if isinstance(known.get(name), Tensor)
                ),
            )
            for operand, kept in keeps.items()
            if isinstance(known.get(operand), Tensor)
        )
        return Cost(elementwise=flops * out.numel, gradients=tuple(gradients))

    return formula


def function(derivative: Derivative) -> OperatorFormula:
    """The formula of a function of one variable."""

    def formula(self: Tensor, *, out: Tensor) -> Cost:
        saves = {"self": (self,), "out": (out,), "": ()}[derivative.saves]
        chain = elementwise_gradients("self", derivative.chain, out.numel, *saves)
        return Cost(elementwise=out.numel, gradients=chain)

    return formula


for _names, _flops, _, _keeps in PER_ELEMENT:
    for _name in _names.split():
        operator(f"aten.{_name}", f"aten.{_name}_")(elementwise(_flops, _keeps))
for _names, _flops, _, _keeps in PER_ELEMENT_OUT_OF_PLACE:
    for _name in _names.split():
        operator(f"aten.{_name}")(elementwise(_flops, _keeps))
for _name, _derivative in DERIVATIVES.items():
    operator(f"aten.{_name}", f"aten.{_name}_")(function(_derivative))


@operator("aten.add", "aten.add_")
def add(self: Any, other: Any, alpha: Any = 1, *, out: Tensor) -> Cost:
    """out = self + alpha * other: an addition, and a multiplication unless alpha is 1.

    grad_self = g, grad_other = g * alpha.
    """
    factor = scaling(alpha)
    return Cost(
        elementwise=(1 + factor) * out.numel,
        gradients=operand_gradients(
            out, ("self", self, "", ()), ("other", other, "mul" * factor, ())
        ),
    )


@operator("aten.sub", "aten.sub_")
def sub(self: Any, other: Any, alpha: Any = 1, *, out: Tensor) -> Cost:
    """out = self - alpha * other; grad_self = g, grad_other = -g * alpha."""
    factor = scaling(alpha)
    chain = "neg " + "mul" * factor
    return Cost(
        elementwise=(1 + factor) * out.numel,
        gradients=operand_gradients(out, ("self", self, "", ()), ("other", other, chain, ())),
    )


@operator("aten.rsub")
def rsub(self: Any, other: Any, alpha: Any = 1, *, out: Tensor) -> Cost:
    """out = other - alpha * self; grad_self = -g * alpha, grad_other = g."""
    factor = scaling(alpha)
    chain = "neg " + "mul" * factor
    return Cost(
        elementwise=(1 + factor) * out.numel,
        gradients=operand_gradients(out, ("self", self, chain, ()), ("other", other, "", ())),
    )


@operator("aten.sgn", "aten.sgn_", knows_complex=True)
def sgn(self: Tensor, *, out: Tensor) -> Cost:
    """One selection by the sign; of a complex number x / abs(x), two divisions by the modulus."""
    work = modulus(self) + 2 if self.is_complex else 1
    gradient = Gradient("self", "", saves=(self, out))
    return Cost(elementwise=work * out.numel, gradients=(gradient,))


@operator("aten.polygamma", "aten.polygamma_")
def polygamma(n: Any, self: Any, /, *, out: Tensor) -> Cost:
    """One evaluation of a function. (In place, the tensor comes first.)"""
    kept = self if isinstance(self, Tensor) else n
    return Cost(elementwise=out.numel, gradients=(Gradient("self", "", saves=(kept,)),))


@operator("aten.mvlgamma", "aten.mvlgamma_")
def mvlgamma(self: Tensor, p: int, *, out: Tensor) -> Cost:
    """The logarithm of the gamma function of p dimensions: a constant and the sum of
    lgamma(x + (1 - j) / 2) for p values of j: an addition, a function and an addition for each, and
    1."""
    return Cost(
        elementwise=(3 * p + 1) * out.numel, gradients=(Gradient("self", "", saves=(self,)),)
    )


@operator("aten.frexp")
def frexp(self: Any, *, out: Any) -> Cost:
    """One operation an element gives mantissa and exponent, of which the exponent is kept."""
    mantissa, exponent = out
    return Cost(elementwise=mantissa.numel, gradients=(Gradient("self", "", saves=(exponent,)),))


@operator("aten.allclose")
def allclose(self: Tensor, other: Tensor, *tolerances: Any, out: bool) -> Cost:
    """Whether abs(x - y) <= atol + rtol abs(y) everywhere: a subtraction, two signs dropped, a
    multiplication, an addition, a comparison and a conjunction an element, 7."""
    return Cost(elementwise=7 * self.numel)


@operator("aten._add_relu", "aten._add_relu_")
def add_relu(self: Any, other: Any, alpha: Any = 1, *, out: Tensor) -> Cost:
    """A sum and a comparison with 0, which selects."""
    return Cost(elementwise=(2 + scaling(alpha)) * out.numel)


@operator("aten._standard_gamma", "aten._sample_dirichlet")
def drawn(self: Tensor, generator: object = None, *, out: Tensor) -> Cost:
    """Random numbers, whose shape parameter has a gradient."""
    return Cost(gradients=(Gradient("self", "", saves=(self, out)),))


@operator("aten.square", "aten.square_", knows_complex=True)
def square(self: Tensor, *, out: Tensor) -> Cost:
    """self * self."""
    return Cost(elementwise=multiplication(self, self) * out.numel)


@operator("aten.angle", knows_complex=True)
def angle(self: Tensor, *, out: Tensor) -> Cost:
    """One selection by the sign; of a complex number one evaluation of a function."""
    return Cost(elementwise=out.numel, gradients=(Gradient("self", "", saves=(self,)),))


@operator("aten.polar", knows_complex=True)
def polar(abs: Tensor, angle: Tensor, *, out: Tensor) -> Cost:
    """abs cos(angle) + i abs sin(angle): two functions and two multiplications."""
    gradients = tuple(Gradient(name, "", saves=(out,)) for name in ("abs", "angle"))
    return Cost(elementwise=4 * out.numel, gradients=gradients)


@operator("aten.abs", "aten.abs_", knows_complex=True)
def absolute(self: Tensor, *, out: Tensor) -> Cost:
    """A sign dropped, or the modulus of a complex number; grad_self = g sgn(self)."""
    return Cost(
        elementwise=modulus(self) * out.numel,
        gradients=elementwise_gradients("self", "sgn mul", out.numel, self),
    )


@operator("aten.reciprocal", "aten.reciprocal_", knows_complex=True)
def reciprocal(self: Tensor, *, out: Tensor) -> Cost:
    """out = 1 / self, of a complex number a division less the two multiplications by 1;
    grad_self = g (-(out out))."""
    work = division(1, self) - 2 if self.is_complex else 1
    return Cost(
        elementwise=work * out.numel,
        gradients=elementwise_gradients("self", "mul neg mul", out.numel, out),
    )


@operator("aten.mul", "aten.mul_", knows_complex=True)
def mul(self: Any, other: Any, *, out: Tensor) -> Cost:
    """out = self * other; grad_self = g * other, grad_other = g * self: each operand is kept for
    the other's sake, a plain number is not."""
    return Cost(
        elementwise=multiplication(self, other) * out.numel,
        gradients=operand_gradients(
            out, ("self", self, "mul", (other,)), ("other", other, "mul", (self,))
        ),
    )


@operator("aten.div", "aten.div_", knows_complex=True)
def div(self: Any, other: Any, *, rounding_mode: str | None = None, out: Tensor) -> Cost:
    """out = self / other, and one rounding more if it is rounded (which has no gradient).

    grad_self = g / other; grad_other = -g * ((self / other) / other).
    """
    if rounding_mode is not None:
        rounded = elementwise(2, {"self": "other", "other": "self other"})
        return rounded(self, other, out=out)
    return Cost(
        elementwise=division(self, other) * out.numel,
        gradients=operand_gradients(
            out,
            ("self", self, "div", (other,)),
            ("other", other, "div div neg mul", (self, other)),
        ),
    )


def power_flops(exponent: Any, elements: Size) -> Size:
    """One evaluation an element; the powers 0 and 1 only write and copy."""
    return 0 if not isinstance(exponent, Tensor) and exponent in (0, 1) else elements


@operator("aten.pow", "aten.pow_")
def pow(self: Any, exponent: Any, *, out: Tensor) -> Cost:
    """out = self ** exponent, one evaluation of a function an element.

    - A number as exponent: grad_self = g * (exponent * self ** (exponent - 1)); 0 for exponent 0.
    - A number as base: grad_exponent = g * (out * log(base)).
    """
    n = out.numel
    if isinstance(exponent, Tensor):
        if isinstance(self, Tensor):
            return Cost(
                elementwise=n,
                gradients=(
                    Gradient("self", "", saves=(self, exponent)),
                    Gradient("exponent", "", saves=(self, exponent, out)),
                ),
            )
        return Cost(
            elementwise=n,
            gradients=elementwise_gradients("exponent", "mul mul", n, exponent, out),
        )
    if exponent == 0:
        return Cost(gradients=(Gradient("self", "", saves=(self,)),))
    return Cost(
        elementwise=power_flops(exponent, n),
        gradients=(
            Gradient("self", "aten.pow", elementwise=power_flops(exponent - 1, n), saves=(self,)),
            *elementwise_gradients("self", "mul mul", n, self),
        ),
    )


def extremum(self: Tensor, other: Tensor, out: Tensor, lost: tuple[str, str]) -> Cost:
    """The larger (smaller) of two numbers: one comparison, which selects.

    The gradient goes to the operand that was chosen, half of it to each if they are equal: for each
    operand a halving, a comparison for equality, a selection, and the comparison that tells where
    the operand (first self, then other) has ``lost``. (torch 2.15 begins with that one.)
    """
    early = torch_release() >= (2, 15)
    of_self, of_other = (
        f"{comparison} div eq where" if early else f"div eq where {comparison}"
        for comparison in lost
    )
    return Cost(
        elementwise=out.numel,
        gradients=operand_gradients(
            out,
            ("self", self, of_self, (self, other)),
            ("other", other, of_other, (self, other)),
        ),
    )


@operator("aten.maximum")
def maximum(self: Tensor, other: Tensor, *, out: Tensor) -> Cost:
    return extremum(self, other, out, ("lt", "gt"))


@operator("aten.minimum")
def minimum(self: Tensor, other: Tensor, *, out: Tensor) -> Cost:
    return extremum(self, other, out, ("gt", "lt"))


@operator("aten.linalg_cross", knows_complex=True)
def linalg_cross(self: Tensor, other: Tensor, dim: int = -1, *, out: Tensor) -> Cost:
    """out = self x other, each element a b - c d: two multiplications and a subtraction;
    grad_self = other x g, grad_other = g x self."""
    work = (2 * multiplication(self, other) + addition(out, out)) * out.numel
    return Cost(
        elementwise=work,
        gradients=(
            Gradient("other", "aten.linalg_cross", elementwise=work, saves=(self,)),
            Gradient("self", "aten.linalg_cross", elementwise=work, saves=(other,)),
        ),
    )


@operator("aten.atan2", "aten.atan2_")
def atan2(self: Tensor, other: Tensor, *, out: Tensor) -> Cost:
    """out = the angle of (other, self): one evaluation of a function of two numbers."""
    kept = (self, other)
    return Cost(
        elementwise=out.numel,
        gradients=(Gradient("self", "", saves=kept), Gradient("other", "", saves=kept)),
    )


@operator("aten.logaddexp", "aten.logaddexp2")
def logaddexp(self: Tensor, other: Tensor, *, out: Tensor) -> Cost:
    """out = log(exp(self) + exp(other)) = max(self, other) + log(1 + exp(-abs(self - other))): a
    comparison, a subtraction, a sign dropped and one set, exp, an addition, log, an addition, 8.

    grad_self = g / (1 + exp(other - self)), and likewise for other. With 2 for e as many.
    """
    chain, saves = "sub exp add div", (self, other)
    return Cost(
        elementwise=8 * out.numel,
        gradients=operand_gradients(
            out, ("self", self, chain, saves), ("other", other, chain, saves)
        ),
    )


@operator("aten.where")
def where(condition: Tensor, self: Any = None, other: Any = None, *, out: Any) -> Cost:
    """out = self where the condition holds, else other: one selection an element; the gradients are
    g or 0 by the same condition. Without operands out tells where it holds: no arithmetic."""
    if isinstance(out, tuple):
        return Cost()
    return Cost(
        elementwise=out.numel,
        gradients=operand_gradients(
            out, ("self", self, "where", (condition,)), ("other", other, "where", (condition,))
        ),
    )


@operator("aten.clamp", "aten.clamp_")
def clamp(self: Tensor, min: Any = None, max: Any = None, *, out: Tensor) -> Cost:
    """One comparison, which selects, for each bound.

    grad_self = g where self is within the bounds, else 0: a comparison for each, their conjunction
    if there are two, and a selection. (In torch 2.15, what lies on a bound gets no gradient.)
    """
    least, most = ("gt", "lt") if torch_release() >= (2, 15) else ("ge", "le")
    comparisons = [least] * (min is not None) + [most] * (max is not None)
    both = ["logical_and_"] * (len(comparisons) - 1)
    bounds = {"min": min, "max": max}
    tensors = {name: bound for name, bound in bounds.items() if isinstance(bound, Tensor)}
    kept = (self, *tensors.values())
    return Cost(
        elementwise=len(comparisons) * out.numel,
        gradients=(
            *elementwise_gradients(
                "self", " ".join([*comparisons, *both, "where"]), out.numel, *kept
            ),
            *(Gradient(name, "", saves=kept) for name in tensors),
        ),
    )


@operator("aten.clamp_min", "aten.clamp_min_")
def clamp_min(self: Tensor, min: Any, *, out: Tensor) -> Cost:
    return clamp(self, min=min, out=out)


@operator("aten.clamp_max", "aten.clamp_max_")
def clamp_max(self: Tensor, max: Any, *, out: Tensor) -> Cost:
    return clamp(self, max=max, out=out)


@operator("aten.addcmul", "aten.addcmul_", knows_complex=True)
def addcmul(self: Tensor, tensor1: Tensor, tensor2: Tensor, value: Any = 1, *, out: Tensor) -> Cost:
    """out = self + value * tensor1 * tensor2: a multiplication and an addition, and a
    multiplication more unless value is 1.

    grad_self = g, grad_tensor1 = g * (tensor2 * value), grad_tensor2 = g * (tensor1 * value).
    """
    n = out.numel
    scaled = scaling(value) * multiplication(out, value)
    return Cost(
        elementwise=(multiplication(tensor1, tensor2) + addition(out, out) + scaled) * n,
        gradients=operand_gradients(
            out,
            ("self", self, "", ()),
            ("tensor1", tensor1, [("mul", tensor2.numel), ("mul", n)], (tensor2,)),
            ("tensor2", tensor2, [("mul", tensor1.numel), ("mul", n)], (tensor1,)),
        ),
    )


@operator("aten.addcdiv", "aten.addcdiv_", knows_complex=True)
def addcdiv(self: Tensor, tensor1: Tensor, tensor2: Tensor, value: Any = 1, *, out: Tensor) -> Cost:
    """out = self + value * tensor1 / tensor2: a division and an addition, and a multiplication
    unless value is 1.

    grad_self = g, grad_tensor1 = g * (value / tensor2),
    grad_tensor2 = -g * ((tensor1 * value) / (tensor2 * tensor2)). Torch keeps tensor2, which more
    than one gradient uses, whichever is asked for.
    """
    n = out.numel
    of_tensor2 = [
        ("mul", tensor2.numel),
        ("mul", tensor1.numel),
        ("div", n),
        ("neg", n),
        ("mul", n),
    ]
    scaled = scaling(value) * multiplication(out, value)
    return Cost(
        elementwise=(division(tensor1, tensor2) + addition(out, out) + scaled) * n,
        gradients=operand_gradients(
            out,
            ("self", self, "", (tensor2,)),
            ("tensor1", tensor1, [("div_", tensor2.numel), ("mul", n)], (tensor2,)),
            ("tensor2", tensor2, of_tensor2, (tensor1, tensor2)),
        ),
    )


@operator("aten.lerp", "aten.lerp_")
def lerp(self: Tensor, end: Tensor, weight: Any, *, out: Tensor) -> Cost:
    """out = self + weight * (end - self): a subtraction, a multiplication, an addition.

    grad_self = g * (1 - weight), grad_end = g * weight, grad_weight = g * (end - self); 1 - weight
    is one subtraction more for each element of a weight that is a tensor.
    """
    n = out.numel
    start = [("sub_", weight.numel)] if isinstance(weight, Tensor) else []
    return Cost(
        elementwise=3 * n,
        gradients=operand_gradients(
            out,
            ("self", self, [*start, ("mul", n)], (weight,)),
            ("end", end, "mul", (weight,)),
            ("weight", weight, "sub mul", (self, end, weight)),
        ),
    )


@operator("aten.logit", "aten.logit_")
def logit(self: Tensor, eps: float | None = None, *, out: Tensor) -> Cost:
    """out = log(x / (1 - x)): a subtraction, a division, a logarithm; with eps, x is first held
    between eps and 1 - eps, two comparisons more."""
    work = (3 if eps is None else 5) * out.numel
    gradient = Gradient("self", "aten.logit_backward", elementwise=work, saves=(self,))
    return Cost(elementwise=work, gradients=(gradient,))


@operator("aten.logit_backward")
def logit_backward(
    grad_output: Tensor, self: Tensor, eps: float | None = None, *, out: Tensor
) -> Cost:
    """grad = g / (x (1 - x)): a subtraction, a multiplication, a division; with eps 0 outside of
    the bounds, two comparisons more."""
    return Cost(elementwise=(3 if eps is None else 5) * out.numel)


@layer("Add")
def add_layer(x: Tensor, y: Tensor) -> LayerCost:
    """x + y, of one shape: what joins a residual connection."""
    out = x.new(*x.shape)
    return LayerCost(out, (Call("aten.add", {"self": x, "other": y}, out),))


@layer("Multiply")
def multiply_layer(x: Tensor, y: Tensor) -> LayerCost:
    """x * y, of one shape: what a gate does."""
    out = x.new(*x.shape)
    return LayerCost(out, (Call("aten.mul", {"self": x, "other": y}, out),))


EXAMPLES += [
    Example(
        "Add",
        {"x": Tensor((2, 3, 4)), "y": Tensor((2, 3, 4))},
        {"flops": 0, "elementwise": 24, "parameters": 0},
        "one addition for each of 24 elements",
    ),
    Example(
        "Multiply",
        {"x": Tensor((2, 3, 4)), "y": Tensor((2, 3, 4))},
        {"flops": 0, "elementwise": 24, "parameters": 0},
        "one multiplication for each of 24 elements",
    ),
    Example(
        "aten.add",
        {"self": Tensor((4, 6)), "other": Tensor((6,)), "out": Tensor((4, 6))},
        {"flops": 0, "elementwise": 24},
        "one addition for each of 4 * 6 = 24 elements",
    ),
    Example(
        "aten.add_",
        {"self": Tensor((10,)), "other": Tensor((10,)), "alpha": -0.1, "out": Tensor((10,))},
        {"elementwise": 20},
        "self + alpha * other, 2 for each of 10 elements: the update of SGD",
    ),
    Example(
        "aten.lerp_",
        {"self": Tensor((5,)), "end": Tensor((5,)), "weight": 0.1, "out": Tensor((5,))},
        {"elementwise": 15},
        "self + weight * (end - self), 3 for each of 5 elements",
    ),
    Example(
        "aten.clamp",
        {"self": Tensor((3, 4)), "min": 0, "max": 1, "out": Tensor((3, 4))},
        {"elementwise": 24},
        "two bounds for each of 12 elements",
    ),
]
