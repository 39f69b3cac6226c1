"""A profile on a terminal: headline, table, remarks, and the explanation that adds up."""

from __future__ import annotations

from rich.console import Group
from rich.text import Text

from flopratio.report.prediction import rich_table
from flopratio.report.profile.summary import explained, profile_headline, profile_remarks
from flopratio.report.table import table
from flopratio.report.terminal import notes
from flopratio.report.view import View
from flopratio.verbs.profile import Profile

WIDE = 120
"""Columns of the explanation where there is no terminal to keep to: its last line names all that is
small."""


def profile_page(profile: Profile, view: View, *, width: int | None = None) -> Group:
    """All that is printed.

    Args:
        view: of this profile.
        width: of the terminal in characters; None: as wide as it needs to be.
    """
    return Group(
        Text(profile_headline(profile), "bold"),
        "",
        table(view, width=width),
        "",
        notes(profile_remarks(profile)),
        *(part for lines in explained(profile) for part in ("", rich_table(lines, width or WIDE))),
    )
