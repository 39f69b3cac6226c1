"""A closed form on a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from flopratio.closed_form import Polynomial
from flopratio.report.formula.asymptotics import sentences
from flopratio.report.formula.text import letters, pretty
from flopratio.report.units import plural
from flopratio.verbs.formula.domain import FEW_UNEVEN
from flopratio.verbs.formula.result import DECLINED, SUMS, ClosedForm

SHOWN = (
    "forward",
    "grad_input",
    "grad_weight",
    "recompute",
    "update",
    "elementwise_forward",
    "elementwise_backward",
    "elementwise_recompute",
    "parameters",
    "saved_bytes",
    "gradients",
    "optimizer_state",
)


def lines(closed: ClosedForm, by: str = "total") -> Iterator[str]:
    """The page, line by line."""
    names = letters(closed.keys)
    where = ", ".join(
        f"{letter} = {key}" if letter != key else key for key, letter in names.items()
    )
    settings = " ".join(f"{key}={value}" for key, value in closed.settings.items())
    yield f"{closed.model}{' ' + settings if settings else ''}, in {where}"
    if by == "total":
        yield ""
        yield from _forms(closed.totals, names, SHOWN)
        yield from _peak(closed, names)
    else:
        for name, forms in closed.by(by).items():
            if forms:
                yield ""
                yield name or "(no layer)"
                yield from _forms(forms, names, [each for each in SHOWN if each in forms], "  ")
    for quantity, reason in closed.why_not.items():
        if quantity not in SUMS:
            yield f"{quantity}: none. {reason}"
    words = list(sentences(closed.totals, closed.keys, names))
    if words:
        yield ""
        yield from words
    yield ""
    yield verified(closed)
    yield DECLINED + "."


def _forms(
    forms: Mapping[str, Polynomial], names: Mapping[str, str], shown: object, indent: str = ""
) -> Iterator[str]:
    quantities = [name for name in shown if forms.get(name)]  # type: ignore[attr-defined]
    width = max(map(len, quantities), default=0)
    for name in quantities:
        yield f"{indent}{name:<{width}} = {pretty(forms[name], names)}"


def _peak(closed: ClosedForm, names: Mapping[str, str]) -> Iterator[str]:
    """The peak: its form, or all that it is the largest of, each with its moment."""
    found = closed.of_peak
    if not found.forms:
        return
    width = max(len(name) for name in SHOWN if closed.totals.get(name))
    several = len(found.forms) > 1
    if several:
        yield f"{'peak':<{width}} = the largest of"
    points = sum(found.leads)
    for (moment, form), times in zip(found.forms.items(), found.leads, strict=True):
        written = pretty(form, names)
        if several:
            yield f"  {written}"
            where = f"at {times or 'none'} of {points} points"
            yield f"    in {moment}: {where}{'' if times else ', but at other sizes'}"
        else:
            yield f"{'peak':<{width}} = {written}, in {moment}"


def verified(closed: ClosedForm) -> str:
    """How the form came about, and how far it was held against fresh traces."""
    ranges = ", ".join(f"{key} {_range(values)}" for key, values in closed.domains.items())
    return (
        f"Fitted to {plural(len(closed.fitted_at), 'trace')}, verified at "
        f"{plural(len(closed.verified_at), 'other point')} ({ranges})."
    )


def _range(values: Sequence[int]) -> str:
    """``2 to 63``, ``64 to 1,024 in steps of 64`` or ``16, 32, 256``."""
    steps = {b - a for a, b in pairwise(values)}
    if len(steps) > 1 and len(values) <= FEW_UNEVEN:
        return ", ".join(f"{value:,}" for value in values)
    written = f"{values[0]:,} to {values[-1]:,}"
    return (
        f"{written} in steps of {step:,}"
        if len(steps) == 1 and (step := min(steps)) > 1
        else written
    )
