"""The verdict of a sweep for people."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table

from flopratio.verbs.sweep.judgement import Claim

MARKS = {True: "[green]holds[/]", False: "[bold red]FAILS[/]", None: "[yellow]left out[/]"}


def verdict_headline(claims: Sequence[Claim]) -> str:
    """What became of the claims, in a few words."""
    judged = [claim for claim in claims if claim["holds"] is not None]
    failed = sum(not claim["holds"] for claim in judged)
    if failed:
        headline = f"{failed} of {len(judged)} claims FAIL"
    else:
        headline = f"All {len(judged)} claims hold" if judged else "No claim could be tested"
    left_out = len(claims) - len(judged)
    return f"{headline}, {left_out} left out" if left_out else headline


def verdict_table(claims: Sequence[Claim]) -> Table:
    """One line a claim."""
    table = Table("claim", "expected", "observed", "", header_style="bold", box=SIMPLE_HEAD)
    for claim in claims:
        mark = MARKS[claim["holds"]]
        table.add_row(claim["claim"], claim["expected"], claim["observed"], mark)
    return table
