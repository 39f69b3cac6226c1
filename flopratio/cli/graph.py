"""``flopratio graph``: the computational graph of one training step as a picture."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from flopratio.cli.options import (
    Debug,
    Depth,
    Force,
    Json,
    ModelArguments,
    Quiet,
    with_step_options,
)
from flopratio.cli.progress import waiting
from flopratio.cli.step import model_and_settings, options_and_keys
from flopratio.errors import UsageError

Picture = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", help="Write .svg, .dot, .mmd or .mermaid."),
]


@with_step_options()
def graph_command(
    arguments: ModelArguments = None,
    *,
    step: dict[str, Any],
    depth: Depth = None,
    operators: Annotated[
        bool, typer.Option("--operators", help="Draw every operator, however many there are.")
    ] = False,
    exact: Annotated[bool, typer.Option("--exact", help="Write every digit.")] = False,
    output: Picture = None,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Draw the computational graph of a training step.

    Squares are variables, each with its shape and, where backward keeps it,
    its bytes; circles are operators, each with its FLOPs. Forward runs from
    left to right, backward below it the other way. Many operators are folded
    by module, unless --depth or --operators says otherwise.

    For example: flopratio graph mlp depth=1 batch=2 -o graph.svg
    """
    model, settings = model_and_settings(arguments, verb="graph", instead="draw a graph of each")
    if output is None and not as_json:
        raise UsageError("graph draws into a file: -o FILE.svg, FILE.dot or FILE.mmd says which")
    if operators and depth is not None:
        raise UsageError("--operators folds nothing and --depth does: give one of them")
    if output is not None:
        from flopratio.report.files import check_file
        from flopratio.report.graph import FORMATS

        check_file(output, force=force, formats=FORMATS)
    options = options_and_keys(step, settings)
    with waiting(f"tracing {model}", quiet=quiet):
        from flopratio.step.options import StepOptions
        from flopratio.verbs.graph import graph_step

        graph = graph_step(
            model, None, settings, StepOptions(**options), fold=depth, operators=operators
        )
    from flopratio.report.graph import to_json, write_picture

    if as_json:
        print(to_json(graph))
    if output is not None:
        write_picture(graph, output, force=force, exact=exact)
        print(output, file=sys.stderr)
    if graph.note and not quiet:
        print(f"flopratio: {graph.note}", file=sys.stderr)
