"""``flopratio report``: saved steps as a page for a browser, or as Markdown."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from flopratio.cli.options import Debug, Force, Quiet
from flopratio.errors import UsageError

FORMATS = (".html", ".md")


def report_command(
    ledgers: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="LEDGER.json...",
            help="As flopratio count or profile -o FILE.json writes them; several are compared.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write .html or .md."),
    ] = None,
    force: Force = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Make a page of ledgers: one file that needs nothing else, to be shown.

    Figures, bars, the memory over the step, every layer in a table that sorts,
    measured times under the roofline where there are any, and how all was
    counted. Several ledgers are put side by side.

    For example: flopratio report before.json after.json -o page.html
    """
    if not ledgers:
        raise UsageError(
            "report what? name a ledger: flopratio count MODEL -o ledger.json writes one"
        )
    if output is None:
        raise UsageError("write it where? give -o page.html, or -o page.md")
    from flopratio.report.files import check_file
    from flopratio.text.files import write_text
    from flopratio.verbs.saved import read_step

    check_file(output, force=force, formats=FORMATS)
    if any(output.exists() and path.exists() and path.samefile(output) for path in ledgers):
        raise UsageError(f"{output} is one of the ledgers: name another file")
    steps = [read_step(path) for path in ledgers]
    from flopratio.report.page.report import report_markdown, report_page

    text = report_page(steps) if output.suffix.lower() == ".html" else report_markdown(steps)
    write_text(output, text)
    print(output, file=sys.stderr)
    if quiet:
        return
    for path, step in zip(ledgers, steps, strict=True):
        for note in step.notes:
            print(f"flopratio: {path}: {note}", file=sys.stderr)
