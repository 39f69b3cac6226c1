"""Linear equations, solved exactly."""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence
from fractions import Fraction
from math import gcd, lcm
from typing import NamedTuple


class Solution(NamedTuple):
    """What some equations say of their unknowns.

    Args:
        values: of the unknowns; None if the equations contradict each other. Where they don't
            determine an unknown, it is 0.
        rank: how many unknowns they determine, or did before the first contradiction.
    """

    values: list[Fraction] | None
    rank: int


def solve(equations: Sequence[Sequence[Fraction | int]], results: Sequence[int]) -> Solution:
    """Elimination in whole numbers, one equation after the other, up to the first contradiction.

    Args:
        equations: the coefficients of each.
    """
    unknowns = len(equations[0]) if equations else 0
    echelon: list[tuple[int, list[int]]] = []  # the column of a row's first coefficient, and it
    for equation, result in zip(equations, results, strict=True):
        row = _whole((*equation, result))
        for column, other in echelon:
            if factor := row[column]:
                pivot = other[column]
                row = _reduced([a * pivot - b * factor for a, b in zip(row, other, strict=True)])
        first = next((i for i, value in enumerate(row) if value), None)
        if first == unknowns:
            return Solution(None, len(echelon))
        if first is not None:
            insort(echelon, (first, row))
    values = [Fraction(0)] * unknowns
    for column, row in reversed(echelon):
        rest = sum(row[i] * values[i] for i in range(column + 1, unknowns))
        values[column] = (row[-1] - rest) / Fraction(row[column])
    return Solution(values, len(echelon))


def _whole(row: Sequence[Fraction | int]) -> list[int]:
    """The row times what makes it whole, and as small as it can be."""
    common = lcm(*(value.denominator for value in row))
    return _reduced([int(value * common) for value in row])


def _reduced(row: list[int]) -> list[int]:
    factor = gcd(*row)
    return [value // factor for value in row] if factor > 1 else row
