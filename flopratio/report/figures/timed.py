"""What the figures of a profiled step have in common: its layers with their times, and how each
phase is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from flopratio.ledger import ROOT
from flopratio.report.figures.labels import Label
from flopratio.report.figures.style import PHASE_COLOURS
from flopratio.report.units import shorten
from flopratio.text.patterns import without_numbers
from flopratio.verbs.profile.groups import AROUND, UNDIVIDED, Work, entries, group_of

if TYPE_CHECKING:
    from flopratio.verbs.profile import Profile
    from flopratio.verbs.profile.groups import Entry

_MARKERS = {"forward": "o", "grad_input": "s", "grad_weight": "^", "recompute": "D", "update": "v"}

PHASE_MARKERS = {phase: (PHASE_COLOURS[phase], marker) for phase, marker in _MARKERS.items()}
"""Colour and marker of each phase's points."""

PHASE_BARS: dict[str, dict[str, Any]] = {
    phase: {"facecolor": PHASE_COLOURS[phase]} for phase in ("forward", "grad_input", "grad_weight")
}
PHASE_BARS[UNDIVIDED] = {"facecolor": PHASE_COLOURS["grad_weight"], "hatch": "xxx"}
PHASE_BARS |= {phase: {"facecolor": PHASE_COLOURS[phase]} for phase in ("recompute", "update")}
"""Fill of each phase's part of a bar, in the order in which they stand."""

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
    for entry in entries(profile):
        row = entry.row
        if row.op == AROUND or row.time_us is not None:
            found.setdefault((row.layer, row.phase), []).append(entry)
    return [
        Point(layer, phase, group_of(layer, "", own).total)
        for (layer, phase), own in found.items()
        if phase in PHASE_MARKERS
    ]
