"""How phases are drawn: alike in every figure."""

from __future__ import annotations

from flopratio.report.figures.layers import GRADIENT_FILLS
from flopratio.report.figures.style import PHASE_COLOURS
from flopratio.report.figures.timed import PHASE_BARS, PHASE_MARKERS
from flopratio.verbs.profile.groups import UNDIVIDED


def test_a_phase_has_one_colour_in_all_figures() -> None:
    points = {phase: colour for phase, (colour, _) in PHASE_MARKERS.items()}
    bars = {phase: fill["facecolor"] for phase, fill in PHASE_BARS.items()}
    assert bars.pop(UNDIVIDED) == PHASE_COLOURS["grad_weight"]
    assert points == bars == PHASE_COLOURS
    assert GRADIENT_FILLS.items() <= PHASE_COLOURS.items()
    assert len(set(PHASE_COLOURS.values())) == len(PHASE_COLOURS)
