"""The grammar that every verb's arguments share: ``MODEL [KEY=VALUES ...]``.

VALUES is a list, ``1,8,64``, whose items are values or ranges, ends included:

==============  ==================================
``0..100``      every whole number
``0..100+10``   in steps of 10
``1..1024*2``   each twice the one before
==============  ==================================

A value is a whole number, a number, ``true`` or ``false``, sizes (``8x3x224x224``) or a word.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from numbers import Integral
from typing import Any

from flopratio.errors import UsageError
from flopratio.text.suggestions import did_you_mean, unknown_key

Value = bool | int | float | str | tuple[int, ...]

MOST_VALUES = 1_000_000
"""More than this many values of a key, or points of a grid, is taken for a slip."""

_WHOLE = re.compile(r"[+-]?[0-9]+")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_SIZES = re.compile(r"-?[0-9]+(x-?[0-9]+)+")
_RANGE = re.compile(r"(-?[0-9]+)\.\.(-?[0-9]+)(?:([*+])([0-9]+))?")


def parse_arguments(words: Sequence[str]) -> tuple[str | None, dict[str, tuple[Value, ...]]]:
    """Tell MODEL, if the first word is one, from the values of each KEY.

    Raises:
        UsageError: a word has no ``=``, no key or no value, or a key comes twice.
    """
    model, pairs = (words[0], words[1:]) if words and "=" not in words[0] else (None, words)
    keys: dict[str, tuple[Value, ...]] = {}
    for word in pairs:
        key, equals, text = word.partition("=")
        if not equals:
            raise UsageError(f"{word!r} is not KEY=VALUE, such as batch=8 or depth=1,2,4")
        if not all(part.isidentifier() for part in key.split(".")):  # vision_config.hidden_size
            raise UsageError(
                f"{word!r} has no key before its '=': write KEY=VALUE, such as batch=8"
            )
        if key in keys:
            raise UsageError(f"{key} is given twice: write its values as one list, {key}=1,8,64")
        keys[key] = parse_values(key, text)
    return model, keys


SPECS = ("torchvision:NAME", "timm:NAME", "hf:TYPE", "package.module:NAME", "file.py:NAME")
"""What else than a built-in network a MODEL may be."""


def is_spec(model: str) -> bool:
    """Whether a MODEL names one of a zoo or of the user's (``hf:gpt2``, ``net.py:factory``), not a
    built-in network."""
    return ":" in model


def parse_values(key: str, text: str) -> tuple[Value, ...]:
    """The values that ``text`` lists for ``key``, in its order.

    Raises:
        UsageError: an item is empty or repeated, or a range is empty, endless or far too long.
    """
    values: dict[tuple[type, Value], Value] = {}  # by type too, because True == 1 == 1.0
    for item in text.split(","):
        if not item.strip():
            raise UsageError(f"{key}={text} has an empty value: write {key}=8 or {key}=1,8,64")
        for value in _parse_item(key, item.strip()):
            if (type(value), value) in values:
                raise UsageError(f"{key}={text} lists {format_value(value)} twice")
            values[type(value), value] = value
    return tuple(values.values())


def _parse_item(key: str, item: str) -> Iterable[Value]:
    match = _RANGE.fullmatch(item)
    if match is None:
        return (parse_value(item),)
    first, last, sign, by = int(match[1]), int(match[2]), match[3] or "+", int(match[4] or 1)
    if last < first:
        raise UsageError(f"{key}={item} counts down: write {key}={last}..{first}")
    if by < (2 if sign == "*" else 1) or (sign == "*" and first < 1):
        raise UsageError(
            f"{key}={item} never reaches its end: write a step of at least 1, such as "
            "0..100+10, or a factor of at least 2 from at least 1, such as 1..1024*2"
        )
    if sign == "*":
        return _multiples(first, last, by)
    steps = range(first, last + 1, by)
    if len(steps) > MOST_VALUES:
        raise UsageError(f"{key}={item} has {len(steps):,} values: at most {MOST_VALUES:,} will do")
    return steps


def _multiples(first: int, last: int, factor: int) -> Iterator[int]:
    while first <= last:
        yield first
        first *= factor


def parse_value(text: str) -> Value:
    """One value: the type that its text looks like."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if _WHOLE.fullmatch(text):
        return int(text)
    if _NUMBER.fullmatch(text):
        return float(text)
    if _SIZES.fullmatch(text):
        return tuple(int(size) for size in text.split("x"))
    return text


def format_value(value: Value) -> str:
    """The text that :func:`parse_value` reads as ``value``."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "x".join(map(str, value))
    return str(value)


def check_keys(
    model: str,
    keys: Mapping[str, Sequence[Value]],
    defaults: Mapping[str, Value],
    minimum: Mapping[str, int],
    choices: Mapping[str, Sequence[str]],
) -> None:
    """Check that ``model`` knows each key and that each value is of its default's type and size.

    Args:
        keys: KEY -> values. In the place of a size, an array of sizes or a symbol will do.
        defaults: the model's keys; a whole number stands for a size.
        minimum: smallest legal value of a key; a size's is 1 unless given.
        choices: the words that a key may be, where they are listed.

    Raises:
        UsageError: a key is unknown (the nearest is suggested) or a value can't be one of its.
    """
    for key, values in keys.items():
        if key not in defaults:
            raise unknown_key(model, key, defaults, UsageError)
        for value in values:
            if not _fits(value, defaults[key], minimum.get(key)):
                raise UsageError(
                    f"{key}={format_value(value)} will not do: {key} is "
                    f"{_wanted(defaults[key], minimum.get(key))}, such as "
                    f"{key}={format_value(defaults[key])}"
                )
            if key in choices and value not in choices[key]:
                raise unknown(key, str(value), choices[key])


def _fits(value: Any, default: Value, minimum: int | None) -> bool:
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(default, bool) and isinstance(value, bool)
    if isinstance(default, int):
        if isinstance(value, Integral):
            return int(value) >= (1 if minimum is None else minimum)
        # Arrays and symbols divide without a remainder, too; words and tuples don't.
        return hasattr(value, "__floordiv__") and not isinstance(value, float)
    if isinstance(default, float):
        return isinstance(value, int | float) and (minimum is None or value >= minimum)
    if isinstance(default, tuple):
        sizes = value if isinstance(value, tuple) else (value,)  # 300: sizes of which there is one
        return bool(sizes) and all(_fits(size, 1, None) for size in sizes)
    return isinstance(value, str)


def _wanted(default: Value, minimum: int | None) -> str:
    if isinstance(default, bool):
        return "true or false"
    if isinstance(default, int):
        return f"a whole number of at least {1 if minimum is None else minimum}"
    if isinstance(default, float):
        return "a number" + ("" if minimum is None else f" of at least {minimum}")
    return "sizes of at least 1" if isinstance(default, tuple) else "a word"


def unknown(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """The error for a name that isn't among the known ones."""
    return UsageError(f"{name!r} is no {kind}{did_you_mean(name, known)}")
