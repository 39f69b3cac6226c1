"""How all figures look, and the drawing that they have in common.

Series differ in colour, marker and line style, and fills in lightness, so that they can be told
apart in grey and by the colour-blind.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import matplotlib as mpl
from cycler import cycler
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from matplotlib.transforms import ScaledTranslation

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#666666"
"""From Okabe and Ito's palette, which the colour-blind can tell apart."""

PALE_ORANGE, PALE_GREY = "#F6DFA4", "#D9D9D9"
"""For fills, which have a dark edge."""

PHASE_COLOURS = {
    "forward": BLUE,
    "grad_input": ORANGE,
    "grad_weight": PALE_ORANGE,
    "recompute": GREEN,
    "update": PALE_GREY,
}
"""The fill of each phase in every figure; of neighbours in a bar one is darker."""

STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.prop_cycle": cycler(
        color=[BLUE, RED, GREEN, ORANGE],
        marker=["o", "s", "^", "D"],
        linestyle=["-", "--", "-.", ":"],
    ),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "figure.constrained_layout.use": True,
    "figure.titlesize": 12,
    "figure.titleweight": "bold",
    "font.size": 9,
    "grid.color": "#E4E4E4",
    "legend.frameon": False,
    "lines.markersize": 5,
    "savefig.dpi": 150,
    # The same figure is the same file: no random ids (and no date, see save).
    "svg.fonttype": "path",
    "svg.hashsalt": "flopratio",
}

REFERENCE: dict[str, Any] = {"color": "black", "marker": "", "linestyle": "-", "linewidth": 1}
"""A line that the points are to be compared with."""

PANEL_WIDTH, PANEL_HEIGHT = 4.7, 3.9
"""Inches."""

MAX_BARS, MAX_TICKS, MAX_MARKERS = 12, 10, 20
"""How many bars of a figure, ticks of an axis and markers of a line can be read."""

Value = TypeVar("Value")


def write(
    directory: Path,
    name: str,
    title: str | Callable[[], str],
    panels: Sequence[Any],
    draw: Callable[[Axes, Any], None],
    *,
    width: float = PANEL_WIDTH,
    height: float = PANEL_HEIGHT,
) -> list[Path]:
    """Draw panels side by side as :func:`drawn` does, and write the figure as PNG and SVG.

    Args:
        name: of the files.

    Returns:
        The files written; none if there are no panels.
    """
    return write_figure(directory, name, drawn(title, panels, draw, width=width, height=height))


def drawn(
    title: str | Callable[[], str],
    panels: Sequence[Any],
    draw: Callable[[Axes, Any], None],
    *,
    width: float = PANEL_WIDTH,
    height: float = PANEL_HEIGHT,
) -> Figure | None:
    """Draw panels side by side.

    Args:
        title: above all panels; a function if it is known only once they are drawn.
        draw: draws one of the panels.
        width, height: of one panel, in inches.

    Returns:
        The figure; None if there are no panels.
    """
    if not panels:
        return None
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width * max(len(panels), 1.3), height))
        for axes, panel in zip(
            figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
        ):
            draw(axes, panel)
        figure.suptitle(title if isinstance(title, str) else title(), x=0.01, ha="left")
    return figure


def write_figure(directory: Path, name: str, figure: Figure | None) -> list[Path]:
    """Write a figure as PNG and SVG.

    Args:
        name: of the files.

    Returns:
        The files written; none if there is no figure.
    """
    if figure is None:
        return []
    paths = [directory / f"{name}.{extension}" for extension in ("png", "svg")]
    with mpl.rc_context(STYLE):
        for path in paths:
            save(figure, path)
            # Laid out once: the second file takes the same places.
            figure.set_layout_engine("none")
    return paths


def save(figure: Figure, path: Path) -> None:
    """Write a figure in the format that the extension says; without a date, which an SVG would
    have."""
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def plain(name: str) -> str:
    """A name as text in a figure: what stands between two dollars would be read as a formula."""
    return name.replace("$", "\\$")


def spread(values: Sequence[Value], count: int) -> list[Value]:
    """At most ``count`` of the values, evenly spread, with the first and the last."""
    if len(values) <= count:
        return list(values)
    return [values[round(i * (len(values) - 1) / (count - 1))] for i in range(count)]


def scale_by_doubling(axes: Axes, values: Iterable[Any]) -> None:
    """Make the horizontal axis logarithmic if its values about double from one to the next."""
    distinct = sorted({int(value) for value in values})
    steps = [b / a for a, b in pairwise(distinct) if a > 0]
    if distinct[0] > 0 and statistics.median(steps) >= 1.5:
        axes.set_xscale("log", base=2)
        ticks = spread(distinct, MAX_TICKS)
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.xaxis.set_minor_locator(NullLocator())


def draw_guides(axes: Axes, levels: Sequence[float]) -> None:
    """Draw horizontal lines at the levels from 1 to 2, and at those above that the data reach, with
    their names at the right edge."""
    low, high = axes.get_ylim()
    low, high = min(low, 0.95), max(high, 2.05)
    near = [level for level in levels if level <= high + 0.1]
    axes.set_ylim(low, max(high, near[-1] + 0.05))
    for level in near:
        axes.axhline(level, color=GREY, linestyle=(0, (1, 2)), linewidth=1, zorder=1, marker="")
        write_beside(axes, level, f"{level:g} : 1")


def write_beside(axes: Axes, height: float, text: str) -> None:
    """Write at the right edge, at a height that is a value of the vertical axis."""
    axes.annotate(
        text,
        (1, height),
        xycoords=("axes fraction", "data"),
        xytext=(5, 0),
        textcoords="offset points",
        va="center",
        color=GREY,
    )


def legend_below(axes: Axes, title: str = "", columns: int = 2) -> None:
    """Put the legend below the horizontal axis and its label, where no data are."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    axes.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, 0),
        bbox_transform=axes.transAxes + ScaledTranslation(0, -0.42, figure.dpi_scale_trans),
        ncols=columns,
        title=title or None,
        columnspacing=1.2,
    )
