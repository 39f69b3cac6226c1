"""What the verbs that run one step share: reading what is asked for, and printing a page."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from flopratio.errors import UsageError
from flopratio.report.show import is_narrow, print_page

__all__ = ["is_narrow", "model_and_settings", "options_and_keys", "print_page"]


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
