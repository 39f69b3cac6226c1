"""A profile in a file, in the format that the file's extension names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from flopratio.report.files import check_file
from flopratio.report.markdown import escape, lines_table, remark_list, view_table
from flopratio.report.profile.summary import explained, profile_headline, profile_remarks
from flopratio.report.view import View
from flopratio.text.files import write_text
from flopratio.verbs.profile import Profile


def profile_markdown(profile: Profile, view: View) -> str:
    """The document, ending in a newline: remarks, the table, the explanation.

    Args:
        view: of this profile.
    """
    parts = [
        f"**{escape(profile_headline(profile))}**",
        remark_list(profile_remarks(profile)),
        *view_table(view),
    ]
    parts += map(lines_table, explained(profile))
    return "\n\n".join(parts) + "\n"


def _html(profile: Profile, view: View) -> str:
    from flopratio.report.page.step import measured_page

    return measured_page(profile, view)


PROFILE_FORMATS: dict[str, Callable[[Profile, View], str]] = {
    ".json": lambda profile, view: profile.to_json(),
    ".csv": lambda profile, view: profile.to_csv(),
    ".md": profile_markdown,
    ".html": _html,
}
"""Extension -> the text of a profile, of which only people's formats show a view."""


def write_profile(profile: Profile, view: View, path: Path, *, force: bool = False) -> None:
    """Write a profile to ``path``: all of it, or nothing.

    Args:
        view: of this profile, for the formats that people read.
        force: overwrite what is there.

    Raises:
        UsageError: as :func:`flopratio.report.files.check_file` says, or the disk refuses.
    """
    check_file(path, force=force)
    write_text(path, PROFILE_FORMATS[path.suffix.lower()](profile, view))
