"""What a closed form comes to as one size grows, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import sympy

from flopratio.closed_form import Polynomial
from flopratio.report.formula.sympy_view import smooth, symbol
from flopratio.report.formula.text import pretty_expression

ORDINALS = {0: "doesn't depend on", 1: "is linear in", 2: "is quadratic in", 3: "is cubic in"}


def sentences(
    forms: Mapping[str, Polynomial], keys: Sequence[str], names: Mapping[str, str] | None = None
) -> Iterator[str]:
    """The leading term in each KEY, and the limits of the ratios.

    Args:
        forms: of ``forward``, ``backward`` and ``update``, as far as there are such.
        names: KEY -> its letter; the KEYs themselves unless given.
    """
    letter = {key: (names or {}).get(key, key) for key in keys}

    def written(expression: Any) -> str:
        return pretty_expression(expression, letter)

    forward, backward, update = (forms.get(n) for n in ("forward", "backward", "update"))
    if not forward:
        return
    for key in keys:
        degree, factor = _leading(forward, key)
        word = ORDINALS.get(degree, f"is of degree {degree} in")
        if degree:
            leading = sympy.factor(factor) * symbol(key) ** degree
            yield f"forward {word} {letter[key]}: it goes with {written(leading)}"
        else:
            yield f"forward {word} {letter[key]}"
    if not backward:
        return
    for key in keys:
        limit = _limit(backward, forward, key)
        yield f"lim {letter[key]}→∞ backward/forward = {written(limit)}"
    if update:
        for key in keys:
            limit = _limit(backward + update, forward, key)
            yield f"lim {letter[key]}→∞ (backward + update)/forward = {written(limit)}"


def _leading(form: Polynomial, key: str) -> tuple[int, Any]:
    """The degree in a KEY, and what its highest power is multiplied by."""
    polynomial = sympy.Poly(smooth(form, key), symbol(key))
    return polynomial.degree(), polynomial.LC()


def _limit(above: Polynomial, below: Polynomial, key: str) -> Any:
    """Of a quotient as one symbol grows."""
    (up, numerator), (down, denominator) = _leading(above, key), _leading(below, key)
    if up > down:
        return sympy.oo
    if up < down:
        return sympy.Integer(0)
    return sympy.factor(sympy.cancel(numerator / denominator))
