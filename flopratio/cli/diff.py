"""``flopratio diff``: what changed between two steps."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flopratio.cli.options import Debug, Force, Json, Output, Quiet, one_of
from flopratio.cli.progress import waiting
from flopratio.cli.step import read_step
from flopratio.errors import UsageError
from flopratio.report.show import print_page
from flopratio.text.suggestions import not_among

if TYPE_CHECKING:
    from flopratio.snapshot import Snapshot

MOST_LAYERS = 40
"""So many layers are listed unless ``--top`` says otherwise; a file gets all."""

TABLES = ("table", "github")

Side = Annotated[
    str,
    typer.Argument(
        help="A ledger, as count -o FILE.json wrote it; or a model with its KEYs and options, in "
        "quotes: 'hf:gpt2 seq=1024 --checkpoint auto'.",
        show_default=False,
    ),
]


def diff_command(
    before: Side,
    after: Side,
    top: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=0,
            help=f"List the N layers that moved most, 0 all; {MOST_LAYERS} unless given.",
        ),
    ] = None,
    form: Annotated[
        str,
        one_of(TABLES, "github: Markdown for a pull request, long tables folded.", "--format"),
    ] = TABLES[0],
    output: Output = None,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Tell what changed between two steps: FLOPs, saved bytes, memory, layer by layer.

    Figures are exact integers, so a change of one is a change. Exit 0 when the
    two are equal and 1 when they differ, as diff does; 2 when one can't be
    counted.

    For example: flopratio diff "hf:gpt2 seq=1024" "hf:gpt2 seq=1024 --checkpoint auto"
    """
    from flopratio.report import difference as report
    from flopratio.report.files import check_file
    from flopratio.text.files import write_text
    from flopratio.verbs.diff import difference

    if form not in TABLES:
        raise not_among("format", form, TABLES)
    if output is not None:
        check_file(output, force=force, formats=report.FORMATS)
    found = difference(*(snapshot_of(side, quiet=quiet) for side in (before, after)))
    if as_json:
        print(report.to_json(found))
    if output is not None:
        write_text(output, report.FORMATS[output.suffix.lower()](found))
        print(output, file=sys.stderr)
    if not as_json and output is None:
        top = MOST_LAYERS if top is None else top
        if form == "github":
            print(report.to_markdown(found, top), end="")
        else:
            print_page(report.page(found, top))
    raise typer.Exit(0 if found.equal else 1)


def snapshot_of(side: str, *, quiet: bool = False) -> Snapshot:
    """The snapshot of a ledger's file, or of a step that is counted now.

    Args:
        side: a path that ends in ``.json``, or a text as :func:`read_step` takes it.

    Raises:
        UsageError: there is no such ledger, or no such step.
    """
    if side.lower().endswith(".json") and ":" not in side and not Path(side).is_dir():
        return _read(Path(side))
    step = read_step(side)
    with waiting(f"counting {side}", quiet=quiet):
        from flopratio.snapshot import Snapshot
        from flopratio.verbs.count import count

        try:
            return Snapshot.of(count(step.model, **step.settings, **step.options))
        except UsageError as error:
            raise UsageError(f"{side!r}: {error}") from error


def _read(path: Path) -> Snapshot:
    from flopratio.snapshot import Snapshot
    from flopratio.verbs.saved import read_json

    document = read_json(path)
    try:
        return Snapshot.from_document(document)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
