"""Operators on lists of tensors (``aten._foreach_add_``): the operator of one tensor, for each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flopratio.formulas.formula import OPERATORS, Cost, OperatorFormula, Tensor, operator
from flopratio.formulas.reduction import norm_flops, powsum

ON_EACH = """
    abs acos add addcdiv addcmul asin atan ceil clamp_max clamp_min cos cosh div erf erfc exp expm1
    floor frac lerp lgamma log log10 log1p log2 maximum minimum mul neg pow reciprocal round rsqrt
    sigmoid sign sin sinh sqrt sub tan tanh trunc
"""
"""Operators that there are for lists too, as results and in place."""


def on_each(name: str) -> OperatorFormula:
    """The sum of the operator's cost over the list. An argument that is a list of the same length
    has one entry for each tensor; any other is shared by all."""

    def formula(self: Any, *arguments: Any, out: Sequence[Tensor] | None, **factors: Any) -> Cost:
        results: Sequence[Tensor] = self if out is None else out  # in place there is no result

        def own(position: int) -> list[Any]:
            return [o[position] if isinstance(o, Sequence) else o for o in (self, *arguments)]

        costs = (
            OPERATORS[f"aten.{name}"](*own(position), **factors, out=result)
            for position, result in enumerate(results)
        )
        return Cost(elementwise=sum(cost.elementwise for cost in costs))

    return formula


for _name in ON_EACH.split():
    operator(f"aten._foreach_{_name}", f"aten._foreach_{_name}_", knows_complex=True)(
        on_each(_name)
    )


@operator("aten._foreach_max")
def foreach_max(self: Sequence[Tensor], *, out: Sequence[Tensor]) -> Cost:
    return Cost(elementwise=sum(tensor.numel for tensor in self))


@operator("aten._foreach_norm", knows_complex=True)
def foreach_norm(
    self: Sequence[Tensor], ord: Any = 2, dtype: object = None, *, out: Sequence[Tensor]
) -> Cost:
    return Cost(elementwise=sum(norm_flops(tensor.numel, 1, ord, tensor) for tensor in self))


@operator("aten._foreach_powsum", knows_complex=True)
def foreach_powsum(self: Sequence[Tensor], ord: Any = 2, dtype: object = None, *, out: Any) -> Cost:
    """A norm without its root, of each."""
    one = Tensor(())
    return Cost(elementwise=sum(powsum(tensor, ord, out=one).elementwise for tensor in self))


@operator("aten._amp_update_scale", "aten._amp_update_scale_")
def update_scale(self: Tensor, growth_tracker: Tensor, *settings: Any, out: Any) -> Cost:
    """Gradient scaling, once a step: was any infinite? Then the scale is times its backoff; else
    the steps without are counted, and after so many it is times its growth. Which of both is in a
    value; a comparison, an addition (or nothing), a comparison and a multiplication, 4."""
    return Cost(elementwise=4 * self.numel)


@operator(
    "aten._amp_foreach_non_finite_check_and_unscale",
    "aten._amp_foreach_non_finite_check_and_unscale_",
)
def unscale(self: Sequence[Tensor], found_inf: Tensor, inv_scale: Tensor, *, out: Any) -> Cost:
    """Gradient scaling: each gradient is compared with infinity and multiplied by 1 / scale."""
    return Cost(elementwise=sum(2 * tensor.numel for tensor in self))
