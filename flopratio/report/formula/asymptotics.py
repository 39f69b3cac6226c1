"""What a closed form comes to as one size grows, in words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sympy

from flopratio.closed_form import Polynomial
from flopratio.report.formula.sympy_view import smooth, symbol

ORDINALS = {0: "doesn't depend on", 1: "is linear in", 2: "is quadratic in", 3: "is cubic in"}


def sentences(forms: dict[str, Polynomial], keys: tuple[str, ...]) -> Iterator[str]:
    """The leading term in each KEY, and the limits of the ratios.

    Args:
        forms: of ``forward``, ``backward`` and ``update``, as far as there are such.
    """
    forward, backward, update = (forms.get(n) for n in ("forward", "backward", "update"))
    if not forward:
        return
    top = smooth(forward)
    for key in keys:
        degree = int(sympy.degree(top, symbol(key)))
        word = ORDINALS.get(degree, f"is of degree {degree} in")
        if degree:
            leading = sympy.factor(sympy.LC(top, symbol(key)))
            factor = f"{leading}*{key}**{degree}" if degree > 1 else f"{leading}*{key}"
            yield f"forward {word} {key}: it goes with {_spaced(factor)}"
        else:
            yield f"forward {word} {key}"
    if not backward:
        return
    for key in keys:
        yield f"lim {key}→∞ backward/forward = {_spaced(str(_limit(smooth(backward), top, key)))}"
    if update:
        both = smooth(backward) + smooth(update)
        for key in keys:
            limit = _limit(both, top, key)
            yield f"lim {key}→∞ (backward + update)/forward = {_spaced(str(limit))}"


def _limit(above: Any, below: Any, key: str) -> Any:
    """Of a quotient of polynomials as one symbol grows."""
    x = symbol(key)
    up, down = int(sympy.degree(above, x)), int(sympy.degree(below, x))
    if up > down:
        return sympy.oo
    if up < down:
        return sympy.Integer(0)
    return sympy.factor(sympy.cancel(sympy.LC(above, x) / sympy.LC(below, x)))


def _spaced(text: str) -> str:
    return text.replace("**2", "²").replace("**3", "³").replace("*", "·").replace("oo", "∞")
