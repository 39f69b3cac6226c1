"""``flopratio formula``: the closed form of a training step in its sizes."""

from __future__ import annotations

import json
import shlex
from typing import Annotated, Any

import typer

from flopratio.cli.completion import models
from flopratio.cli.garbage import few_collections
from flopratio.cli.options import Debug, Json, Quiet, Verbose, one_of, with_step_options
from flopratio.cli.progress import late_progress
from flopratio.cli.step import options_and_keys
from flopratio.errors import UsageError
from flopratio.step.written import WrittenStep

VIEWS = ("total", "type", "layer")

FormulaArguments = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="MODEL KEY... [KEY=VALUE]...",
        help="mlp, torchvision:resnet50, hf:gpt2, ...; the sizes that the form is in: batch seq, or"
        " image=33..96, among which values; and the other sizes: seq=1024.",
        autocompletion=models,
        show_default=False,
    ),
]


@with_step_options()
def formula_command(
    arguments: FormulaArguments = None,
    *,
    step: dict[str, Any],
    by: Annotated[str, one_of(VIEWS, "What a form is of.")] = "total",
    verify: Annotated[
        int,
        typer.Option(metavar="N", min=1, help="Further points that the form is held against."),
    ] = 6,
    solve: Annotated[
        str | None,
        typer.Option(
            metavar="'QUANTITY = NUMBER'",
            help="Find the largest value of a KEY within it: 'hardware = 1e24'.",
            show_default=False,
        ),
    ] = None,
    for_: Annotated[
        str | None,
        typer.Option("--for", metavar="KEY", help="Whose value to find.", show_default=False),
    ] = None,
    latex: Annotated[bool, typer.Option("--latex", help="Print LaTeX.")] = False,
    python: Annotated[
        bool, typer.Option("--python", help="Print a function in plain Python.")
    ] = False,
    no_cache: Annotated[
        bool,
        typer.Option("--no-cache", help="Trace anew, and keep nothing."),
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Find the closed form of a training step: FLOPs, bytes and parameters as
    polynomials in the sizes.

    A few steps are traced, each row and storage is interpolated exactly, and
    all is held against fresh traces at other points. What has no such form is
    named, never approximated.

    For example: flopratio formula hf:gpt2 batch seq n_layer n_embd
    or: flopratio formula hf:llama batch=8 seq=4096 --solve 'hardware = 1e18' --for hidden_size
    """
    from flopratio.report.units import plural
    from flopratio.text.grammar import parse_arguments
    from flopratio.text.suggestions import not_among

    if by not in VIEWS:
        raise not_among("by", by, VIEWS)
    if sum((latex, python, as_json)) > 1:
        raise UsageError("--json, --latex and --python are different outputs: leave one")
    words = arguments or []
    if not words or "=" in words[0]:
        raise UsageError("formula of what? name a MODEL and KEYs, such as hf:gpt2 batch seq")
    keys = [word for word in words[1:] if "=" not in word]
    for key in keys:
        if not all(part.isidentifier() for part in key.split(".")):
            raise UsageError(f"{key!r} is no KEY: write names of sizes, such as batch seq")
    model, values = parse_arguments([words[0], *(word for word in words[1:] if "=" in word)])
    assert model is not None
    single = {key: each[0] for key, each in values.items() if len(each) == 1}
    options = options_and_keys(step, single)
    values = {key: each for key, each in values.items() if len(each) > 1 or key in single}
    asked = None
    if solve is not None or for_ is not None:
        keys = [_asked_for(solve, for_, keys)]
        step_asked = WrittenStep.of(model, single, options)
        asked = _question(solve or "", keys[0], step_asked)
        if by != "total" or latex or python:
            raise UsageError("--solve answers with numbers: leave --by, --latex and --python")
    with few_collections(), late_progress(f"formula of {model}", quiet=quiet) as show:
        from flopratio.step.options import StepOptions
        from flopratio.verbs.formula import formula_of

        closed = formula_of(
            model,
            keys,
            values,
            StepOptions(**options),
            verify=verify,
            cached=not no_cache,
            progress=lambda traces: show(f"{plural(traces, 'step')} traced"),
        )
        solution = None
        if asked is not None:
            quantity, number = asked
            solution = closed.solve(quantity, number)
    if solution is not None:
        from flopratio.report.formula import solution as page

        if as_json:
            print(json.dumps(page.document(closed, solution), indent=1))
        else:
            for line in page.lines(closed, solution):
                print(line)
    elif as_json:
        from flopratio.report.formula.document import document

        print(json.dumps(document(closed, by), indent=1))
    elif python:
        from flopratio.report.formula.terminal import verified
        from flopratio.report.formula.text import python_function

        print(python_function(closed.totals, closed.keys, f"{model}. {verified(closed)}"))
    elif latex:
        from flopratio.report.formula.text import latex as in_latex
        from flopratio.report.formula.text import letters

        for name, form in closed.totals.items():
            if form:
                escaped = name.replace("_", r"\_")
                print(rf"\mathrm{{{escaped}}} &= {in_latex(form, letters(closed.keys))} \\")
    else:
        from flopratio.report.formula.terminal import lines

        for line in lines(closed, by):
            print(line)
    raise typer.Exit(0)


def _asked_for(solve: str | None, key: str | None, keys: list[str]) -> str:
    """The KEY of a question, beside which there is no other symbol."""
    if solve is None:
        raise UsageError(f"--for {key} of what? say --solve 'hardware = 1e24' too")
    if key is None:
        raise UsageError(f"solve {solve!r} for which KEY? say --for width")
    others = [other for other in keys if other != key]
    if others:
        raise UsageError(
            f"{solve!r} is solved for {key} alone: give {others[0]} a value, {others[0]}=8"
        )
    return key


def _question(solve: str, key: str, step: WrittenStep) -> tuple[str, str]:
    """A quantity and a number; refused before anything is traced, if they are none."""
    from flopratio.text.byte_size import parse_bytes
    from flopratio.verbs.fit import FIGURES
    from flopratio.verbs.formula.domain import SYNONYMS
    from flopratio.verbs.formula.result import DECLINED, check_quantity
    from flopratio.verbs.formula.solve import limit_of, question

    quantity, number = question(solve)
    if quantity in FIGURES:
        memory = number if number[-1:].isalpha() else f"{int(limit_of(quantity, number))}B"
        parse_bytes("memory", memory)
        if step.model.startswith("hf:") and key in SYNONYMS:
            key, *_ = SYNONYMS[key]  # which every configuration has as a name
        figure = "" if quantity == FIGURES[0] else f" --figure {quantity}"
        raise UsageError(
            f"{DECLINED}; it is found by traces: flopratio fit {step} --key {key} --memory "
            f"{shlex.quote(memory)}{figure}"
        )
    check_quantity(quantity)
    limit_of(quantity, number)
    return quantity, number
