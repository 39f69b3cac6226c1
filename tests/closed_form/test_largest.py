"""The largest of several polynomials."""

from __future__ import annotations

import sympy
from hypothesis import given
from hypothesis import strategies as st

from flopratio.closed_form import Largest, Polynomial

X, Y = Polynomial.of("x"), Polynomial.of("y")
SEVERAL = Largest((X * X + Y, X * 10, Y * 3 + 1))


@given(st.integers(0, 30), st.integers(0, 30))
def test_it_is_the_largest_wherever_one_looks(x: int, y: int) -> None:
    values = {"x": x, "y": y}
    expected = max(x * x + y, 10 * x, 3 * y + 1)
    assert SEVERAL(values) == expected
    assert SEVERAL.leading(values)(values) == expected
    assert SEVERAL.substitute({"x": x})({"y": y}) == expected
    assert sympy.sympify(str(SEVERAL)).subs(values) == expected


def test_keys_and_what_is_left_of_them() -> None:
    assert SEVERAL.keys == {"x", "y"}
    assert SEVERAL.substitute({"x": 2}).keys == {"y"}
    same = Largest((X * 2, X + 3)).substitute({"x": 3})
    assert same == Largest((Polynomial.constant(6),))
    assert str(same) == "6"
