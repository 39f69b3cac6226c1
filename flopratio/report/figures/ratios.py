"""The ratio of backward and forward FLOP, against depth and batch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from flopratio.report.figures.panels import Panel, choose_series, monotonic, name_ends, panels_of
from flopratio.report.figures.style import (
    REFERENCE,
    draw_guides,
    legend_below,
    scale_by_doubling,
    write,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


def ratio_against_depth(frame: pd.DataFrame, directory: Path) -> list[Path]:
    """FLOP of backward over forward; the theory, 2 minus the first layer's share, goes through the
    points. Where the first layer is a lookup, the ratio is 2 at any depth: no panel."""
    if "first_layer_share" in frame:
        frame = frame[frame["first_layer_share"] != 0]
    panels = panels_of(frame, "ratio", "first_layer_share", along="depth")

    def draw(axes: Axes, panel: Panel) -> None:
        chosen, legend = choose_series(panel, "depth", "ratio")
        for series in chosen:
            theory = [2 - share for share in series.rows["first_layer_share"]]
            axes.plot(series.x, series.y, linestyle="", label=series.label)
            axes.plot(series.x, theory, **REFERENCE)
        axes.plot([], [], **REFERENCE, label="2 - first layer's share")
        scale_by_doubling(axes, panel.rows["depth"])
        draw_guides(axes, (1, 1.5, 2))
        axes.set_title(name_ends(panel, [chosen[0], chosen[-1]]))
        axes.set_xlabel("depth (layers)")
        axes.set_ylabel("FLOP, backward : forward")
        legend_below(axes, legend)

    title = "Backward FLOPs climb towards twice forward with depth"
    if not all(monotonic(panel, "depth", "ratio", rising=True) for panel in panels):
        title = "Backward : forward against depth"
    return write(directory, "ratio_against_depth", title, panels, draw)


def ratio_with_update_against_batch(frame: pd.DataFrame, directory: Path) -> list[Path]:
    """FLOP of backward and update over forward: the update's part fades as the batch grows."""
    panels = panels_of(frame, "ratio_with_update", along="batch")

    def draw(axes: Axes, panel: Panel) -> None:
        chosen, legend = choose_series(panel, "batch", "ratio_with_update")
        for series in chosen:
            axes.plot(series.x, series.y, label=series.label)
        scale_by_doubling(axes, panel.rows["batch"])
        draw_guides(axes, (1, 2, 3))
        axes.set_title(name_ends(panel, [chosen[0], chosen[-1]]))
        axes.set_xlabel("batch (examples)")
        axes.set_ylabel("FLOP, (backward + update) : forward")
        legend_below(axes, legend)

    title = "The update's share of the FLOPs fades as the batch grows"
    if not all(monotonic(p, "batch", "ratio_with_update", rising=False) for p in panels):
        title = "(Backward + update) : forward against batch"
    return write(directory, "ratio_with_update_against_batch", title, panels, draw)
