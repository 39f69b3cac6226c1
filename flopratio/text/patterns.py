"""Patterns of module names, such as ``layer1.*``: what they match, and what else there is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fnmatch import fnmatch

from flopratio.text.suggestions import alike

ANY = "*"
"""What stands for the numbers of repeated blocks."""


def without_numbers(path: str) -> str:
    """A layer's path, the same for all that stand in the same place of a repeated block."""
    return ".".join(ANY if part.isdigit() else part for part in path.split("."))


def owners(name: str) -> Iterator[str]:
    """The modules that hold a parameter or module: ``a.b`` and ``a`` for ``a.b.weight``."""
    while "." in name:
        name = name.rpartition(".")[0]
        yield name


def matches(name: str, pattern: str) -> bool:
    """Whether a pattern matches a parameter or module, by its own name or by one that holds it."""
    return fnmatch(name, pattern) or any(fnmatch(owner, pattern) for owner in owners(name))


def near(pattern: str, names: Iterable[str]) -> str:
    """The names that a pattern may have meant which matches none of them."""
    names = list(names)
    return f"names are like {', '.join(alike(pattern, names) or names[:3])}"


def matches_nothing(
    option: str, pattern: str, names: Iterable[str], kind: str = "module or parameter"
) -> str:
    """The sentence about a pattern that matches none of the names.

    Args:
        option: what the pattern was given for (``freeze``).
        kind: of what the names are.
    """
    return f"{option}={pattern} matches no {kind}: {near(pattern, names)}"
