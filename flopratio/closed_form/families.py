"""Families of functions of one KEY, and those of their members that have given values at a few
points."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from flopratio.closed_form.axis import Axis
from flopratio.closed_form.linear import solve
from flopratio.closed_form.polynomial import Polynomial, floor_of, polynomial_sum
from flopratio.closed_form.residues import Quotient

Array = NDArray[Any]

HIGHEST_DEGREE = 4

PERIODS = (*range(2, 33), *range(56, 225, 28), 64, 128, 256)
"""Strides and the multiples that kernels and windows round to."""

MIXED_PERIODS = (2, 4, 7, 8, 14, 16, 28, 32, 56, 64, 112, 128, 224)
"""Those that are tried together with x: of windows and patches, which are padded."""

NESTED_PERIODS = (2, 4, 8, 16, 32, 64, 128)

STRIDES = (1, 2, 4, 8, 16, 32, 64)

WINDOWS = range(2, 17)
"""Into so many windows what strides leave of a size is divided, as pooling to a fixed size does."""

CONFIRMED = 3
"""In so many points a function is 0 before it is taken for one that is 0 where a number divides."""


class Candidate(NamedTuple):
    """A function that fits all points.

    Args:
        degree: the least is the simplest.
        function: makes it, exactly.
        approximate: its values at an array of them, in floating point.
    """

    degree: int
    function: Callable[[], Polynomial]
    approximate: Callable[[Array], Array]


def interpolated(
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


def polynomials(
    axis: Axis, xs: Sequence[int], values: Sequence[int], others: Iterable[Polynomial] = ()
) -> Iterator[Candidate]:
    """The polynomial in x, if there is one."""
    found = interpolated(Polynomial.of(axis.key), xs, values)
    if found is not None:

        def approximate(at: Array) -> Array:
            return np.array([float(found({axis.key: int(x)})) for x in at])

        yield Candidate(_degree(found), lambda: found, approximate)


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


def _single_valued(functions: Array, values: Sequence[int]) -> Array:
    """Which of many functions' values at the points the given values may be a function of.

    Args:
        functions: [..., points].
    """
    order = np.argsort(functions, axis=-1)
    known = {value: number for number, value in enumerate(values)}
    numbers = np.array([known[value] for value in values])
    same = np.diff(np.take_along_axis(functions, order, axis=-1), axis=-1) == 0
    possible: Array = ~(same & (np.diff(numbers[order], axis=-1) != 0)).any(axis=-1)
    return possible


def _quotients(
    axis: Axis, periods: tuple[int, ...], xs: Sequence[int], values: Sequence[int]
) -> tuple[Array, Array]:
    """p and a of the floors of which the values may be a function, and what these are."""
    pairs = np.array(_floors_of(axis, periods))
    q = (np.array(xs)[None, :] + pairs[:, 1:]) // pairs[:, :1]
    possible = _single_valued(q, values)
    return pairs[possible], q[possible]


def floors(
    axis: Axis, xs: Sequence[int], values: Sequence[int], others: Iterable[Polynomial] = ()
) -> Iterator[Candidate]:
    """Polynomials in one floor."""
    pairs, quotients = _quotients(axis, PERIODS, xs, values)
    if not len(pairs):
        return
    q = quotients / np.maximum(np.abs(quotients).max(axis=1, keepdims=True), 1)
    powers = min(HIGHEST_DEGREE, len(xs) - 4) + 1
    bases = q[:, :, None] ** np.arange(powers)
    for index in _plausible(bases, values):
        period, offset = pairs[index].tolist()
        candidate = _in_quotients(Polynomial.of(axis.key), xs, values, (period, offset))
        if candidate is not None and len(xs) >= candidate.degree + 4:
            yield candidate


def _in_quotients(
    inner: Polynomial,
    at: Sequence[int],
    values: Sequence[int],
    floor: tuple[int, int],
) -> Candidate | None:
    """The polynomial in a floor of a function, from that function's values."""
    period, offset = floor
    known: dict[int, int] = {}
    for point, value in zip(at, values, strict=True):
        if known.setdefault((point + offset) // period, value) != value:
            return None
    if len(known) < 3:
        return None
    found = interpolated(floor_of(inner + offset, period), list(known), list(known.values()))
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

    return Candidate(degree, lambda: found, approximate)


def mixed(
    axis: Axis, xs: Sequence[int], values: Sequence[int], others: Iterable[Polynomial] = ()
) -> Iterator[Candidate]:
    """1, x, x^2, q, x q and q^2."""
    if len(xs) < 9:
        return
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
        coefficients = np.array([float(value) for value in solution.values])

        def approximate(
            at: Array, p: int = period, a: int = offset, weights: Array = coefficients
        ) -> Array:
            predicted: Array = _mixed_basis(at, (at + a) // p) @ weights
            return predicted

        function = partial(_of_both, axis.key, period, offset, solution.values)
        yield Candidate(sum(map(bool, solution.values)), function, approximate)


def _of_both(key: str, period: int, offset: int, values: Sequence[Fraction]) -> Polynomial:
    x = Polynomial.of(key)
    q = floor_of(x + offset, period)
    parts = (Polynomial.constant(1), x, x * x, q, x * q, q * q)
    return polynomial_sum(part * value for part, value in zip(parts, values, strict=True))


def _mixed_basis(x: Array, q: Array) -> Array:
    x, q = np.broadcast_arrays(x, q)
    return np.stack([np.ones_like(q), x, x**2, q, x * q, q**2], axis=-1)


def nested(
    axis: Axis, xs: Sequence[int], values: Sequence[int], others: Iterable[Polynomial] = ()
) -> Iterator[Candidate]:
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


def windows(
    axis: Axis, xs: Sequence[int], values: Sequence[int], others: Iterable[Polynomial] = ()
) -> Iterator[Candidate]:
    """Polynomials in how many elements k windows over a floor m have together: the i-th reaches
    from i m / k rounded down to (i + 1) m / k rounded up. These are m + k - gcd(m, k): of the k - 1
    borders between them gcd(m, k) - 1 are whole, and at each other border two share an element."""
    if len(xs) < 9:
        return
    pairs, q = _quotients(axis, STRIDES, xs, values)
    shifts = np.array([(k, shift) for k in WINDOWS for shift in range(k)])
    numbers, added = (each[:, None, None] for each in shifts.T)
    w = _elements(q + added, numbers)
    places = np.argwhere(_single_valued(w, values))
    w = w[tuple(places.T)]
    scaled = w / np.maximum(np.abs(w).max(axis=1, keepdims=True), 1)
    for index in _plausible(scaled[:, :, None] ** np.arange(3), values, foretold=True):
        (k, shift), (period, offset) = (
            each[place].tolist() for each, place in zip((shifts, pairs), places[index], strict=True)
        )
        candidate = _in_quotients(Polynomial.of(axis.key), w[index].tolist(), values, (1, 0))
        if candidate is None or len(set(w[index].tolist())) < candidate.degree + 3:
            continue
        m = Quotient(axis.key, period, offset + period * shift)

        def approximate(x: Array, m: Quotient = m, k: int = k, of: Candidate = candidate) -> Array:
            return of.approximate(_elements((x.astype(int) + m.offset) // m.period, k))

        function = partial(_of_elements, m, k, candidate.function())
        yield Candidate(candidate.degree, function, approximate)


def _elements(m: Array, k: Array | int) -> Array:
    """Of k windows over m, all together."""
    elements: Array = m + k - np.gcd(m, k)
    return elements


def _of_elements(m: Quotient, k: int, of: Polynomial) -> Polynomial:
    """A polynomial in the elements of k windows over m.

    Args:
        of: the polynomial, with the KEY for these.
    """
    coefficients = {sum(power for _, power in each): value for each, value in of.terms.items()}

    def at(divisor: int) -> Polynomial:
        w = m.polynomial + (k - divisor)
        return polynomial_sum(w**power * value for power, value in coefficients.items())

    return m.by_common_divisor(k, at)


def unaligned(
    axis: Axis, xs: Sequence[int], values: Sequence[int], others: Iterable[Polynomial] = ()
) -> Iterator[Candidate]:
    """Functions of another family, but 0 where a number divides x + a: of what is copied unless it
    is aligned."""
    classes = classes_of_zeros(axis, xs, values)
    rest = [(x, value) for x, value in zip(xs, values, strict=True) if value]
    if not classes or len(rest) < 6:
        return
    points, values_there = [x for x, _ in rest], [value for _, value in rest]
    elsewhere = least(PLAIN, axis, points, values_there, others)
    for candidate in elsewhere:
        for period, offset in classes:

            def approximate(
                x: Array, p: int = period, a: int = offset, of: Candidate = candidate
            ) -> Array:
                return np.where((x + a) % p == 0, 0.0, of.approximate(x))

            function = partial(_unless_divided, axis.key, period, offset, candidate)
            yield Candidate(candidate.degree, function, approximate)
    if len(xs) - len(rest) < CONFIRMED:
        yield from elsewhere  # not taken, but told apart from the others by further points


def classes_of_zeros(axis: Axis, xs: Sequence[int], values: Sequence[int]) -> list[tuple[int, int]]:
    """p and a where the values are 0 wherever p divides x + a, and nowhere else."""
    if all(values):
        return []
    compared = axis.compared()
    return [
        (p, a)
        for p, a in _floors_of(axis)
        if all(((x + a) % p == 0) == (value == 0) for x, value in zip(xs, values, strict=True))
        and sum((x + a) % p == 0 for x in compared) >= CONFIRMED
    ]


def _unless_divided(key: str, period: int, offset: int, of: Candidate) -> Polynomial:
    divided = Quotient(key, 1, offset).divided_by(period)
    return of.function() * (Polynomial.constant(1) - divided)


Family = Callable[[Axis, Sequence[int], Sequence[int], Iterable[Polynomial]], Iterator[Candidate]]

PLAIN: Sequence[Family] = (polynomials, floors, mixed, nested)
BY_RESIDUES: Sequence[Family] = (windows, unaligned)


def least(
    families: Sequence[Family],
    axis: Axis,
    xs: Sequence[int],
    values: Sequence[int],
    others: Iterable[Polynomial],
) -> list[Candidate]:
    """Of the first family that has some, those of the least degree."""
    for family in families:
        every = list(family(axis, xs, values, others))
        if every:
            degree = min(candidate.degree for candidate in every)
            return [candidate for candidate in every if candidate.degree == degree]
    return []
