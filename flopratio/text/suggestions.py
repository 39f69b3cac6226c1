"""«Did you mean»: how a sentence about a name that isn't known ends."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import TypeVar

from flopratio.errors import UsageError

MOST_LISTED = 20
"""More names than these are no help in a sentence."""

MEANT = {"gpu": "cuda", "nvidia": "cuda"}
"""What people call a name that isn't like it."""

Error = TypeVar("Error", bound=UsageError)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """How to end a sentence about a name that isn't among the known ones.

    Returns:
        ``: did you mean 'X' or 'Y'?`` where some are near, in any case of letters; else all of
        them, ``: there are X, Y, Z``, or nothing if there are too many to list.
    """
    names = sorted(known)
    if near := nearest(name, names):
        return f": did you mean {' or '.join(map(repr, near))}?"
    return f": there are {', '.join(names)}" if 0 < len(names) <= MOST_LISTED else ""


def not_among(option: str, value: object, choices: Iterable[str]) -> UsageError:
    """The error for the value of an option that is none of its choices."""
    names = list(choices)
    near = nearest(str(value), names)
    hint = f": did you mean {' or '.join(map(repr, near))}?" if near else ""
    return UsageError(f"{option}={value} should be one of {', '.join(names)}{hint}")


def unknown_key(model: str, key: str, known: Iterable[str], kind: type[Error]) -> Error:
    """The error for a KEY that a model does not have."""
    names = list(known)
    error = kind(f"{model} has no KEY {key!r}{did_you_mean(key, names)}")
    error.key = None if nearest(key, names) else key
    return error


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """The one or two known names that are near, in any case of letters, the nearest first; or the
    one that is meant by it."""
    folded = {one.casefold(): one for one in known}
    meant = MEANT.get(name.casefold().partition(":")[0])  # gpu:1
    if meant in folded:
        return [folded[meant]]
    return [folded[one] for one in get_close_matches(name.casefold(), folded, n=2)]


def alike(pattern: str, names: Iterable[str]) -> list[str]:
    """The up to three names that are most like a pattern, the likest first. They may be far less
    like it than a misspelt name is like its own: wildcards stand for much of what was meant."""
    return get_close_matches(pattern, names, n=3, cutoff=0.3)
