"""A table in a page: cells of text, what they are sorted by, and the bars that stand in them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from flopratio.report.figures.style import PHASE_COLOURS
from flopratio.report.figures.timeline import CATEGORY_FILLS
from flopratio.report.prediction import Lines
from flopratio.report.shares import Shares, percent
from flopratio.report.table import cells
from flopratio.report.units import printable
from flopratio.report.view import View

COLOURS = {**PHASE_COLOURS, **CATEGORY_FILLS, "undivided": "#C9A227"}
"""Part of a bar -> its colour."""

PLAIN = "#0072B2"
"""The colour of any other part."""

MOST_LINES = 20
"""A table with more lines than these scrolls within the page."""


class Bar(NamedTuple):
    """A part of a bar: what it is, and its share of the whole width, from 0 to 1."""

    name: str
    share: float
    text: str = ""

    @property
    def colour(self) -> str:
        return COLOURS.get(self.name.replace(" ", "_"), PLAIN)


class Cell(NamedTuple):
    """A cell.

    Args:
        value: what its column is sorted by; None: it is empty, and comes last.
        bars: parts of one bar, side by side.
    """

    text: str
    value: str | float | None = None
    bars: tuple[Bar, ...] = ()


class Heading(NamedTuple):
    """What a column is called.

    Args:
        is_words: its cells are words, not figures.
        is_bars: they are bars.
    """

    name: str
    unit: str = ""
    is_words: bool = False
    is_bars: bool = False


class Grid(NamedTuple):
    """A table.

    Args:
        below: lines that stay below the others however these are sorted.
        is_sortable: by each of its columns, and searched by its names.
        is_wide: its bars take all the room that there is.
    """

    heading: list[Heading]
    lines: list[list[Cell]]
    below: list[list[Cell]]
    is_sortable: bool = False
    is_wide: bool = False

    @property
    def legend(self) -> list[Bar]:
        """One of each part of its bars, where they have several."""
        stacks = [cell.bars for line in self.lines for cell in line]
        if all(len(bars) < 2 for bars in stacks):
            return []
        found = {bar.name: bar for bars in stacks for bar in bars}
        return [found[name] for name in COLOURS if name in found]

    @property
    def is_long(self) -> bool:
        """Whether it is searched, and scrolls within the page."""
        return self.is_sortable and len(self.lines) > MOST_LINES


def word(text: str) -> Cell:
    """A cell of a name."""
    text = printable(text)
    return Cell(text, text)


BAR_OF = {
    "forward": "forward",
    "grad_input": "grad_input",
    "grad_weight": "grad_weight",
    "recompute": "recompute",
}
"""The parts of a line's bar of products -> the attributes."""

TIME_BAR_OF = {
    name: f"{name}_time"
    for name in ("forward", "grad_input", "grad_weight", "undivided", "recompute", "update")
}
"""The same of times."""


def view_grid(view: View, parts: Mapping[str, str] = BAR_OF, kind: str = "products") -> Grid:
    """A view, its lines with a bar each, the longest of which is the full width.

    Args:
        parts: part of the bar -> the attribute of a line that says how much it is.
        kind: what the bars show.
    """
    shown = cells(view)
    lines = [part for line in view.lines for part in (line, *line.parts)]
    whole = max((sum(getattr(line, a) for a in parts.values()) for line in view.lines), default=0)
    typed = any(kind for _, kind, _ in shown.lines)
    heading = [
        Heading(view.by, is_words=True),
        *([Heading("type", is_words=True)] if typed else []),
    ]
    if whole:
        heading.append(Heading(kind, is_bars=True))
    heading += [
        Heading(
            " ".join(column.heading).replace("- ", "").replace("_ ", "_"), unit,
            is_words=column.text is str,
        )
        for column, unit in zip(view.columns, shown.units, strict=True)
    ]  # fmt: skip

    def line_of(name: str, type: str, texts: Iterable[str], line: Any, *, bar: bool) -> list[Cell]:
        found = [word(name), *([word(type)] if typed else [])]
        if whole:
            amounts = {part: getattr(line, attribute) for part, attribute in parts.items()}
            bars = tuple(
                Bar(part, amount / whole) for part, amount in amounts.items() if amount and bar
            )
            found.append(Cell("", sum(amounts.values()), bars))
        for column, text in zip(view.columns, texts, strict=True):
            found.append(Cell(text, column.figure(line)))
        return found

    return Grid(
        heading,
        [
            line_of(name, type, texts, line, bar=True)
            for (name, type, texts), line in zip(shown.lines, lines, strict=True)
        ],
        [line_of("total", "", shown.total, view.total, bar=False)],
        is_sortable=not any(line.parts for line in view.lines),
    )


def shares_grid(shares: Shares) -> Grid:
    """A small table of shares, with their bars."""
    name, *figures = (title.replace("-\n", "").split("\n") for title in shares.heading)
    has_shares = shares.has_shares
    heading = [Heading(" ".join(name), is_words=True)]
    for place, title in enumerate(figures):
        if place == shares.ahead:
            if has_shares:
                heading.append(Heading(" ".join(title), is_bars=True))
        elif len(title) > 1 and place < shares.ahead:
            heading.append(Heading(" ".join(title[:-1]), title[-1]))
        else:
            heading.append(Heading(" ".join(title)))
    most = max((line.share or 0.0 for line in shares.lines), default=0.0) or 1.0

    def cells_of(line: Any) -> list[Cell]:
        found = [Cell(text) for text in line.figures]
        if has_shares:
            bars = () if line.share is None else (Bar(line.name, line.share / most),)
            found.insert(shares.ahead, Cell(percent(line.share), line.share, bars))
        return [word(line.name), *found]

    return Grid(heading, [*map(cells_of, shares.lines)], [*map(cells_of, shares.below)])


def lines_grid(shown: Lines) -> Grid:
    """A name and figures."""
    heading = [Heading(shown.heading[0].replace("\n", " "), is_words=True)]
    for title in shown.heading[1:]:
        text = title.replace("_\n", "_").replace("\n", " ")
        heading.append(Heading(text, is_words=text == "bound by"))

    def cells_of(line: list[str]) -> list[Cell]:
        return [word(line[0]), *map(Cell, line[1:])]

    return Grid(heading, [*map(cells_of, shown.body)], [cells_of(shown.total)])


def words_grid(heading: list[str], lines: Iterable[Iterable[str]], words: int = 1) -> Grid:
    """Texts, of which the first columns are words."""
    return Grid(
        [Heading(title, is_words=number < words) for number, title in enumerate(heading)],
        [[*map(word, line)] for line in lines],
        [],
    )
