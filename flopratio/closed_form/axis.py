"""A function of one KEY from its values at a few points.

Tried in this order, the least that leaves a point over to hold it against:

1. a polynomial in x;
2. a polynomial in one floor((x + a) / p), as sizes that a stride or a multiple rounds;
3. x and such a floor q together: 1, x, x^2, q, x q, q^2;
4. a polynomial in the floor of a multiple of another such function (the tokens of an image, rounded
   up to 32).

Which p and a it is, further points must tell: :class:`Open` names those at which the candidates
that are left disagree most.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache, partial
from itertools import pairwise
from math import gcd
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from flopratio.closed_form.linear import solve
from flopratio.closed_form.polynomial import Polynomial, floor_of, polynomial_sum

Array = NDArray[Any]

HIGHEST_DEGREE = 4

PERIODS = (*range(2, 33), *range(56, 225, 28), 64, 128, 256)
"""Strides and the multiples that kernels and windows round to."""

MIXED_PERIODS = (2, 4, 7, 8, 14, 16, 28, 32, 56, 64, 112, 128, 224)
"""Those that are tried together with x: of windows and patches, which are padded."""

NESTED_PERIODS = (2, 4, 8, 16, 32, 64, 128)

BEFORE_FLOORS = 6
"""So many points are there before any but polynomials is tried: with fewer, too much fits."""

WITHOUT_FORM = 15
"""If nothing fits so many points, nothing fits more."""

COMPARED = 2048
"""At so many values candidates are held against each other, at most."""


@dataclass(frozen=True)
class Axis:
    """A KEY and the values that it may have.

    Args:
        base: its value where other KEYs are varied.
        values: all that it may have, ascending.
        verified: those of them at which a form is held against what is sampled; all unless given.
    """

    key: str
    base: int
    values: Sequence[int]
    verified: Sequence[int] = ()
    step: int = field(init=False)

    def __post_init__(self) -> None:
        steps = [b - a for a, b in zip(self.values, self.values[1:], strict=False)]
        object.__setattr__(self, "step", gcd(*steps) if steps else 1)

    def start(self) -> list[int]:
        """The first points: the base, its neighbour and one far away. A tight axis lies: at 8, 9
        and 11 everything that is rounded up to 32 is constant."""
        values = self.values
        place = next((i for i, value in enumerate(values) if value >= self.base), len(values) - 1)
        beside = place + 1 if place + 1 < len(values) else place - 1
        far = len(values) - 1 if place <= len(values) // 2 else 0
        picked = [self.base]
        for index in (beside, far):
            if 0 <= index < len(values) and values[index] not in picked:
                picked.append(values[index])
        return picked

    def spread(self, known: Collection[int]) -> Iterator[int]:
        """Its other values, in an order that is even at every length (by the golden section)."""
        number = len(self.values)
        for index in range(min(number, 4096) * 4):
            value = self.values[int((index + 1) * 0.6180339887498949 % 1 * number)]
            if value not in known:
                yield value

    def compared(self) -> Sequence[int]:
        """Values at which candidates are held against each other."""
        number = len(self.values)
        if number <= COMPARED:
            return self.values
        # Not at even distances, which a period could divide.
        return sorted(
            {self.values[int(i * 0.6180339887498949 % 1 * number)] for i in range(COMPARED)}
        )


class Open(NamedTuple):
    """No function yet.

    Args:
        wanted: further points, with how many candidates each would tell apart; none if there is no
            such function.
    """

    wanted: Counter[int]


def fit_axis(
    axis: Axis,
    xs: Sequence[int],
    values: Sequence[int],
    others: Iterable[Polynomial] = (),
) -> Polynomial | Open:
    """The function that has these values at these points, or where to look further.

    Args:
        others: functions of the same KEY, whose multiples may be what is rounded.
    """
    x = Polynomial.of(axis.key)
    found = _interpolated(x, xs, values)
    if found is not None:
        return found
    if len(xs) >= BEFORE_FLOORS:
        for family in (_floors, _mixed, partial(_nested, others=others)):
            survivors = _least(family(axis, xs, values))
            if survivors:
                return _told_apart(axis, xs, survivors)
    if len(xs) >= WITHOUT_FORM:
        return Open(Counter())
    following = next(axis.spread(xs), None)  # whatever point comes next
    return Open(Counter() if following is None else Counter({following: 1}))


class _Candidate(NamedTuple):
    """A function that fits all points.

    Args:
        degree: the least is the simplest.
        function: exactly.
        approximate: its values at an array of them, in floating point.
    """

    degree: int
    function: Polynomial
    approximate: Callable[[Array], Array]


def _least(candidates: Iterable[_Candidate]) -> list[_Candidate]:
    """Those of the least degree."""
    every = list(candidates)
    least = min((candidate.degree for candidate in every), default=0)
    return [candidate for candidate in every if candidate.degree == least]


def _told_apart(
    axis: Axis, xs: Sequence[int], candidates: Sequence[_Candidate]
) -> Polynomial | Open:
    """The only function, or the points at which the candidates differ."""
    if len(candidates) > 1:
        at = np.array([value for value in axis.compared() if value not in set(xs)], dtype=float)
        predicted = np.stack([candidate.approximate(at) for candidate in candidates])
        scale = np.abs(predicted).max() * 1e-9 + 1e-9
        ordered = np.sort(predicted, axis=0)
        several = 1 + (np.diff(ordered, axis=0) > scale).sum(axis=0)
        differ = {int(x): int(n) for x, n in zip(at, several, strict=True) if n > 1}
        if differ:
            return Open(Counter(differ))
    return candidates[0].function


def _interpolated(
    variable: Polynomial, xs: Sequence[int], values: Sequence[int]
) -> Polynomial | None:
    """The polynomial of the least degree through all points, if it leaves one over."""
    some = HIGHEST_DEGREE + 2
    coefficients = _newton(xs[:some], values[:some])
    degree = max((i for i, value in enumerate(coefficients) if value), default=0)
    if degree > HIGHEST_DEGREE or degree + 2 > len(xs):
        return None
    for x, value in zip(xs[some:], values[some:], strict=True):
        at = coefficients[degree]
        for index in range(degree - 1, -1, -1):  # Horner's scheme
            at = at * (x - xs[index]) + coefficients[index]
        if at != value:
            return None
    result = Polynomial.constant(coefficients[degree])
    for index in range(degree - 1, -1, -1):
        result = result * (variable - xs[index]) + coefficients[index]
    return result


def _newton(xs: Sequence[int], values: Sequence[int]) -> list[Fraction]:
    """Divided differences."""
    table = [Fraction(value) for value in values]
    for order in range(1, len(xs)):
        for index in range(len(xs) - 1, order - 1, -1):
            table[index] = (table[index] - table[index - 1]) / (xs[index] - xs[index - order])
    return table


def _degree(polynomial: Polynomial) -> int:
    return max((sum(power for _, power in each) for each in polynomial.terms), default=0)


@cache
def _periods(step: int, rest: int, periods: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """p and a of the floors that are tried: those that can be told apart at a KEY's values."""
    floors = [
        (step * period, step * offset - rest) for period in periods for offset in range(period)
    ]
    if step > 1:
        floors += [(p, a) for p in NESTED_PERIODS for a in range(p) if p % step]
    return tuple(floors)


def _floors_of(axis: Axis, periods: tuple[int, ...] = PERIODS) -> tuple[tuple[int, int], ...]:
    return _periods(axis.step, axis.base % axis.step, periods)


def _plausible(bases: Array, values: Sequence[int], *, foretold: bool = False) -> Array:
    """Which of many bases may have the values among their linear combinations, as far as floating
    point tells; this is quick, and few do.

    Args:
        bases: [number, points, functions].
        foretold: leave out bases of which some function is there for one point alone, as a floor
            may be that is 0 at one and nowhere else: it makes up for whatever is wrong there.
    """
    scales = np.abs(bases).max(axis=1, keepdims=True)
    orthogonal, triangular = np.linalg.qr(bases / np.where(scales == 0, 1, scales))
    y = np.array(values, dtype=float)
    y /= np.abs(y).max()
    rest = y - np.einsum("npk,nk->np", orthogonal, np.einsum("npk,p->nk", orthogonal, y))
    fits = np.abs(rest).max(axis=1) < 1e-6
    if foretold:
        independent = np.abs(np.diagonal(triangular, axis1=1, axis2=2)).min(axis=1) > 1e-7
        leverage = (orthogonal**2).sum(axis=2).max(axis=1)
        fits &= independent & (leverage < 1 - 1e-7)
    plausible: Array = np.flatnonzero(fits)
    return plausible


def _floors(axis: Axis, xs: Sequence[int], values: Sequence[int]) -> Iterator[_Candidate]:
    """Polynomials in one floor."""
    order = np.argsort(xs)
    pairs = np.array(_floors_of(axis))
    q = ((np.array(xs)[None, order] + pairs[:, 1:]) // pairs[:, :1]).astype(float)
    changes = np.array([values[a] != values[b] for a, b in pairwise(order)])
    possible = ~((q[:, 1:] == q[:, :-1]) & changes).any(axis=1)  # one value at one quotient
    pairs, q = pairs[possible], q[possible]
    if not len(pairs):
        return
    q /= np.maximum(np.abs(q).max(axis=1, keepdims=True), 1)
    powers = min(HIGHEST_DEGREE, len(xs) - 4) + 1
    bases = q[:, :, None] ** np.arange(powers)
    for index in _plausible(bases, [values[i] for i in order]):
        period, offset = pairs[index].tolist()
        candidate = _in_quotients(Polynomial.of(axis.key), xs, values, (period, offset))
        if candidate is not None and len(xs) >= candidate.degree + 4:
            yield candidate


def _in_quotients(
    inner: Polynomial,
    at: Sequence[int],
    values: Sequence[int],
    floor: tuple[int, int],
) -> _Candidate | None:
    """The polynomial in a floor of a function, from that function's values."""
    period, offset = floor
    known: dict[int, int] = {}
    for point, value in zip(at, values, strict=True):
        if known.setdefault((point + offset) // period, value) != value:
            return None
    if len(known) < 3:
        return None
    found = _interpolated(floor_of(inner + offset, period), list(known), list(known.values()))
    if found is None:
        return None
    degree = _degree(found)
    q = np.array(list(known), dtype=float)
    scale = float(np.abs(q).max()) or 1.0
    coefficients = np.polyfit(q / scale, np.array(list(known.values()), dtype=float), degree)
    key = next(iter(inner.keys))

    def approximate(x: Array) -> Array:
        if inner != Polynomial.of(key):
            x = np.array([float(inner({key: int(value)})) for value in x])
        predicted: Array = np.polyval(coefficients, (x + offset) // period / scale)
        return predicted

    return _Candidate(degree, found, approximate)


def _mixed(axis: Axis, xs: Sequence[int], values: Sequence[int]) -> Iterator[_Candidate]:
    """1, x, x^2, q, x q and q^2."""
    if len(xs) < 9:
        return
    x = Polynomial.of(axis.key)
    floors = _floors_of(axis, MIXED_PERIODS)
    pairs = np.array(floors, dtype=float)
    at = np.array(xs, dtype=float)
    bases = _mixed_basis(at[None, :], (at[None, :] + pairs[:, 1:]) // pairs[:, :1])
    for index in _plausible(bases, values, foretold=True):
        period, offset = floors[index]
        quotients = [(point + offset) // period for point in xs]
        rows = [[1, p, p * p, q, p * q, q * q] for p, q in zip(xs, quotients, strict=True)]
        solution = solve(rows, values)
        if solution.values is None or len(xs) < solution.rank + 3:
            continue
        f = floor_of(x + offset, period)
        parts = (Polynomial.constant(1), x, x * x, f, x * f, f * f)
        function = polynomial_sum(p * v for p, v in zip(parts, solution.values, strict=True))
        coefficients = np.array([float(value) for value in solution.values])

        def approximate(
            at: Array, p: int = period, a: int = offset, weights: Array = coefficients
        ) -> Array:
            predicted: Array = _mixed_basis(at, (at + a) // p) @ weights
            return predicted

        yield _Candidate(len(function.terms), function, approximate)


def _mixed_basis(x: Array, q: Array) -> Array:
    x, q = np.broadcast_arrays(x, q)
    return np.stack([np.ones_like(q), x, x**2, q, x * q, q**2], axis=-1)


def _nested(
    axis: Axis, xs: Sequence[int], values: Sequence[int], others: Iterable[Polynomial]
) -> Iterator[_Candidate]:
    """Polynomials in the floor of another function of the KEY."""
    if len(xs) < 9:
        return
    for other in others:
        if not other.keys or other.denominator > 1 or other == Polynomial.of(axis.key):
            continue
        inner = [int(other({axis.key: point})) for point in xs]
        for period in NESTED_PERIODS:
            for offset in range(period):
                candidate = _in_quotients(other, inner, values, (period, offset))
                if candidate is not None:
                    yield candidate
