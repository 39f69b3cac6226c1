"""A view of a ledger as a table for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from rich.box import SIMPLE
from rich.table import Table
from rich.text import Text

from flopratio.report.units import Kind, Unit, choose, plural, shorten
from flopratio.report.view import Column, Line, View

LEAST_NAME = 16
"""Fewer characters of a layer's path are no use: rather the type is left out."""

MOST_TYPE = 20
GAP = 2
INDENT = "  "


class Cells(NamedTuple):
    """A table as text: what every rendering of it shows.

    Args:
        units: of each column, ``""`` where it has none.
        lines: name, type and figures of each line.
    """

    units: list[str]
    lines: list[tuple[str, str, list[str]]]
    total: list[str]


def cells(view: View) -> Cells:
    """The texts of a view's cells, in one unit a column."""
    lines = [part for line in view.lines for part in (line, *line.parts)]
    units = _units(view, lines or [view.total])
    texts = []
    for line in view.lines:
        texts.append((line.name, line.type, _texts(line, view, units)))
        texts += [(INDENT + part.name, "", _texts(part, view, units)) for part in line.parts]
    return Cells(
        ["" if unit is None else unit.name for unit in units],
        texts,
        _texts(view.total, view, units),
    )


def _figure(line: Line, column: Column, view: View) -> int:
    figure: int = column.figure(line)
    return figure // 2 if view.macs and column.product else figure


def _units(view: View, lines: list[Line]) -> list[Unit | None]:
    def figures(columns: Iterable[Column]) -> list[int]:
        columns = list(columns)
        listed = [_figure(line, column, view) for column in columns for line in lines]
        # Lines that are all zero say nothing: then the unit is that of the total below them.
        return listed if any(listed) else [_figure(view.total, column, view) for column in columns]

    def shared(columns: Iterable[Column], kind: Kind) -> Unit:
        columns = list(columns)
        total = max((abs(_figure(view.total, column, view)) for column in columns), default=0)
        return choose(figures(columns), kind, exact=view.exact, total=total)

    products = shared(
        (column for column in view.columns if column.product),
        Kind.MAC if view.macs else Kind.FLOP,
    )
    times = shared((column for column in view.columns if column.kind is Kind.TIME), Kind.TIME)

    def unit(column: Column) -> Unit | None:
        if column.kind is None:
            return None
        if column.product:
            return products
        if column.kind is Kind.TIME:
            return times
        return shared([column], column.kind)

    return [unit(column) for column in view.columns]


def _texts(line: Line, view: View, units: list[Unit | None]) -> list[str]:
    return [
        column.text(column.figure(line))
        if unit is None
        else unit.format(_figure(line, column, view))
        for column, unit in zip(view.columns, units, strict=True)
    ]


def ruled(**further: Any) -> Table:
    """An empty table with a rule below its heading, and above its footer if it has one.

    Args:
        further: see :class:`rich.table.Table`.
    """
    return Table(
        box=SIMPLE,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        header_style="bold",
        footer_style="bold",
        **further,
    )


def table(view: View, *, width: int | None = None) -> Table:
    """The view as a table.

    Args:
        width: of the terminal in characters. What does not fit it: types are left out, then the
            last columns, and long names are shortened in the middle. None: as wide as needed.
    """
    shown = cells(view)
    names = [name for name, _, _ in shown.lines]
    types = [kind if width is None else shorten(kind, MOST_TYPE) for _, kind, _ in shown.lines]
    headings = [
        [*column.heading, *([unit] if unit else [])]
        for column, unit in zip(view.columns, shown.units, strict=True)
    ]
    widths = [
        max(map(len, texts))
        for texts in zip(
            *([max(heading, key=len) for heading in headings], shown.total),
            *(texts for _, _, texts in shown.lines),
            strict=True,
        )
    ]
    name_width = max(map(len, [*names, view.by, "total"]))
    type_width = max(map(len, [*types, "type"])) if any(types) else 0
    if width is not None:
        least = min(name_width, LEAST_NAME)

        def room() -> int:
            return width - sum(GAP + column for column in (*widths, type_width) if column)

        if room() < least:
            type_width = 0
        while room() < least and len(widths) > 1:
            widths.pop()
        name_width = max(min(name_width, room()), 1)

    result = ruled(
        show_footer=True,
        caption="\n".join(filter(None, [left_out(view), _too_narrow(view.columns[len(widths) :])]))
        or None,
        caption_justify="left",
    )
    result.add_column(view.by, "total", width=name_width, no_wrap=True, vertical="bottom")
    if type_width:
        result.add_column("type", width=type_width, no_wrap=True, vertical="bottom")
    for heading, column, total in zip(headings, widths, shown.total, strict=False):
        result.add_column(
            "\n".join(heading),
            total,
            width=column,
            justify="right",
            no_wrap=True,
            vertical="bottom",
        )
    for (name, _, texts), kind in zip(shown.lines, types, strict=True):
        words = [shorten(name, name_width), *([kind] if type_width else [])]
        result.add_row(*map(Text, words), *texts[: len(widths)])
    return result


_NOUNS = {
    "layer": "layer",
    "type": "type",
    "op": "operator",
    "phase": "phase",
    "autograd": "node",
}


def left_out(view: View) -> str | None:
    """The sentence about the lines that a view leaves out, if it does."""
    if not view.left_out:
        return None
    return f"… and {plural(view.left_out, f'more {_NOUNS[view.by]}')} (--top 0 for all)"


def _too_narrow(columns: Sequence[Column]) -> str | None:
    """The sentence about the columns that the terminal has no room for."""
    if not columns:
        return None
    return f"No room for {', '.join(column.name for column in columns)}."
