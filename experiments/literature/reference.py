"""Published figures as they were printed, and how a count is compared with them."""

from __future__ import annotations

import csv
import re
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from pathlib import Path

REFERENCE = Path(__file__).parents[2] / "tests" / "reference"


def rows(name: str) -> list[dict[str, str]]:
    """The rows of ``tests/reference/NAME.csv``, every figure as it was printed."""
    with (REFERENCE / f"{name}.csv").open() as file:
        return list(csv.DictReader(file))


def rounded(value: int | Fraction, printed: str) -> Decimal:
    """A value rounded half up at the last digit printed: 20850 is 2.09E+4 by "1.90E+04"."""
    fraction = Fraction(value)
    exact = Decimal(fraction.numerator) / Decimal(fraction.denominator)
    return exact.quantize(Decimal(printed), ROUND_HALF_UP)


def evaluate(formula: str, **sizes: int) -> int:
    """A printed formula of some sizes, a multiplication sign between neighbours: ``5as + 24h``."""
    names = "|".join(sorted(sizes, key=len, reverse=True))
    operand = rf"{names}|\d+"
    tokens = re.findall(rf"{operand}|\S", formula)
    for left in reversed(range(len(tokens) - 1)):
        if all(re.fullmatch(operand, token) for token in tokens[left : left + 2]):
            tokens.insert(left + 1, "*")
    value: int = eval("".join(tokens), {}, sizes)
    return value
