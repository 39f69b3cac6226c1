"""The verdict on a sweep's claims as a table for a terminal."""

from __future__ import annotations

from collections.abc import Iterable

from rich.box import SIMPLE_HEAD
from rich.table import Table

from flopratio.verbs.sweep.verdict import Claim


def verdict_table(claims: Iterable[Claim]) -> Table:
    """One line a claim."""
    table = Table("claim", "expected", "observed", "", header_style="bold", box=SIMPLE_HEAD)
    for claim in claims:
        mark = "[green]holds[/]" if claim["holds"] else "[bold red]FAILS[/]"
        table.add_row(claim["claim"], claim["expected"], claim["observed"], mark)
    return table
