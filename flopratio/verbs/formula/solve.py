"""The largest value of a KEY at which a quantity stays within a number, from its closed form."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fractions import Fraction

from flopratio.closed_form import Polynomial
from flopratio.closed_form.threshold import largest_within, never_falls
from flopratio.errors import UsageError
from flopratio.text.byte_size import parse_bytes
from flopratio.verbs.formula.entries import MEMORY

MOST_DIGITS = 300
"""A number with more is a slip of the pen, and would take for ever."""


@dataclass(frozen=True)
class Solution:
    """An answer.

    Args:
        quantity, limit: the question: the quantity at most so much.
        key: whose value is asked for.
        form: of the quantity, in that KEY alone.
        value: the largest admissible one.
        there: the quantity at it, exactly.
        following: the next admissible value.
        beyond: the quantity at that, exactly.
        traced: at which of the two a fresh trace has the same.
    """

    quantity: str
    limit: Fraction
    key: str
    form: Polynomial
    value: int
    there: int
    following: int
    beyond: int
    traced: tuple[int, ...] = ()

    @property
    def step(self) -> int:
        """From one admissible value to the next."""
        return self.following - self.value


_QUESTION = re.compile(r"\s*(\w+)\s*(?:<=|=)\s*(.+?)\s*")


def question(text: str) -> tuple[str, str]:
    """The quantity and the number of ``hardware = 1e24``."""
    match = _QUESTION.fullmatch(text)
    if match is None:
        raise UsageError(
            f"{text!r} is no question: write a quantity and a number, such as 'hardware = 1e24' or "
            "'saved_bytes = 40GiB'"
        )
    return match[1], match[2]


def limit_of(quantity: str, limit: str | float) -> Fraction:
    """A number as it is written: ``1e24`` is exactly that; of bytes with a unit too."""
    if isinstance(limit, str) and quantity in MEMORY and limit[-1:].isalpha():
        return Fraction(parse_bytes(quantity, limit))
    try:
        number = Decimal(str(limit).replace(",", ""))
    except InvalidOperation:
        number = Decimal("nan")
    if not number.is_finite():
        raise UsageError(f"{quantity} = {limit} is no number: write it like 1e24")
    if number <= 0:
        raise UsageError(f"{quantity} = {limit} is not above zero: write it like 1e24")
    if number.adjusted() >= MOST_DIGITS:
        raise UsageError(f"{quantity} = {limit} has over {MOST_DIGITS} digits: write one like 1e24")
    return Fraction(number)


def solve(
    quantity: str,
    limit: str | float,
    form: Polynomial,
    key: str,
    start: int,
    step: int,
    trace: Callable[[int], int | None],
) -> Solution:
    """The largest value of a KEY at which a quantity is at most so much.

    Args:
        form: of the quantity, in that KEY alone.
        start: the least value of the KEY.
        step: from one admissible value to the next.
        trace: the quantity of a fresh trace at a value; None where none is made. It raises where
            the model refuses the value.

    Raises:
        UsageError: there is no such value, or none that the form and a fresh trace agree on.
    """
    number = limit_of(quantity, limit)
    if not form.keys:
        raise UsageError(f"{quantity} doesn't depend on {key}: it is {int(form({})):,}")
    if not never_falls(form, key, start):
        raise UsageError(f"{quantity} is not known to grow with {key} from {key}={start} on")
    least = int(form({key: start}))
    if least > number:
        raise UsageError(
            f"{quantity} is {least:,} at {key}={start} already: give more than {limit}, or smaller "
            "other sizes"
        )
    value = largest_within(form, key, number, start, step)
    there, beyond = (int(form({key: each})) for each in (value, value + step))
    try:
        found = trace(value)
    except UsageError as error:
        raise UsageError(
            f"{quantity} = {limit} would take {key}={value:,}, which is refused: {error}"
        ) from None
    if found not in (None, there):
        raise UsageError(
            f"{quantity} at {key}={value:,} is {found:,} in a fresh trace and {there:,} by the "
            "closed form, which doesn't reach so far"
        )
    traced: tuple[int, ...] = () if found is None else (value,)
    if traced:
        with suppress(UsageError):  # refused, and so without a step to compare with
            traced += (value + step,) if trace(value + step) == beyond else ()
    return Solution(quantity, number, key, form, value, there, value + step, beyond, traced)
