"""Up to which value of its KEY a polynomial stays at a bound, by whole numbers alone."""

from __future__ import annotations

from fractions import Fraction

from flopratio.closed_form.polynomial import Atom, Polynomial, polynomial_sum


def never_falls(form: Polynomial, key: str, start: int) -> bool:
    """Whether a polynomial in one KEY is known not to fall from a value on: written in what its
    atoms have grown by since, no coefficient is negative. (A floor of what doesn't fall doesn't.)
    """
    return all(_atom_never_falls(atom, key, start) for atom in form.atoms) and all(
        coefficient >= 0 for monomial, coefficient in _since(form, key, start).terms.items()
        if monomial
    )  # fmt: skip


def _atom_never_falls(atom: Atom, key: str, start: int) -> bool:
    return isinstance(atom, str) or never_falls(atom.numerator, key, start)


def _since(form: Polynomial, key: str, start: int) -> Polynomial:
    """The form, where each atom stands for what it has grown by."""
    terms = []
    for monomial, coefficient in form.terms.items():
        product = Polynomial.constant(coefficient)
        for atom, power in monomial:
            alone = Polynomial.of(atom)
            product = product * (alone + alone({key: start})) ** power
        terms.append(product)
    return polynomial_sum(terms)


def largest_within(form: Polynomial, key: str, limit: Fraction, start: int, step: int) -> int:
    """The largest of ``start``, ``start + step``, ... at which a polynomial that never falls, but
    grows, is at most the limit; it is at the start."""
    low, high = 0, 1
    while form({key: start + step * high}) <= limit:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if form({key: start + step * middle}) <= limit:
            low = middle
        else:
            high = middle
    return start + step * low
