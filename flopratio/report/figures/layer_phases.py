"""What each layer measured and should have measured in each phase: the points of the figures of a
profiled step."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flopratio.ledger import Row
from flopratio.report.figures.style import BLUE, GREEN, GREY, ORANGE, RED
from flopratio.report.view import ROOT

if TYPE_CHECKING:
    from flopratio.verbs.profile import Profile

PHASE_MARKERS = {
    "forward": (BLUE, "o"),
    "grad_input": (ORANGE, "s"),
    "grad_weight": (GREEN, "^"),
    "recompute": (RED, "D"),
    "update": (GREY, "v"),
}
"""Colour and marker of each phase's points."""


@dataclass(frozen=True)
class LayerPhase:
    """One layer's operators of one phase, those whose time was measured.

    Args:
        flops: all of their arithmetic, of contractions or not.
        nbytes: read and written.
        us: measured, in microseconds.
        expected_us: predicted.
        dtypes: that their contractions compute in.
    """

    layer: str
    phase: str
    flops: int
    nbytes: int
    us: float
    expected_us: float
    dtypes: frozenset[str]

    @property
    def name(self) -> str:
        """The layer's, for people."""
        return self.layer or ROOT

    @property
    def intensity(self) -> float:
        """FLOP per byte."""
        return self.flops / self.nbytes

    @property
    def flops_per_s(self) -> float:
        """As achieved."""
        return 1e6 * self.flops / self.us


def layer_phases(profile: Profile) -> list[LayerPhase]:
    """Each layer's operators of each phase, in the order in which they first ran; without those
    whose time is not known (views, and what no event answers to)."""
    groups: defaultdict[tuple[str, str], list[tuple[Row, float]]] = defaultdict(list)
    for row, expected in zip(profile.ledger.rows, profile.prediction.expected, strict=True):
        if row.time_us is not None:
            groups[row.layer, row.phase].append((row, 1e6 * expected.seconds))
    return [_summed(*place, group) for place, group in groups.items()]


def _summed(layer: str, phase: str, timed: Iterable[tuple[Row, float]]) -> LayerPhase:
    rows, expected = zip(*timed, strict=True)
    return LayerPhase(
        layer,
        phase,
        flops=sum(row.flops + row.elementwise for row in rows),
        nbytes=sum(row.bytes_read + row.bytes_written for row in rows),
        us=sum(row.time_us or 0.0 for row in rows),
        expected_us=sum(expected),
        dtypes=frozenset(row.dtype for row in rows if row.flops),
    )
