"""Linear equations in whole numbers."""

from __future__ import annotations

from fractions import Fraction

import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from flopratio.closed_form.linear import solve

numbers = st.sampled_from((0, 0, 1, 2, -3, 7, Fraction(1, 2)))


@given(st.integers(1, 4).flatmap(lambda n: st.lists(st.lists(numbers, min_size=n, max_size=n))))
@settings(max_examples=40, deadline=None)
def test_what_solves_them_is_found(equations: list[list[Fraction | int]]) -> None:
    unknowns = len(equations[0]) if equations else 0
    results = [int(2 * sum(a * (i + 1) for i, a in enumerate(row))) for row in equations]
    found = solve(equations, results)
    assert found.values is not None
    assert [sum(a * b for a, b in zip(row, found.values, strict=True)) for row in equations] == (
        results
    )
    rank = sympy.Matrix(equations).rank() if equations else 0
    assert found.rank == rank
    if rank == unknowns:
        assert found.values == [2 * (i + 1) for i in range(unknowns)]


def test_contradictions_are_seen() -> None:
    assert solve([[1, 1], [2, 2]], [3, 7]).values is None
    assert solve([[1, 1], [2, 2]], [3, 6]) == ([3, 0], 1)
    assert solve([[0, 0]], [1]).values is None
