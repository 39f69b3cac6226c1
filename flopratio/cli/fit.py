"""``flopratio fit``: the largest batch, or any other size, that a memory holds."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flopratio.cli.options import (
    Debug,
    Force,
    Json,
    ModelArguments,
    Output,
    Quiet,
    Verbose,
    one_of,
    with_step_options,
)
from flopratio.cli.progress import now_and_then
from flopratio.cli.step import model_and_settings, options_and_keys
from flopratio.errors import UsageError
from flopratio.report.show import print_page

if TYPE_CHECKING:
    from flopratio.verbs.fit import Progress


@with_step_options()
def fit_command(
    arguments: ModelArguments = None,
    memory: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="What there is: 80GiB, 24GB.", show_default=False),
    ] = None,
    key: Annotated[
        str,
        typer.Option(metavar="KEY", help="Whose largest value to find: batch, seq, depth, width…"),
    ] = "batch",
    reserve: Annotated[
        str, typer.Option(metavar="SIZE", help="What is to be left free of it: 2GiB.")
    ] = "0",
    figure: Annotated[
        str,
        one_of(
            ("peak", "peak_allocated", "peak_reserved"),
            "What has to fit: the live tensors, or what the allocator hands out or takes.",
        ),
    ] = "peak",
    levers: Annotated[
        bool,
        typer.Option(
            "--levers",
            help="Also try checkpointing, other optimizers, lower precision and micro-batches.",
        ),
    ] = False,
    *,
    step: dict[str, Any],
    output: Output = None,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Find the largest batch, or any other KEY, whose training step fits a memory.

    Nothing is executed: the step is traced on shapes alone, at the answer and
    at the next size, which is the proof. A value given for the KEY is where to
    start, and where --levers compares. Exit 1 when not even the smallest fits.
    """
    from flopratio.report.files import check_file
    from flopratio.report.fit import FORMATS, failure, notes, notes_beside_headline, to_json
    from flopratio.text.byte_size import parse_bytes

    model, settings = model_and_settings(
        arguments, verb="fit", instead="with --key {key} it finds the largest that fits"
    )
    others = ("memory", "key", "reserve", "figure", "levers")
    options = options_and_keys(step, settings, others)
    if memory is None:
        raise UsageError("how much memory is there? give --memory, such as --memory 80GiB")
    parse_bytes("memory", memory)
    parse_bytes("reserve", reserve)
    if output is not None:
        check_file(output, force=force, formats=FORMATS)
    with _progress(model, key, quiet=quiet, verbose=verbose) as progress:
        from flopratio.verbs.fit import fit

        answer = fit(
            model,
            memory=memory,
            key=key,
            reserve=reserve,
            figure=figure,
            levers=levers,
            progress=progress,
            **settings,
            **options,
        )

    if as_json:
        print(to_json(answer))
    if output is not None:
        from flopratio.text.files import write_text

        write_text(output, FORMATS[output.suffix.lower()](answer))
        print(output, file=sys.stderr)
    beside = notes(answer)
    if not as_json and output is None:
        from flopratio.report.fit import page

        print_page(page(answer))
        beside = notes_beside_headline(answer)
    failed = [] if answer.largest else [failure(answer)]
    for note in [*failed, *([] if quiet else beside)]:
        print(f"flopratio: {note}", file=sys.stderr)
    raise typer.Exit(1 if failed else 0)


@contextmanager
def _progress(
    model: str, key: str, *, quiet: bool, verbose: bool
) -> Iterator[Callable[[Progress], None]]:
    """A bar on stderr, if that is a terminal, else a line now and then; and a line for each trace,
    if asked for."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn
    from rich.progress import Progress as Bar
    from rich.text import Text

    from flopratio.report.units import Kind, quantity

    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False))
    bar = Bar(
        *columns,
        BarColumn(),
        MofNCompleteColumn(),
        console=console,
        disable=quiet or not console.is_terminal,
        transient=True,
    )
    task = bar.add_task(f"fitting {model}", total=None)
    log = now_and_then(f"fitting {model}", quiet=quiet or verbose or console.is_terminal)

    def tried(progress: Progress) -> None:
        size, peak = f"{key}={progress.tried.size}", progress.tried.peak
        outcome = f"{size} is refused" if peak is None else f"{size}: {quantity(peak, Kind.BYTES)}"
        bar.update(task, description=outcome, completed=progress.done, total=progress.total)
        log(outcome)
        if verbose and not quiet:
            console.print(Text(f"{outcome} {progress.tried.refusal}".rstrip()), soft_wrap=True)

    with bar:
        yield tried
