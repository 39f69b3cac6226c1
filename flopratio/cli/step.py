"""What the verbs that run one step share: reading what is asked for."""

from __future__ import annotations

import shlex
from collections.abc import Collection
from typing import Any, NamedTuple

import typer

from flopratio.cli.options import ModelArguments, with_step_options
from flopratio.errors import UsageError


def model_and_settings(
    arguments: list[str] | None, *, verb: str, instead: str
) -> tuple[str, dict[str, Any]]:
    """MODEL, and the one value of each KEY.

    Args:
        instead: what to do with several values; ``{key}`` stands for the KEY.
    """
    from flopratio.text.grammar import parse_arguments

    model, keys = parse_arguments(arguments or [])
    if model is None:
        raise UsageError(f"{verb} what? name a MODEL, such as mlp, torchvision:resnet18 or hf:gpt2")
    for key, values in keys.items():
        if len(values) > 1:
            raise UsageError(
                f"{key} has {len(values):,} values and {verb} takes one: {instead.format(key=key)}"
            )
    return model, {key: values[0] for key, values in keys.items()}


def options_and_keys(
    options: dict[str, Any],
    settings: dict[str, Any],
    others: Collection[str] = (),
    *,
    own: Collection[str] = (),
) -> dict[str, Any]:
    """The options of the step; the loss, which the built-in networks have as a KEY too, is taken
    out of the settings.

    Args:
        others: options that are not of the step.
        own: KEYs that are arguments of the user's own factory, whatever options there are.
    """
    key = None if "loss" in own else settings.pop("loss", None)
    if key is not None and options["loss"] != "auto":
        raise UsageError(f"the loss is given twice: write loss={key} or --loss {options['loss']}")
    for name in settings:
        if name not in own and (name in options or name in ("model", *others)):
            raise UsageError(f"{name} is no KEY of a model: write --{name.replace('_', '-')}")
    return options if key is None else {**options, "loss": str(key)}


class StepText(NamedTuple):
    """A step as it is written on the command line: ``hf:gpt2 seq=1024 --checkpoint auto``."""

    model: str
    settings: dict[str, Any]
    """The one value of each KEY."""
    options: dict[str, Any]
    """Of the step, each, by its name in :class:`flopratio.step.options.StepOptions`."""


def read_step(text: str) -> StepText:
    """The step that a text asks for, in the grammar of the command line.

    Raises:
        UsageError: it is none; the sentence begins with the text.
    """
    read: list[StepText] = []
    app = typer.Typer(add_completion=False)

    @app.command(context_settings={"help_option_names": []})
    @with_step_options()
    def command(arguments: ModelArguments = None, *, step: dict[str, Any]) -> None:
        model, settings = model_and_settings(arguments, verb="a step", instead="write one of them")
        read.append(StepText(model, settings, options_and_keys(step, settings)))

    try:
        app(shlex.split(text), standalone_mode=False)
    except Exception as error:
        if hasattr(error, "format_message"):  # Typer's own, such as an unknown option
            raise UsageError(f"{text!r}: {error.format_message()}") from error
        if isinstance(error, ValueError):  # a UsageError, or a quotation without an end
            raise UsageError(f"{text!r}: {error}") from error
        raise
    return read[0]
