"""The options that verbs share. Those of a step are made from
:class:`flopratio.step.options.StepOptions`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup

from flopratio.cli.completion import choices, models
from flopratio.report.show import MOST_LINES
from flopratio.step.options import DEFAULTS, about_options


class _BareFlags:
    """A command in whose help no flag, its own or Typer's, has a ``<bool>`` beside it: it takes no
    value."""

    def get_params(self, ctx: Any) -> list[Any]:
        parameters: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for parameter in parameters:
            if getattr(parameter, "is_flag", False):
                parameter.metavar = ""
        return parameters


class Command(_BareFlags, TyperCommand):
    """A verb."""


class Group(_BareFlags, TyperGroup):
    """All the verbs."""


GridArguments = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[MODEL] [KEY=VALUES]...",
        help="mlp, cnn, transformer, or any other MODEL, torchvision:resnet18, hf:gpt2 or "
        "file.py:factory, and its sizes: batch=8, batch=1,8,64, depth=0..100, batch=1..1024*2.",
        autocompletion=models,
        show_default=False,
    ),
]
ModelArguments = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="MODEL [KEY=VALUE]...",
        help="mlp, cnn, torchvision:resnet50, timm:vit_base_patch16_224, hf:gpt2, "
        "package.module:factory or file.py:factory, and its sizes: batch=8 seq=1024.",
        autocompletion=models,
        show_default=False,
    ),
]
Depth = Annotated[
    int | None,
    typer.Option(metavar="N", min=0, help="Fold layers below the N-th dot of their path."),
]
Top = Annotated[
    int | None,
    typer.Option(
        metavar="N", min=0, help=f"Print the first N lines, 0 all; {MOST_LINES} unless given."
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", metavar="FILE", help="Write .json, .csv, .md or .html, and print nothing."
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite FILE.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no notes.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="More notes on stderr.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def one_of(words: Sequence[str], help: str, *names: str) -> Any:
    """An option that takes one of some words, ``a|b|c``, which a shell completes.

    Args:
        names: of the option, where its parameter does not say it.
    """
    return typer.Option(
        *names, metavar="|".join(words), help=help, autocompletion=choices(lambda: words)
    )


STEP = "step"
"""The parameter of a command in whose place the options of a step stand."""


def with_step_options(
    defaults: Mapping[str, Any] = DEFAULTS,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of a step, in the place of its parameter ``step``, which gets
    their values by name.

    Args:
        defaults: which of them, and their defaults.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        hints = get_type_hints(command, include_extras=True)
        parameters: list[inspect.Parameter] = []
        for name, parameter in inspect.signature(command).parameters.items():
            if name == STEP:
                parameters += map(_parameter, defaults, defaults.values())
            else:
                parameters.append(parameter.replace(annotation=hints[name]))

        def run(**given: Any) -> None:
            step = {name: given.pop(name) for name in defaults}
            command(**given, **{STEP: step})

        run.__doc__ = command.__doc__
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return run

    return decorate


def _parameter(name: str, default: Any) -> inspect.Parameter:
    """The parameter of a command that Typer makes an option of the step of."""
    about = about_options()[name]
    unless_given = f"; {about.unless_given} unless given." if about.unless_given else ""
    if default is not None and about.unless_given:
        unless_given = "."
    option = typer.Option(
        f"--{name.replace('_', '-')}",
        metavar=about.metavar,
        min=about.least,
        help=about.help + unless_given,
        autocompletion=None if about.choices is None else choices(about.choices),
    )
    kind: Any = str if default is None else type(default)
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[kind | None if default is None else kind, option],
    )
