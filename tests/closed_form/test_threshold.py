"""The largest value within a bound."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flopratio.closed_form import Polynomial
from flopratio.closed_form.polynomial import floor_of
from flopratio.closed_form.threshold import largest_within, never_falls

x = Polynomial.of("x")


@pytest.mark.parametrize(
    ("form", "rises"),
    [
        (x**2 * 3 + 5, True),
        (x**2 - x, True),  # from 2 on
        (x * 10 - x**2, False),
        ((floor_of(x + 3, 4) - 1) ** 2, True),
        (floor_of(x, 4) - x, False),
        (floor_of(floor_of(x, 4) ** 2 + 1, 8) * 3, True),
        (x + floor_of(x * 7 - x**2, 8), False),  # what is rounded falls in the end
        (Polynomial.constant(7), True),
    ],
)
def test_what_never_falls(form: Polynomial, rises: bool) -> None:
    assert never_falls(form, "x", 2) == rises


@given(
    st.integers(0, 9),
    st.integers(1, 9),
    st.integers(0, 10**6),
    st.integers(2, 9),
    st.integers(1, 7),
)
@settings(max_examples=20, deadline=None)
def test_the_largest_is_the_last(a: int, b: int, more: int, start: int, step: int) -> None:
    form = x**2 * a + floor_of(x, 3) * b + x
    limit = Fraction(form({"x": start})) + more
    found = largest_within(form, "x", limit, start, step)
    assert (found - start) % step == 0
    assert form({"x": found}) <= limit < form({"x": found + step})


@pytest.mark.parametrize("steps", range(9))
def test_what_is_exactly_the_limit_is_within_it(steps: int) -> None:
    value = 2 + 3 * steps
    assert largest_within(x**2, "x", Fraction(value**2), 2, 3) == value
