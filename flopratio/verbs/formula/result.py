"""A closed form: each number of a step as a polynomial in its KEYs, and sums of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from math import gcd
from typing import Any

from flopratio.closed_form import Largest, Polynomial, Refusal
from flopratio.closed_form.families import HIGHEST_DEGREE
from flopratio.closed_form.interpolate import Point
from flopratio.closed_form.polynomial import polynomial_sum
from flopratio.errors import UsageError
from flopratio.text.grammar import unknown
from flopratio.text.suggestions import not_among
from flopratio.verbs.formula.entries import PEAK, QUANTITIES, Entry
from flopratio.verbs.formula.peak import PeakForm
from flopratio.verbs.formula.solve import Solution, solve
from flopratio.verbs.formula.trace import Tracer

SUMS: Mapping[str, tuple[str, ...]] = {
    "backward": ("grad_input", "grad_weight"),
    "model": ("forward", "grad_input", "grad_weight"),
    "hardware": ("forward", "grad_input", "grad_weight", "recompute"),
}
"""Quantities that are sums of others."""

VIEWS = ("total", "type", "layer")

MOST_LAYERS = 64
"""At a depth above this no answer is traced."""

LARGEST = ("parameters", "saved_bytes")
MOST_TRACED = 2**58
"""Nor where one of these is above this: some tensor's bytes may be above 2^63, which torch refuses.
"""

DECLINED = (
    "peak_allocated and peak_reserved have no closed form: the allocator's blocks change from size "
    "to size"
)


def check_quantity(quantity: str) -> None:
    """
    Raises:
        UsageError: none that a closed form has.
    """
    if quantity in ("peak_allocated", "peak_reserved"):
        raise UsageError(f"{DECLINED}; flopratio fit finds the largest size by tracing steps")
    if quantity not in (*QUANTITIES, *SUMS, PEAK):
        raise not_among("quantity", quantity, (*QUANTITIES, *SUMS, PEAK))


@dataclass
class ClosedForm:
    """The closed form of a model's training step.

    Args:
        model: the spec.
        keys: what the form is in.
        settings: the KEYs that have one value.
        convention, versions: how and with what it was counted.
        entries: each row's and storage's number.
        refused: those that have no form.
        types: layer -> class, where the number of layers varies under one name, ``h.*``.
        domains: KEY -> the values among which the points of verification were chosen.
        fitted_at: the points that were fitted.
        verified_at: other points, at which a fresh trace has the same numbers.
        traces: how many steps were traced; the others were read.
        of_peak: the forms of the moments of the peak.
    """

    model: str
    keys: tuple[str, ...]
    settings: Mapping[str, Any]
    convention: Mapping[str, Any]
    versions: Mapping[str, str]
    entries: Mapping[Entry, Polynomial]
    refused: Mapping[Entry, Refusal]
    types: Mapping[str, str]
    domains: Mapping[str, Sequence[int]]
    fitted_at: Sequence[Point]
    verified_at: Sequence[Point]
    traces: int
    of_peak: PeakForm
    tracer: Tracer = field(repr=False)

    @cached_property
    def totals(self) -> dict[str, Polynomial]:
        """Quantity -> its form; those that can't be told are in :attr:`why_not`."""
        return self._forms(lambda entry: True)

    @property
    def peak(self) -> Largest | None:
        """The most bytes that are alive at once, as a perfect allocator would hold them; None where
        it has no form, see :attr:`why_not`."""
        return self.of_peak.largest

    @property
    def forms(self) -> dict[str, Polynomial | Largest]:
        """Quantity -> its form: the totals, and the peak."""
        return {**self.totals, **({} if self.peak is None else {PEAK: self.peak})}

    @cached_property
    def why_not(self) -> dict[str, str]:
        """Quantity -> why it has no form, in a sentence."""
        reasons: dict[str, str] = {}
        for entry, refusal in self.refused.items():
            reasons.setdefault(entry.quantity, self._sentence(entry, refusal))
        for name, parts in SUMS.items():
            reason = next((reasons[part] for part in parts if part in reasons), None)
            if reason is not None:
                reasons[name] = reason
        if self.of_peak.why_not:
            reasons[PEAK] = self.of_peak.why_not
        return reasons

    def _sentence(self, entry: Entry, refusal: Refusal) -> str:
        some = refusal.samples[:: max(len(refusal.samples) // 4, 1)][:5]
        some = tuple(sorted(some, key=lambda sample: list(sample[0].values())))
        samples = ", ".join(
            f"{value:,} at " + " ".join(f"{key}={size}" for key, size in point.items())
            for point, value in some
        )
        by = refusal.key or " and ".join(self.keys)
        return (
            f"{entry} is no polynomial of degree {HIGHEST_DEGREE} or less in {by} or its floors: "
            f"{samples}"
        )

    def __getitem__(self, quantity: str) -> Polynomial | Largest:
        """The form of a quantity; of the peak, the largest of several.

        Raises:
            UsageError: it has none; the sentence says why.
        """
        check_quantity(quantity)
        if quantity in self.forms:
            return self.forms[quantity]
        raise UsageError(self.why_not[quantity])

    def by(self, view: str) -> dict[str, dict[str, Polynomial]]:
        """Layer, or type of layer -> quantity -> its form; those that are 0 left out."""
        ways: dict[str, Callable[[Entry], str]] = {
            "total": lambda entry: "",
            "layer": lambda entry: entry.layer,
            "type": lambda entry: self.types.get(entry.layer, ""),
        }
        of = ways[view]
        groups: dict[str, None] = dict.fromkeys(of(entry) for entry in self.entries)
        forms = {}
        for group in groups:
            found = self._forms(lambda entry, group=group: of(entry) == group)  # type: ignore[misc]
            forms[group] = {name: form for name, form in found.items() if form}
        return forms

    def _forms(self, chosen: Callable[[Entry], bool]) -> dict[str, Polynomial]:
        grouped: defaultdict[str, list[Polynomial]] = defaultdict(list)
        for entry, form in self.entries.items():
            if chosen(entry):
                grouped[entry.quantity].append(form)
        refused = {entry.quantity for entry in self.refused if chosen(entry)}
        forms = {name: polynomial_sum(grouped[name]) for name in QUANTITIES if name not in refused}
        for name, parts in SUMS.items():
            if all(part in forms for part in parts):
                forms[name] = polynomial_sum(forms[part] for part in parts)
        return forms

    def __call__(self, **sizes: int) -> dict[str, int]:
        """The figures at a point, by quantity; none of a quantity whose form doesn't hold at one of
        these sizes, as a trace says of those that aren't in :attr:`domains`.

        Raises:
            UsageError: a KEY is missing, or the model refuses a size.
        """
        missing = [key for key in self.keys if key not in sizes]
        if missing or len(sizes) > len(self.keys):
            raise UsageError(f"give one value for each of {', '.join(self.keys)}")
        differing = self._differing({key: value for key, value in sizes.items() if value < 2})
        for key, value in sizes.items():
            differing |= self._differing({key: value})
        differing |= {name for name, parts in SUMS.items() if differing & {*parts}}
        forms = self.forms.items()
        return {name: int(form(sizes)) for name, form in forms if name not in differing}

    def solve(self, quantity: str, limit: str | float, *, for_: str = "", **sizes: int) -> Solution:
        """The largest value of a KEY at which a quantity is at most so much.

        Args:
            quantity: one of :attr:`totals`: ``"hardware"``, ``"saved_bytes"``.
            limit: ``1e24``, or of bytes ``"40GiB"``.
            for_: the KEY; the only one, if there is one.
            sizes: of the other KEYs.

        Raises:
            UsageError: no such quantity or KEY, or no such value.
        """
        if not for_ and len(self.keys) == 1:
            (for_,) = self.keys
        if for_ not in self.keys:
            raise unknown("KEY", for_, self.keys)
        missing = {*self.keys} - {for_, *sizes}
        if missing or len(sizes) >= len(self.keys):
            raise UsageError(
                f"give one value for each of {', '.join(key for key in self.keys if key != for_)}"
            )
        values = self.domains[for_]
        step = gcd(*(b - a for a, b in pairwise(values)))
        least = values[0] % step or step
        start = least if least >= 2 else least + -(-(2 - least) // step) * step

        def trace(value: int) -> int | None:
            point = {**sizes, for_: value}
            if self._is_structural(for_) and value > MOST_LAYERS:
                return None  # a trace takes as long as there are layers
            if not self._is_traceable(point):
                return None
            sums = self._sums_at(point)
            if quantity == PEAK:
                return sums[PEAK]
            return sum(sums[part] for part in SUMS.get(quantity, (quantity,)))

        form = self[quantity].substitute(sizes)
        return solve(quantity, limit, form, for_, start, step, trace)

    def _differing(self, sizes: Mapping[str, int]) -> set[str]:
        """Trace sizes that aren't among those of the form, the others as they were: the quantities
        whose form doesn't hold there. (A KEY at 0 or 1 is often another function.)"""
        at = {**self.fitted_at[0], **sizes}
        outside = [key for key, value in sizes.items() if value not in self.domains[key]]
        large = any(
            sizes[key] > self.domains[key][-1] and self._is_structural(key) for key in outside
        )
        if not outside or large or not self._is_traceable(at):
            return set()
        try:
            return {name for name, _, _ in self.held_against([at])}
        except UsageError as error:
            told = " ".join(f"{key}={value:,}" for key, value in sizes.items())
            raise UsageError(f"{self.model} refuses {told}: {error}") from None

    def _is_traceable(self, point: Mapping[str, int]) -> bool:
        largest = (self.totals[name] for name in LARGEST if name in self.totals)
        return all(form(point) <= MOST_TRACED for form in largest)

    def _is_structural(self, key: str) -> bool:
        """Whether the number of layers goes with a KEY."""
        base = self.fitted_at[0]
        numbers = {
            len(self.tracer.sample(point).types)
            for point in self.fitted_at
            if {**point, key: base[key]} == base
        }
        return len(numbers) > 1

    def _sums_at(self, point: Mapping[str, int]) -> defaultdict[str, int]:
        """The quantities of a trace."""
        sampled = self.tracer.sample(point)
        sums = defaultdict(int, {PEAK: sampled.lives.peak})
        for entry, value in sampled.entries.items():
            sums[entry.quantity] += value
        return sums

    def held_against(self, points: Sequence[Mapping[str, int]]) -> Iterator[tuple[str, int, int]]:
        """Trace points afresh: the quantities that differ, with the form's and the trace's."""
        for point in points:
            sums = self._sums_at(point)
            for name in (*QUANTITIES, PEAK):
                if name in self.forms and (ours := int(self.forms[name](point))) != sums[name]:
                    yield name, ours, sums[name]
