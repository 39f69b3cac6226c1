"""Patterns of module names, such as ``layer1.*``: what they match, and what else there is."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches


def owners(name: str) -> Iterator[str]:
    """The modules that hold a parameter or module: ``a.b`` and ``a`` for ``a.b.weight``."""
    while "." in name:
        name = name.rpartition(".")[0]
        yield name


def near(pattern: str, names: list[str]) -> str:
    """The names that a pattern which matches none may have meant."""
    found = get_close_matches(pattern, names, n=3, cutoff=0.3) or names[:3]
    return f"names are like {', '.join(found)}"
