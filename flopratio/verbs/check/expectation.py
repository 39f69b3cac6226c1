"""What a case is expected to come to: ``ratio = 2``, ``peak = "<= 80 GiB"``.

An expectation names a quantity and says what it should be: a number (equality, exact), a text with
a comparison (``"<= 12.4 GFLOP"``), a share of another case's (``"< 0.6 * other"``), a number and
how far from it is near enough (``"1.998 +- 0.001"``), or a list, of which each has to hold. What
layers have too can be asked of those that match a pattern: ``ratio[layer4.*]``. FLOP or bytes in a
unit (``"80 GiB"``) are the most that there may be, unless a comparison says otherwise.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from math import isfinite
from typing import Any, NamedTuple

from flopratio.errors import UsageError
from flopratio.snapshot import MEMORY, Snapshot
from flopratio.text.byte_size import parse_bytes
from flopratio.text.patterns import matches, near
from flopratio.text.suggestions import did_you_mean

Counts = Mapping[str, int]
"""The columns of a layer, or of the whole step."""


class Unit(Enum):
    """What a quantity is counted in."""

    RATIO = "ratio"
    FLOP = "FLOP"
    BYTES = "bytes"
    ITEMS = "items"
    FLAG = "flag"


class Quantity(NamedTuple):
    """Something that can be expected.

    Args:
        of_counts: its value by the columns of a layer, or of the whole step; None where it has
            none.
        of_step: its value by the whole step, of a quantity that no layer has.
    """

    unit: Unit
    of_counts: Callable[[Counts], Fraction | None] | None = None
    of_step: Callable[[Snapshot], Fraction | None] | None = None


def _share(numerator: Iterable[str], denominator: Iterable[str]) -> Quantity:
    above, below = tuple(numerator), tuple(denominator)

    def value(counts: Counts) -> Fraction | None:
        divisor = sum(counts[name] for name in below)
        return Fraction(sum(counts[name] for name in above), divisor) if divisor else None

    return Quantity(Unit.RATIO, value)


def _sum(unit: Unit, *columns: str) -> Quantity:
    return Quantity(unit, lambda counts: Fraction(sum(counts[name] for name in columns)))


def _memory(figure: str) -> Quantity:
    def value(snapshot: Snapshot) -> Fraction | None:
        known = snapshot.memory[figure]
        return None if known is None else Fraction(known)

    return Quantity(Unit.BYTES, of_step=value)


def _first_layer_ratio(snapshot: Snapshot) -> Fraction | None:
    """Of the first layer that has products."""
    for layer in snapshot.layers.values():
        if layer.counts["forward"]:
            return _RATIO.of_counts and _RATIO.of_counts(layer.counts)
    return None


_BACKWARD = ("grad_input", "grad_weight")
_RATIO = _share(_BACKWARD, ("forward",))

QUANTITIES: dict[str, Quantity] = {
    "ratio": _RATIO,
    "ratio_with_update": _share((*_BACKWARD, "update"), ("forward",)),
    "ratio_with_elementwise": _share(
        (*_BACKWARD, "elementwise_backward"), ("forward", "elementwise_forward")
    ),
    "first_layer_ratio": Quantity(Unit.RATIO, of_step=_first_layer_ratio),
    "recompute_share": _share(("recompute",), ("forward", *_BACKWARD, "recompute")),
    "forward": _sum(Unit.FLOP, "forward"),
    "grad_input": _sum(Unit.FLOP, "grad_input"),
    "grad_weight": _sum(Unit.FLOP, "grad_weight"),
    "backward": _sum(Unit.FLOP, *_BACKWARD),
    "recompute": _sum(Unit.FLOP, "recompute"),
    "update": _sum(Unit.FLOP, "update"),
    "elementwise_forward": _sum(Unit.FLOP, "elementwise_forward"),
    "elementwise_backward": _sum(Unit.FLOP, "elementwise_backward"),
    "elementwise_recompute": _sum(Unit.FLOP, "elementwise_recompute"),
    "model": _sum(Unit.FLOP, "forward", *_BACKWARD),
    "hardware": _sum(Unit.FLOP, "forward", *_BACKWARD, "recompute"),
    "saved_bytes": _sum(Unit.BYTES, "saved_bytes"),
    "parameters": _sum(Unit.ITEMS, "parameters"),
    **{figure: _memory(figure) for figure in MEMORY if figure != "parameters"},
    "uncounted_ops": Quantity(
        Unit.ITEMS, of_step=lambda snapshot: Fraction(len(snapshot.uncounted_ops))
    ),
    "reconciled": Quantity(
        Unit.FLAG, of_step=lambda snapshot: Fraction(snapshot.reconciled is True)
    ),
}
"""What can be expected, by name. FLOP are of contractions but for ``elementwise_...`` and
``update``; ``recompute_share`` is of all contractions that are executed; ``uncounted_ops`` is the
number of operators that no formula knows."""

COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
    "=": operator.eq,
}

_NAME = re.compile(r"(?P<quantity>[^\[\]]+)(\[(?P<pattern>.*)\])?")
_COMPARED = re.compile(r"\s*(?P<comparison><=|>=|==|!=|<|>|=)?\s*(?P<limit>.*?)\s*")
_NUMBER = r"[0-9][0-9_,]*(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"
_PLAIN = re.compile(rf"({_NUMBER})\s*([A-Za-z%]*)")
_NEAR = re.compile(rf"({_NUMBER})\s*(?:±|\+-|\+/-)\s*({_NUMBER})")
_RELATION = re.compile(
    rf"(?:(?P<before>{_NUMBER})\s*\*\s*)?(?P<case>.+?)(?:\s*\*\s*(?P<after>{_NUMBER}))?"
)
_FLOP = {"": 1, **{prefix: 1000**power for power, prefix in enumerate("kMGTPE", start=1)}}
_ITEMS = {"": 1, "k": 10**3, "thousand": 10**3, "M": 10**6, "million": 10**6, "B": 10**9}
_ITEMS["billion"] = 10**9

EXAMPLES = {
    Unit.RATIO: '2, ">= 1.9", "1.998 +- 0.001" or "<= 25%"',
    Unit.FLOP: '"<= 12.4 GFLOP" or a whole number',
    Unit.BYTES: '"<= 80 GiB" or a whole number of bytes',
    Unit.ITEMS: '0 or "<= 124.5 million"',
    Unit.FLAG: "true or false",
}
"""How each is written."""


@dataclass(frozen=True)
class Condition:
    """What a quantity should be.

    Args:
        text: as it was written, with its comparison.
        limit: what it is compared with: this, or so many times another case's.
        case: the other case; empty if there is none.
        tolerance: how far from the limit is equal enough.
    """

    text: str
    comparison: str
    limit: Fraction
    case: str = ""
    tolerance: Fraction = Fraction(0)

    def holds(self, value: Fraction, other: Fraction = Fraction(1)) -> bool:
        """Whether a value is what it should be.

        Args:
            other: the other case's value.
        """
        limit = self.limit * other if self.case else self.limit
        if self.tolerance:
            return abs(value - limit) <= self.tolerance
        return COMPARISONS[self.comparison](value, limit)


@dataclass(frozen=True)
class Violation:
    """A condition that does not hold.

    Args:
        name: the quantity's, with its pattern.
        expected: the condition as it was written.
        found: what it is; None where there is no such value, see ``problem``.
        limit: what it was compared with, where that is another case's.
        layers: of a pattern: the layers in which it is so.
        problem: why it could not be judged; empty if it was.
    """

    name: str
    unit: Unit
    expected: str
    found: Fraction | None = None
    limit: Fraction | None = None
    layers: tuple[str, ...] = ()
    problem: str = ""


@dataclass(frozen=True)
class Expectation:
    """A quantity and its conditions.

    Args:
        name: as it was written.
        quantity: one of :data:`QUANTITIES`.
        pattern: of the layers; None: the whole step.
    """

    name: str
    quantity: str
    pattern: str | None
    conditions: tuple[Condition, ...]

    @property
    def cases(self) -> set[str]:
        """The other cases that it names."""
        return {condition.case for condition in self.conditions if condition.case}

    def violations(self, snapshot: Snapshot, others: Mapping[str, Snapshot]) -> list[Violation]:
        """The conditions that don't hold. A ratio has to hold in each layer that matches and has
        products; a count is summed over the layers that match.

        Args:
            others: the steps of other cases, by name; one that is not there could not be counted.
        """
        try:
            values = self._values(snapshot)
        except UsageError as error:
            return [self._unjudged(condition, str(error)) for condition in self.conditions]
        found = []
        for condition in self.conditions:
            if condition.case and condition.case not in others:
                found.append(self._unjudged(condition, f"{condition.case} could not be counted"))
                continue
            found += self._judged(condition, values, others)
        return found

    def _judged(
        self,
        condition: Condition,
        values: Mapping[str, Fraction],
        others: Mapping[str, Snapshot],
    ) -> Iterable[Violation]:
        other = Fraction(1)
        if condition.case:
            try:
                theirs = self._values(others[condition.case])
            except UsageError as error:
                yield self._unjudged(condition, f"in {condition.case} {error}")
                return
            if len(theirs) > 1:
                yield self._unjudged(condition, "of several layers there is no one to compare with")
                return
            other = next(iter(theirs.values()))
        wrong: dict[Fraction, list[str]] = {}
        for layer, value in values.items():
            if not condition.holds(value, other):
                wrong.setdefault(value, []).append(layer)
        for value, layers in wrong.items():
            yield Violation(
                self.name,
                QUANTITIES[self.quantity].unit,
                condition.text,
                value,
                condition.limit * other if condition.case else None,
                tuple(layers) if self._is_by_layer else (),
            )

    def _unjudged(self, condition: Condition, problem: str) -> Violation:
        unit = QUANTITIES[self.quantity].unit
        return Violation(self.name, unit, condition.text, problem=problem)

    @property
    def _is_by_layer(self) -> bool:
        return self.pattern is not None and QUANTITIES[self.quantity].unit is Unit.RATIO

    def _values(self, snapshot: Snapshot) -> dict[str, Fraction]:
        """What there is to compare, by layer; the whole step's is that of the empty path.

        Raises:
            UsageError: there is nothing.
        """
        of_counts, of_step = QUANTITIES[self.quantity][1:]
        if self.pattern is None or of_counts is None:
            value = of_step(snapshot) if of_step else of_counts and of_counts(snapshot.totals)
            if value is None:
                raise UsageError(f"there is no {self.quantity}: nothing to divide by")
            return {"": value}
        layers = {
            path: layer.counts
            for path, layer in snapshot.layers.items()
            if matches(path, self.pattern)
        }
        if not layers:
            raise UsageError(
                f"{self.pattern} matches no layer: {near(self.pattern, snapshot.layers)}"
            )
        if not self._is_by_layer:
            columns = snapshot.totals
            summed = {name: sum(counts[name] for counts in layers.values()) for name in columns}
            value = of_counts(summed)
            assert value is not None  # only ratios lack one
            return {"": value}
        values = {path: of_counts(counts) for path, counts in layers.items()}
        known = {path: value for path, value in values.items() if value is not None}
        if not known:
            raise UsageError(f"no layer that matches {self.pattern} has products")
        return known


def read_expectation(name: str, written: Any, cases: Iterable[str]) -> Expectation:
    """The expectation ``name = written``.

    Args:
        cases: the names of all cases.

    Raises:
        UsageError: there is no such quantity, or that is nothing it could be.
    """
    match = _NAME.fullmatch(name)
    quantity, pattern = (match["quantity"].strip(), match["pattern"]) if match else (name, None)
    if quantity not in QUANTITIES:
        raise UsageError(
            f"there is nothing called {quantity!r} to expect{did_you_mean(quantity, QUANTITIES)}"
        )
    about = QUANTITIES[quantity]
    if pattern is not None and about.of_counts is None:
        raise UsageError(f"{name}: {quantity} is of the whole step, and takes no pattern")
    each = written if isinstance(written, list) else [written]
    if not each:
        raise UsageError(f"{name} is an empty list: write {EXAMPLES[about.unit]}")
    conditions = tuple(_condition(name, about.unit, one, frozenset(cases)) for one in each)
    return Expectation(name, quantity, pattern, conditions)


def _condition(name: str, unit: Unit, written: Any, cases: frozenset[str]) -> Condition:
    if isinstance(written, bool):
        if unit is not Unit.FLAG:
            raise _wrong(name, written, unit)
        return Condition(f"= {str(written).lower()}", "=", Fraction(written))
    if isinstance(written, int | float) and unit is not Unit.FLAG and isfinite(written):
        return Condition(f"= {written}", "=", Fraction(str(written)))
    if not isinstance(written, str) or unit is Unit.FLAG:
        raise _wrong(name, written, unit)
    match = _COMPARED.fullmatch(written)
    assert match is not None  # it takes any text
    comparison, limit = match["comparison"] or "=", match["limit"]
    text = f"{comparison} {limit}"
    if not limit:
        raise _wrong(name, written, unit)
    if close := _NEAR.fullmatch(limit):
        if comparison != "=" or unit is not Unit.RATIO:
            raise _wrong(name, written, unit)
        return Condition(text, comparison, _number(close[1]), tolerance=_number(close[2]))
    if plain := _PLAIN.fullmatch(limit):
        if plain[2] and not match["comparison"] and unit in (Unit.BYTES, Unit.FLOP):
            comparison, text = "<=", f"<= {limit}"  # in a unit: no step comes to that exactly
        return Condition(text, comparison, _amount(name, unit, plain[1], plain[2]))
    relation = _RELATION.fullmatch(limit)
    if relation is None or relation["case"] not in cases:
        other = limit if relation is None else relation["case"]
        if relation is not None and (relation["before"] or relation["after"]):
            raise UsageError(f"{name}: there is no case {other!r}{did_you_mean(other, cases)}")
        raise UsageError(
            f"{name} = {written!r} is neither {EXAMPLES[unit]} nor the name of a case"
            f"{did_you_mean(other, cases)}"
        )
    factor = _number(relation["before"] or "1") * _number(relation["after"] or "1")
    return Condition(text, comparison, factor, relation["case"])


def _wrong(name: str, written: Any, unit: Unit) -> UsageError:
    return UsageError(f"{name} = {written!r} will not do: write {EXAMPLES[unit]}")


def _number(text: str) -> Fraction:
    return Fraction(Decimal(text.replace("_", "").replace(",", "")))


def _amount(name: str, unit: Unit, number: str, suffix: str) -> Fraction:
    """A number with its unit, in FLOP, bytes, items or as a ratio."""
    if unit is Unit.BYTES:
        return Fraction(parse_bytes(name, f"{number.replace('_', '').replace(',', '')} {suffix}"))
    if unit is Unit.RATIO:
        known = {"": Fraction(1), "%": Fraction(1, 100)}
    elif unit is Unit.FLOP:
        suffix = suffix.removesuffix("s").removesuffix("FLOP")
        known = {prefix: Fraction(size) for prefix, size in _FLOP.items()}
    else:
        known = {word: Fraction(size) for word, size in _ITEMS.items()}
    if suffix not in known:
        raise UsageError(f"{name} is counted otherwise than in {suffix!r}: write {EXAMPLES[unit]}")
    return _number(number) * known[suffix]
