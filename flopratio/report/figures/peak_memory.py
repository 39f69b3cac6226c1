"""The peak memory of training and inference, against batch and depth."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from flopratio.report.figures.panels import Panel, draw_columns, panels_of, title_of
from flopratio.report.figures.style import scale_by_doubling, write

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


PEAKS = {
    "peak_bytes": "training",
    "checkpointed_peak_bytes": "training, checkpointed",
    "inference_peak_bytes": "inference",
}
"""The columns of a figure of memory, and what they are called in it."""


def memory_against_batch(frame: pd.DataFrame, directory: Path) -> list[Path]:
    """Peak bytes of training, with and without checkpointing, and of inference; at the largest of
    every other key."""

    def scale(axes: Axes, panel: Panel) -> None:
        scale_by_doubling(axes, panel.rows["batch"])
        low, high = axes.get_ylim()
        if high > 10 * low:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")
        else:
            axes.set_ylim(bottom=0)
        axes.set_xlabel("batch (examples)")

    return _memory(frame, directory, "batch", scale)


def memory_against_depth(frame: pd.DataFrame, directory: Path) -> list[Path]:
    """Peak bytes of training, with and without checkpointing, and of inference; at the largest of
    every other key."""

    def scale(axes: Axes, panel: Panel) -> None:
        axes.set_ylim(bottom=0)
        axes.set_xlabel("depth (layers)")

    return _memory(frame, directory, "depth", scale)


def _memory(
    frame: pd.DataFrame, directory: Path, x: str, scale: Callable[[Axes, Panel], None]
) -> list[Path]:
    """A figure of peak bytes against x, whose axes ``scale`` scales and names."""
    panels = panels_of(frame, "peak_bytes", "inference_peak_bytes", along=x)
    ratios: list[float] = []

    def draw(axes: Axes, panel: Panel) -> None:
        shown = draw_columns(axes, panel, x, PEAKS, "peak memory")
        own = [row["peak_bytes"] / row["inference_peak_bytes"] for _, row in shown.rows.iterrows()]
        axes.set_title(title_of(panel, shown, f"{min(own):.3g} to {max(own):.3g} x inference"))
        ratios.extend(own)
        scale(axes, panel)

    def title() -> str:
        if min(ratios) <= 1:
            return f"Peak memory of training and inference against {x}"
        return f"Training peaks at {min(ratios):.3g} to {max(ratios):.3g} times inference's memory"

    return write(directory, f"memory_against_{x}", title, panels, draw)
