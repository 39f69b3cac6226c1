"""A sweep's rows as its figures show them: one panel for each model, and in it one line for each
value of the KEYs on which the figure depends."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from flopratio.report.figures.style import MAX_BARS, MAX_MARKERS, legend_below, plain, spread
from flopratio.report.units import Kind, choose

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

MAX_SERIES = 4
"""More lines than these can't be told apart."""
MAX_TITLE = 56
"""Characters that fit above a panel."""
ALONE = "counted"
"""The label of a panel's only line, where there are no other KEYs to name."""


@dataclass(frozen=True)
class Panel:
    """One model's rows that have the figure's columns.

    Args:
        model: its name, as text of a figure.
        keys: the KEYs of the grid that differ between these rows.
    """

    model: str
    rows: pd.DataFrame
    keys: list[str]


@dataclass(frozen=True)
class Series:
    """One line of a panel.

    Args:
        label: the KEYs that tell it from the panel's other lines; :data:`ALONE` if it has none.
        x, y: of its points, in the order of x.
        rows: of its points.
    """

    label: str
    x: list[Any]
    y: list[Any]
    rows: pd.DataFrame


def panels_of(frame: pd.DataFrame, *columns: str, along: str | None = None) -> list[Panel]:
    """Each model's rows in which the columns are filled, if ``along`` has several values there."""
    needed = [*columns, along] if along else list(columns)
    if not {"model", *needed} <= set(frame.columns):
        return []
    names = list(frame.columns)
    keys = names[names.index("model") + 1 : names.index("forward")] if "forward" in names else []
    filled = (frame[needed].notna() & (frame[needed] != "")).all(axis=1)
    panels = []
    for model, rows in frame[filled].groupby("model", sort=False):
        differing = [key for key in keys if rows[key].nunique() > 1]
        if along is None or rows[along].nunique() > 1:
            order = sorted(differing, key=lambda key: key == "batch")
            rows = rows.sort_values(order) if order else rows
            panels.append(Panel(plain(str(model)), rows, order))
    return panels


def series_of(panel: Panel, x: str, y: str) -> list[Series]:
    """The lines of y against x: one for each value of the KEYs on which y depends."""
    others = [key for key in panel.keys if key != x]
    deciding = [key for key in others if _depends(panel.rows, y, key, [x, *others])]
    rows = panel.rows.sort_values([*deciding, x])
    groups = rows.groupby(deciding, sort=False) if deciding else [((), rows)]
    series = []
    for values, group in groups:
        points = group.drop_duplicates(x)
        same = [key for key in others if key not in deciding]
        names = [plain(f"{key} {value}") for key, value in zip(deciding, values, strict=True)]
        label = ", ".join(names) or (f"any {' or '.join(same)}" if same else ALONE)
        series.append(Series(label, list(points[x]), list(points[y]), points))
    return series


def _depends(rows: pd.DataFrame, y: str, key: str, keys: list[str]) -> bool:
    """Whether y differs between rows of which, among ``keys``, only ``key`` differs."""
    rest = [other for other in keys if other != key]
    groups = [group for _, group in rows.groupby(rest)] if rest else [rows]
    return any(group[y].nunique() > 1 for group in groups)


def choose_series(panel: Panel, x: str, y: str) -> tuple[list[Series], str]:
    """As many lines of y against x as can be told apart, and a title for the legend that says how
    many are left out; empty if none are."""
    series = series_of(panel, x, y)
    chosen = spread(series, MAX_SERIES)
    if len(chosen) == len(series):
        return chosen, ""
    return chosen, f"{len(chosen)} of {len(series)} lines shown"


def representative(panel: Panel) -> pd.DataFrame:
    """At most ``MAX_BARS`` rows that span the grid."""
    rows = panel.rows
    for key in panel.keys:
        values = spread(sorted(rows[key].unique()), 4 if key == "batch" else 3)
        rows = rows[rows[key].isin(values)]
    return rows.iloc[spread(range(len(rows)), MAX_BARS)]


def name_ends(panel: Panel, series: Sequence[Series]) -> str:
    """A panel's title: the model, and the first and the last value of some of its lines."""
    ends = {s.label: f"{s.y[0]:.3f} → {s.y[-1]:.3f}" for s in series}
    if len(ends) == 1:
        return f"{panel.model}: {next(iter(ends.values()))}"
    words = f"{panel.model}, " + "; ".join(f"{label}: {text}" for label, text in ends.items())
    return words if len(words) <= MAX_TITLE else panel.model


def monotonic(panel: Panel, x: str, y: str, *, rising: bool) -> bool:
    """Whether y rises, or falls, from each value of x to the next in every line."""
    return all(
        (a < b) == rising and a != b
        for series in series_of(panel, x, y)
        for a, b in pairwise(series.y)
    )


def median_of(panel: Panel, column: str) -> float:
    """The median of a column over all rows."""
    return statistics.median(float(value) for value in panel.rows[column])


def draw_columns(
    axes: Axes, panel: Panel, x: str, columns: Mapping[str, str], quantity: str
) -> Series:
    """Draw columns of bytes against x, a line each, of the largest value of every other KEY.

    Args:
        columns: each column and its label; one that is not filled is left out.
        quantity: what they are, for the vertical axis.

    Returns:
        The series of the first column.
    """
    shown = series_of(panel, x, next(iter(columns)))[-1]
    filled = [
        column
        for column in columns
        if column in shown.rows and (shown.rows[column].notna() & (shown.rows[column] != "")).all()
    ]
    unit = choose((max(shown.rows[column]) for column in filled), Kind.BYTES)
    for column in filled:
        axes.plot(
            shown.x,
            [value / unit.size for value in shown.rows[column]],
            label=columns[column],
            markevery=max(1, len(shown.x) // MAX_MARKERS),
        )
    axes.set_ylabel(f"{quantity} ({unit.name})")
    legend_below(axes, columns=3)
    return shown


def title_of(panel: Panel, shown: Series, text: str) -> str:
    """A panel's title: the model, which of its lines is shown, and a text about that."""
    place = f"{panel.model}, {shown.label}" if shown.label != ALONE else panel.model
    return f"{place}: {text}"
