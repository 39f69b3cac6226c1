"""The measured time of a step: its ratio beside that of the FLOP, and its parts."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flopratio.report.figures.panels import (
    MAX_SERIES,
    Panel,
    median_of,
    panels_of,
    representative,
)
from flopratio.report.figures.style import (
    BLUE,
    ORANGE,
    PALE_GREY,
    REFERENCE,
    legend_below,
    plain,
    write,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


PHASE_FILLS = {"forward": BLUE, "backward": ORANGE, "update": PALE_GREY}
"""Fills of the parts of a step, from dark to light."""


def time_ratio_against_flop_ratio(frame: pd.DataFrame, directory: Path) -> list[Path]:
    """Measured time of backward over forward, with 95% intervals, against that of FLOP."""
    panels = panels_of(frame, "ratio", "time_ratio", "time_ratio_low", "time_ratio_high")

    def draw(axes: Axes, panel: Panel) -> None:
        left: list[float] = []
        few = [key for key in panel.keys if panel.rows[key].nunique() <= MAX_SERIES]
        key = "batch" if "batch" in few else next(iter(few), None)
        groups = panel.rows.groupby(key) if key else [("", panel.rows)]
        ends = [min(panel.rows["ratio"]), max(panel.rows["ratio"])]
        bottom, top = _view([*panel.rows["time_ratio"], *ends])
        for value, rows in groups:
            time, low, high = (
                rows[name].astype(float)
                for name in ("time_ratio", "time_ratio_low", "time_ratio_high")
            )
            bars = axes.errorbar(
                rows["ratio"].astype(float),
                time,
                yerr=[time - low, high - time],
                linestyle="",
                markersize=4,
                elinewidth=0.7,
                capsize=1.5,
                alpha=0.8,
                label=plain(f"{key} {value}") if key else "measured",
            )
            color = bars.lines[0].get_color()
            for edge, leaves, marker in ((top, high > top, "^"), (bottom, low < bottom, "v")):
                for ratio in rows["ratio"].astype(float)[leaves]:
                    axes.plot(ratio, edge, marker, color=color, markersize=6, clip_on=False)
                    left.append(ratio)
        axes.plot(ends, ends, **REFERENCE, label="time as FLOP")
        if left:
            axes.plot([], [], "^", color="gray", label="an interval leaves the view")
        axes.set_ylim(bottom, top)
        axes.set_title(
            f"{panel.model}: median time {median_of(panel, 'time_ratio'):.2f},"
            f" FLOP {median_of(panel, 'ratio'):.2f}"
        )
        axes.set_xlabel("FLOP, backward : forward")
        axes.set_ylabel("time, backward : forward")
        legend_below(axes)

    departures = [
        abs(time / flop - 1)
        for panel in panels
        for time, flop in zip(panel.rows["time_ratio"], panel.rows["ratio"], strict=True)
        if flop
    ]
    title = ""
    if departures:
        title = (
            "The time ratio departs from the FLOP ratio by"
            f" {statistics.median(departures):.0%} (median)"
        )
    return write(directory, "time_ratio_against_flop_ratio", title, panels, draw)


def _view(values: Sequence[float]) -> tuple[float, float]:
    """The limits of an axis that shows these values: an interval far wider than all of them would
    leave nothing to be seen of them."""
    low, high = min(values), max(values)
    margin = (high - low or high) / 4
    return max(0.0, low - margin), high + margin


def share_of_step(frame: pd.DataFrame, directory: Path) -> list[Path]:
    """Forward, backward and update as parts of a step's measured time."""
    panels = panels_of(frame, "forward_ms", "backward_ms", "update_ms")
    backward: list[float] = []

    def draw(axes: Axes, panel: Panel) -> None:
        rows = representative(panel)
        labels = [
            plain(", ".join(f"{key} {row[key]}" for key in panel.keys)) or panel.model
            for _, row in rows.iterrows()
        ]
        steps = [[float(row[f"{phase}_ms"]) for phase in PHASE_FILLS] for _, row in rows.iterrows()]
        shares = [[time / sum(step) for time in step] for step in steps]
        start = [0.0] * len(shares)
        for index, (phase, fill) in enumerate(PHASE_FILLS.items()):
            widths = [100 * share[index] for share in shares]
            bars = axes.barh(labels, widths, left=start, color=fill, edgecolor="white", label=phase)
            texts = [f"{width:.0f}%" if width >= 8 else "" for width in widths]
            axes.bar_label(
                bars, texts, label_type="center", color="white" if fill == BLUE else "black"
            )
            start = [a + b for a, b in zip(start, widths, strict=True)]
        backward.extend(share[1] for share in shares)
        axes.invert_yaxis()
        axes.grid(visible=False)
        axes.tick_params(axis="y", length=0)
        axes.set_xlim(0, 100)
        axes.set_title(panel.model)
        axes.set_xlabel("share of the step's time (%)")
        legend_below(axes, columns=3)

    def title() -> str:
        ends = dict.fromkeys(f"{share:.0%}" for share in (min(backward), max(backward)))
        return f"Backward takes {' to '.join(ends)} of a step's time"

    return write(directory, "share_of_step", title, panels, draw)
