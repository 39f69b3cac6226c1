"""``flopratio count``: the ledger of one training step, as a table or in a file."""

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
    Force,
    Json,
    ModelArguments,
    Output,
    Quiet,
    Top,
    Verbose,
    one_of,
    with_step_options,
)
from flopratio.cli.progress import waiting
from flopratio.cli.step import model_and_settings, options_and_keys
from flopratio.report.show import MOST_LINES, page_width, print_page

if TYPE_CHECKING:
    from flopratio.hardware import DeviceProfile
    from flopratio.ledger import Ledger
    from flopratio.roofline import Prediction

PICTURES = (".png", ".svg")


def _columns() -> Iterable[str]:
    """What a table may be sorted by, without loading what makes tables for ``--help``."""
    from flopratio.report.view import SORTABLE

    return SORTABLE


def _devices() -> Iterable[str]:
    """Whose roofs may be asked for by name."""
    from flopratio.hardware import shipped_profiles

    return "cpu", "cuda", *shipped_profiles()


@with_step_options()
def count_command(
    context: typer.Context,
    arguments: ModelArguments = None,
    *,
    step: dict[str, Any],
    by: Annotated[
        str, one_of(("layer", "type", "op", "phase", "autograd"), "What a line is.")
    ] = "layer",
    depth: Depth = None,
    top: Top = None,
    sort: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="Largest first; as the layers ran unless given.",
            autocompletion=choices(_columns),
        ),
    ] = None,
    macs: Annotated[
        bool, typer.Option("--macs", help="Print multiply-adds: half of the products' FLOP.")
    ] = False,
    exact: Annotated[bool, typer.Option("--exact", help="Print every digit.")] = False,
    roofline: Annotated[
        str | None,
        typer.Option(
            metavar="cpu|cuda|GPU|FILE.json",
            help="Predict times from the measured roofs of this device, and explain their ratio."
            " FILE.json: as flopratio profile writes it.",
            autocompletion=choices(_devices),
        ),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit 1 when an operator has no formula.")
    ] = False,
    output: Output = None,
    timeline: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw the memory over the step: .png or .svg."),
    ] = None,
    memory_trace: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write the memory over the step: .json for Perfetto, .pickle for PyTorch's"
            " visualiser.",
        ),
    ] = None,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Count a training step: FLOPs, bytes and saved activations of every layer.

    Nothing is executed and no weights are loaded: the step runs on shapes
    alone, and is reconciled with what the law of backward says. Exit 1 when
    the two disagree, or, with --strict, when an operator has no formula.

    For example: flopratio count torchvision:resnet50 batch=8 --top 20
    """
    from flopratio.report.view import check_view, view

    model, settings = model_and_settings(
        arguments, verb="count", instead="flopratio sweep takes many"
    )
    check_view(by, sort)
    _check_files(output, timeline, memory_trace, force=force)
    options = options_and_keys(step, settings, own=_own_keys(model, settings, step))
    device = None if roofline is None else _roofs(roofline, quiet=quiet)
    if device is not None and _is_default(context, "target"):
        options["target"] = device.device  # whose kernels run there
    with waiting(f"counting {model}", quiet=quiet):
        from flopratio.step.options import StepOptions
        from flopratio.verbs.count import count_step

        ledger = count_step(model, None, settings, StepOptions(**options))

    few = MOST_LINES if output is None else 0  # a file gets all
    shown = view(
        ledger,
        by=by,
        depth=depth,
        sort=sort,
        top=few if top is None else top,
        macs=macs,
        exact=exact,
        prediction=None if device is None else _predicted(ledger, device),
    )
    if as_json:
        from flopratio.report.files import beside

        print(ledger.to_json(rows=False, **beside(shown)))
    if output is not None:
        from flopratio.report.files import write

        write(ledger, shown, output, force=force)
        print(output, file=sys.stderr)
    _write_memory(ledger, timeline, memory_trace)
    if not as_json and output is None:
        from flopratio.report.terminal import page

        print_page(page(ledger, shown, width=page_width()))
    failed = [*_disagreement(ledger), *(_uncounted(ledger) if strict else [])]
    notes = []
    if as_json or output is not None:  # a table says it itself
        notes += [] if strict else _uncounted(ledger)
        if macs and (output is None or output.suffix != ".md"):
            notes.append("--macs halves the figures of tables alone: these are FLOP")
    attention, ran = options["attention"], ledger.convention.get("attention")
    if attention is not None and ran not in (attention, "none"):
        notes.append(f"--attention {attention} does not take these operands: {ran} ran")
    if verbose:
        notes.append(f"{len(ledger.rows):,} rows, torch {ledger.versions.get('torch', '?')}")
    for note in [*failed, *([] if quiet else notes)]:
        print(f"flopratio: {note}", file=sys.stderr)
    raise typer.Exit(1 if failed else 0)


def _own_keys(model: str, settings: dict[str, Any], step: dict[str, Any]) -> set[str]:
    """The arguments of the user's own factory; looked up only where a KEY is an option's name."""
    if not any(name in step or name == "model" for name in settings):
        return set()
    from flopratio.models.load import own_keywords

    return own_keywords(model)


def _roofs(name: str, *, quiet: bool) -> DeviceProfile:
    """The device to predict for; this machine's is measured if it has not been."""
    with waiting(f"measuring the roofs of {name}", quiet=quiet):
        from flopratio.measure.roofs import roofs_of

        return roofs_of(name)


def _is_default(context: typer.Context, option: str) -> bool:
    """Whether an option of the command line was not given."""
    source = context.get_parameter_source(option)
    return source is None or source.name == "DEFAULT"


def _predicted(ledger: Ledger, device: DeviceProfile) -> Prediction:
    from flopratio.roofline import predict

    return predict(ledger.rows, device)


def _check_files(
    output: Path | None, timeline: Path | None, memory_trace: Path | None, *, force: bool
) -> None:
    """Check that the files can be written, before anything is counted for them."""
    from flopratio.report.files import FORMATS, check_file
    from flopratio.report.memory_trace import MEMORY_FORMATS

    wanted = ((output, FORMATS), (timeline, PICTURES), (memory_trace, MEMORY_FORMATS))
    for path, formats in wanted:
        if path is not None:
            check_file(path, force=force, formats=formats)


def _write_memory(ledger: Ledger, timeline: Path | None, memory_trace: Path | None) -> None:
    """Write the memory over the step, as a picture and for viewers."""
    if timeline is None and memory_trace is None:
        return
    from flopratio.report.summary import headline

    memory = ledger.memory
    if timeline is not None:
        from flopratio.report.figures import memory_timeline

        memory_timeline(memory, timeline, headline(ledger).rpartition(": ")[0])
        print(timeline, file=sys.stderr)
    if memory_trace is not None:
        from flopratio.report.memory_trace import write_memory_trace

        write_memory_trace(memory, memory_trace)
        print(memory_trace, file=sys.stderr)


def _disagreement(ledger: Ledger) -> list[str]:
    if not ledger.mismatches:
        return []
    from flopratio.report.units import plural

    layers = len({mismatch.layer for mismatch in ledger.mismatches})
    return [f"the analytic and the executed counts differ in {plural(layers, 'layer')}"]


def _uncounted(ledger: Ledger) -> list[str]:
    if not ledger.uncounted_ops:
        return []
    return [f"there is no formula for {', '.join(sorted(ledger.uncounted_ops))}: not counted"]
