"""The ratio of times from steps that are all launches to steps that are all products."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from flopratio.report.figures.panels import MAX_SERIES
from flopratio.report.figures.style import (
    GREY,
    REFERENCE,
    legend_below,
    scale_by_doubling,
    spread,
    write,
    write_beside,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


BOUNDS: dict[str, tuple[dict[str, Any], str]] = {
    "compute": ({"fillstyle": "full"}, "predicted: most is arithmetic"),
    "memory": ({"fillstyle": "left", "markerfacecoloralt": "white"}, "predicted: most is memory"),
    "launch": ({"markerfacecolor": "white"}, "predicted: most is launches"),
}
"""What binds most of a step, as predicted -> how its marker is filled, and the legend."""


def time_ratio_against_size(frame: pd.DataFrame, directory: Path) -> list[Path]:
    """Time of backward over forward against batch and against width, as measured and as predicted,
    with the ratio of FLOP.

    Args:
        frame: a row a step: ``batch``, ``width``, ``ratio`` (of FLOP), ``time_ratio`` with the ends
            of its interval in ``..._low`` and ``..._high``, ``predicted_time_ratio``, and
            ``bound``, one of :data:`BOUNDS`.
    """
    both = [("batch", "width", "batch (examples)"), ("width", "batch", "width (units of a layer)")]
    panels = [panel for panel in both if not frame.empty and frame[panel[0]].nunique() > 1]

    def draw(axes: Axes, panel: tuple[str, str, str]) -> None:
        along, other, label = panel
        for value in spread(sorted(frame[other].unique()), MAX_SERIES):
            rows = frame[frame[other] == value].sort_values(along)
            _draw_line(axes, rows, along, f"{other} {value}")
        flops = float(frame["ratio"].median())
        axes.axhline(flops, **REFERENCE, zorder=1)
        write_beside(axes, flops, f"FLOP\n{flops:.2f} : 1")
        axes.plot([], [], color=GREY, marker="", linestyle=":", label="predicted ratio")
        for bound, (fill, name) in BOUNDS.items():
            if (frame["bound"] == bound).any():
                axes.plot([], [], "o", color=GREY, label=name, **fill)
        scale_by_doubling(axes, frame[along])
        shown = frame[["time_ratio", "predicted_time_ratio", "ratio"]].max()
        top = 1.15 * float(shown.max())
        axes.set_ylim(0, top)
        axes.set_xlabel(label)
        axes.set_ylabel("time, backward : forward")
        axes.set_title(f"against {along}")
        is_cut = (frame["time_ratio_high"] > top).any()
        legend_below(axes, "an interval leaves the view" if is_cut else "")

    low, high = frame["time_ratio"].min(), frame["time_ratio"].max()
    title = f"The same network's backward takes {low:.2g} to {high:.2g} times its forward's time"
    return write(directory, "time_ratio_against_size", title, panels, draw, height=4.6)


def _draw_line(axes: Axes, rows: pd.DataFrame, along: str, label: str) -> None:
    """One line of measured ratios, with intervals, its markers filled by what binds each step; and
    one of the predicted ratios in its colour."""
    ratio = rows["time_ratio"]
    apart = [ratio - rows["time_ratio_low"], rows["time_ratio_high"] - ratio]
    bars = axes.errorbar(
        rows[along], ratio, yerr=apart, linestyle="-", elinewidth=0.7, capsize=2, zorder=2
    )
    line = bars.lines[0]
    line.set_label(label)
    color, marker = line.get_color(), line.get_marker()
    axes.plot(rows[along], rows["predicted_time_ratio"], color=color, marker="", linestyle=":")
    for bound, (fill, _) in BOUNDS.items():
        own = rows[rows["bound"] == bound]
        axes.plot(
            own[along],
            own["time_ratio"],
            color=color,
            marker=marker,
            linestyle="",
            zorder=3,
            **fill,
        )
