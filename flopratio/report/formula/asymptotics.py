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
    top = smooth(forward)
    for key in keys:
        degree = int(sympy.degree(top, symbol(key)))
        word = ORDINALS.get(degree, f"is of degree {degree} in")
        if degree:
            leading = sympy.factor(sympy.LC(top, symbol(key))) * symbol(key) ** degree
            yield f"forward {word} {letter[key]}: it goes with {written(leading)}"
        else:
            yield f"forward {word} {letter[key]}"
    if not backward:
        return
    for key in keys:
        limit = _limit(smooth(backward), top, key)
        yield f"lim {letter[key]}→∞ backward/forward = {written(limit)}"
    if update:
        both = smooth(backward) + smooth(update)
        for key in keys:
            limit = _limit(both, top, key)
            yield f"lim {letter[key]}→∞ (backward + update)/forward = {written(limit)}"


def _limit(above: Any, below: Any, key: str) -> Any:
    """Of a quotient of polynomials as one symbol grows."""
    x = symbol(key)
    up, down = int(sympy.degree(above, x)), int(sympy.degree(below, x))
    if up > down:
        return sympy.oo
    if up < down:
        return sympy.Integer(0)
    return sympy.factor(sympy.cancel(sympy.LC(above, x) / sympy.LC(below, x)))
