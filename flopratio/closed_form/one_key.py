"""A function of one KEY from its values at a few points.

Tried in this order, the least that leaves a point over to hold it against:

1. a polynomial in x;
2. a polynomial in one floor((x + a) / p), as sizes that a stride or a multiple rounds;
3. x and such a floor q together: 1, x, x^2, q, x q, q^2;
4. a polynomial in the floor of a multiple of another such function (the tokens of an image, rounded
   up to 32);
5. a polynomial in the elements of k windows over such a floor, which overlap where k doesn't divide
   it;
6. one of 1 to 4, but 0 where a number divides x + a.

Which p and a it is, further points must tell: :class:`Open` names those at which the candidates
that are left disagree most.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from flopratio.closed_form.axis import Axis
from flopratio.closed_form.families import (
    BY_RESIDUES,
    PLAIN,
    Candidate,
    classes_of_zeros,
    least,
    polynomials,
)
from flopratio.closed_form.polynomial import Polynomial

BEFORE_FLOORS = 6
"""So many points are there before any but polynomials is tried: with fewer, too much fits."""

WITHOUT_FORM = 15
"""If nothing fits so many points, nothing fits more."""


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
    families = (*PLAIN, *BY_RESIDUES) if len(xs) >= BEFORE_FLOORS else (polynomials,)
    survivors = least(families, axis, xs, values, others)
    if survivors:
        return _told_apart(axis, xs, survivors)
    zeros = values.count(0) if classes_of_zeros(axis, xs, values) else 0
    if len(xs) - zeros >= WITHOUT_FORM:
        return Open(Counter())
    following = next(axis.spread(xs), None)  # whatever point comes next
    return Open(Counter() if following is None else Counter({following: 1}))


def _told_apart(
    axis: Axis, xs: Sequence[int], candidates: Sequence[Candidate]
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
    return candidates[0].function()
