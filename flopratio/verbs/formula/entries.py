"""What is fitted of a traced step: the whole number of every row and of every storage, under names
that are the same at all sizes.

Totals are sums of such numbers, and each of them is nearly always a product of functions of one KEY
where a total is none.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from flopratio.ledger import ROOT, Ledger, Row
from flopratio.memory import Memory, bytes_alive
from flopratio.trace.attribution import Attribution
from flopratio.trace.recording import Recording
from flopratio.verbs.formula.lives import Lives

FLOPS = ("forward", "grad_input", "grad_weight", "recompute", "update")
ELEMENTWISE = ("elementwise_forward", "elementwise_backward", "elementwise_recompute")
MEMORY = ("saved_bytes", "gradients", "optimizer_state")
QUANTITIES = (*FLOPS, *ELEMENTWISE, "parameters", *MEMORY)
"""What has a closed form: FLOP; numbers of parameters; and bytes."""

PEAK = "peak"
"""The bytes that are alive at once at most: the largest of some forms, see
:mod:`flopratio.verbs.formula.peak`."""

AT_A_MOMENT = ("gradients", "optimizer_state")
"""Of these, what is alive when they take most."""

_OF_ROWS = {
    "grad_input": "elementwise_backward",
    "grad_weight": "elementwise_backward",
    "forward": "elementwise_forward",
    "recompute": "elementwise_recompute",
    "update": "update",
}
"""Phase -> the quantity that its elementwise work belongs to."""


class Entry(NamedTuple):
    """One row's number, or one storage's."""

    quantity: str
    """One of :data:`QUANTITIES`."""
    layer: str
    """Its path; where the number of layers varies, ``h.*`` stands for all of them."""
    op: str
    autograd: str = ""
    """The node that runs it; of saved bytes, which of the tensors it is that the node keeps."""
    occurrence: int | None = 0
    """Which of several in its layer; None where their number varies: all of them."""

    def __str__(self) -> str:
        of = f"{self.op} ({self.autograd})" if self.autograd else self.op
        return f"{self.quantity} of {of or 'all'} in {self.layer or ROOT}"


@dataclass
class Sampled:
    """A step at one point.

    Args:
        entries: with the layers' names as they are; those of 0 are left out.
        types: layer -> class.
        settings: KEYs and their values, defaults included.
        dtype: of the numbers that it is run in.
        lives: what is alive in it, and when.
    """

    entries: dict[Entry, int]
    types: dict[str, str]
    settings: dict[str, object] = field(default_factory=dict)
    dtype: str | None = None
    lives: Lives = field(default=Lives((), ()), repr=False)


def entries_of(ledger: Ledger, recording: Recording, attribution: Attribution) -> dict[Entry, int]:
    """Every number of a step that may have a closed form."""
    seen: Counter[Entry] = Counter()
    entries: dict[Entry, int] = {}

    def add(value: int, quantity: str, layer: str, op: str, autograd: str = "") -> None:
        if value:
            entry = Entry(quantity, layer, op, autograd)
            entries[entry._replace(occurrence=seen[entry])] = value
            seen[entry] += 1

    for row in ledger.rows:
        add(row.flops, row.phase, row.layer, row.op, row.autograd)
        add(row.elementwise, _OF_ROWS[row.phase], row.layer, row.op, row.autograd + " ")
    for storage, (index, place) in attribution.keepers.items():
        keeper: Row = ledger.rows[index]
        nbytes = recording.storages[storage].nbytes
        # By its place: whether an operator shares one of its tensors may change with a size.
        add(nbytes, "saved_bytes", keeper.layer, keeper.op, f"tensor {place}")
    for layer, number in ledger.parameters.items():
        add(number, "parameters", layer, "")
    for category in AT_A_MOMENT:
        for layer, op, nbytes in _most(ledger.memory, category):
            add(nbytes, category, layer, op)
    return entries


def _most(memory: Memory, category: str) -> Iterator[tuple[str, str, int]]:
    """The layer, operator and size of each storage of a category, when most of it is alive."""
    blocks = [block for block in memory.blocks if block.category == category]
    lives = [(block.nbytes, block.born, block.died) for block in blocks]
    alive = bytes_alive(lives, len(memory.operators))
    moment = alive.index(max(alive))
    for block in blocks:
        if block.alive_at(moment):
            yield block.layer, block.op, block.nbytes


# -- names ---------------------------------------------------------------------------------------

_NUMBERED = re.compile(r"(.*?)(\d+)")

Path = tuple[str, ...]


class Names:
    """The names of the layers of several samples, where those whose numbers vary are one."""

    def __init__(self, samples: Sequence[Iterable[str]]) -> None:
        paths = [{tuple(name.split(".")) for name in names} for names in samples]
        self._varying: set[Path] = set()
        longest = max((len(path) for each in paths for path in each), default=0)
        for depth in range(longest):
            numbers: defaultdict[Path, dict[int, set[str]]] = defaultdict(dict)
            for index, each in enumerate(paths):
                for path in each:
                    numbered = _NUMBERED.fullmatch(path[depth]) if len(path) > depth else None
                    if numbered:
                        stem = (*self._canonical(path[:depth]), numbered[1])
                        numbers[stem].setdefault(index, set()).add(numbered[2])
            for stem, by_sample in numbers.items():
                found = list(by_sample.values())
                if len(found) < len(paths) or any(each != found[0] for each in found):
                    self._varying.add(stem)

    def _canonical(self, path: Path) -> Path:
        parts: Path = ()
        for part in path:
            numbered = _NUMBERED.fullmatch(part)
            varies = numbered is not None and (*parts, numbered[1]) in self._varying
            parts = (*parts, f"{numbered[1]}*" if varies and numbered else part)
        return parts

    def _numbers(self, layers: Iterable[str]) -> dict[Path, set[int]]:
        """The numbers of the layers of one sample whose number varies, by what they are in."""
        numbers: defaultdict[Path, set[int]] = defaultdict(set)
        for path in (tuple(name.split(".")) for name in layers):
            for depth, part in enumerate(path):
                numbered = _NUMBERED.fullmatch(part)
                stem = (*self._canonical(path[:depth]), numbered[1] if numbered else "")
                if numbered and stem in self._varying:
                    numbers[path[:depth]].add(int(numbered[2]))
        return numbers

    def fewest(self, layers: Iterable[str]) -> int:
        """How many layers there are at least in one sample of those whose number varies."""
        return min(map(len, self._numbers(layers).values()), default=0)

    def places(self, layers: Iterable[str]) -> dict[str, str]:
        """The name of each layer of one sample, where those of varying number are counted from the
        nearer end: ``h.0``, ``h.1``, ..., ``h.-2``, ``h.-1``."""
        numbers = {path: sorted(each) for path, each in self._numbers(layers).items()}
        found = {}
        for path in (tuple(name.split(".")) for name in layers):
            parts = list(path)
            for depth, part in enumerate(path):
                numbered = _NUMBERED.fullmatch(part)
                if numbered and path[:depth] in numbers:
                    of = numbers[path[:depth]]
                    place = from_nearer_end(of.index(int(numbered[2])), len(of))
                    parts[depth] = f"{numbered[1]}{place}"
            found[".".join(path)] = ".".join(parts)
        return found

    def canonical(self, name: str) -> str:
        """``h.*.attn`` for ``h.3.attn``, if the number of ``h`` varies."""
        return ".".join(self._canonical(tuple(name.split("."))))


def from_nearer_end(place: int, number: int) -> int:
    """The place among so many, 0, 1, ..., -2, -1."""
    return place if 2 * place < number else place - number


def align(samples: Sequence[Sampled]) -> list[dict[Entry, int]]:
    """The entries of several samples under names that are the same in all of them: of layers whose
    number varies, and of what stands in one layer a varying number of times, the sum."""
    names = Names([sample.types for sample in samples])
    canonical = {
        layer: names.canonical(layer)
        for layer in dict.fromkeys(entry.layer for each in samples for entry in each.entries)
    }
    counts: defaultdict[Entry, set[int]] = defaultdict(set)
    for sample in samples:
        here: Counter[Entry] = Counter(entry._replace(occurrence=None) for entry in sample.entries)
        for entry, count in here.items():
            counts[entry._replace(layer=canonical[entry.layer])].add(count)
    aligned = []
    for sample in samples:
        values: defaultdict[Entry, int] = defaultdict(int)
        for entry, value in sample.entries.items():
            merged = entry._replace(layer=canonical[entry.layer], occurrence=None)
            varies = len(counts[merged]) > 1
            values[merged if varies else merged._replace(occurrence=entry.occurrence)] += value
        aligned.append(dict(values))
    return aligned


def types_of(samples: Sequence[Sampled]) -> Mapping[str, str]:
    """The class of each layer, by the names of :func:`align`."""
    names = Names([sample.types for sample in samples])
    return {names.canonical(layer): kind for each in samples for layer, kind in each.types.items()}
