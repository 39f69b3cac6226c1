"""What forward keeps for backward, against batch and depth, with and without checkpointing."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from flopratio.report.figures.panels import (
    Panel,
    Series,
    choose_series,
    draw_columns,
    panels_of,
    series_of,
    title_of,
)
from flopratio.report.figures.style import MAX_MARKERS, legend_below, scale_by_doubling, write
from flopratio.report.units import Kind, choose

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


def saved_bytes_against_batch(frame: pd.DataFrame, directory: Path) -> list[Path]:
    """Bytes that forward keeps for backward; the legend has the slopes."""
    panels = panels_of(frame, "saved_bytes", along="batch")

    def draw(axes: Axes, panel: Panel) -> None:
        _draw(axes, panel, "batch", "example")
        scale_by_doubling(axes, panel.rows["batch"])
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set_xlabel("batch (examples)")

    title = _growth(panels, "batch")
    return write(directory, "saved_bytes_against_batch", title, panels, draw, height=4.5)


def saved_bytes_against_depth(frame: pd.DataFrame, directory: Path) -> list[Path]:
    """Bytes that forward keeps for backward; the legend has the slopes."""
    panels = panels_of(frame, "saved_bytes", along="depth")

    def draw(axes: Axes, panel: Panel) -> None:
        _draw(axes, panel, "depth", "layer")
        axes.set_ylim(bottom=0)
        axes.set_xlabel("depth (layers)")

    title = _growth(panels, "depth")
    return write(directory, "saved_bytes_against_depth", title, panels, draw, height=4.5)


def checkpointing_against_depth(frame: pd.DataFrame, directory: Path) -> list[Path]:
    """Bytes that forward keeps for backward, with and without the chain of layers in as many
    checkpoints as the root of its length; at the largest of every other key."""
    columns = {
        "saved_bytes": "all kept",
        "checkpointed_saved_bytes": "checkpointed in √n segments",
    }
    panels = panels_of(frame, *columns, "checkpointed_recompute", "forward", along="depth")
    deepest = [series_of(panel, "depth", "saved_bytes")[-1].rows.iloc[-1] for panel in panels]

    def draw(axes: Axes, panel: Panel) -> None:
        shown = draw_columns(axes, panel, "depth", columns, "saved activations")
        again = max(
            Fraction(row["checkpointed_recompute"], row["forward"])
            for _, row in shown.rows.iterrows()
        )
        axes.set_title(title_of(panel, shown, f"up to {float(again):.2f} forward again"))
        axes.set_ylim(bottom=0)
        axes.set_xlabel("depth (layers)")

    def title() -> str:
        shares = [row["checkpointed_saved_bytes"] / row["saved_bytes"] for row in deepest]
        ends = dict.fromkeys(f"{share:.0%}" for share in (min(shares), max(shares)))
        return f"Checkpointed, the deepest keep {' to '.join(ends)} of the saved activations"

    return write(directory, "checkpointing_against_depth", title, panels, draw)


def _draw(axes: Axes, panel: Panel, x: str, per: str) -> None:
    """Draw the lines of saved bytes against x.

    Args:
        per: what one more of x is called in the legend (``layer``).
    """
    chosen, legend = choose_series(panel, x, "saved_bytes")
    unit = choose((max(series.y) for series in chosen), Kind.BYTES)
    for series in chosen:
        slope = Fraction(series.y[-1] - series.y[0], series.x[-1] - series.x[0])
        slope_unit = choose([int(slope)], Kind.BYTES)
        rise = float(slope / slope_unit.size)
        axes.plot(
            series.x,
            [value / unit.size for value in series.y],
            label=f"{series.label}: {rise:.4g} {slope_unit.name} per {per}",
            markevery=max(1, len(series.x) // MAX_MARKERS),
        )
    axes.set_title(panel.model)
    axes.set_ylabel(f"saved activations ({unit.name})")
    legend_below(axes, legend, columns=1)


def _slopes(series: Series) -> set[Fraction]:
    """The exact slopes between neighbouring points; one, if the series is affine."""
    points = list(zip(series.x, series.y, strict=True))
    return {Fraction(d - b, c - a) for (a, b), (c, d) in pairwise(points)}


def _growth(panels: list[Panel], x: str) -> str:
    """The title: that the bytes are affine in x only where lines have more than two points, for two
    always are."""
    series = [s for panel in panels for s in series_of(panel, x, "saved_bytes")]
    affine = all(len(_slopes(s)) == 1 for s in series) and any(len(s.x) > 2 for s in series)
    return f"Saved activations {'are exactly affine in' if affine else 'against'} {x}"
