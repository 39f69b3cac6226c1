"""Closed forms as text: on a terminal, in LaTeX, and as a function in Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sympy
from sympy.printing.str import StrPrinter

from flopratio.closed_form import Floor, Polynomial
from flopratio.report.formula.sympy_view import factored, symbol

LETTERS = {
    "batch": "B",
    "seq": "S",
    "image": "n",
    "depth": "L",
    "n_layer": "L",
    "num_hidden_layers": "L",
    "num_layers": "L",
    "layers": "L",
    "width": "d",
    "n_embd": "d",
    "hidden_size": "d",
    "d_model": "d",
    "vocab_size": "V",
    "classes": "C",
}
"""The letters that texts have for these KEYs."""

SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def letters(keys: Sequence[str]) -> dict[str, str]:
    """KEY -> its letter, if nothing else in the form has that."""
    chosen: dict[str, str] = {}
    for key in keys:
        letter = LETTERS.get(key, key)
        chosen[key] = key if letter in chosen.values() else letter
    return chosen


class _Pretty(StrPrinter):  # type: ignore[misc]  # which has no types
    """24·B·S·L·d² + 4·B·S²·L·d, the largest power first, with ⌈n/32⌉."""

    def _print_Add(self, expression: Any, order: Any = None) -> str:  # noqa: N802 - SymPy's
        terms = sorted(expression.args, key=_largest_first)
        text = ""
        for term in terms:
            negative = term.could_extract_minus_sign()
            written = self.parenthesize(-term if negative else term, 45)
            if text:
                text += (" - " if negative else " + ") + written
            else:
                text = ("-" if negative else "") + written
        return text

    def _print_Mul(self, expression: Any) -> str:  # noqa: N802 - SymPy's
        above, below = sympy.fraction(expression, exact=True)
        if below.free_symbols:
            return f"{self.parenthesize(above, 50, strict=True)}/{self.parenthesize(below, 50)}"
        coefficient, factors = expression.as_coeff_mul()
        ordered = sorted(
            factors, key=lambda factor: (bool(factor.args) and factor.is_Add, str(factor))
        )
        parts = [self.parenthesize(factor, 50) for factor in ordered]
        if coefficient == -1:
            return "-" + "·".join(parts)
        if coefficient != 1:
            parts.insert(0, self._number(coefficient))
        return "·".join(parts)

    def _print_Infinity(self, expression: Any) -> str:  # noqa: N802 - SymPy's
        return "∞"

    def _number(self, number: Any) -> str:
        return str(number) if number.is_Integer else f"({number})"

    def _print_Pow(self, expression: Any, rational: bool = False) -> str:  # noqa: N802
        base, exponent = expression.args
        if exponent.is_negative:
            return f"1/{self.parenthesize(1 / expression, 50)}"
        text: str = self.parenthesize(base, 60) + str(exponent).translate(SUPERSCRIPTS)
        return text

    def _print_ceiling(self, expression: Any) -> str:
        return f"⌈{self._quotient(expression.args[0])}⌉"

    def _print_floor(self, expression: Any) -> str:
        return f"⌊{self._quotient(expression.args[0])}⌋"

    def _quotient(self, quotient: Any) -> str:
        numerator, denominator = sympy.fraction(sympy.together(quotient))
        return f"{self.parenthesize(numerator, 50)}/{denominator}"


def _largest_first(term: Any) -> tuple[Any, ...]:
    coefficient, rest = term.as_coeff_Mul()
    powers = rest.as_powers_dict()
    degree = sum(int(p) for base, p in powers.items() if base.free_symbols and p.is_Integer)
    return -degree, -abs(coefficient), str(rest)


def pretty(form: Polynomial, names: Mapping[str, str] | None = None) -> str:
    """The form for people: factored, the largest term first."""
    text: str = _Pretty().doprint(factored(form, names))
    return text


def pretty_expression(expression: Any, names: Mapping[str, str] | None = None) -> str:
    """An expression in the symbols of KEYs for people, as it stands.

    Args:
        names: KEY -> its letter.
    """
    letter = {symbol(key): symbol(name) for key, name in (names or {}).items()}
    text: str = _Pretty().doprint(expression.xreplace(letter))
    return text


def latex(form: Polynomial, names: Mapping[str, str] | None = None) -> str:
    """The form in LaTeX, factored."""
    text: str = sympy.latex(factored(form, names), mul_symbol=r"\,")
    return text


def sympy_text(form: Polynomial) -> str:
    """The form as ``sympy.sympify`` reads it."""
    return str(factored(form)) if form else "0"


def python_expression(form: Polynomial) -> str:
    """The form as an expression of whole numbers in Python, exactly."""
    denominator = form.denominator
    terms = []
    for monomial, coefficient in form.terms.items():
        number = int(coefficient * denominator)
        factors = [_in_python(atom) + (f"**{p}" if p > 1 else "") for atom, p in monomial]
        if abs(number) != 1 or not factors:
            factors.insert(0, str(abs(number)))
        terms.append((number < 0, " * ".join(factors)))
    terms.sort()  # what is added first
    text = "".join((" - " if negative else " + ") + term for negative, term in terms).removeprefix(
        " + "
    )
    text = text.strip() or "0"
    return text if denominator == 1 else f"({text}) // {denominator}"


def _in_python(atom: str | Floor) -> str:
    if isinstance(atom, str):
        return atom.replace(".", "_")
    inner = python_expression(atom.numerator)
    return f"(({inner}) // {atom.divisor})"


def python_function(forms: Mapping[str, Polynomial], keys: Sequence[str], about: str) -> str:
    """A function of the KEYs that needs nothing but Python.

    Args:
        about: its first words.
    """
    arguments = ", ".join(f"{key.replace('.', '_')}: int" for key in keys)
    lines = [f"def step({arguments}) -> dict[str, int]:", f'    """{about}"""', "    return {"]
    lines += [f'        "{name}": {python_expression(form)},' for name, form in forms.items()]
    return "\n".join([*lines, "    }"])


def free_symbols(keys: Sequence[str]) -> list[Any]:
    return [symbol(key) for key in keys]
