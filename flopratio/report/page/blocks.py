"""What a page is made of. Templates draw a block by the name of its class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from markupsafe import Markup

from flopratio.report.page.grid import Grid
from flopratio.report.page.render import render
from flopratio.report.summary import Remark
from flopratio.text.grammar import format_value


class Card(NamedTuple):
    """A figure that stands for itself: what it is, the figure, and what there is to know of it."""

    name: str
    figure: str
    note: str = ""


class Cards(NamedTuple):
    cards: Sequence[Card]


class Paragraph(NamedTuple):
    text: str


class Remarks(NamedTuple):
    remarks: Sequence[Remark]


class Picture(NamedTuple):
    svg: Markup


class Facts(NamedTuple):
    """Names and values."""

    title: str
    facts: Mapping[str, str]


class Beside(NamedTuple):
    """Blocks side by side, below each other where there is no room."""

    blocks: Sequence[Block]


Block: TypeAlias = Cards | Paragraph | Remarks | Picture | Facts | Beside | Grid


class Section(NamedTuple):
    """A heading, and what stands below it.

    Args:
        level: of the heading; 1 opens one of several steps.
    """

    title: str
    blocks: Sequence[Block]
    level: int = 2


@dataclass(frozen=True)
class Page:
    """A page.

    Args:
        title: what it is about.
        lead: the line below the title.
        badge: the verdict in a few words; none if empty.
        good: whether that is good, bad or neither.
        data: documents that the page carries with it, by name.
    """

    title: str
    lead: str
    sections: Sequence[Section]
    badge: str = ""
    good: bool | None = None
    data: Mapping[str, Any] = field(default_factory=dict)

    def html(self) -> str:
        """The document."""
        return render("page.html", page=self)


def facts(title: str, values: Mapping[str, Any]) -> Facts:
    """Values as text, without those that say nothing."""
    return Facts(title, {name: fact(value) for name, value in values.items() if value is not None})


def fact(value: Any) -> str:
    """A value as it is written on the command line."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {fact(of)}" for name, of in value.items())
    return str(format_value(tuple(value) if isinstance(value, list) else value))


def picture_blocks(*pictures: Markup | None) -> list[Block]:
    """The pictures that there are."""
    return [Picture(svg) for svg in pictures if svg is not None]
