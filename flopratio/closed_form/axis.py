"""A KEY and the values that it may have."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from math import gcd

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
