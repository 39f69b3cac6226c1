"""A step as it is written on a command line: ``hf:gpt2 batch=8 --checkpoint auto``."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flopratio.errors import UsageError
from flopratio.step.options import DEFAULTS
from flopratio.text.grammar import Value, format_value


@dataclass(frozen=True)
class WrittenStep:
    """A MODEL, the one value of each KEY, and the options that are not as they are by default.

    Args:
        options: by the names of :class:`flopratio.step.options.StepOptions`, whose constructor
            checks their values.
    """

    model: str
    settings: Mapping[str, Value] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls, model: str, settings: Mapping[str, Value], options: Mapping[str, Any]
    ) -> WrittenStep:
        """Without the options that are as they are by default."""
        given = {name: value for name, value in options.items() if value != DEFAULTS[name]}
        return cls(model, settings, given)

    def and_also(self, words: Mapping[str, Any]) -> WrittenStep:
        """This step with further KEYs and options, by name. The loss, which the built-in networks
        have as a KEY too, is the option.

        Raises:
            UsageError: one is given twice.
        """
        for name in words:
            if name in self.settings or name in self.options:
                raise UsageError(f"{name} is given twice")
        options = {name: value for name, value in words.items() if name in DEFAULTS}
        settings = {name: value for name, value in words.items() if name not in DEFAULTS}
        return self.of(self.model, {**self.settings, **settings}, {**self.options, **options})

    def __str__(self) -> str:
        """The step on a command line, its options in the order of their declaration."""
        words = [self.model]
        words += [f"{key}={format_value(value)}" for key, value in self.settings.items()]
        for name in DEFAULTS:
            if name in self.options:
                value = self.options[name]
                words += [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]
        return shlex.join(words)
