"""The peak of a step in its sizes: the largest of a few moments, at each of which what is alive is
a sum of storages.

The moment of the peak changes from size to size. Those at which it is seen are followed through all
sizes: each has a form, and the peak is the largest of them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from flopratio.memory import Memory, bytes_alive
from flopratio.verbs.formula.entries import Entry, Names, Sampled, align


class Moment(NamedTuple):
    """A moment of a step, under a name that it has at all sizes."""

    layer: str
    """Of the operator that runs; of layers whose number varies, counted from the nearer end:
    ``h.0``, ``h.-1``."""
    op: str
    phase: str
    occurrence: int
    """Which of several in its layer."""

    def __str__(self) -> str:
        return f"{self.phase} of {self.op} in {self.layer or '(model)'}"


class Life(NamedTuple):
    """A storage and when it is there, see :class:`flopratio.memory.MemoryBlock`."""

    layer: str
    op: str
    nbytes: int
    born: int
    died: int | None


@dataclass(frozen=True)
class Lives:
    """All that is alive in a step, and when.

    Args:
        storages: each storage.
        operators: layer, operator and phase of each record.
    """

    storages: tuple[Life, ...]
    operators: tuple[tuple[str, str, str], ...]

    @classmethod
    def of(cls, memory: Memory) -> Lives:
        return cls(
            tuple(Life(b.layer, b.op, b.nbytes, b.born, b.died) for b in memory.blocks if b.nbytes),
            tuple((each.layer, each.op, each.phase) for each in memory.operators),
        )

    @cached_property
    def alive(self) -> list[int]:
        """The bytes at each record."""
        lives = ((each.nbytes, each.born, each.died) for each in self.storages)
        return bytes_alive(lives, len(self.operators))

    def at(self, record: int) -> list[Life]:
        """What is alive while a record runs."""
        return [
            each
            for each in self.storages
            if max(each.born, 0) <= record and (each.died is None or record < each.died)
        ]


def moments(lives: Lives, names: Names, layers: Sequence[str]) -> dict[Moment, int]:
    """The record of each moment."""
    seen: Counter[tuple[str, str, str]] = Counter()
    place = names.places(layers)
    found: dict[Moment, int] = {}
    for record, (layer, op, phase) in enumerate(lives.operators):
        at = (place.get(layer, layer), op, phase)
        found[Moment(*at, seen[at])] = record
        seen[at] += 1
    return found


def align_at_peaks(samples: Sequence[Sampled]) -> list[dict[Entry, int]]:
    """What is alive at each moment that is some sample's peak, in every sample, under names that
    are the same in all of them. An entry's quantity is the moment."""
    names = Names([sample.types for sample in samples])
    records = [moments(sample.lives, names, tuple(sample.types)) for sample in samples]
    everywhere = set.intersection(*(set(each) for each in records))
    followed: dict[Moment, None] = {}
    for sample, found in zip(samples, records, strict=True):
        alive = sample.lives.alive
        peak = max(alive)
        highest = [moment for moment, record in found.items() if alive[record] == peak]
        if not followed.keys() & {*highest}:
            followed[next((each for each in highest if each in everywhere), highest[0])] = None
    together: list[dict[Entry, int]] = [{} for _ in samples]
    for moment in followed:
        at_moment = []
        for sample, found in zip(samples, records, strict=True):
            seen: Counter[Entry] = Counter()
            entries: dict[Entry, int] = {}
            for life in sample.lives.at(found[moment]) if moment in found else ():
                entry = Entry(moment, life.layer, life.op)
                entries[entry._replace(occurrence=seen[entry])] = life.nbytes
                seen[entry] += 1
            at_moment.append(Sampled(entries, sample.types))
        for all_of, values in zip(together, align(at_moment), strict=True):
            all_of.update(values)
    return together
