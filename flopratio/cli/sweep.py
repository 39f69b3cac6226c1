"""``flopratio sweep``: the grid, its verdict and its plots."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flopratio.cli.garbage import few_collections
from flopratio.cli.options import (
    Debug,
    GridArguments,
    Json,
    Quiet,
    Verbose,
    one_of,
    with_step_options,
)
from flopratio.text.grammar import format_value, parse_arguments
from flopratio.verbs.sweep.plan import (
    MEASURES,
    SWEPT_DEFAULTS,
    is_for_closed_form,
    make_plan,
    swept_options,
)

if TYPE_CHECKING:
    from flopratio.verbs.sweep.file import SweepRow
    from flopratio.verbs.sweep.plan import Plan, Point


@with_step_options(SWEPT_DEFAULTS)
def sweep_command(
    arguments: GridArguments = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Where the results go.")
    ] = Path("results"),
    measure: Annotated[
        str, one_of(MEASURES, "Where to time the steps; auto: on CUDA if there is a device.")
    ] = "auto",
    *,
    step: dict[str, Any],
    fresh: Annotated[bool, typer.Option("--fresh", help="Start over, whatever DIR holds.")] = False,
    verify: Annotated[
        int,
        typer.Option(
            metavar="N", min=0, help="Of a grid by closed form, trace so many points afresh."
        ),
    ] = 4,
    parquet: Annotated[
        bool, typer.Option("--parquet", help="Of a grid by closed form: not as CSV.")
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Run a training step at every point of a grid, and judge the claims of the field on it.

    Without MODEL: the default grids of mlp, cnn and transformer. The other
    built-in networks are those of Hobbhahn and Sevilla (2021): convnet, of two
    convolutions, linearnet and onenet, of three linear layers, which onenet
    gives an input of one number. Any other MODEL is judged by the claims that
    make sense for it; the rest are named. DIR gets sweep.csv, verdict.json,
    environment.json and the plots. A sweep that was killed resumes at its next
    point. Exit 1 when a claim fails.

    With --measure none, a grid of over 200 points of any MODEL (of over 10,000
    of a built-in network) is worked out at once from the closed form (see
    flopratio formula), and held against --verify fresh traces; without verdict
    and plots.

    For example: flopratio sweep mlp depth=1..64*2 batch=1,8,64 -o mine
    """
    from rich.console import Console

    from flopratio.verbs.sweep.verdict import judge

    model, keys = parse_arguments(arguments or [])
    if model is not None and is_for_closed_form(model, keys, measure):
        with few_collections():
            _by_closed_form(
                model,
                keys,
                step,
                output,
                verify=verify,
                kind="parquet" if parquet else "csv",
                fresh=fresh,
                quiet=quiet,
                as_json=as_json,
            )
    grid = make_plan(model, keys, swept_options(**step), measure=measure)
    rows = _run(grid, output, fresh=fresh, quiet=quiet, verbose=verbose)
    claims = judge(rows, grid.keys)
    (output / "verdict.json").write_text(json.dumps(claims, indent=2) + "\n", encoding="utf-8")
    _draw(grid, rows, output)
    if as_json:
        print(json.dumps({"schema": "flopratio.sweep/1", "rows": rows, "verdict": claims}))
    else:
        from flopratio.report.verdict import verdict_headline, verdict_table

        console = Console()
        headline = verdict_headline(claims)
        console.print(f"{headline}: {len(rows)} points, in {output}", highlight=False)
        console.print(verdict_table(claims))
    failed = any(claim["holds"] is False for claim in claims)
    raise typer.Exit(1 if failed else 0)


def _by_closed_form(
    model: str,
    keys: dict[str, Any],
    step: dict[str, Any],
    output: Path,
    *,
    verify: int,
    kind: str,
    fresh: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Sweep the whole grid at once, say what came of it, and exit."""
    from rich.console import Console
    from rich.progress import Progress

    from flopratio.cli.progress import late_progress
    from flopratio.report.units import plural
    from flopratio.verbs.sweep.closed_form import verified_grid_form
    from flopratio.verbs.sweep.grid_file import check_directory, write_grid

    options = swept_options(**step)
    check_directory(model, keys, options, output, fresh=fresh)
    with late_progress(f"closed form of {model}", quiet=quiet) as show:
        found, held = verified_grid_form(
            model,
            keys,
            options,
            verify=verify,
            progress=lambda traces: show(f"{plural(traces, 'step')} traced"),
        )
    console = Console(stderr=True)
    with Progress(console=console, disable=quiet) as progress:
        task = progress.add_task("sweep", total=found.size)
        path = write_grid(
            found,
            output,
            kind=kind,
            fresh=fresh,
            finished=lambda rows: progress.advance(task, rows),
        )
    for sentence in held.sentences():
        print(f"flopratio: {sentence}", file=sys.stderr)
    summary = {
        "schema": "flopratio.sweep/1",
        "rows": found.size,
        "file": str(path),
        "traces": found.traces,
        "verified": held.points,
        "differ": len({str(point) for point, _ in held.wrong}),
        "notes": found.notes,
    }
    if as_json:
        print(json.dumps(summary))
    else:
        print(
            f"{found.size:,} points from {found.traces} traces, in {path}; "
            f"{held.equal} of {held.points} fresh traces at random points are equal"
        )
    if not quiet:
        for note in found.notes:
            print(f"flopratio: {note}", file=sys.stderr)
    raise typer.Exit(1 if held.wrong else 0)


MOST_LAYERS = 10
"""The bars a layer are drawn of the deepest network of at most this depth: more can't be read."""


def _draw(grid: Plan, rows: list[SweepRow], output: Path) -> None:
    """Draw the figures of the rows, and the bars a layer of one point."""
    from flopratio.report.figures import draw_all
    from flopratio.verbs.sweep.point import layers_of
    from flopratio.verbs.sweep.run import to_frame

    def depth(point: Point) -> int:
        told = point.settings.get("depth", 0)
        return told if isinstance(told, int) else 0

    readable = [point for point in grid.points if depth(point) <= MOST_LAYERS]
    point = max(readable, key=depth) if readable else min(grid.points, key=depth)
    layers = layers_of(point.model, dict(point.settings), grid.options)
    draw_all(to_frame(grid, rows), output, layers)


def _run(grid: Plan, output: Path, *, fresh: bool, quiet: bool, verbose: bool) -> list[SweepRow]:
    """Run the plan under a progress bar on stderr."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    from flopratio.verbs.sweep.run import run_plan

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    progress = Progress(*columns, TimeRemainingColumn(), console=console, disable=quiet)
    task = progress.add_task("sweep", total=len(grid.points))

    def finished(row: SweepRow) -> None:
        progress.advance(task)
        if verbose and not quiet:
            own = [f"{key}={format_value(row[key])}" for key in grid.grids[row["model"]]]
            console.print(" ".join([row["model"], *own, row["status"]]))

    with ExitStack() as stack:  # an error before the first point is not to be hidden by a bar

        def started() -> None:
            stack.enter_context(progress)

        return run_plan(grid, output=output, fresh=fresh, started=started, finished=finished)
