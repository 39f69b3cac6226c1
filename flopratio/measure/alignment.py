"""Two lists of names that should be the same, met one by one."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher

WINDOW = 256
"""How many names are compared at once, so that long lists take no longer than they are."""


def align(expected: Sequence[str], found: Sequence[str]) -> list[int | None]:
    """For each expected name, which of the found ones it is; None if it is none.

    What both begin with is the same. At a difference, what lies in the longest runs that both have
    from there on is; so that one that is missing, or that there is besides, does not shift all
    others of its name.
    """
    places: list[int | None] = [None] * len(expected)
    i = j = 0
    while i < len(expected) and j < len(found):
        if expected[i] == found[j]:
            places[i] = j
            i, j = i + 1, j + 1
            continue
        a, b = expected[i : i + WINDOW], found[j : j + WINDOW]
        all_seen = i + WINDOW >= len(expected) and j + WINDOW >= len(found)
        sure = WINDOW if all_seen else WINDOW // 2  # what comes later may yet meet others
        next_i, next_j = i + sure, j + sure
        blocks = SequenceMatcher(None, a, b, autojunk=False).get_matching_blocks()
        met = [(x + n, y + n) for x, y, size in blocks for n in range(size)]
        for x, y in met:
            if max(x, y) < sure:
                places[i + x] = j + y
                next_i, next_j = i + x + 1, j + y + 1
        i, j = next_i, next_j
    return places
