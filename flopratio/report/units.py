"""Figures for people: one unit for many figures, and as many digits as they bear."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple


class Kind(Enum):
    """What a figure counts: its symbol, the prefixes of its multiples, and their step."""

    FLOP = "FLOP", ("", "k", "M", "G", "T", "P", "E", "Z"), 1000
    MAC = "MAC", ("", "k", "M", "G", "T", "P", "E", "Z"), 1000
    BYTES = "B", ("", "Ki", "Mi", "Gi", "Ti", "Pi"), 1024
    PARAMETERS = "", ("", "thousand", "million", "billion", "trillion"), 1000
    TIME = "s", ("n", "µ", "m", ""), 1000
    """Whole nanoseconds."""
    FLOP_RATE = "FLOP/s", ("", "k", "M", "G", "T", "P", "E"), 1000
    BYTE_RATE = "B/s", ("", "k", "M", "G", "T"), 1000
    ITEMS = "", ("",), 1
    """Whatever is few enough to be written out."""


class Unit(NamedTuple):
    """A unit: its name (``GFLOP``), how much it is, and the decimals that figures get in it."""

    name: str
    size: int
    decimals: int

    def format(self, figure: int) -> str:
        """The figure in this unit; ``<0.001`` in place of a zero that is only rounded."""
        if self.size == 1:
            return f"{figure:,}"  # a float has too few digits for some
        if figure == 0:
            return "0"
        text = f"{figure / self.size:,.{self.decimals}f}"
        if float(text.replace(",", "")) == 0:
            return f"<{10**-self.decimals:.{self.decimals}f}"
        return text


def choose(figures: Iterable[int], kind: Kind, *, exact: bool = False, total: int = 0) -> Unit:
    """The largest unit that the largest figure fills, with four digits for that one.

    Args:
        exact: the smallest unit, whose figures are whole.
        total: stands below the figures. A unit of which it is a million is too small.
    """
    symbol, prefixes, step = kind.value
    largest = max((abs(figure) for figure in figures), default=0)
    filling = max(largest, abs(total) // step)
    power = 0
    while not exact and power + 1 < len(prefixes) and filling >= step ** (power + 1):
        power += 1
    size = step**power
    digits = len(str(largest // size))
    return Unit(prefixes[power] + symbol, size, 0 if power == 0 else max(0, 4 - digits))


def quantity(figure: int, kind: Kind, *, exact: bool = False) -> str:
    """A figure alone, with its unit: ``3.628 GFLOP``."""
    unit = choose([figure], kind, exact=exact)
    return f"{unit.format(figure)} {unit.name}".rstrip()


def ratio_text(ratio: float | None) -> str:
    """A ratio: whole ones bare (``2``), so that one that only rounds to it (``2.000``) is told
    apart; nothing where there is none."""
    if ratio is None:
        return ""
    return f"{ratio:.0f}" if ratio == int(ratio) else f"{ratio:.3f}"


def plural(count: int, word: str) -> str:
    """``1 layer``, ``1,024 layers``."""
    return f"{count:,} {word}" + ("" if count == 1 else "s")


def printable(text: str) -> str:
    """The text with control characters, which a name may hold, spelled out: ``\\n``."""
    return "".join(
        sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text
    )


def shorten(text: str, width: int) -> str:
    """The text in at most ``width`` characters, its middle left out: both ends of a layer's path
    tell more than what lies between."""
    if len(text) <= width:
        return text
    kept = max(width - 1, 0)
    head = kept // 2
    return f"{text[:head]}…{text[len(text) - (kept - head) :]}"
