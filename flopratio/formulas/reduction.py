"""Sums, means, maxima and their kin along dimensions, and running sums.

In the formulas N is the number of elements that go in, G the number of results (the groups), and n
= N / G the elements of one group; g is the gradient of the output. A sum adds each element into a
zeroed accumulator, N additions; a maximum is N comparisons.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flopratio.formulas.arithmetic import addition, modulus, multiplication, squared_modulus
from flopratio.formulas.formula import (
    EXAMPLES,
    Cost,
    Example,
    Gradient,
    OperatorFormula,
    Size,
    Tensor,
    operator,
)
from flopratio.formulas.pointwise import elementwise_gradients, maximum, minimum


def results(out: Tensor | tuple[Tensor, ...]) -> Tensor:
    """The result whose gradient is taken: of several (a maximum and its index), the first."""
    return out[0] if isinstance(out, tuple) else out


def mean_gradient(self: Tensor, out: Tensor) -> tuple[Gradient, ...]:
    """grad = g / n, for every element."""
    return elementwise_gradients("self", "div", self.numel)


def cumsum_gradient(self: Tensor, out: Tensor) -> tuple[Gradient, ...]:
    """grad = the sum of g from here to the end, a running sum again (of g flipped)."""
    return elementwise_gradients("self", "cumsum", self.numel)


def var_gradient(self: Tensor, out: Tensor) -> tuple[Gradient, ...]:
    """grad = (g * 2 / (n - 1)) * (x - mean(x)): the mean again, N + G; the difference, N; g times a
    number, G; their product, N."""
    n, groups = self.numel, out.numel
    return (
        Gradient("self", "aten.mean", elementwise=n + groups, saves=(self,)),
        Gradient("self", "aten.sub", elementwise=n),
        Gradient("self", "aten.mul", elementwise=groups),
        Gradient("self", "aten.mul", elementwise=n),
    )


def std_gradient(self: Tensor, out: Tensor) -> tuple[Gradient, ...]:
    """The gradient of var with g / (2 std) for g; where std is 0, 0: 3 a result."""
    chain = elementwise_gradients("self", "mul div eq", out.numel, out)
    return *chain, *var_gradient(self, out)


def amax_gradient(self: Tensor, out: Tensor) -> tuple[Gradient, ...]:
    """g is shared by all elements that equal the extremum: the comparison, N; how many they are, N;
    g / count, G; the product with the comparison's outcome, N."""
    n = self.numel
    return (
        Gradient("self", "aten.eq", elementwise=n, saves=(self, out)),
        Gradient("self", "aten.sum", elementwise=n),
        Gradient("self", "aten.div", elementwise=out.numel),
        Gradient("self", "aten.mul", elementwise=n),
    )


def logsumexp_gradient(self: Tensor, out: Tensor) -> tuple[Gradient, ...]:
    """grad = g * exp(x - out), the softmax."""
    return elementwise_gradients("self", "sub exp mul", self.numel, self, out)


def prod_gradient(self: Tensor, out: Tensor) -> tuple[Gradient, ...]:
    """How it is computed depends on how many elements are 0: only what it keeps is given."""
    return (Gradient("self", "", saves=(self, out)),)


def sum_gradient(self: Tensor, out: Tensor) -> tuple[Gradient, ...]:
    """g, repeated."""
    return (Gradient("self", ""),)


def keeping_input(self: Tensor, out: Tensor) -> tuple[Gradient, ...]:
    """Where it was not a number there is no gradient."""
    return (Gradient("self", "", saves=(self,)),)


def no_gradient(self: Tensor, out: Tensor) -> tuple[Gradient, ...]:
    """There is none, or its chain is left to a trace."""
    return ()


Gradients = Callable[[Tensor, Tensor], tuple[Gradient, ...]]

REDUCTIONS: tuple[tuple[str, int, int, str, Gradients], ...] = (
    ("sum", 1, 0, "one addition an element", sum_gradient),
    ("nansum", 2, 0, "a selection against nan and an addition", keeping_input),
    ("mean", 1, 1, "the sum, then a division a result", mean_gradient),
    ("cumsum cumsum_", 1, 0, "one addition an element", cumsum_gradient),
    ("amax amin", 1, 0, "one comparison an element", amax_gradient),
    ("argmax argmin", 1, 0, "one comparison an element", no_gradient),
    ("_cummax_helper _cummin_helper", 1, 0, "one comparison an element", no_gradient),
    ("all any _is_all_true _is_any_true", 1, 0, "one operation on truth values", no_gradient),
    ("count_nonzero", 2, 0, "a comparison and an addition", no_gradient),
    ("logsumexp", 4, 2, "maximum m, x - m, exp, sum: 4; log, and + m: 2", logsumexp_gradient),
    ("logcumsumexp", 8, 0, "logaddexp with the running result", prod_gradient),
    ("_logcumsumexp", 8, 0, "logaddexp with the running result", no_gradient),
    ("hash_tensor", 1, 0, "one operation on bits an element", no_gradient),
)
"""Operators, FLOP for each element in, FLOP for each result, why, and how autograd computes the
gradient, of self and (the first) result."""


def reduction(per_element: int, per_result: int, gradients: Gradients) -> OperatorFormula:
    """The formula of an operator of ``REDUCTIONS``."""

    def formula(self: Tensor, *arguments: Any, out: Any, **options: Any) -> Cost:
        if out is None:  # what it computes is written over an argument
            return Cost(elementwise=per_element * self.numel)
        return Cost(
            elementwise=per_element * self.numel + per_result * results(out).numel,
            gradients=gradients(self, results(out)),
        )

    return formula


for _names, _per_element, _per_result, _, _gradients in REDUCTIONS:
    for _name in _names.split():
        operator(f"aten.{_name}")(reduction(_per_element, _per_result, _gradients))


@operator("aten.prod", "aten.cumprod", knows_complex=True)
def product(self: Tensor, *arguments: Any, out: Tensor, **options: Any) -> Cost:
    """One multiplication an element."""
    return Cost(
        elementwise=multiplication(self, self) * self.numel, gradients=prod_gradient(self, out)
    )


@operator("aten.cumprod_", knows_complex=True)
def running_product(self: Tensor, *arguments: Any, out: Tensor, **options: Any) -> Cost:
    return Cost(elementwise=multiplication(self, self) * self.numel)


def spread(roots: int, gradients: Gradients) -> OperatorFormula:
    """The formula of the variance, and of its root."""

    def formula(self: Tensor, *arguments: Any, out: Any, **options: Any) -> Cost:
        """The mean: an addition an element, a division a result. Then x - mean, squared (abs(x -
        mean) ** 2 of complex numbers), and summed; divided, a division a result; roots."""
        result = results(out)
        twice = addition(self, self)
        return Cost(
            elementwise=(2 * twice + squared_modulus(self) + 1) * self.numel
            + (twice + 1 + roots) * result.numel,
            gradients=gradients(self, result),
        )

    return formula


for _names, _roots, _gradients in (
    ("var var_mean", 0, var_gradient),
    ("std", 1, std_gradient),
    ("std_mean", 1, std_gradient),
):
    for _name in _names.split():
        operator(f"aten.{_name}", knows_complex=True)(spread(_roots, _gradients))


def extremum_with_index(self: Tensor, out: Any) -> Cost:
    """One comparison an element. Along a dimension the index comes with the value, and g is written
    where it points."""
    if isinstance(out, tuple):
        gradient = Gradient("self", "aten.scatter", saves=(out[1],))
    else:  # shared by all that equal it
        gradient = Gradient("self", "", saves=(self, out))
    return Cost(elementwise=self.numel, gradients=(gradient,))


@operator("aten.trace")
def trace(self: Tensor, *, out: Tensor) -> Cost:
    """The sum of the diagonal: an addition for each of its elements, of which the shorter side has
    as many. The gradient writes g there."""
    rows, columns = self.shape
    diagonal = columns if bool(rows > columns) else rows
    return Cost(elementwise=diagonal, gradients=(Gradient("self", "aten.index_fill_"),))


@operator("aten.renorm", "aten.renorm_", knows_complex=True)
def renorm(self: Tensor, p: Any, dim: int, maxnorm: Any, *, out: Tensor) -> Cost:
    """Each slice along ``dim`` whose p-norm exceeds a bound scaled down to it: its norm; a
    comparison, an addition (of a small number) and a division a slice; a multiplication an
    element. How the gradient is computed is long: only what it keeps is given."""
    slices = self.shape[dim]
    return Cost(
        elementwise=norm_flops(self.numel, slices, p, self)
        + 3 * slices
        + multiplication(self, 1) * self.numel,
        gradients=(Gradient("self", "", saves=(self,)),),
    )


@operator("aten.cummax", "aten.cummin")
def running_extremum(self: Tensor, dim: int, *, out: Any) -> Cost:
    """The largest (smallest) so far: one comparison an element. g is added where the index points;
    torch keeps self as well, for its shape."""
    gradient = Gradient("self", "aten.scatter_add_", elementwise=self.numel, saves=(self, out[1]))
    return Cost(elementwise=self.numel, gradients=(gradient,))


@operator("aten.max")
def max_reduction(self: Tensor, dim: Any = None, *rest: Any, out: Any, **options: Any) -> Cost:
    """The largest of all, or along a dimension; of two tensors (``max.other``), ``maximum``."""
    other = options.get("other", dim)
    if isinstance(other, Tensor):
        return maximum(self, other, out=out)
    return extremum_with_index(self, out)


@operator("aten.min")
def min_reduction(self: Tensor, dim: Any = None, *rest: Any, out: Any, **options: Any) -> Cost:
    """The smallest of all, or along a dimension; of two tensors (``min.other``), ``minimum``."""
    other = options.get("other", dim)
    if isinstance(other, Tensor):
        return minimum(self, other, out=out)
    return extremum_with_index(self, out)


def norm_flops(elements: Size, groups: Size, order: Any, numbers: Tensor | None = None) -> Size:
    """FLOP of the norm (sum of abs(x) ** p) ** (1 / p) of each group, of real numbers unless these
    are complex.

    - p = 2: x x and the sum, 2 an element; a square root a group.
    - p = 1, infinity: abs(x) and the sum (the maximum, the minimum), 2 an element.
    - p = 0: x != 0 and the sum, 2 an element.
    - any other: abs(x), its power and the sum, 3 an element; the root a group.
    """
    if order in (2, None):
        return (squared_modulus(numbers) + 1) * elements + groups
    if order == 0:
        return 2 * elements
    if order in (1, float("inf"), float("-inf")):
        return (modulus(numbers) + 1) * elements
    return (modulus(numbers) + 2) * elements + groups


def norm_cost(self: Tensor, order: Any, out: Tensor) -> Cost:
    """out = the norm of each group, of the order p.

    For p = 2, grad = g * (x / out), 0 where out is 0: N divisions, G comparisons, N
    multiplications. For p = 1, grad = sgn(x) * g.
    """
    n, groups = self.numel, out.numel
    gradients: tuple[Gradient, ...] = ()
    if order in (2, None):
        gradients = (
            Gradient("self", "aten.div", elementwise=n, saves=(self, out)),
            Gradient("self", "aten.eq", elementwise=groups),
            Gradient("self", "aten.mul", elementwise=n),
        )
    elif order == 1:
        gradients = elementwise_gradients("self", "sgn mul", n, self, out)
    else:
        gradients = (Gradient("self", "", saves=(self, out)),)
    return Cost(elementwise=norm_flops(n, groups, order, self), gradients=gradients)


@operator("aten.linalg_vector_norm", knows_complex=True)
def vector_norm(self: Tensor, ord: Any = 2, *arguments: Any, out: Tensor, **options: Any) -> Cost:
    return norm_cost(self, ord, out)


@operator("aten.norm", "aten.native_norm", knows_complex=True)
def norm(self: Tensor, p: Any = 2, *arguments: Any, out: Tensor, **options: Any) -> Cost:
    return norm_cost(self, p, out)


@operator("aten.aminmax", "aten._aminmax")
def aminmax(self: Tensor, *arguments: Any, out: tuple[Tensor, Tensor], **options: Any) -> Cost:
    """Both extrema: two comparisons an element."""
    gradients = (Gradient("self", "", saves=(self, *out)),)
    return Cost(elementwise=2 * self.numel, gradients=gradients)


@operator("aten.linalg__powsum", knows_complex=True)
def powsum(self: Tensor, ord: Any = 2, *arguments: Any, out: Tensor, **options: Any) -> Cost:
    """The sum of abs(x) ** p of each group: a norm without its root."""
    groups = 0 if ord in (0, 1, float("inf"), float("-inf")) else out.numel
    return Cost(
        elementwise=norm_flops(self.numel, out.numel, ord, self) - groups,
        gradients=(Gradient("self", "", saves=(self, out)),),
    )


@operator("aten.dist", knows_complex=True)
def dist(self: Tensor, other: Tensor, p: Any = 2, *, out: Tensor) -> Cost:
    """The norm of x - y; both are kept, and the result."""
    larger = self if len(self.shape) > len(other.shape) else other
    n = larger.numel
    kept = (self, other, out)
    return Cost(
        elementwise=addition(self, other) * n + norm_flops(n, 1, p, self),
        gradients=(Gradient("self", "", saves=kept), Gradient("other", "", saves=kept)),
    )


@operator("aten.equal")
def equal(self: Tensor, other: Tensor, *, out: bool) -> Cost:
    """Whether two tensors agree everywhere: one comparison an element."""
    return Cost(elementwise=self.numel)


EXAMPLES += [
    Example(
        "aten.sum",
        {"self": Tensor((4, 6)), "dim": (0,), "out": Tensor((6,))},
        {"flops": 0, "elementwise": 24},
        "each of 24 elements is added to an accumulator",
    ),
    Example(
        "aten.mean",
        {"self": Tensor((4, 6)), "dim": (1,), "out": Tensor((4,))},
        {"elementwise": 28},
        "24 additions, 4 divisions",
    ),
    Example(
        "aten.var",
        {"self": Tensor((4, 6)), "dim": (1,), "out": Tensor((4,))},
        {"elementwise": 104},
        "24 elements: + for the mean, -, *, +: 96; 4 rows, 2 divisions each: 8; 104",
    ),
]
