"""``flopratio check``: a project's steps against the counts that were accepted for them."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flopratio.cli.options import Debug, Json, Quiet, Verbose, one_of
from flopratio.cli.progress import late_progress
from flopratio.errors import UsageError
from flopratio.report.show import print_page
from flopratio.text.suggestions import not_among

if TYPE_CHECKING:
    from flopratio.verbs.check import Verdict

FORMATS = ("table", "github", "junit")

SUMMARY = "GITHUB_STEP_SUMMARY"
"""The variable of the environment in which GitHub says where a job's summary goes."""


def check_command(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FILE]",
            help="TOML with the cases; flopratio.toml or pyproject.toml here unless given.",
            show_default=False,
        ),
    ] = None,
    update: Annotated[
        bool, typer.Option("--update", help="Accept what is counted: write the lock.")
    ] = False,
    case: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Check this case alone; may be repeated.", show_default=False
        ),
    ] = None,
    timing: Annotated[
        bool,
        typer.Option(
            "--timing",
            help="Also measure how long backward takes relative to forward, here on the CPU.",
        ),
    ] = False,
    format: Annotated[
        str, one_of(FORMATS, "github: a job summary and annotations; junit: XML.")
    ] = "table",
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Check a project's steps against the counts that were accepted for them.

    The cases, and what is expected of each, stand in the table tool.flopratio
    of pyproject.toml or in any TOML file; the accepted counts in a lock beside
    it, flopratio.lock.json. Exit 1 when a count changed or an expectation
    does not hold.

    For example: flopratio check --update, and then flopratio check
    """
    if format not in FORMATS:
        raise not_among("format", format, FORMATS)
    if as_json and format != "table":
        raise UsageError(f"--json and --format {format} are two formats: give one of them")
    from flopratio.cli.cases import read_suite

    suite = read_suite(file)
    with late_progress("checking", quiet=quiet) as progress:
        from flopratio.verbs.check import check

        verdict = check(suite, update=update, only=case or (), timing=timing, progress=progress)

    from flopratio.report.check.sentences import how_to_accept

    accept = how_to_accept(verdict, _command(file, case or [], timing=timing))
    if as_json:
        from flopratio.report.check.document import to_json

        print(to_json(verdict))
    elif format == "junit":
        from flopratio.report.check.junit import junit

        print(junit(verdict))
    elif format == "github":
        _for_github(verdict, accept)
    else:
        from flopratio.report.check.terminal import page

        print_page(page(verdict, accept, every=verbose))
    if format != "table" or as_json:
        from flopratio.report.check.sentences import headline

        if not quiet:
            print(f"flopratio: {headline(verdict)}", file=sys.stderr)
    raise typer.Exit(0 if verdict.holds else 1)


def _command(file: Path | None, cases: list[str], *, timing: bool) -> str:
    """What was run, without ``--update`` and what only concerns the output."""
    words = ["flopratio", "check", *([] if file is None else [str(file)])]
    words += [word for name in cases for word in ("--case", name)]
    return shlex.join([*words, *(["--timing"] if timing else [])])


def _for_github(verdict: Verdict, accept: str) -> None:
    """Annotations on stdout, where GitHub reads them; the summary into its file, or on stdout too
    where there is none."""
    from flopratio.report.check.github import summary, workflow_commands

    for line in workflow_commands(verdict):
        print(line)
    text = summary(verdict, accept)
    path = os.environ.get(SUMMARY)
    if not path:
        print(text)
        return
    try:
        with open(path, "a", encoding="utf-8") as file:
            file.write(f"{text}\n")
    except OSError as error:
        raise UsageError(f"can't write {SUMMARY}={path}: {error.strerror}") from error
