"""Polynomials with rational coefficients, in KEYs and in floors of such polynomials."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import lcm
from typing import Any, Union


@dataclass(frozen=True)
class Floor:
    """numerator / divisor, rounded down.

    Args:
        numerator: whole-numbered at whole numbers.
    """

    numerator: Polynomial
    divisor: int

    @cached_property
    def key(self) -> tuple[Any, ...]:
        """To sort by."""
        return 1, str(self.numerator), self.divisor

    def __str__(self) -> str:
        return f"floor(({self.numerator})/{self.divisor})"


Atom = Union[str, Floor]  # noqa: UP007 - Floor refers to it
"""What a polynomial is of: a KEY by its name, or a floor."""

Monomial = tuple[tuple[Atom, int], ...]
"""Atoms with their powers, sorted; the empty one is 1."""


def _key(atom: Atom) -> tuple[Any, ...]:
    return (0, atom, 0) if isinstance(atom, str) else atom.key


def _order(monomial: Monomial) -> list[Any]:
    return [(_key(atom), -power) for atom, power in monomial]


class Polynomial:
    """A polynomial; equal ones have equal terms, and may be used as keys.

    Args:
        terms: monomial -> coefficient; those of 0 are left out.
    """

    __slots__ = ("_hash", "_whole", "denominator", "terms")

    def __init__(self, terms: Mapping[Monomial, Fraction | int]) -> None:
        kept = ((monomial, Fraction(value)) for monomial, value in terms.items() if value)
        self.terms: dict[Monomial, Fraction] = dict(sorted(kept, key=lambda term: _order(term[0])))
        self._hash = hash(tuple(self.terms.items()))
        self.denominator = lcm(*(value.denominator for value in self.terms.values()))
        """The least common one of its coefficients."""
        self._whole = [
            (monomial, int(value * self.denominator)) for monomial, value in self.terms.items()
        ]

    @classmethod
    def constant(cls, value: Fraction | int) -> Polynomial:
        return cls({(): value})

    @classmethod
    def of(cls, atom: Atom) -> Polynomial:
        """A KEY, or a floor, alone."""
        return cls({((atom, 1),): 1})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Polynomial) and self.terms == other.terms

    def __hash__(self) -> int:
        return self._hash

    def __add__(self, other: Polynomial | Fraction | int) -> Polynomial:
        return polynomial_sum((self, _lifted(other)))

    __radd__ = __add__

    def __mul__(self, other: Polynomial | Fraction | int) -> Polynomial:
        terms: defaultdict[Monomial, Fraction] = defaultdict(Fraction)
        for left, a in self.terms.items():
            for right, b in _lifted(other).terms.items():
                terms[_times(left, right)] += a * b
        return Polynomial(terms)

    __rmul__ = __mul__

    def __neg__(self) -> Polynomial:
        return self * -1

    def __sub__(self, other: Polynomial | Fraction | int) -> Polynomial:
        return self + -_lifted(other)

    def __pow__(self, power: int) -> Polynomial:
        result = Polynomial.constant(1)
        for _ in range(power):
            result = result * self
        return result

    def __bool__(self) -> bool:
        return bool(self.terms)

    @property
    def atoms(self) -> tuple[Atom, ...]:
        """What its monomials are of."""
        seen = {atom for monomial in self.terms for atom, _ in monomial}
        return tuple(sorted(seen, key=_key))

    @property
    def keys(self) -> frozenset[str]:
        """The KEYs that it depends on."""
        found: set[str] = set()
        for atom in self.atoms:
            found |= {atom} if isinstance(atom, str) else atom.numerator.keys
        return frozenset(found)

    def __call__(self, values: Mapping[str, int]) -> Fraction:
        """The value, exactly.

        Args:
            values: of its KEYs; others are passed over.
        """
        known: dict[Atom, int] = {}
        total = 0
        for monomial, product in self._whole:
            for atom, power in monomial:
                if atom not in known:
                    known[atom] = _value(atom, values)
                product *= known[atom] ** power
            total += product
        return Fraction(total, self.denominator)

    def substitute(self, values: Mapping[str, int]) -> Polynomial:
        """The polynomial in the other KEYs, with values for some."""
        total: list[Polynomial] = []
        for monomial, coefficient in self.terms.items():
            product = Polynomial.constant(coefficient)
            for atom, power in monomial:
                product = product * _substituted(atom, values) ** power
            total.append(product)
        return polynomial_sum(total)

    def __str__(self) -> str:
        """As SymPy reads it."""
        return " + ".join(_written(*term) for term in self.terms.items()) or "0"

    def __repr__(self) -> str:
        return f"Polynomial({self})"


def polynomial_sum(polynomials: Iterable[Polynomial]) -> Polynomial:
    terms: defaultdict[Monomial, Fraction] = defaultdict(Fraction)
    for polynomial in polynomials:
        for monomial, value in polynomial.terms.items():
            terms[monomial] += value
    return Polynomial(terms)


def floor_of(numerator: Polynomial, divisor: int) -> Polynomial:
    """The floor of a quotient; nothing is rounded by 1."""
    return numerator if divisor == 1 else Polynomial.of(Floor(numerator, divisor))


def _lifted(value: Polynomial | Fraction | int) -> Polynomial:
    return value if isinstance(value, Polynomial) else Polynomial.constant(value)


def _times(left: Monomial, right: Monomial) -> Monomial:
    powers: defaultdict[Atom, int] = defaultdict(int)
    for atom, power in (*left, *right):
        powers[atom] += power
    return tuple(sorted(powers.items(), key=lambda item: _key(item[0])))


def _value(atom: Atom, values: Mapping[str, int]) -> int:
    if isinstance(atom, str):
        return values[atom]
    return int(atom.numerator(values) // atom.divisor)


def _substituted(atom: Atom, values: Mapping[str, int]) -> Polynomial:
    if isinstance(atom, str):
        return Polynomial.constant(values[atom]) if atom in values else Polynomial.of(atom)
    numerator = atom.numerator.substitute(values)
    if numerator.keys:
        return floor_of(numerator, atom.divisor)
    return Polynomial.constant(numerator({}) // atom.divisor)


def _written(monomial: Monomial, coefficient: Fraction) -> str:
    factors = [str(atom) + (f"**{power}" if power > 1 else "") for atom, power in monomial]
    if coefficient != 1 or not factors:
        written = str(coefficient)
        factors.insert(0, f"({written})" if coefficient.denominator > 1 else written)
    return "*".join(factors)


def monomials(polynomial: Polynomial) -> Iterator[Polynomial]:
    """Its monomials, each alone with the coefficient 1."""
    for monomial in polynomial.terms:
        yield Polynomial({monomial: 1})
