"""What the verbs that run one step share: reading what is asked for, and printing a page."""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from flopratio.errors import UsageError

if TYPE_CHECKING:
    from rich.console import RenderableType

UNLIMITED = 100_000
"""Columns of a pipe or a file."""


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


def print_page(page: RenderableType) -> None:
    """Print a page: within the width of a terminal, or as wide as it is into a pipe."""
    from rich.console import Console

    console = Console()
    if is_narrow():
        console.print(page)
    else:
        wide = Console(width=UNLIMITED)
        with wide.capture() as printed:
            wide.print(page)
        print("\n".join(line.rstrip() for line in printed.get().splitlines()))


def is_narrow() -> bool:
    """Whether what is printed has a width to keep to."""
    from rich.console import Console

    return Console().is_terminal or "COLUMNS" in os.environ
