"""What the figures of a profiled step have in common: its layers with their times, and how each
phase is drawn."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from flopratio.report.figures.folding import without_numbers
from flopratio.report.figures.labels import Label
from flopratio.report.figures.style import BLUE, GREEN, GREY, ORANGE, RED
from flopratio.report.units import shorten
from flopratio.report.view import ROOT
from flopratio.roofline.prediction import is_more_of
from flopratio.verbs.profile.groups import AROUND, UNDIVIDED, Work, entries, group_of

if TYPE_CHECKING:
    from flopratio.ledger import Row
    from flopratio.verbs.profile import Profile
    from flopratio.verbs.profile.groups import Entry

PHASE_MARKERS = {
    "forward": (BLUE, "o"),
    "grad_input": (ORANGE, "s"),
    "grad_weight": (GREEN, "^"),
    "recompute": (RED, "D"),
    "update": (GREY, "v"),
}
"""Colour and marker of each phase's points."""

PHASE_BARS: dict[str, dict[str, Any]] = {
    "forward": {"facecolor": BLUE},
    "grad_input": {"facecolor": ORANGE},
    "grad_weight": {"facecolor": "#F6DFA4"},
    UNDIVIDED: {"facecolor": "#F6DFA4", "hatch": "xxx"},
    "recompute": {"facecolor": GREEN},
    "update": {"facecolor": "#D9D9D9"},
}
"""Fill of each phase's part of a bar; of neighbours one is darker."""

PHASE_NAMES = {UNDIVIDED: "grad_input or grad_weight"}
"""What a phase is called, where that is not its name."""


MAX_NAME = 26
"""Characters of a layer's name beside its point."""


class Point(NamedTuple):
    """What a layer's operators did in a phase."""

    layer: str
    phase: str
    work: Work

    def label(self, x: float, y: float) -> Label:
        """The layer's name beside the point; one is enough for all that stand in the same place of
        a repeated block."""
        return Label(x, y, shorten(self.layer or ROOT, MAX_NAME), without_numbers(self.layer))


def points_of(profile: Profile) -> list[Point]:
    """Each layer's phases, in the order in which they first ran. Work and time are those of the
    operators whose time is known: of a fused one that nothing divides there is neither."""
    found: dict[tuple[str, str], list[Entry]] = {}
    for entry in _bytes_divided(entries(profile)):
        row = entry.row
        if row.op == AROUND or row.time_us is not None:
            found.setdefault((row.layer, row.phase), []).append(entry)
    return [
        Point(layer, phase, group_of(layer, "", own).total)
        for (layer, phase), own in found.items()
        if phase in PHASE_MARKERS
    ]


def _bytes_divided(found: Iterable[Entry]) -> Iterator[Entry]:
    """The bytes of an operator that works for several phases, which stand in its first row, shared
    out by FLOP."""
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
