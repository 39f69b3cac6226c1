"""Every figure of a profiled step."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from flopratio.report.figures.layer_times import layer_times
from flopratio.report.figures.predicted_against_measured import predicted_against_measured
from flopratio.report.figures.roofline import roofline

if TYPE_CHECKING:
    from flopratio.verbs.profile import Profile

FIGURES = (roofline, layer_times, predicted_against_measured)
"""Each is called as its files are."""


def draw_profile(profile: Profile, directory: Path) -> list[Path]:
    """Draw every figure for which the data are there.

    Args:
        directory: where the files go; it must exist.

    Returns:
        The files written.
    """
    return [path for figure in FIGURES for path in figure(profile, directory)]
