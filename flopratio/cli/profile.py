"""``flopratio profile``: a training step on a device, its times beside its counts."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flopratio.cli.completion import choices
from flopratio.cli.options import (
    Debug,
    Depth,
    Json,
    ModelArguments,
    Output,
    Quiet,
    Top,
    Verbose,
    one_of,
    with_step_options,
)
from flopratio.cli.progress import late_progress
from flopratio.cli.step import model_and_settings, options_and_keys
from flopratio.report.show import MOST_LINES, page_width, print_page
from flopratio.step.options import MEASURED_DEFAULTS

if TYPE_CHECKING:
    from flopratio.verbs.profile import Profile

REPEATS, BUDGET_S = 20, 10.0
"""As of :func:`flopratio.profile`, which takes seconds to import."""


def _columns() -> Iterable[str]:
    """What a table may be sorted by, without loading what makes tables for ``--help``."""
    from flopratio.report.profile.view import SORTABLE

    return SORTABLE


@with_step_options(MEASURED_DEFAULTS)
def profile_command(
    arguments: ModelArguments = None,
    device: Annotated[
        str, one_of(("cpu", "cuda"), "Where the step runs; cuda:1 for the second GPU.")
    ] = "cpu",
    repeats: Annotated[
        int, typer.Option(metavar="N", min=1, help="Steps to time at most.")
    ] = REPEATS,
    budget: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            help="Time no further step after so long; three at least.",
        ),
    ] = BUDGET_S,
    roofs: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|fresh",
            help="What the device can do, from a file; fresh: measured anew. Measured once unless"
            " given.",
        ),
    ] = None,
    *,
    step: dict[str, Any],
    by: Annotated[str, one_of(("layer", "type", "op", "phase"), "What a line is.")] = "layer",
    depth: Depth = None,
    top: Top = None,
    sort: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="Largest first; ran: as they ran. By time unless given.",
            autocompletion=choices(_columns),
        ),
    ] = None,
    output: Output = None,
    plots: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Draw the roofline, the layers' shares of time and FLOPs, and predicted against"
            " measured times.",
        ),
    ] = None,
    trace: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write one step, with its memory, for Perfetto: .json."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite what is there.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Run a training step, time it, and say why its time is not its FLOPs.

    Each layer's time in each phase beside what it did; the ratio of
    backward to forward in FLOP, as the device's roofs predict it in time,
    and as measured; and the sum of reasons that leads from the first to
    the last.

    For example: flopratio profile torchvision:resnet18 batch=8 --device cpu
    """
    from flopratio.report.profile.view import check_profile_view, profile_view

    model, settings = model_and_settings(
        arguments, verb="profile", instead="flopratio sweep --measure cpu times many"
    )
    check_profile_view(by, sort)
    _check_places(output, plots, trace, force=force)
    options = options_and_keys(
        step, settings, others=("device", "repeats", "budget", "roofs", "progress", "budget_s")
    )
    with late_progress(f"profiling {model}", quiet=quiet) as progress:
        from flopratio.verbs.profile import profile

        profiled = profile(
            model,
            device=device,
            repeats=repeats,
            budget_s=budget,
            roofs=roofs,
            progress=progress,
            **settings,
            **options,
        )

    few = MOST_LINES if output is None else 0
    shown = profile_view(profiled, by=by, depth=depth, sort=sort, top=few if top is None else top)
    _draw(profiled, plots, trace)
    if as_json:
        print(profiled.to_json(rows=False))
    if output is not None:
        from flopratio.report.profile.files import write_profile

        write_profile(profiled, shown, output, force=force)
        print(output, file=sys.stderr)
    if not as_json and output is None:
        from flopratio.report.profile.terminal import profile_page

        print_page(profile_page(profiled, shown, width=page_width()))
    notes = []
    if as_json or output is not None:  # a table says it itself
        notes += profiled.notes
        if profiled.not_traced:
            notes.append(f"not compared with a trace on shapes alone: {profiled.not_traced}")
    if verbose:
        notes.append(f"torch {profiled.ledger.versions.get('torch', '?')}, {profiled.machine}")
    for note in [] if quiet else notes:
        print(f"flopratio: {note}", file=sys.stderr)
    if profiled.interrupted:
        print("flopratio: interrupted", file=sys.stderr)
        raise typer.Exit(130)


def _check_places(
    output: Path | None, plots: Path | None, trace: Path | None, *, force: bool
) -> None:
    """Check that everything can be written, before anything is measured for it."""
    from flopratio.report.files import FORMATS, check_directory, check_file

    if output is not None:
        check_file(output, force=force, formats=FORMATS)
    if trace is not None:
        from flopratio.report.step_trace import TRACE_FORMATS

        check_file(trace, force=force, formats=TRACE_FORMATS)
    if plots is not None:
        from flopratio.report.figures.profile import FIGURES

        check_directory(plots, [figure.__name__ for figure in FIGURES], force=force)


def _draw(profiled: Profile, plots: Path | None, trace: Path | None) -> None:
    """Draw the pictures, and write the trace."""
    if plots is not None:
        from flopratio.report.figures.profile import draw_profile

        for path in draw_profile(profiled, plots):
            print(path, file=sys.stderr)
    if trace is not None and not profiled.profiled.events:  # ended by the user before
        print(f"flopratio: no step was profiled: {trace} is not written", file=sys.stderr)
    elif trace is not None:
        from flopratio.report.step_trace import write_step_trace

        write_step_trace(profiled, trace)
        print(trace, file=sys.stderr)
