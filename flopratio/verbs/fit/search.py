"""The largest size that fits: sizes are tried one by one, each chosen by what those before needed.

Nothing is concluded from a law, which only says where to look next: the answer is a size that was
tried and fits, and the next size was tried too, and does not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from typing import Any

MOST_GROWTH = 16
"""So many times the largest size that fits is tried next, at most: what small sizes need does not
tell much about far larger ones."""

MOST_GUESSES = 4
"""So many sizes in between are chosen by a law; if none was the answer, the rest by halving."""


@dataclass(frozen=True)
class Tried:
    """A size of the KEY, and the step that was traced at it.

    Args:
        memory: the ledger's figures by name, in bytes; empty if the model refuses the size.
        at_peak: category -> bytes alive at the peak.
        flops: contractions of forward, backward and recompute, and the update.
        settings: the model's, with their defaults.
        refusal: why the model does not run at this size, in a sentence.
    """

    size: int
    memory: Mapping[str, Any] = field(default_factory=dict)
    at_peak: Mapping[str, int] = field(default_factory=dict)
    flops: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)
    refusal: str = ""

    @property
    def runs(self) -> bool:
        return not self.refusal

    @property
    def peak(self) -> int | None:
        """The most bytes alive at once; None where the model refuses the size."""
        return self.memory.get("peak")


class Search:
    """Sizes that were tried, and which to try next.

    The sizes that a model runs at may be multiples of a ``step`` (images in whole patches). They
    may also end somewhere (a table of positions): a size that is refused counts as one that does
    not fit.

    Args:
        attempt: traces the step at a size.
        limit: bytes that there are.
        figure: which figure of the memory has to fit them.
        step: unless it is to be found out.
        like: a search that tried the first size too: until another has been tried here, memory is
            taken to grow as it does there.
    """

    def __init__(
        self,
        attempt: Callable[[int], Tried],
        limit: int,
        figure: str,
        *,
        step: int | None = None,
        like: Search | None = None,
    ) -> None:
        self._attempt = attempt
        self._limit = limit
        self._figure = figure
        self._like = like
        self._guesses = 0
        self.step = step or 1
        self._step_is_known = step is not None
        self.tried: dict[int, Tried] = {}

    def run(self, first: Tried) -> None:
        """Try sizes until the largest that fits is known; ``first`` is one that runs."""
        self.tried[first.size] = first
        if not self._step_is_known:
            self.step = self._find_step(first.size)
        while (size := self._next()) is not None:
            self.attempt(size)

    def another(self, attempt: Callable[[int], Tried]) -> Search:
        """A search for the same, of a step that is run in another way."""
        return Search(attempt, self._limit, self._figure, step=self.step, like=self)

    def attempt(self, size: int) -> Tried:
        """Try a size, unless it has been tried."""
        if size not in self.tried:
            self.tried[size] = self._attempt(size)
        return self.tried[size]

    # -- what is known ----------------------------------------------------------------------------

    @property
    def ran(self) -> list[Tried]:
        """The sizes that ran, the smallest first."""
        return sorted((t for t in self.tried.values() if t.runs), key=lambda t: t.size)

    def fits(self, tried: Tried) -> bool:
        return tried.runs and self.bytes_of(tried) <= self._limit

    def bytes_of(self, tried: Tried) -> int:
        """The figure that has to fit, of a size that ran."""
        figure: int = tried.memory[self._figure]
        return figure

    @property
    def largest(self) -> Tried | None:
        """The largest size that fits; None where not even the smallest does."""
        return max(filter(self.fits, self.tried.values()), key=lambda t: t.size, default=None)

    @property
    def next(self) -> Tried:
        """The size after it, which does not fit or is refused; the smallest, where none fits."""
        largest = self.largest
        return self.ran[0] if largest is None else self.tried[largest.size + self.step]

    @property
    def is_flat(self) -> bool:
        """Whether sizes far apart ran, and no figure of the memory knows one from the other."""
        ran = self.ran
        far = ran[-1].size >= MOST_GROWTH * ran[0].size
        return far and all(t.memory == ran[0].memory for t in ran)

    @property
    def falls(self) -> list[tuple[Tried, Tried]]:
        """Pairs of sizes of which the larger one needs less."""
        return [
            pair for pair in pairwise(self.ran) if self.bytes_of(pair[0]) > self.bytes_of(pair[1])
        ]

    @property
    def gaps(self) -> list[Tried]:
        """The refused multiples of the step between sizes that run."""
        first, last = self.ran[0].size, self.ran[-1].size
        refused = (t for t in self.tried.values() if not t.runs and t.size % self.step == 0)
        return sorted((t for t in refused if first < t.size < last), key=lambda t: t.size)

    # -- what to try next -------------------------------------------------------------------------

    def _find_step(self, size: int) -> int:
        """What the sizes are multiples of: so is ``size``, so it is a divisor of that."""
        for sign in (1, -1):
            for step in _divisors(size):
                neighbour = size + sign * step
                if neighbour > 0 and self.attempt(neighbour).runs:
                    return step
        return size

    def _next(self) -> int | None:
        """The size to try next; None if nothing more is to be learnt."""
        largest = self.largest
        if largest is None:
            return self._smaller()
        low = largest.size
        above = [s for s in self.tried if s > low and s % self.step == 0]
        if not above:
            if self.is_flat:
                return None
            return self._predicted(low, low + self._steps(MOST_GROWTH * low) + self.step)
        high = min(above)
        if high - low == self.step:
            return None if self.tried[high].runs else self._beyond(low)
        if not self.tried[high].runs:
            return self._roundest(low, high)
        self._guesses += 1
        if self._guesses > MOST_GUESSES:
            return low + self._steps((high - low) // 2)
        return self._predicted(low, high)

    def _steps(self, distance: int) -> int:
        """The distance, rounded down to whole steps."""
        return distance // self.step * self.step

    def _smaller(self) -> int | None:
        """Where nothing fits yet: what another search tells; or the smallest size, halfway up from
        it as long as that is refused."""
        first = self.ran[0].size
        if self._like is not None and len(self.ran) == 1 and first > self.step:
            return self._predicted(0, first)
        refused = (t.size for t in self.tried.values() if not t.runs)
        low = max((s for s in refused if s < first and s % self.step == 0), default=0)
        if first - low == self.step:
            return None
        return low + self._steps((first - low) // 2) if low else self.step

    def _beyond(self, low: int) -> int | None:
        """A size well beyond a refused one: do the sizes end there, or is it a gap?"""
        size = low + self._steps(low)
        others = [t for t in self.ran if low < t.size <= size]
        return None if size in self.tried or others else size

    def _roundest(self, low: int, high: int) -> int:
        """A size between one that runs and one that is refused, which is where the sizes of the
        model end: at a power of two, most likely."""
        first, last = low // self.step, high // self.step - 1
        while (rounder := last & (last - 1)) > first:
            last = rounder
        if _factor_of_two(first) > _factor_of_two(last):
            last = first + 1
        return last * self.step

    def _predicted(self, low: int, high: int) -> int:
        """The largest size between the two that should fit, by the polynomial through the traced
        ones nearest to the limit."""
        points = self._points()
        first, last = 1, (high - low) // self.step - 1
        while first < last:
            middle = (first + last + 1) // 2
            if _polynomial(points, low + middle * self.step) <= self._limit:
                first = middle
            else:
                last = middle - 1
        return low + first * self.step

    def _points(self) -> list[tuple[int, int]]:
        """The sizes that tell most of those near the limit, and the bytes that they need."""
        ran = self.ran
        more = 0
        if len(ran) == 1 and self._like is not None:
            more = self.bytes_of(ran[0]) - self.bytes_of(self._like.tried[ran[0].size])
            ran = self._like.ran
        points = [(t.size, self.bytes_of(t) + more) for t in ran]
        return sorted(points, key=lambda point: abs(point[1] - self._limit))[:3]


def _divisors(number: int) -> Iterator[int]:
    """In rising order."""
    small = [d for d in range(1, math.isqrt(number) + 1) if number % d == 0]
    yield from small
    yield from (number // d for d in reversed(small) if d * d != number)


def _factor_of_two(number: int) -> int:
    return number & -number


def _polynomial(points: list[tuple[int, int]], x: int) -> Fraction:
    """The value at x of the polynomial of least degree through the points (Lagrange)."""
    total = Fraction(0)
    for i, (xi, y) in enumerate(points):
        term = Fraction(y)
        for j, (xj, _) in enumerate(points):
            if i != j:
                term *= Fraction(x - xj, xi - xj)
        total += term
    return total
