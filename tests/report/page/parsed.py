"""A page as a parser sees it."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import Any

VOID = {"meta", "input", "br", "link", "img"}
"""Elements of HTML that have no end."""

OUTSIDE = ("src", "href", "xlink:href", "action", "data", "poster", "srcset", "background")
"""The attributes by which a page may ask for something else."""


class Page(HTMLParser):
    """The elements, the words and the documents of a page.

    Raises:
        AssertionError: an element is closed that is not open, or never closed.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.data: dict[str, Any] = {}
        self.tables: list[list[list[tuple[str, str | None]]]] = []
        self._open: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()
        assert not self._open, f"never closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = tag, dict(attrs)
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)
        if tag == "tbody":
            self.tables.append([])
        if tag == "tr" and self._is_in("tbody"):
            self.tables[-1].append([])
        if tag == "td" and self._is_in("tbody"):
            self.tables[-1][-1].append(("", element[1].get("data-value")))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> closes nothing"
        opened, _ = self._open.pop()
        assert opened == tag, f"</{tag}> closes <{opened}>"

    def handle_data(self, data: str) -> None:
        tag, attributes = self._open[-1] if self._open else ("", {})
        if attributes.get("type") == "application/json":
            self.data[attributes["data-name"] or ""] = json.loads(data)
        elif tag not in ("script", "style"):
            self.words.append(data)
            if self._is_in("tbody") and self._is_in("td"):
                text, value = self.tables[-1][-1][-1]
                self.tables[-1][-1][-1] = text + data, value

    def _is_in(self, tag: str) -> bool:
        return any(opened == tag for opened, _ in self._open)

    @property
    def text(self) -> str:
        """All words, with single blanks."""
        return " ".join(" ".join(self.words).split())

    def column(self, table: int, number: int) -> list[tuple[str, str | None]]:
        """The cells of a column, each with what it is sorted by."""
        return [line[number] for line in self.tables[table]]


def asked_for(page: Page) -> list[str]:
    """What a page would fetch: all that its attributes name but places in itself."""
    return [
        value
        for _, attributes in page.elements
        for name, value in attributes.items()
        if name in OUTSIDE and value and not value.startswith(("#", "data:"))
    ]
