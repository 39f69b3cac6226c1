"""What is alive in a traced step, and when: as much as the closed form of its peak needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from flopratio.memory import Memory, bytes_alive


class Life(NamedTuple):
    """A storage and when it is there, see :class:`flopratio.memory.MemoryBlock`."""

    layer: str
    op: str
    nbytes: int
    born: int
    died: int | None


class Running(NamedTuple):
    """What runs at a record, see :class:`flopratio.memory.OperatorRun`."""

    layer: str
    op: str
    phase: str


@dataclass(frozen=True)
class Lives:
    """All that is alive in a step, and when.

    Args:
        storages: those that take any bytes, in the order in which they were seen.
        operators: what runs at each record.
    """

    storages: Sequence[Life]
    operators: Sequence[Running]

    @classmethod
    def of(cls, memory: Memory) -> Lives:
        return cls(
            [Life(b.layer, b.op, b.nbytes, b.born, b.died) for b in memory.blocks if b.nbytes],
            [Running(each.layer, each.op, each.phase) for each in memory.operators],
        )

    @cached_property
    def alive(self) -> list[int]:
        """The bytes at each record."""
        lives = ((each.nbytes, each.born, each.died) for each in self.storages)
        return bytes_alive(lives, len(self.operators))

    @property
    def peak(self) -> int:
        """The most that is alive at once."""
        return max(self.alive)

    def at(self, record: int) -> list[Life]:
        """What is alive while a record runs."""
        return [
            each
            for each in self.storages
            if max(each.born, 0) <= record and (each.died is None or record < each.died)
        ]

    # -- on disk ----------------------------------------------------------------------------

    def document(self) -> dict[str, Any]:
        """Plain lists, in which each name stands once."""
        texts: dict[str, int] = {}

        def of(text: str) -> int:
            return texts.setdefault(text, len(texts))

        storages = [[of(each.layer), of(each.op), *each[2:]] for each in self.storages]
        operators = [list(map(of, each)) for each in self.operators]
        return {"names": list(texts), "storages": storages, "operators": operators}

    @classmethod
    def of_document(cls, document: dict[str, Any]) -> Lives:
        """What :meth:`document` gave."""
        names = document["names"]
        return cls(
            [Life(names[layer], names[op], *rest) for layer, op, *rest in document["storages"]],
            [Running(*(names[place] for place in each)) for each in document["operators"]],
        )
