"""A figure as a source prints it, and whether a computed one is the same to the digits printed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal

NUMBER = r"[+-]?\d[\d,]*(?:\.\d+)?(?:[eE][+-]?\d+)?"
BOUNDS = {
    "≤": "at most",
    "<=": "at most",
    "at most": "at most",
    "up to": "at most",
    "<": "less than",
    "less than": "less than",
    "≥": "at least",
    ">=": "at least",
    "at least": "at least",
    ">": "more than",
    "more than": "more than",
}
RANGE = re.compile(
    rf"(?P<low>{NUMBER}) ?(?P<first>%?) ?(?:to|–|-) ?(?P<high>{NUMBER})(?P<unit> ?[^\d:]*)"
)
SINGLE = re.compile(
    rf"(?:(?P<bound>{'|'.join(sorted(BOUNDS, key=len, reverse=True))})|about|~|≈)? ?"
    rf"(?P<value>{NUMBER})(?P<unit> ?:1| ?[^\d:]*)"
)

Ours = int | float | str | bool
Published = str | int | float | bool | None


@dataclass(frozen=True)
class Printed:
    """A printed figure: one number to so many digits, a range, or a bound.

    Args:
        low, high: both the number itself, the ends of a range, or one of them infinite.
        half: half a unit of the last digit printed; 0 where the figure is exact.
        strict: a bound that must not be reached.
        percent: the figure is in per cent: a fraction of 0.44 is what it prints as 44.
        decimals: digits printed after the point.
    """

    low: Decimal
    high: Decimal
    half: Decimal = Decimal(0)
    strict: bool = False
    percent: bool = False
    decimals: int = 0

    def holds(self, value: Decimal) -> bool:
        """Whether a computed value, in the unit printed, is this figure."""
        if self.strict:
            return self.low < value < self.high
        return self.low - self.half <= value <= self.high + self.half

    def difference(self, value: Decimal) -> str:
        """By how much a computed value misses: in points of per cent, or relative."""
        end = self.low if not self.high.is_finite() or value < self.low else self.high
        if self.percent:
            return f"{value - end:+.{self.decimals + 1}f} points"
        if value == end:
            return "reached"
        if end == 0:
            return f"{value:+.4g}"
        percent = 100 * (value - end) / abs(end)
        return f"{percent:+.0f}%" if abs(percent) >= 100 else f"{percent:+.2g}%"


def read_printed(published: str | int | float) -> Printed:
    """A figure as it is printed.

    ``1.57``, ``44%``, ``9 ×``, ``137 TFLOP/s`` and ``about 2`` are numbers to the digits printed;
    ``2 to 3`` is a range, both ends included; ``at most 4`` and ``> 4`` are bounds; ``2:1`` and an
    int are exact.

    Raises:
        ValueError: it is no figure.
    """
    if isinstance(published, int):
        return Printed(Decimal(published), Decimal(published))
    text = str(published).replace("\N{MINUS SIGN}", "-").strip()
    if match := RANGE.fullmatch(text):
        percent = "%" in (match["first"], match["unit"].strip()[:1])
        ends = _decimal(match["low"]), _decimal(match["high"])
        return Printed(*ends, percent=percent, decimals=max(map(_decimals, ends)))
    match = SINGLE.fullmatch(text)
    if match is None:
        raise ValueError(f"{published!r} is no figure: 1.57, 44%, 2 to 3, at most 4, 9 ×, 2:1")
    value, unit = _decimal(match["value"]), match["unit"].strip()
    percent, decimals = unit.startswith("%"), _decimals(value)
    endless = Decimal("Infinity")
    if match["bound"]:
        kind = BOUNDS[match["bound"]]
        low, high = (-endless, value) if kind in ("at most", "less than") else (value, endless)
        strict = kind in ("less than", "more than")
        return Printed(low, high, strict=strict, percent=percent, decimals=decimals)
    exact = unit.startswith(":") and decimals == 0
    half = Decimal(0) if exact else Decimal((0, (5,), int(value.as_tuple().exponent) - 1))
    return Printed(value, value, half, percent=percent, decimals=decimals)


def verdict_of(published: Published, ours: Ours) -> tuple[str, str]:
    """Whether a computed value is the published one, and by how much it isn't.

    A figure in per cent is compared with a fraction: ``44%`` with 0.4412.

    Returns:
        ``reproduced``, ``not reproduced``, or ``not published`` where there is nothing to compare
        with; and the difference, empty where there is none.
    """
    if published is None and not isinstance(ours, bool):
        return "not published", ""
    if published is None or isinstance(ours, bool | str):
        holds = ours == (True if published is None else published)
        return ("reproduced", "") if holds else ("not reproduced", "differs")
    if isinstance(published, bool):
        raise ValueError(f"{ours!r} can't be compared with {published!r}")
    printed = read_printed(published)
    value = Decimal(str(ours)) * (100 if printed.percent else 1)
    if printed.holds(value):
        return "reproduced", ""
    return "not reproduced", printed.difference(value)


def written(ours: Ours, published: Published = None) -> str:
    """A computed value in the unit of the published one, with two digits more."""
    if isinstance(ours, bool):
        return "yes" if ours else "no"
    if not isinstance(ours, float):
        return str(ours)
    if isinstance(published, str | int | float) and not isinstance(published, bool):
        printed = read_printed(published)
        decimals = printed.decimals + 2
        return f"{100 * ours:.{decimals}f}%" if printed.percent else f"{ours:.{decimals}f}"
    return f"{ours:.6g}"


def _decimal(text: str) -> Decimal:
    return Decimal(text.replace(",", ""))


def _decimals(value: Decimal) -> int:
    return max(0, -int(value.as_tuple().exponent))
