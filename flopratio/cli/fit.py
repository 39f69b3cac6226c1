"""``flopratio fit``: the largest batch, or any other size, that a memory holds."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flopratio.cli.options import (
    Accumulate,
    Amp,
    Attention,
    Causal,
    Checkpoint,
    Debug,
    Freeze,
    Inference,
    InputGrad,
    Json,
    Loss,
    ModelDtype,
    Optimizer,
    OptimizerImplementation,
    Quiet,
    Step,
    Target,
    Verbose,
)
from flopratio.cli.step import model_and_settings, options_and_keys, print_page
from flopratio.errors import UsageError

if TYPE_CHECKING:
    from flopratio.verbs.fit import Progress


def fit(
    arguments: Step = None,
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
        typer.Option(
            metavar="peak|peak_allocated|peak_reserved",
            help="What has to fit: the live tensors, or what the allocator hands out or takes.",
        ),
    ] = "peak",
    levers: Annotated[
        bool,
        typer.Option(
            "--levers",
            help="Also try checkpointing, other optimizers, lower precision and micro-batches.",
        ),
    ] = False,
    loss: Loss = "auto",
    optimizer: Optimizer = "none",
    optimizer_implementation: OptimizerImplementation = None,
    dtype: ModelDtype = None,
    amp: Amp = None,
    freeze: Freeze = None,
    checkpoint: Checkpoint = None,
    accumulate: Accumulate = 1,
    attention: Attention = None,
    causal: Causal = "full",
    input_grad: InputGrad = False,
    inference: Inference = False,
    target: Target = "cuda",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Write .json, .csv, .md or .html, and print nothing.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite FILE.")] = False,
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
    from flopratio.report.fit import FORMATS, failure, notes, to_json
    from flopratio.text.byte_size import parse_bytes

    model, settings = model_and_settings(
        arguments, verb="fit", instead="with --key {key} it finds the largest that fits"
    )
    given: dict[str, Any] = {
        "loss": loss,
        "optimizer": optimizer,
        "optimizer_implementation": optimizer_implementation,
        "dtype": dtype,
        "amp": amp,
        "freeze": freeze,
        "checkpoint": checkpoint,
        "accumulate": accumulate,
        "attention": attention,
        "causal": causal,
        "input_grad": input_grad,
        "inference": inference,
        "target": target,
    }
    others = ("memory", "key", "reserve", "figure", "levers")
    options = options_and_keys(given, settings, others)
    if memory is None:
        raise UsageError("how much memory is there? give --memory, such as --memory 80GiB")
    parse_bytes("memory", memory)
    parse_bytes("reserve", reserve)
    if output is not None:
        check_file(output, force=force, formats=FORMATS)
    with _progress(model, key, quiet=quiet, verbose=verbose) as progress:
        from flopratio.verbs.fit import fit as find

        found = find(
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
        print(to_json(found))
    if output is not None:
        from flopratio.report.files import write_text

        write_text(output, FORMATS[output.suffix.lower()](found))
        print(output, file=sys.stderr)
    if not as_json and output is None:
        from flopratio.report.fit import page

        print_page(page(found))
    failed = [] if found.largest else [failure(found)]
    for note in [*failed, *([] if quiet else notes(found))]:
        print(f"flopratio: {note}", file=sys.stderr)
    raise typer.Exit(1 if failed else 0)


@contextmanager
def _progress(
    model: str, key: str, *, quiet: bool, verbose: bool
) -> Iterator[Callable[[Progress], None]]:
    """A bar on stderr, if that is a terminal; and a line for each trace, if asked for."""
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

    def tried(progress: Progress) -> None:
        size, peak = f"{key}={progress.tried.size}", progress.tried.peak
        said = f"{size} is refused" if peak is None else f"{size}: {quantity(peak, Kind.BYTES)}"
        bar.update(task, description=said, completed=progress.done, total=progress.total)
        if verbose and not quiet:
            console.print(Text(f"{said} {progress.tried.refusal}".rstrip()), soft_wrap=True)

    with bar:
        yield tried
