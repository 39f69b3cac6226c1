"""A ledger on a terminal: headline, table, phases and memory, 6·N·D where there are tokens, and
remarks."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from flopratio.ledger import Ledger
from flopratio.report.prediction import rich_table, sentences, tables
from flopratio.report.shares import memory_shares, phase_shares, share_table
from flopratio.report.summary import Remark, headline, remarks, token_terms
from flopratio.report.table import table
from flopratio.report.view import View

STYLES = {True: "green", False: "bold red", None: ""}


def page(ledger: Ledger, view: View, *, width: int | None = None) -> Group:
    """All that is printed.

    Args:
        view: of this ledger.
        width: of the terminal in characters; None: as wide as it needs to be.
    """
    parts: list[RenderableType] = [
        Text(headline(ledger), "bold"),
        "",
        table(view, width=width),
        "",
        share_table(phase_shares(ledger, macs=view.macs, exact=view.exact), width=width),
    ]
    if (held := memory_shares(ledger.memory, exact=view.exact)) is not None:
        parts += ["", share_table(held, width=width)]
    if terms := token_terms(ledger):
        sum_of_terms = Table.grid(padding=(0, 2, 0, 0))
        sum_of_terms.add_column()
        sum_of_terms.add_column(justify="right", no_wrap=True)
        for term in terms:
            sum_of_terms.add_row(Text(term.text), term.flops)
        parts += ["", sum_of_terms]
    if predicted := sentences(view):
        parts += ["", Text("\n".join(predicted))]
    for shown in tables(view):
        parts += ["", rich_table(shown, width)]
    return Group(*parts, "", notes(remarks(ledger, view)))


def notes(lines: Iterable[Remark]) -> Table:
    """Remarks, one below the other."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True, style="bold")
    grid.add_column()
    for remark in lines:
        grid.add_row(remark.about, Text(remark.text, STYLES[remark.good]))
    return grid
