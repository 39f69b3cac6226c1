"""Closed forms beside the expressions of texts, as SymPy has them."""

from __future__ import annotations

from fnmatch import fnmatchcase
from math import lcm
from typing import Any

import sympy

from flopratio.closed_form import Polynomial
from flopratio.closed_form.polynomial import Floor
from flopratio.networks.analytic import analyse
from flopratio.networks.library import describe
from flopratio.report.formula.sympy_view import symbol, to_sympy
from flopratio.verbs.formula import ClosedForm

key = symbol
ceiling = sympy.ceiling


def difference(form: Polynomial, expression: Any) -> Any:
    """0, if they are the same."""
    return sympy.expand(to_sympy(form) - expression)


def part(form: ClosedForm, layers: str, quantity: str) -> Polynomial:
    """A quantity of the layers whose paths match a pattern."""
    parts = [of.get(quantity) for name, of in form.by("layer").items() if fnmatchcase(name, layers)]
    return sum((each for each in parts if each is not None), Polynomial({}))


def period(form: Polynomial) -> int:
    """After how much its floors repeat."""
    floors = (atom for atom in form.atoms if isinstance(atom, Floor))
    return lcm(*(floor.divisor * period(floor.numerator) for floor in floors))


def same_as_the_formulas(form: ClosedForm) -> None:
    """All that the formulas tell of a built-in network, they tell of symbols too, and the same."""
    sizes = {name: key(name) for name in form.keys}
    analysis = analyse(describe(form.model, **{**form.settings, **sizes}))
    backward = ("grad_input", "grad_weight")
    expected = {name: analysis.total(name) for name in ("forward", *backward)}
    expected["elementwise_forward"] = analysis.total("forward", of="elementwise")
    expected["elementwise_backward"] = sum(
        analysis.total(name, of="elementwise") for name in backward
    )
    expected["saved_bytes"] = analysis.total("forward", of="saved_bytes")
    expected["parameters"] = sum(tensor.numel * times for _, tensor, times in analysis.parameters)
    for quantity, formula in expected.items():
        assert difference(form[quantity], formula) == 0, quantity
