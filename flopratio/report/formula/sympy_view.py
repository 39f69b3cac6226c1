"""Closed forms as SymPy expressions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sympy

from flopratio.closed_form import Floor, Polynomial
from flopratio.closed_form.polynomial import Atom


def symbol(key: str) -> Any:
    """The symbol of a KEY: a whole number from 1 on."""
    return sympy.Symbol(key, integer=True, positive=True)


def to_sympy(form: Polynomial, names: Mapping[str, str] | None = None) -> Any:
    """The form, expanded; what is rounded up is a ceiling.

    Args:
        names: other names for KEYs.
    """
    names = names or {}
    total = sympy.Integer(0)
    for monomial, coefficient in form.terms.items():
        product = sympy.Rational(coefficient.numerator, coefficient.denominator)
        for atom, power in monomial:
            product *= _atom(atom, names) ** power
        total += product
    return total


def _atom(atom: Atom, names: Mapping[str, str]) -> Any:
    if isinstance(atom, str):
        return symbol(names.get(atom, atom))
    added, rest = up_to(atom)
    function = sympy.ceiling if added else sympy.floor
    return function(to_sympy(rest, names) / atom.divisor)


def up_to(floor: Floor) -> tuple[bool, Polynomial]:
    """Whether a floor rounds up, as floor((n + p - 1) / p) does, and of what."""
    constant = int(floor.numerator.terms.get((), 0))
    if constant > 0 and constant % floor.divisor == floor.divisor - 1:
        return True, floor.numerator - (floor.divisor - 1)
    return False, floor.numerator


def factored(form: Polynomial, names: Mapping[str, str] | None = None) -> Any:
    """The form as a product, as far as it is one; each floor counts as a symbol."""
    expression = to_sympy(form, names)
    floors = sorted(expression.atoms(sympy.floor, sympy.ceiling), key=str)
    stand_ins = {each: sympy.Dummy(f"q{i}") for i, each in enumerate(floors)}
    product = sympy.factor_terms(sympy.factor(expression.xreplace(stand_ins)))
    return product.xreplace({stand_in: each for each, stand_in in stand_ins.items()})


def smooth(form: Polynomial, key: str | None = None) -> Any:
    """The form without rounding: what it comes to at large sizes.

    Args:
        key: which grows; what others are rounded to stays. All unless given.
    """
    expression = to_sympy(form)

    def rounded() -> dict[Any, Any]:
        found = expression.atoms(sympy.floor, sympy.ceiling)
        return {
            each: each.args[0] for each in found if key is None or symbol(key) in each.free_symbols
        }

    while replaced := rounded():
        expression = expression.xreplace(replaced)
    return sympy.expand(expression)
