"""Sizes of memory as people write them: ``80GiB``, ``1.5 GB``, ``512MiB``."""

from __future__ import annotations

import re
from decimal import Decimal

from flopratio.errors import UsageError

UNITS = {
    "B": 1,
    **{f"{prefix}B": 1000**power for power, prefix in enumerate("kMGTP", start=1)},
    **{f"{prefix}iB": 1024**power for power, prefix in enumerate("KMGTP", start=1)},
}
"""Unit -> bytes."""

_FOLDED = {unit.casefold(): size for unit, size in UNITS.items()}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)")


def parse_bytes(name: str, size: str | int) -> int:
    """A size in bytes, rounded down to a whole one.

    Args:
        name: what the size is of, for messages.
        size: text with a unit of :data:`UNITS` in any case of letters; or a number of bytes.

    Raises:
        UsageError: no number, no unit or another one, or less than nothing.
    """
    if isinstance(size, bool) or not isinstance(size, str | int):
        raise UsageError(f"{name} should be text such as '80GiB' or a whole number of bytes")
    if isinstance(size, int):
        if size < 0:
            raise UsageError(f"{name}={size} is less than nothing")
        return size
    match = _SIZE.fullmatch(size.strip())
    if match is None:
        raise UsageError(f"{name}={size} is no size: write it like 80GiB or 80GB")
    number, unit = match.groups()
    if not unit and Decimal(number):
        raise UsageError(f"{name}={size} has no unit: write {number}GiB or {number}GB")
    if unit and unit.casefold() not in _FOLDED:
        raise UsageError(
            f"{unit} in {name}={size} is no unit of memory: write {number}GiB or {number}GB; "
            f"there are {', '.join(UNITS)}"
        )
    return int(Decimal(number) * _FOLDED[unit.casefold() or "b"])
