"""Functions of the residue class of a quotient, as polynomials in floors.

Of q and a fixed k, gcd(q, k) is one of the divisors of k, and tells the classes mod k apart that
matter where something is divided into k. On each such class a function may be another polynomial.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from flopratio.closed_form.polynomial import Polynomial, floor_of, polynomial_sum


class Quotient(NamedTuple):
    """floor((x + offset) / period) of a KEY x."""

    key: str
    period: int
    offset: int

    @property
    def polynomial(self) -> Polynomial:
        whole, offset = divmod(self.offset, self.period)
        return floor_of(Polynomial.of(self.key) + offset, self.period) + whole

    def divided_by(self, divisor: int) -> Polynomial:
        """1 where a number divides it, else 0: the floor less the ceiling of their quotient, plus
        1."""
        x, period = Polynomial.of(self.key), self.period * divisor
        offset = self.offset % period
        down = floor_of(x + offset, period)
        if offset >= self.period:
            return down - floor_of(x + (offset - self.period), period)
        return down - floor_of(x + (offset + period - self.period), period) + 1

    def by_common_divisor(self, modulus: int, function: Callable[[int], Polynomial]) -> Polynomial:
        """What is one function at each greatest common divisor of it and a modulus k.

        It is the sum over all d that divide k of [d divides q] g(d), where the g(e) of all e that
        divide d sum up to the function at d (Möbius's inversion).

        Args:
            function: by the divisor.
        """
        parts: dict[int, Polynomial] = {}
        for d in range(1, modulus + 1):
            if modulus % d == 0:
                known = polynomial_sum(part for e, part in parts.items() if d % e == 0)
                parts[d] = function(d) - known
        return polynomial_sum(self.divided_by(d) * part for d, part in parts.items() if part)
