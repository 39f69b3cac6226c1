"""The answer of ``formula --solve`` as people and programs read it."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import sympy

from flopratio.closed_form import Floor
from flopratio.report.formula.sympy_view import smooth, symbol
from flopratio.report.formula.text import pretty, sympy_text
from flopratio.verbs.formula.result import ClosedForm
from flopratio.verbs.formula.solve import Solution


def root(solution: Solution) -> Any:
    """Where the quantity is just that: the real solution, without rounding inside of the form."""
    x = symbol(solution.key)
    limit = sympy.Rational(solution.limit.numerator, solution.limit.denominator)
    plain = sympy.Symbol(solution.key)
    equation = sympy.Poly((smooth(solution.form) - limit).subs(x, plain), plain)
    return max(sympy.real_roots(equation))


def lines(closed: ClosedForm, solution: Solution) -> Iterator[str]:
    key, quantity = solution.key, solution.quantity
    settings = " ".join(f"{name}={value}" for name, value in closed.settings.items())
    what = f"{closed.model} {settings}".rstrip()
    yield f"{what}: {quantity} at most {_number(solution.limit)}"
    yield ""
    yield f"{quantity} = {pretty(solution.form)}"
    rounds = any(isinstance(atom, Floor) for atom in solution.form.atoms)
    without = ", were nothing rounded in it" if rounds else ""
    yield f"{key} = {sympy.N(root(solution), 12)} as a real number{without}"
    if solution.step > 1:
        yield (
            f"{key} goes in steps of {solution.step:,}: values between are refused, or other "
            "operators run with them"
        )
    yield ""
    rows = ((solution.value, solution.there), (solution.following, solution.beyond))
    width = max(len(f"{value:,}") for value, _ in rows)
    digits = max(len(f"{figure:,}") for _, figure in rows)
    for (value, figure), word in zip(rows, ("the largest", "the next"), strict=True):
        traced = ", as a fresh trace has it" if value in solution.traced else ""
        yield f"{key} = {value:>{width},}: {quantity} = {figure:>{digits},}, {word}{traced}"


def document(closed: ClosedForm, solution: Solution) -> dict[str, Any]:
    return {
        "schema": "flopratio.formula_solution/1",
        "model": closed.model,
        "settings": dict(closed.settings),
        "convention": dict(closed.convention),
        "versions": dict(closed.versions),
        "quantity": solution.quantity,
        "limit": int(limit) if (limit := solution.limit).denominator == 1 else float(limit),
        "key": solution.key,
        "form": sympy_text(solution.form),
        "real": float(exact := root(solution)),
        "exact": str(exact),
        "largest": solution.value,
        "there": solution.there,
        "next": solution.following,
        "at_next": solution.beyond,
        "step": solution.step,
        "traced": list(solution.traced),
    }


def _number(limit: Fraction) -> str:
    return f"{limit.numerator:,}" if limit.denominator == 1 else f"{float(limit):,}"
