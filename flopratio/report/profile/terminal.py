"""A profile on a terminal: headline, table, remarks, and the explanation that adds up."""

from __future__ import annotations

from rich.console import Group
from rich.table import Table
from rich.text import Text

from flopratio.report.profile.summary import (
    EXPLANATION_HEADING,
    explanation_lines,
    profile_headline,
    profile_remarks,
)
from flopratio.report.table import table
from flopratio.report.terminal import notes
from flopratio.report.view import View
from flopratio.verbs.profile import Profile


def profile_page(profile: Profile, view: View, *, width: int | None = None) -> Group:
    """All that is printed.

    Args:
        view: of this profile.
        width: of the terminal in characters; None: as wide as it needs to be.
    """
    lines = explanation_lines(profile)
    explained = Table.grid(padding=(0, 2, 0, 0))
    explained.add_column()
    for _ in EXPLANATION_HEADING[1:]:
        explained.add_column(justify="right", no_wrap=True)
    explained.add_row(*(Text(word, "bold") for word in EXPLANATION_HEADING))
    for line in lines:
        explained.add_row(*map(Text, line))
    return Group(
        Text(profile_headline(profile), "bold"),
        "",
        table(view, width=width),
        "",
        notes(profile_remarks(profile)),
        *(["", explained] if lines else []),
    )
