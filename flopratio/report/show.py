"""A page on standard output, within the width of a terminal or as wide as it is."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType

    from flopratio.ledger import Ledger

MOST_LINES = 40
"""So many lines of a table are printed unless told otherwise."""

UNLIMITED = 100_000
"""Columns of a pipe or a file."""


def show(
    ledger: Ledger,
    *,
    by: str = "layer",
    depth: int | None = None,
    sort: str | None = None,
    top: int = MOST_LINES,
    macs: bool = False,
    exact: bool = False,
) -> None:
    """Print the page that ``flopratio count`` prints of a ledger.

    Args:
        by: what a line is: ``layer``, ``type``, ``op``, ``phase`` or ``autograd``.
        depth: fold layers below the ``depth``-th dot of their path.
        sort: a column: figures fall, names rise; otherwise lines come as they first ran.
        top: print the first so many lines; 0 all.
        macs: products in multiply-adds, half of their FLOP.
        exact: every digit.

    Raises:
        UsageError: no such view or column, or a negative ``depth`` or ``top``.
    """
    from flopratio.report.terminal import page
    from flopratio.report.view import view

    shown = view(ledger, by=by, depth=depth, sort=sort, top=top, macs=macs, exact=exact)
    print_page(page(ledger, shown, width=page_width()))


def print_page(page: RenderableType) -> None:
    """Print a page: within the width of a terminal, or as wide as it is into a pipe."""
    from rich.console import Console

    if page_width() is not None:
        Console().print(page)
    else:
        wide = Console(width=UNLIMITED)
        with wide.capture() as printed:
            wide.print(page)
        print("\n".join(line.rstrip() for line in printed.get().splitlines()))


def page_width() -> int | None:
    """The columns of the terminal; None where what is printed has no width to keep to."""
    from rich.console import Console

    console = Console()
    return console.width if console.is_terminal or "COLUMNS" in os.environ else None
