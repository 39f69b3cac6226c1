"""Many whole-numbered functions of several KEYs at once, each from the same few samples.

Each function is nearly always a product of functions of one KEY, so one axis a KEY is sampled
through a common base point. The product is held against points at which all KEYs differ from the
base. Where it isn't one, it is solved for as a sum of products of what the axes have. At last all
is held against points that no fit has seen. What fails is refused, never approximated.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import gcd, prod
from typing import Any, NamedTuple

from flopratio.closed_form.axis import Axis
from flopratio.closed_form.linear import solve
from flopratio.closed_form.one_key import Open, fit_axis
from flopratio.closed_form.polynomial import Polynomial, monomials, polynomial_sum

Point = dict[str, int]
"""KEY -> value."""

Values = Mapping[Any, int]
"""The name of each function -> its value at a point; one that isn't named is 0."""

MOST_ON_AN_AXIS = 32
MOST_JOINT = 40
MOST_UNKNOWNS = 64
"""A function that takes more points or coefficients than these is given up."""

FEW = 8
"""Of a KEY with at most so many values each is taken as often as the others."""

JOINT = 2
"""Points at which all KEYs differ from the base, to begin with."""


class Refusal(NamedTuple):
    """A function that isn't solved.

    Args:
        key: the KEY by which it has no form; empty where it is how the KEYs work together.
        samples: points, with its values there.
    """

    key: str
    samples: tuple[tuple[Point, int], ...]


@dataclass(frozen=True)
class Fit:
    """What came of it.

    Args:
        forms: the function of each name.
        refused: those without one.
        fitted_at: the points that the fit has seen.
        verified_at: other points, at which every form is equal.
    """

    forms: dict[Hashable, Polynomial]
    refused: dict[Hashable, Refusal]
    fitted_at: list[Point]
    verified_at: list[Point]


Align = Callable[[Sequence[Any]], Sequence[Values]]
"""From what was sampled at each point to values under names that are the same at all of them."""


def interpolate(
    sample: Callable[[Point], Any],
    axes: Sequence[Axis],
    *,
    align: Align = lambda sampled: sampled,
    verify: int = 4,
    guesses: Mapping[Any, Polynomial] | None = None,
    known: Sequence[Point] = (),
    seed: int = 0,
) -> Fit:
    """The closed forms of all functions that are sampled.

    Args:
        sample: gives the values at a point; None where there are none to be had.
        axes: the KEYs.
        align: where names differ from point to point.
        verify: how many points all is held against in the end.
        guesses: what some functions may be; a guess that is equal at all points is taken.
        known: points that are taken before random ones, as they have been sampled already.
        seed: of the choice of points.
    """
    return _Interpolation(sample, axes, align, guesses or {}, known, seed).run(verify)


class _Wanted(NamedTuple):
    """Points without which a function can't be told: by KEY, and how many joint ones."""

    axes: dict[str, Counter[int]]
    joint: bool = False


class _Interpolation:
    def __init__(
        self,
        sample: Callable[[Point], Any],
        axes: Sequence[Axis],
        align: Align,
        guesses: Mapping[Any, Polynomial],
        known: Sequence[Point],
        seed: int,
    ) -> None:
        self.sample, self.align, self.guesses, self.known = sample, align, guesses, known
        self.axes = {axis.key: axis for axis in axes}
        self.base: Point = {axis.key: axis.base for axis in axes}
        self.random = random.Random(seed)
        self.points: list[Point] = []
        self.sampled: list[Any] = []
        self.impossible: set[tuple[tuple[str, int], ...]] = set()
        self.on_axis: dict[str, dict[int, int]] = {key: {} for key in self.axes}
        """KEY -> value -> index of the point that has it, and else the base's values."""
        self.joint: list[int] = []
        self.vectors: tuple[int, dict[Hashable, tuple[int, ...]]] = 0, {}
        """Of how many points, and the values of each function at them."""
        self.memo: dict[Any, Polynomial | Open] = {}
        self.found: dict[str, dict[Polynomial, None]] = {key: {} for key in self.axes}

    def run(self, verify: int) -> Fit:
        self._add_axis_points({key: axis.start() for key, axis in self.axes.items()})
        while True:
            outcomes = self._outcomes()
            wanted = [each for each in outcomes.values() if isinstance(each, _Wanted)]
            if self._add_wanted(wanted):
                continue
            if not self.joint and self._has_products(outcomes) and self._add_joint(JOINT):
                continue
            fitted = len(self.points)
            fresh = self._new_points(verify)
            failing = self._failing(outcomes, fresh)
            if not failing or not fresh or len(self.joint) >= MOST_JOINT:
                break
            self._learn_from(fresh)
        forms: dict[Hashable, Polynomial] = {}
        refused: dict[Hashable, Refusal] = {}
        for name, values in self._vectors().items():
            outcome = outcomes.get(name)
            if isinstance(outcome, Polynomial) and name not in failing:
                forms[name] = outcome
            elif isinstance(outcome, Refusal):
                refused[name] = outcome
            else:
                refused[name] = Refusal("", self._samples(values, range(len(self.points))))
        return Fit(forms, refused, self.points[:fitted], self.points[fitted:])

    # -- points -----------------------------------------------------------------------------

    def _take(self, point: Point) -> int | None:
        """Sample a point: its index, or None if there is nothing to be had there."""
        name = tuple(point.items())
        if name in self.impossible:
            return None
        for index, known in enumerate(self.points):
            if known == point:
                return index
        sampled = self.sample(dict(point))
        if sampled is None:
            self.impossible.add(name)
            return None
        self.points.append(dict(point))
        self.sampled.append(sampled)
        return len(self.points) - 1

    def _add_axis_points(self, wanted: Mapping[str, Iterable[int]]) -> bool:
        added = False
        for key, values in wanted.items():
            for value in values:
                if value in self.on_axis[key]:
                    continue
                index = self._take({**self.base, key: value})
                if index is None:
                    others = self.axes[key].spread(self._tried(key))
                    index = next(
                        (
                            i
                            for v in itertools.islice(others, 8)
                            if (i := self._take({**self.base, key: v})) is not None
                        ),
                        None,
                    )
                if index is not None:
                    self.on_axis[key][self.points[index][key]] = index
                    added = True
        return added

    def _tried(self, key: str) -> set[int]:
        return {*self.on_axis[key], *(dict(name)[key] for name in self.impossible)}

    def _add_wanted(self, wanted: Sequence[_Wanted]) -> bool:
        """Sample the points that most functions ask for."""
        added = False
        for key in self.axes:
            votes = Counter[int]()
            for each in wanted:
                votes.update(each.axes.get(key, {}))
            for value in self._tried(key):
                votes.pop(value, None)
            if votes and len(self.on_axis[key]) < MOST_ON_AN_AXIS:
                added |= self._add_axis_points({key: [votes.most_common(1)[0][0]]})
        if not added and any(each.joint for each in wanted) and len(self.joint) < MOST_JOINT:
            added = self._add_joint(2)
        return added

    def _add_joint(self, number: int) -> bool:
        indices = self._new_points(number) if len(self.axes) > 1 else []
        self.joint += indices
        return bool(indices)

    def _new_points(self, number: int) -> list[int]:
        """Sample points at which every KEY that can has a value that is new; known ones first."""
        fresh = [point for point in self.known if point not in self.points][:number]
        indices = [index for point in fresh if (index := self._take(point)) is not None]
        for _ in range(40 * number):
            if len(indices) == number:
                break
            point = {}
            for key, axis in self.axes.items():
                values, seen = axis.verified or axis.values, {*self.on_axis[key]}
                if len(values) <= FEW:
                    values, seen = self._least_taken(key, values), set()
                point[key] = self.random.choice(values)
                for _ in range(8):
                    if point[key] in seen:
                        point[key] = self.random.choice(values)
            if point not in self.points:
                index = self._take(point)
                if index is not None:
                    indices.append(index)
        return indices

    def _least_taken(self, key: str, values: Sequence[int]) -> Sequence[int]:
        """Of few values those that the fewest points were tried with, but not the base."""
        taken = Counter({value: 0 for value in values if value != self.base[key]})
        tried = (*self.points, *map(dict, self.impossible))
        taken.update(point[key] for point in tried if point[key] in taken)
        fewest = min(taken.values(), default=0)
        return [value for value, times in taken.items() if times == fewest] or values

    def _learn_from(self, fresh: Iterable[int]) -> None:
        """Fit points that were there to be held against, and failed."""
        if len(self.axes) > 1:
            self.joint += fresh
            return
        for (key, at), index in itertools.product(self.on_axis.items(), fresh):
            at[self.points[index][key]] = index

    # -- fitting ----------------------------------------------------------------------------

    def _vectors(self) -> dict[Hashable, tuple[int, ...]]:
        """The values of each function at all points."""
        if self.vectors[0] != len(self.points):
            aligned = self.align(self.sampled)
            names = dict.fromkeys(itertools.chain.from_iterable(aligned))
            found = {name: tuple(values.get(name, 0) for values in aligned) for name in names}
            self.vectors = len(self.points), found
        return self.vectors[1]

    def _outcomes(self) -> dict[Hashable, Polynomial | Refusal | _Wanted]:
        """What is known of each function; those that differ by a factor are fitted once."""
        known: dict[tuple[int, ...], Polynomial | Refusal | _Wanted] = {}
        outcomes: dict[Hashable, Polynomial | Refusal | _Wanted] = {}
        for name, values in self._vectors().items():
            guess = self.guesses.get(name)
            if guess is not None and self._holds(guess, values, range(len(self.points))):
                outcomes[name] = guess
                continue
            factor = gcd(*values) or 1
            vector = tuple(value // factor for value in values)
            if vector not in known:
                known[vector] = self._fitted(vector)
            outcomes[name] = _scaled(known[vector], factor)
        return outcomes

    def _has_products(self, outcomes: Mapping[Hashable, Any]) -> bool:
        """Whether there is more to tell than what each axis has told: a function of several KEYs
        that nobody has guessed, or one that isn't there yet."""
        return any(
            not isinstance(outcome, Polynomial)
            or (len(outcome.keys) > 1 and outcome != self.guesses.get(name))
            for name, outcome in outcomes.items()
        )

    def _failing(self, outcomes: Mapping[Hashable, Any], fresh: Sequence[int]) -> set[Hashable]:
        """The functions whose form is not equal at some of the points, or that were not there."""
        return {
            name
            for name, values in self._vectors().items()
            if name not in outcomes
            or (
                isinstance(form := outcomes[name], Polynomial)
                and not self._holds(form, values, fresh)
            )
        }

    def _fitted(self, vector: tuple[int, ...]) -> Polynomial | _Wanted | Refusal:
        functions: dict[str, Polynomial] = {}
        wanted: dict[str, Counter[int]] = {}
        for key in self.axes:
            outcome = self._along(key, vector)
            if isinstance(outcome, Open):
                wanted[key] = outcome.wanted
                if not outcome.wanted or len(self.on_axis[key]) >= MOST_ON_AN_AXIS:
                    return Refusal(key, self._samples(vector, self.on_axis[key].values()))
            else:
                functions[key] = outcome
        if wanted:
            return _Wanted(wanted)
        product = self._product(vector, functions)
        if product is not None and self._holds(product, vector, self.joint):
            return product
        return self._sum_of_products(vector, functions)

    def _along(self, key: str, vector: tuple[int, ...]) -> Polynomial | Open:
        """The function along one axis."""
        at = self.on_axis[key]
        xs, values = tuple(at), [vector[index] for index in at.values()]
        factor = gcd(*values) or 1
        values = [value // factor for value in values]
        if len(set(values)) == 1 and (len(xs) >= 2 or len(self.axes[key].values) < 2):
            return Polynomial.constant(values[0] * factor)
        memo = key, xs, tuple(values)
        if memo not in self.memo:
            others = tuple(self.found[key])
            found = self.memo[memo] = fit_axis(self.axes[key], xs, values, others)
            if isinstance(found, Polynomial):
                self.found[key][found] = None
        found = self.memo[memo]
        return found if isinstance(found, Open) else found * factor

    def _product(
        self, vector: tuple[int, ...], functions: Mapping[str, Polynomial]
    ) -> Polynomial | None:
        start = vector[self._take(self.base) or 0]
        if not start:
            return None if any(map(bool, functions.values())) else Polynomial.constant(0)
        product = Polynomial.constant(start)
        for function in functions.values():
            product = product * function * Fraction(1, start)
        return product

    def _sum_of_products(
        self, vector: tuple[int, ...], functions: Mapping[str, Polynomial]
    ) -> Polynomial | _Wanted | Refusal:
        # A monomial of the sum leaves its part on every axis, if the others don't cancel it there.
        # Where the base makes it 0, an axis tells nothing: there it may be linear.
        parts = [
            tuple(monomials(each)) or (Polynomial.constant(1), Polynomial.of(key))
            for key, each in functions.items()
        ]
        everywhere = range(len(self.points))
        if prod(map(len, parts)) > MOST_UNKNOWNS:
            return Refusal("", self._samples(vector, everywhere))
        basis = [_times(each) for each in itertools.product(*parts)]
        rows = [[each(point) for each in basis] for point in self.points]
        solution = solve(rows, vector)
        if solution.values is not None and (
            solution.rank == len(basis) and len(self.points) >= solution.rank + 2
        ):
            return polynomial_sum(
                part * value for part, value in zip(basis, solution.values, strict=True)
            )
        if len(self.joint) >= MOST_JOINT:
            return Refusal("", self._samples(vector, everywhere))
        if solution.values is None:
            # Along an axis it may be another function than it seemed: look where it failed.
            axes = {}
            for key in self.axes:
                fresh = [
                    self.points[index][key]
                    for index in self.joint
                    if self.points[index][key] not in self._tried(key)
                ]
                if fresh and len(self.on_axis[key]) < MOST_ON_AN_AXIS:
                    axes[key] = Counter(fresh)
            if not axes:
                return Refusal("", self._samples(vector, everywhere))
            return _Wanted(axes)
        return _Wanted({}, joint=True)

    def _holds(self, form: Polynomial, vector: tuple[int, ...], indices: Iterable[int]) -> bool:
        return all(form(self.points[index]) == vector[index] for index in indices)

    def _samples(
        self, vector: tuple[int, ...], indices: Iterable[int]
    ) -> tuple[tuple[Point, int], ...]:
        return tuple((self.points[index], vector[index]) for index in indices)


def _scaled(outcome: Polynomial | Refusal | _Wanted, factor: int) -> Polynomial | Refusal | _Wanted:
    if isinstance(outcome, Polynomial):
        return outcome * factor
    if isinstance(outcome, Refusal):
        samples = tuple((point, value * factor) for point, value in outcome.samples)
        return Refusal(outcome.key, samples)
    return outcome


def _times(factors: Iterable[Polynomial]) -> Polynomial:
    product = Polynomial.constant(1)
    for factor in factors:
        product = product * factor
    return product
