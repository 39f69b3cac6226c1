"""The predicted time of each layer and phase against the measured one."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.ticker import EngFormatter

from flopratio.report.figures.labels import label_points
from flopratio.report.figures.panels import MAX_TITLE
from flopratio.report.figures.style import REFERENCE, legend_below, plain, write
from flopratio.report.figures.timed import PHASE_MARKERS, points_of
from flopratio.report.units import shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from flopratio.verbs.profile import Profile

TIME = EngFormatter(unit="s", places=1)
"""Writes a time with its prefix: ``85.3 ms``."""

MAX_NAMES = 5
"""How many points are named, of those whose prediction is most milliseconds off."""


def predicted_against_measured(profile: Profile, directory: Path) -> list[Path]:
    """Predicted against measured time of every layer's phases, both axes logarithmic, with the
    diagonal, and twice and half of it. Operators whose time is not known are in neither."""
    points = [p for p in points_of(profile) if p.work.ms > 0 and p.work.predicted_ms > 0]

    def draw(axes: Axes, _: None) -> None:
        axes.set_xscale("log")
        axes.set_yscale("log")
        for phase, (colour, marker) in PHASE_MARKERS.items():
            own = [point.work for point in points if point.phase == phase]
            if own:
                axes.plot(
                    [work.ms / 1e3 for work in own],
                    [work.predicted_ms / 1e3 for work in own],
                    marker,
                    color=colour,
                    markeredgecolor="black",
                    markeredgewidth=0.4,
                    alpha=0.8,
                    label=phase,
                )
        low = min(*axes.get_xlim(), *axes.get_ylim())
        high = max(*axes.get_xlim(), *axes.get_ylim())
        axes.plot([low, high], [low, high], **REFERENCE, label="as measured", zorder=1)
        for factor, label in ((2.0, "half or twice that"), (0.5, None)):
            ends = [factor * low, factor * high]
            axes.plot([low, high], ends, **{**REFERENCE, "linestyle": ":"}, label=label, zorder=1)
        axes.set_xlim(low, high)
        axes.set_ylim(low, high)
        axes.set_aspect("equal")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(EngFormatter(unit="s"))
        axes.set_xlabel("measured")
        axes.set_ylabel("predicted")
        axes.set_title(plain(shorten(profile.roofs.name, MAX_TITLE)))
        off = statistics.median(abs(p.work.predicted_ms / p.work.ms - 1) for p in points)
        axes.annotate(
            f"median departure {off:.0%}", (0.03, 0.97), xycoords="axes fraction", va="top"
        )
        legend_below(axes, "a point for each layer and phase", columns=3)
        worst = sorted(points, key=lambda p: -abs(p.work.predicted_ms - p.work.ms))
        label_points(
            axes,
            [p.label(p.work.ms / 1e3, p.work.predicted_ms / 1e3) for p in worst],
            MAX_NAMES,
        )

    predicted, measured = profile.prediction.step_seconds, profile.timing.step_ms.median / 1e3
    title = f"A step of {TIME(measured)} was predicted to take {TIME(predicted)}"
    panels = [None] if points else []
    return write(directory, "predicted_against_measured", title, panels, draw, width=4, height=5.5)
