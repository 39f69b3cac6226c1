"""What a check found, in sentences: the same in every format."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from flopratio.ledger import ROOT
from flopratio.report import difference
from flopratio.report.units import Kind, quantity
from flopratio.verbs.check import CaseVerdict, Verdict
from flopratio.verbs.check.expectation import Unit, Violation
from flopratio.verbs.check.times import TimeChange
from flopratio.verbs.check.verdict import STATES

MOST_NAMED = 3
"""So many layers are named; the others are counted."""


def headline(verdict: Verdict) -> str:
    """What became of the cases, in a line: ``2 of 14 cases CHANGED, 1 FAILED``."""
    total = len(verdict.cases)
    cases = "case" if total == 1 else "cases"
    states = {state: len(verdict.named(state)) for state in STATES[:-1]}
    found = [f"{number} {state}" for state, number in states.items() if number]
    if not found:
        said = "The case holds" if total == 1 else f"All {total} cases hold"
    else:
        number, _, state = found[0].partition(" ")
        said = ", ".join([f"{number} of {total} {cases} {state}", *found[1:]])
    if verdict.updated is None:
        return said
    return f"{said}: {verdict.lock} {'was written anew' if verdict.updated else 'stays as it is'}"


def findings(case: CaseVerdict) -> list[str]:
    """What is wrong with a case, a sentence each; what its layers did is not told."""
    found = []
    if case.case is None:
        found.append("the lock has this case, and its file has not")
    if case.not_counted:
        found.append(case.not_counted)
    found += map(violation_sentence, case.violations)
    if case.difference is not None and not case.difference.equal:
        found.append(f"the counts are not those of the lock; they come from {case.cause}")
    elif "NEW" in case.states and case.difference is None:
        found.append("the lock does not have this case yet")
    if case.time is not None and (said := time_sentence(case.time)):
        found.append(said)
    return found


def told(case: CaseVerdict) -> list[str]:
    """All that there is to tell of a case where there is no room for tables: its findings, and the
    layers that changed most."""
    changed = case.difference
    if changed is None or changed.equal:
        return findings(case)
    return [*findings(case), difference.headline(changed), *difference.sentences(changed)]


def violation_sentence(violation: Violation) -> str:
    """``peak is 81.20 GiB (87,187,000,000 bytes), expected <= 80 GiB``."""
    name, expected = violation.name, f"expected {violation.expected}"
    if violation.problem or violation.found is None:
        return f"{name}: {violation.problem}; {expected}"
    where = f" in {_listed(violation.layers)}" if violation.layers else ""
    limit = (
        "" if violation.limit is None else f", which is {_value(violation.limit, violation.unit)}"
    )
    return f"{name} is {_value(violation.found, violation.unit)}{where}, {expected}{limit}"


def time_sentence(time: TimeChange) -> str:
    """What there is to say of a ratio of times; nothing where it is as it was."""
    if isinstance(time.after, str):
        return f"its ratio of times could not be measured: {time.after}"
    now = f"backward takes {_times(time.after)} times as long as forward"
    if time.before is None:
        return f"{now}; the lock has no ratio of times of this machine ({time.machine})"
    if not time.parted:
        return ""
    return (
        f"{now}, the lock has {_times(time.before)}: the intervals part by more than "
        f"{time.tolerance:.0%}"
    )


def _times(times: Sequence[float]) -> str:
    low, median, high = times
    return f"{median:.3f} ({low:.3f} to {high:.3f})"


def how_to_accept(verdict: Verdict, command: str) -> str:
    """How to accept what changed, if an update can accept anything of it; else nothing.

    Args:
        command: what was run, without ``--update``.
    """
    if verdict.updated is not None or not any(
        set(case.states) & {"CHANGED", "NEW", "GONE"} for case in verdict.cases
    ):
        return ""
    return f"to accept the counts: {command} --update, and commit {verdict.lock.name}"


def _listed(names: Sequence[str]) -> str:
    shown = [name or ROOT for name in names[:MOST_NAMED]]
    rest = len(names) - len(shown)
    return ", ".join(shown) + (f" and {rest} more" if rest else "")


def _value(value: Fraction, unit: Unit) -> str:
    if unit is Unit.FLAG:
        return str(bool(value)).lower()
    if unit is Unit.RATIO:
        return f"{float(value):.10g}" if value.denominator > 1 else str(value.numerator)
    whole = round(value)  # only a share of another case's is no whole number
    if unit is Unit.ITEMS:
        return f"{whole:,}"
    kind, name = (Kind.BYTES, "bytes") if unit is Unit.BYTES else (Kind.FLOP, "FLOP")
    short, exact = quantity(whole, kind), f"{whole:,} {name}"
    return exact if whole < 1000 else f"{short} ({exact})"
