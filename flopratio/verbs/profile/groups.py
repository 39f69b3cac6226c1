"""A profile's operators, summed by layer, type, operator or phase: what each group did in each
phase, how long it took and how long it was predicted to take."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from flopratio.ledger import PHASES, Row
from flopratio.roofline import Expected
from flopratio.roofline.prediction import is_more_of

if TYPE_CHECKING:
    from flopratio.verbs.profile.result import Profile

AROUND = "(around operators)"
"""Where the time stands that a layer takes in a phase around its recorded operators."""

UNDIVIDED = "undivided"
"""The phase of fused backward operators that worked for the input's gradient and the weights', and
of whose time nothing tells how much for which."""

BACKWARD = ("grad_input", "grad_weight", UNDIVIDED)
"""The phases of backward, without what it computes again."""

GROUPS: dict[str, Callable[[Entry], str]] = {
    "layer": lambda entry: entry.row.layer,
    "type": lambda entry: entry.row.type,
    "op": lambda entry: entry.row.op,
    "phase": lambda entry: entry.row.phase,
}
"""What operators may be summed by."""


@dataclass(frozen=True)
class Work:
    """What some operators did, and how long it took.

    Args:
        ms: measured, in operators (on CUDA: in their kernels) and around them.
        predicted_ms: by the roofs of the device.
        flops: of contractions.
        elementwise: all other FLOP.
        nbytes: read and written.
        bound: what limits the prediction most: ``compute``, ``memory`` or ``launch``; ``none``
            where nothing is predicted to take time.
        at_roof_ms: what the contractions would take at the roof of their dtype.
    """

    ms: float = 0.0
    predicted_ms: float = 0.0
    flops: int = 0
    elementwise: int = 0
    nbytes: int = 0
    bound: str = "none"
    at_roof_ms: float = 0.0

    @property
    def flops_per_s(self) -> float | None:
        """Achieved, of contractions; None where no time was measured."""
        return self.flops / self.ms * 1e3 if self.ms else None

    @property
    def bytes_per_s(self) -> float | None:
        """Achieved; None where no time was measured."""
        return self.nbytes / self.ms * 1e3 if self.ms else None

    @property
    def intensity(self) -> float | None:
        """FLOP of contractions for each byte; None where none is moved."""
        return self.flops / self.nbytes if self.nbytes else None


@dataclass(frozen=True)
class Group:
    """Some operators of a step.

    Args:
        name: what they have in common: the layer's path, the type, the operator or the phase.
        type: of a layer.
        phases: phase -> what they did in it, :data:`UNDIVIDED` among them; only where they ran.
        total: of all phases.
        layers: how many they come from.
    """

    name: str
    type: str
    phases: Mapping[str, Work]
    total: Work
    layers: int

    def ms(self, *phases: str) -> float:
        """Milliseconds in some phases together."""
        return sum(self.phases[phase].ms for phase in phases if phase in self.phases)

    def at_roof_ms(self, *phases: str) -> float:
        """What the contractions of some phases would take at the roof of their dtype."""
        return sum(self.phases[phase].at_roof_ms for phase in phases if phase in self.phases)

    @property
    def backward_ms(self) -> float:
        """Without what backward computes again."""
        return self.ms(*BACKWARD)

    @property
    def time_ratio(self) -> float | None:
        """Backward over forward in time; None where forward took none."""
        forward = self.ms("forward")
        return self.backward_ms / forward if forward else None


class Entry(NamedTuple):
    """An operator in a phase, or the time around some."""

    row: Row
    ms: float
    expected: Expected = Expected(0.0, "none")


def entries(profile: Profile) -> Iterator[Entry]:
    """Everything that a profile knows the time of, each once; the bytes of an operator that works
    for several phases, which stand in its first row, shared out over its rows by FLOP."""
    ledger, profiled = profile.ledger, profile.profiled
    yield from _bytes_divided(
        Entry(row, (row.time_us or 0.0) / 1e3, expected)
        for row, expected in zip(ledger.rows, profile.prediction.expected, strict=True)
    )
    for (layer, phase), us in profiled.rest.items():
        yield Entry(Row(layer, ledger.types.get(layer, ""), AROUND, "", phase), us / 1e3)
    for layer, us in profiled.undivided.items():
        yield Entry(Row(layer, ledger.types.get(layer, ""), AROUND, "", UNDIVIDED), us / 1e3)


def _bytes_divided(found: Iterable[Entry]) -> Iterator[Entry]:
    operator: list[Entry] = []
    for entry in found:
        if operator and not is_more_of(operator[0].row, entry.row):
            yield from _divided(operator)
            operator = []
        operator.append(entry)
    yield from _divided(operator)


def _divided(operator: list[Entry]) -> Iterator[Entry]:
    if len(operator) < 2:
        yield from operator
        return
    flops = sum(_flops(entry.row) for entry in operator)
    nbytes = sum(_nbytes(entry.row) for entry in operator)
    done = 0
    for entry in operator:
        before, done = done, done + _flops(entry.row)
        own = nbytes * done // flops - nbytes * before // flops
        yield entry._replace(row=entry.row._replace(bytes_read=own, bytes_written=0))


def _flops(row: Row) -> int:
    return row.flops + row.elementwise


def _nbytes(row: Row) -> int:
    return row.bytes_read + row.bytes_written


def grouped(profile: Profile, by: str = "layer", fold: Callable[[str], str] = str) -> list[Group]:
    """The operators of a profile in groups, in the order in which they first ran.

    Args:
        by: one of :data:`GROUPS`.
        fold: layer -> the module that it is counted with.
    """
    key, types = GROUPS[by], profile.ledger.types
    collected: dict[str, list[Entry]] = {}
    for entry in entries(profile):
        layer = fold(entry.row.layer)
        if layer != entry.row.layer:
            row = entry.row._replace(layer=layer, type=types.get(layer, ""))
            entry = entry._replace(row=row)
        collected.setdefault(key(entry), []).append(entry)
    if by == "phase":
        order = (*PHASES, UNDIVIDED)
        collected = {phase: collected[phase] for phase in order if phase in collected}
    return [
        group_of(name, found[0].row.type if by == "layer" else "", found)
        for name, found in collected.items()
    ]


def group_of(name: str, kind: str, found: list[Entry]) -> Group:
    """Some entries as one group."""
    phases: defaultdict[str, list[Entry]] = defaultdict(list)
    for entry in found:
        phases[entry.row.phase].append(entry)
    return Group(
        name,
        kind,
        {phase: _work(own) for phase, own in phases.items()},
        _work(found),
        len({entry.row.layer for entry in found}),
    )


def _work(found: list[Entry]) -> Work:
    bounds: defaultdict[str, float] = defaultdict(float)
    for entry in found:
        bounds[entry.expected.bound] += entry.expected.seconds
    bound = max(bounds, key=lambda name: bounds[name])
    rows = [entry.row for entry in found]
    return Work(
        ms=sum(entry.ms for entry in found),
        predicted_ms=1e3 * sum(bounds.values()),
        flops=sum(row.flops for row in rows),
        elementwise=sum(row.elementwise for row in rows),
        nbytes=sum(row.bytes_read + row.bytes_written for row in rows),
        bound=bound if bounds[bound] else "none",
        at_roof_ms=1e3 * sum(entry.expected.at_roof for entry in found),
    )
