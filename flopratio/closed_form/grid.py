"""Polynomials at a whole grid of sizes at once, exactly.

How large a number can become on the way is worked out beforehand: below 2^63 it is NumPy's int64,
else Python's own integers, which don't overflow.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flopratio.closed_form.polynomial import Atom, Monomial, Polynomial

Array = NDArray[Any]

Grid = Mapping[str, Sequence[int]]
"""KEY -> its values; the last KEY varies fastest."""

Columns = Mapping[str, Sequence[int] | Array]
"""KEY -> its value at each point."""

LARGEST = 2**63 - 1

BLOCK = 1 << 14
"""Scattered points that are worked out at a time: what is on the way stays in the processor's
cache."""


def bound(form: Polynomial, grid: Grid) -> int:
    """A number that no partial sum or product on the way exceeds in size."""
    return _bound(form, {key: _largest(grid[key]) for key in form.keys})


def _largest(values: Sequence[int] | Array) -> int:
    if isinstance(values, np.ndarray):
        return max(abs(int(values.min())), abs(int(values.max())))
    return max(abs(min(values)), abs(max(values)))


def _bound(form: Polynomial, largest: Mapping[str, int]) -> int:
    denominator = form.denominator
    total = 0
    for monomial, coefficient in form.terms.items():
        product = abs(int(coefficient * denominator))
        for atom, power in monomial:
            # A floor's numerator is also what is on the way to it.
            size = largest[atom] if isinstance(atom, str) else _bound(atom.numerator, largest)
            product *= max(size, 1) ** power
        total += product
    return total


def fits_int64(form: Polynomial, grid: Grid) -> bool:
    return bound(form, grid) <= LARGEST


def on_grid(form: Polynomial, grid: Grid) -> Array:
    """The values at every point of a product of values, one dimension a KEY; int64 where that can't
    overflow, else Python integers."""
    kind: Any = np.int64 if fits_int64(form, grid) else object
    axes = {key: np.array(list(values), dtype=kind) for key, values in grid.items()}
    keys = list(axes)
    vectors: dict[tuple[str, Monomial], Array] = {}
    denominator = form.denominator
    terms = []
    for monomial, coefficient in form.terms.items():
        parts: defaultdict[str, list[tuple[Atom, int]]] = defaultdict(list)
        for atom, power in monomial:
            parts[_key_of(atom, keys)].append((atom, power))
        split = {key: tuple(factors) for key, factors in parts.items()}
        for key, factors in split.items():
            if (key, factors) not in vectors:
                vectors[key, factors] = _product(factors, axes)
        terms.append((int(coefficient * denominator), split))
    total = _nested(terms, keys, vectors, kind)
    full = np.broadcast_to(total, tuple(len(axes[key]) for key in keys))
    return full if denominator == 1 else full // denominator


def _key_of(atom: Atom, keys: Sequence[str]) -> str:
    of = {atom} if isinstance(atom, str) else atom.numerator.keys
    (key,) = of  # a floor is of one KEY
    assert key in keys
    return key


def _nested(
    terms: Sequence[tuple[int, Mapping[str, Monomial]]],
    keys: Sequence[str],
    vectors: Mapping[tuple[str, Monomial], Array],
    kind: Any,
) -> Array:
    """The sum of the terms: of those that have the same factor in the last KEY, that factor times
    their sum over the other KEYs. So the whole grid is passed over as often as there are such
    factors, not terms."""
    if not keys:
        return np.array(sum(coefficient for coefficient, _ in terms), dtype=kind)
    *others, last = keys
    grouped: defaultdict[Monomial, list[tuple[int, Mapping[str, Monomial]]]] = defaultdict(list)
    for term in terms:
        grouped[term[1].get(last, ())].append(term)
    total: Array = np.zeros((1,) * len(keys), dtype=kind)
    for factors, some in grouped.items():
        inner = _nested(some, others, vectors, kind)[..., None]
        total = total + (inner * vectors[last, factors] if factors else inner)
    return total


def _product(monomial: Monomial, columns: Mapping[str, Array]) -> Array:
    product: Any = 1
    for atom, power in monomial:
        product = product * _atom(atom, columns) ** power
    result: Array = product
    return result


def _atom(atom: Atom, columns: Mapping[str, Array]) -> Array:
    if isinstance(atom, str):
        return columns[atom]
    return _sum(atom.numerator, columns) // atom.divisor


def _sum(form: Polynomial, columns: Mapping[str, Array]) -> Array:
    denominator = form.denominator
    total: Any = 0
    for monomial, coefficient in form.terms.items():
        total = total + int(coefficient * denominator) * _product(monomial, columns)
    result: Array = total if denominator == 1 else total // denominator
    return result


def at_points(form: Polynomial, columns: Columns) -> Array:
    """The values at points whose sizes stand in columns."""
    return all_at_points({"": form}, columns)[""]


def all_at_points(forms: Mapping[str, Polynomial], columns: Columns) -> dict[str, Array]:
    """The values of several polynomials at points whose sizes stand in columns; each int64 where
    that can't overflow, else of Python integers."""
    length = len(next(iter(columns.values())))
    largest = {key: _largest(values) for key, values in columns.items()}
    kinds: dict[str, Any] = {
        name: np.int64 if _bound(form, largest) <= LARGEST else object
        for name, form in forms.items()
    }
    results = {name: np.empty(length, kind) for name, kind in kinds.items()}
    for kind in {*kinds.values()}:
        arrays = {key: np.asarray(values, dtype=kind) for key, values in columns.items()}
        some = {name: form for name, form in forms.items() if kinds[name] is kind}
        for start in range(0, length, BLOCK):
            block = slice(start, start + BLOCK)
            powers: dict[Monomial, Array] = {}
            part = {key: array[block] for key, array in arrays.items()}
            for name, form in some.items():
                results[name][block] = _at_block(form, part, powers)
    return results


def _at_block(
    form: Polynomial, columns: Mapping[str, Array], products: dict[Monomial, Array]
) -> Array | int:
    """The values of a polynomial; products of sizes are kept for the next one."""
    denominator = form.denominator
    total: Any = 0
    for monomial, coefficient in form.terms.items():
        whole = int(coefficient * denominator)
        total = total + (whole * _product_of(monomial, columns, products) if monomial else whole)
    result: Array | int = total if denominator == 1 else total // denominator
    return result


def _product_of(
    monomial: Monomial, columns: Mapping[str, Array], products: dict[Monomial, Array]
) -> Array:
    """The product of a monomial's atoms, by way of the products of its first ones."""
    if monomial not in products:
        *before, (atom, power) = monomial
        if power > 1:
            before.append((atom, power - 1))
        factor = columns[atom] if isinstance(atom, str) else _atom(atom, columns)
        products[monomial] = (
            _product_of(tuple(before), columns, products) * factor if before else factor
        )
    return products[monomial]


def chunks(grid: Grid, most: int) -> Iterator[dict[str, Sequence[int]]]:
    """A grid in parts of at most so many points, in the order of its points."""
    size = 1
    for values in grid.values():
        size *= len(values)
    if size <= most or all(len(values) == 1 for values in grid.values()):
        yield dict(grid)
        return
    first = next(key for key, values in grid.items() if len(values) > 1)
    values = grid[first]
    step = max(1, most * len(values) // size)
    for start in range(0, len(values), step):
        yield from chunks({**grid, first: values[start : start + step]}, most)
