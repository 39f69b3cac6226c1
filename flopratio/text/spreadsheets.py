"""Texts in CSV files: a spreadsheet runs a cell that begins as a formula does."""

from __future__ import annotations

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""How a cell begins that is no text to a spreadsheet."""


def as_text(cell: str) -> str:
    """A text as a cell: behind an apostrophe, where a spreadsheet would read a formula."""
    return f"'{cell}" if cell.startswith(FORMULA) else cell
