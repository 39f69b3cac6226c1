"""Linear equations, solved exactly."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple


class Solution(NamedTuple):
    """What some equations say of their unknowns.

    Args:
        values: of the unknowns; None if the equations contradict each other. Where they don't
            determine an unknown, it is 0.
        rank: how many unknowns they determine.
    """

    values: list[Fraction] | None
    rank: int


def solve(equations: Sequence[Sequence[Fraction | int]], results: Sequence[int]) -> Solution:
    """Gauss-Jordan elimination over the rationals.

    Args:
        equations: the coefficients of each.
    """
    rows = [
        [Fraction(value) for value in (*equation, result)]
        for equation, result in zip(equations, results, strict=True)
    ]
    unknowns = len(equations[0]) if equations else 0
    pivots: list[int] = []
    for column in range(unknowns):
        top = len(pivots)
        found = next((i for i in range(top, len(rows)) if rows[i][column]), None)
        if found is None:
            continue
        rows[top], rows[found] = rows[found], rows[top]
        pivot = rows[top]
        inverse = 1 / pivot[column]
        rows[top] = pivot = [value * inverse for value in pivot]
        for index, row in enumerate(rows):
            if index != top and (factor := row[column]):
                rows[index] = [a - factor * b for a, b in zip(row, pivot, strict=True)]
        pivots.append(column)
    if any(row[-1] for row in rows[len(pivots) :]):
        return Solution(None, len(pivots))
    values = [Fraction(0)] * unknowns
    for row, column in zip(rows, pivots, strict=False):
        values[column] = row[-1]
    return Solution(values, len(pivots))
