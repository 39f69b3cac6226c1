"""The cases of a project, read.

They stand in ``[tool.flopratio]`` of ``pyproject.toml``, or of any other TOML file, where the
header may be left out::

    [tool.flopratio.cases]
    mlp = "mlp depth=4 batch=8"                                  # a step, as on a command line

    [tool.flopratio.cases.gpt2]
    model = "hf:gpt2"                                            # or word by word
    batch = 8
    seq = 64
    checkpoint = "auto"

    [tool.flopratio.cases.gpt2.expect]
    ratio = ">= 1.9"
    peak = "<= 2 GiB"
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from flopratio.cli.step import read_step
from flopratio.errors import UsageError
from flopratio.step.options import DEFAULTS, StepOptions
from flopratio.step.written import WrittenStep
from flopratio.text.grammar import parse_value
from flopratio.text.suggestions import did_you_mean, nearest
from flopratio.text.toml import line_of, read_toml
from flopratio.verbs.check.cases import TIME_TOLERANCE, Case, Suite
from flopratio.verbs.check.expectation import read_expectation

FILES = ("flopratio.toml", "pyproject.toml")
"""Where the cases are looked for, in this order."""

KEYS = ("cases", "expect", "time_tolerance")
"""What ``[tool.flopratio]`` may have."""

CASE_KEYS = ("model", "step", "expect", *DEFAULTS)
"""What a case may have, beside the KEYs of its model; ``step`` is ``model`` by another name."""

EXAMPLE = 'write [tool.flopratio.cases] and, below it, NAME = "mlp batch=8"'


def read_suite(path: Path | None = None) -> Suite:
    """The cases in a file; of the working directory unless a file is given.

    Raises:
        UsageError: there is no such file, it is malformed, or something in it has no meaning.
    """
    path = _file() if path is None else path
    document, text = read_toml(path)
    settings = _settings(path, document)
    for key in settings:
        if key not in KEYS:
            raise UsageError(
                f"{path}: [tool.flopratio] has no key {key!r}{did_you_mean(key, KEYS)}"
            )
    cases = _table(path, settings.get("cases", {}), "cases")
    if not cases:
        raise UsageError(f"{path} has no cases: {EXAMPLE}")
    for_all = _table(path, settings.get("expect", {}), "expect")
    tolerance = settings.get("time_tolerance", TIME_TOLERANCE)
    if isinstance(tolerance, bool) or not isinstance(tolerance, int | float) or not tolerance >= 0:
        raise UsageError(f"{path}: time_tolerance = {tolerance!r} should be a share, such as 0.1")
    read = {}
    for name, written in cases.items():
        try:
            step, expected = _step(written)
            expect = {**for_all, **expected}
            expectations = tuple(read_expectation(key, expect[key], cases) for key in expect)
        except UsageError as error:
            raise UsageError(f"{path}, case {name}: {error}") from None
        read[name] = Case(name, step, expectations, line_of(text, "cases", name))
    return Suite(path, read, float(tolerance))


def _file() -> Path:
    for name in FILES:
        path = Path(name)
        if path.is_file() and (name != "pyproject.toml" or "flopratio" in _tool(path)):
            return path
    raise UsageError(
        f"there are no cases here: {EXAMPLE}, in {' or '.join(FILES)} of this directory; or name "
        "the file, flopratio check FILE"
    )


def _tool(path: Path) -> dict[str, Any]:
    tool = read_toml(path)[0].get("tool", {})
    return tool if isinstance(tool, dict) else {}


def _settings(path: Path, document: dict[str, Any]) -> dict[str, Any]:
    """What the file says of this tool."""
    tool = document.get("tool", {})
    if isinstance(tool, dict) and "flopratio" in tool:
        return _table(path, tool["flopratio"], "tool.flopratio")
    if "project" in document or "build-system" in document or path.name == "pyproject.toml":
        raise UsageError(f"{path} has no table [tool.flopratio]: {EXAMPLE}")
    return document


def _table(path: Path, value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UsageError(f"{path}: {name} = {value!r} should be a table, [{name}]")
    return value


def _step(written: Any) -> tuple[WrittenStep, Mapping[str, Any]]:
    """A case's step, and what is expected of it."""
    if isinstance(written, str):
        written = {"step": written}
    if not isinstance(written, dict):
        raise UsageError(f"{written!r} should be a step, such as 'mlp batch=8', or a table of it")
    words = {_name(key): value for key, value in written.items()}
    models = [words.pop(key) for key in ("model", "step") if key in words]
    if len(models) != 1:
        there = "names no MODEL" if not models else "has both a model and a step, which are one"
        slip = next((f", not {key!r}" for key in words if nearest(key, ("model", "step"))), "")
        raise UsageError(f"it {there}: write model = 'hf:gpt2'{slip}")
    if not isinstance(models[0], str):
        raise UsageError(f"model = {models[0]!r} should be text, such as 'hf:gpt2'")
    expect = words.pop("expect", {})
    if not isinstance(expect, dict):
        raise UsageError(f"expect = {expect!r} should be a table, such as {{ ratio = 2 }}")
    step = WrittenStep.of(*read_step(models[0])).and_also(dict(_flat(words)))
    StepOptions(**step.options)  # which checks them
    return step, expect


def _name(key: str) -> str:
    """An option may be written as on the command line: ``input-grad``."""
    name = key.replace("-", "_")
    return name if name in DEFAULTS else key


def _flat(words: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    """KEYs and options, with the values that the command line would have for them; of a table (a
    dotted key) the KEYs ``vision_config.hidden_size``."""
    for key, value in words.items():
        name = prefix + key
        if isinstance(value, dict):
            if not prefix and (near := nearest(key, ("expect",))):
                raise UsageError(f"there is no table {key!r} in a case: did you mean {near[0]!r}?")
            yield from _flat(value, f"{name}.")
        elif isinstance(value, str):
            yield name, value if name in DEFAULTS else parse_value(value)
        elif isinstance(value, bool | int | float):
            yield name, value
        else:
            raise UsageError(
                f"{name} = {value!r} will not do: a case takes one value, such as batch = 8 or "
                "input = '8x3x224x224'"
            )
