"""Attention's share of a transformer's FLOP, against the length of the sequence."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from flopratio.report.figures.panels import Panel, choose_series, monotonic, name_ends, panels_of
from flopratio.report.figures.style import legend_below, scale_by_doubling, write

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

SHARE = "attention_share"


def attention_share_against_seq(frame: pd.DataFrame, directory: Path) -> list[Path]:
    """The two products of attention as a share of all of forward; of backward it is the same."""
    panels = [
        replace(panel, rows=panel.rows.assign(**{SHARE: _share(panel.rows)}))
        for panel in panels_of(frame, "attention_forward", "forward", along="seq")
    ]

    def draw(axes: Axes, panel: Panel) -> None:
        chosen, legend = choose_series(panel, "seq", SHARE)
        for series in chosen:
            axes.plot(series.x, series.y, label=series.label)
        scale_by_doubling(axes, panel.rows["seq"])
        axes.set_ylim(bottom=0)
        axes.set_title(name_ends(panel, [chosen[0], chosen[-1]]))
        axes.set_xlabel("seq (positions)")
        axes.set_ylabel("share of FLOP (%)")
        legend_below(axes, legend)

    title = "Attention's share of the FLOPs climbs with seq"
    if not all(monotonic(panel, "seq", SHARE, rising=True) for panel in panels):
        title = "Attention's share of the FLOPs against seq"
    return write(directory, "attention_share_against_seq", title, panels, draw)


def _share(rows: pd.DataFrame) -> pd.Series[float]:
    """Attention's share of forward, in percent."""
    return 100 * rows["attention_forward"].astype(float) / rows["forward"].astype(float)
