"""What became of the cases: which hold, which changed, and what from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from flopratio.snapshot import Snapshot
from flopratio.verbs.check.cases import Case, Suite
from flopratio.verbs.check.expectation import Violation
from flopratio.verbs.check.lock import Locked, is_packaged
from flopratio.verbs.check.run import Count
from flopratio.verbs.check.times import TimeChange
from flopratio.verbs.diff import Difference, difference

STATES = ("CHANGED", "FAILED", "NEW", "GONE", "ok")
"""What a case can be, the worst first; see :attr:`CaseVerdict.states`."""


@dataclass(frozen=True)
class CaseVerdict:
    """What became of a case.

    Args:
        case: None of one that only the lock has.
        snapshot: what was counted; None if nothing could be.
        not_counted: why not, in a sentence; empty if it was.
        difference: from the lock; None of a case that it does not have, or that was not counted.
        cause: what the difference comes from, as far as the versions tell; empty if there is none.
        violations: the expectations that don't hold.
        time: the ratio of times, if that was asked for.
    """

    name: str
    case: Case | None
    snapshot: Snapshot | None = None
    not_counted: str = ""
    difference: Difference | None = None
    cause: str = ""
    violations: tuple[Violation, ...] = ()
    time: TimeChange | None = None

    @property
    def states(self) -> tuple[str, ...]:
        """``CHANGED``: other counts than the lock has, or another ratio of times. ``FAILED``: an
        expectation does not hold, or the step can't be counted. ``NEW``: not in the lock. ``GONE``:
        only there. ``ok``: none of these."""
        if self.case is None:
            return ("GONE",)
        time = self.time
        are_so = {
            "CHANGED": (self.difference is not None and not self.difference.equal)
            or (time is not None and time.parted),
            "FAILED": bool(self.violations or self.not_counted or (time and time.not_measured)),
            "NEW": (self.difference is None and not self.not_counted)
            or (time is not None and time.is_new),
        }
        return tuple(state for state in STATES if are_so.get(state)) or ("ok",)

    @property
    def holds(self) -> bool:
        return self.states == ("ok",)


@dataclass(frozen=True)
class Verdict:
    """What became of all cases.

    Args:
        cases: in the order of their file; then those that only the lock has.
        updated: whether the lock was written anew; None if that was not asked for.
    """

    suite: Suite
    cases: tuple[CaseVerdict, ...] = field(default=())
    updated: bool | None = None

    @property
    def holds(self) -> bool:
        """Whether there is nothing to tell. Where the lock was just updated, only what that can't
        accept: an expectation that does not hold, a step that can't be counted."""
        if self.updated is None:
            return all(case.holds for case in self.cases)
        return not any("FAILED" in case.states for case in self.cases)

    def named(self, state: str) -> list[CaseVerdict]:
        """The cases that are in a state."""
        return [case for case in self.cases if state in case.states]

    @property
    def lock(self) -> Path:
        return self.suite.lock


def judged(
    cases: Iterable[Case],
    counts: Mapping[str, Count],
    lock: Mapping[str, Locked],
    times: Mapping[str, TimeChange],
) -> list[CaseVerdict]:
    """Each case, compared with the lock and with what is expected of it.

    Args:
        counts: of these cases and of those that they are compared with.
    """
    known = {name: count for name, count in counts.items() if isinstance(count, Snapshot)}
    verdicts = []
    for case in cases:
        count = counts[case.name]
        if isinstance(count, str):
            verdicts.append(CaseVerdict(case.name, case, not_counted=count))
            continue
        changed, cause = None, ""
        if case.name in lock:
            changed = difference(lock[case.name].nearest(count), count)
            cause = "" if changed.equal else _cause(case, lock[case.name], changed)
        violations = [
            violation
            for expectation in case.expectations
            for violation in expectation.violations(count, known)
        ]
        verdicts.append(
            CaseVerdict(
                case.name,
                case,
                count,
                difference=changed,
                cause=cause,
                violations=tuple(violations),
                time=times.get(case.name),
            )
        )
    return verdicts


def _cause(case: Case, locked: Locked, changed: Difference) -> str:
    """What a difference comes from, as far as the step and the versions tell."""
    if str(case.step) != locked.step:
        return f"another step: {locked.step} → {case.step}"
    versions = {
        name: f"{name} {old or 'none'} → {new or 'none'}"
        for name, (old, new) in changed.versions.items()
    }
    if not versions:
        return "the model, for all versions are those of the lock"
    others = ", ".join(versions.values())
    if set(versions) == {"torch"} and is_packaged(case.step):
        return f"{others}, for the model's own code is that of the lock"
    if is_packaged(case.step):
        return others
    return f"{others}, or an edit of the model: the versions of the lock would tell"
