"""What XLA's ``cost_analysis`` counts of a jaxpr beside its contractions, by its own rules (those
of ``HloCostAnalysis``, before any optimization), so that its total is explained to the integer."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import jax

from experiments.arbiters.jaxpr import Convolution, Met, equations, flops

ONE_AN_ELEMENT = {
    "add",
    "add_any",
    "and",
    "clamp",
    "convert_element_type",
    "div",
    "eq",
    "ge",
    "gt",
    "le",
    "lt",
    "max",
    "min",
    "mul",
    "ne",
    "neg",
    "not",
    "or",
    "select_n",
    "square",
    "sub",
}
"""One FLOP for each element of the result, comparisons and choices included."""

NONE = {
    "broadcast_in_dim",
    "concatenate",
    "copy",
    "custom_jvp_call",
    "dynamic_slice",
    "exp",
    "gather",
    "iota",
    "jit",
    "log",
    "pad",
    "pjit",
    "reshape",
    "rev",
    "rsqrt",
    "slice",
    "split",
    "sqrt",
    "squeeze",
    "stop_gradient",
    "tanh",
    "transpose",
}
"""No FLOP: what moves, what holds others, and transcendental functions, which XLA counts apart."""

EXACT_BELOW = 2**24
"""XLA adds in float32, which has all integers up to here."""


@dataclass(frozen=True)
class Explanation:
    """What XLA's figure is made of.

    Args:
        contractions: the convention of the ledger, of loops that run to their end.
        padding: of these, taps on the padding of convolutions, which XLA leaves out.
        loops: what is left after the first round of loops, which XLA counts once.
        elementwise: what XLA counts beside contractions.
    """

    contractions: int
    padding: int
    loops: int
    elementwise: int

    @property
    def total(self) -> int:
        return self.contractions - self.padding - self.loops + self.elementwise


def cost_analysis(function: Any, shapes: Any) -> int:
    """The FLOP that XLA tells of a function, before it is optimized."""
    return int(jax.jit(function).lower(*shapes).cost_analysis()["flops"])


def explain(jaxpr: Any) -> Explanation:
    contractions = padding = loops = elementwise = 0
    constants: set[Any] = set()
    for met in equations(jaxpr):
        if _is_folded(met.equation, constants):
            constants.update(met.equation.outvars)
            continue
        once = flops(met)
        contractions += met.times * once
        loops += (met.times - 1) * once
        if met.primitive == "conv_general_dilated":
            on_padding = once - Convolution.of(met.equation).flops_on_data
            padding += on_padding * met.times
            loops -= on_padding * (met.times - 1)
        elementwise += elementwise_flops(met)
    return Explanation(contractions, padding, loops, elementwise)


def _is_folded(equation: Any, constants: set[Any]) -> bool:
    """Whether the result is one number that is known before anything is counted."""
    known = all(hasattr(each, "val") or each in constants for each in equation.invars)
    return known and equation.invars and all(not each.aval.shape for each in equation.outvars)


def elementwise_flops(met: Met) -> int:
    """FLOP that XLA finds in one equation that is no contraction.

    Raises:
        NotImplementedError: a primitive without a rule.
    """
    name, equation = met.primitive, met.equation
    out = prod(equation.outvars[0].aval.shape) if equation.outvars else 0
    if name in ("dot_general", "conv_general_dilated"):
        return 0
    if name == "scan":
        # The counter's comparison and addition; backwards, what it is subtracted from.
        return 4 if equation.params["reverse"] else 2
    if name == "logistic":  # 1 / (1 + exp(-x))
        return 3 * out
    if name in NONE:
        return 0
    if name in ONE_AN_ELEMENT:
        return out
    if name == "integer_pow":  # by repeated squaring, and one division if it is below the line
        power = abs(equation.params["y"])
        squarings, products = power.bit_length() - 1, power.bit_count() - 1
        return out * (squarings + products + (equation.params["y"] < 0))
    if name in ("reduce_sum", "reduce_max"):
        return prod(equation.invars[0].aval.shape) - out
    if name == "reduce_window_max":
        return out * (prod(equation.params["window_dimensions"]) - 1)
    if name == "select_and_scatter_add":
        # For each window a search of the largest, and one addition.
        return prod(equation.invars[0].aval.shape) * prod(equation.params["window_dimensions"])
    if name == "scatter-add":
        return prod(equation.invars[2].aval.shape)
    raise NotImplementedError(f"what does XLA count of {name}?")
