"""``flopratio fit``: the largest batch, or any other size, that a memory holds."""

from __future__ import annotations

import os
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
    Quiet,
    Step,
    Target,
    Verbose,
)
from flopratio.errors import UsageError

if TYPE_CHECKING:
    from flopratio.fitting import Fit, Progress

UNLIMITED = 100_000
"""Columns of a pipe or a file."""


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
            "--output", "-o", metavar="FILE", help="Write .json, .csv or .md, and print nothing."
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
    from flopratio.byte_size import parse_bytes
    from flopratio.report.files import check_file
    from flopratio.report.fit import FORMATS, failure, notes, to_json

    model, settings = _model_and_settings(arguments)
    options: dict[str, Any] = {
        "loss": _loss(loss, settings),
        "optimizer": optimizer,
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
    for name in settings:
        if name in options or name in ("model", "memory", "key", "reserve", "figure", "levers"):
            raise UsageError(f"{name} is no KEY of a model: write --{name.replace('_', '-')}")
    if memory is None:
        raise UsageError("how much memory is there? give --memory, such as --memory 80GiB")
    parse_bytes("memory", memory)
    parse_bytes("reserve", reserve)
    if output is not None:
        check_file(output, force=force, formats=FORMATS)
    with _progress(model, key, quiet=quiet, verbose=verbose) as progress:
        from flopratio.fitting import fit as find

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
        _print(found)
    failed = [] if found.largest else [failure(found)]
    for note in [*failed, *([] if quiet else notes(found))]:
        print(f"flopratio: {note}", file=sys.stderr)
    raise typer.Exit(1 if failed else 0)


def _model_and_settings(arguments: list[str] | None) -> tuple[str, dict[str, Any]]:
    """MODEL, and the one value of each KEY."""
    from flopratio.grammar import parse_arguments

    model, keys = parse_arguments(arguments or [])
    if model is None:
        raise UsageError("fit what? name a MODEL, such as mlp, torchvision:resnet18 or hf:gpt2")
    for key, values in keys.items():
        if len(values) > 1:
            raise UsageError(
                f"{key} has {len(values):,} values and fit takes one: with --key {key} it finds "
                "the largest that fits"
            )
    return model, {key: values[0] for key, values in keys.items()}


def _loss(option: str, settings: dict[str, Any]) -> str:
    """The loss, which the built-in networks have as a KEY too."""
    key = settings.pop("loss", None)
    if key is not None and option != "auto":
        raise UsageError(f"the loss is given twice: write loss={key} or --loss {option}")
    return option if key is None else str(key)


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


def _print(found: Fit) -> None:
    """Print the page: within the width of a terminal, or as wide as it is into a pipe."""
    from rich.console import Console

    from flopratio.report.fit import page

    console = Console()
    if console.is_terminal or "COLUMNS" in os.environ:
        console.print(page(found))
    else:
        wide = Console(width=UNLIMITED)
        with wide.capture() as printed:
            wide.print(page(found))
        print("\n".join(line.rstrip() for line in printed.get().splitlines()))
