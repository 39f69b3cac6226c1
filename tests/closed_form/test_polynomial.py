"""Polynomials with rational coefficients, in KEYs and in floors."""

from __future__ import annotations

from fractions import Fraction

import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from flopratio.closed_form import Polynomial
from flopratio.closed_form.polynomial import floor_of

x, y = Polynomial.of("x"), Polynomial.of("y")


def test_arithmetic_is_that_of_rationals() -> None:
    form = (x + 1) ** 2 * Fraction(1, 2) - y * 3
    assert form({"x": 4, "y": 2}) == Fraction(25, 2) - 6
    assert form.denominator == 2
    assert form - form == Polynomial.constant(0)
    assert form.keys == {"x", "y"}


def test_floors_round_down_and_nest() -> None:
    tokens = floor_of(x, 16) ** 2 + 1
    rows = floor_of(tokens + 31, 32)
    assert rows({"x": 224}) == (14 * 14 + 1 + 31) // 32
    assert rows.substitute({"x": 224}) == Polynomial.constant(7)
    assert floor_of(x, 1) == x


def test_substitution_leaves_the_other_keys() -> None:
    form = x * y + floor_of(x + y, 4)
    assert form.substitute({"y": 3})({"x": 6}) == form({"x": 6, "y": 3})
    assert form.substitute({"y": 3}).keys == {"x"}


@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(0, 3), st.integers(0, 3)), max_size=5))
@settings(max_examples=10, deadline=None)
def test_sympy_reads_what_is_written(terms: list[tuple[int, int, int]]) -> None:
    form = sum(((x**a) * (y**b) * c for c, a, b in terms), Polynomial.constant(0))
    form = form + floor_of(x + 3, 4) * y
    values = {"x": 13, "y": 7}
    assert sympy.sympify(str(form)).subs(values) == form(values)
