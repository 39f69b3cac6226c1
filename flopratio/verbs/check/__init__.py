"""``flopratio check``: the counts of a project's steps against those that were accepted, and
against what is expected of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from flopratio.errors import UsageError
from flopratio.text.suggestions import did_you_mean
from flopratio.verbs.check.cases import Case, Suite
from flopratio.verbs.check.lock import UPDATE, ConflictError, Locked, read_lock, write_lock
from flopratio.verbs.check.run import count_cases, counted
from flopratio.verbs.check.times import TimeChange, machine_name, measure_cases
from flopratio.verbs.check.verdict import CaseVerdict, Verdict, judged

__all__ = ["Case", "CaseVerdict", "Suite", "Verdict", "check"]


def check(
    suite: Suite,
    *,
    update: bool = False,
    only: Collection[str] = (),
    timing: bool = False,
    processes: int | None = None,
    progress: Callable[[str], None] = lambda stage: None,
) -> Verdict:
    """Count every case, and compare it with the lock and with what is expected of it.

    Args:
        suite: the cases; their lock lies beside their file.
        update: accept what was counted: write the lock. The verdict tells what that changed.
        only: the names of the cases to check, or to accept, the others staying as they are; all
            unless given.
        timing: also measure the ratio of backward to forward in time, on this machine's CPU.
        processes: how many count; as many as pay unless given.
        progress: called with what has been done.

    Raises:
        UsageError: there is no such case, or no lock, or one that can't be read.
    """
    for name in only:
        if name not in suite.cases:
            raise UsageError(f"there is no case {name!r}{did_you_mean(name, suite.cases)}")
    chosen = [case for name, case in suite.cases.items() if not only or name in only]
    lock = _lock(suite, update=update, all_cases=not only)
    beside = set().union(*(case.needs for case in chosen)) - {case.name for case in chosen}
    needed = [*chosen, *(suite.cases[name] for name in sorted(beside))]
    directory = suite.path.resolve().parent
    counts = count_cases(needed, directory, processes=processes, progress=progress)
    times: dict[str, TimeChange] = {}
    if timing:
        can_run = [case for case in chosen if case.name in counted(counts)]
        times = _times(suite, can_run, lock, progress)
    verdicts = judged(chosen, counts, lock, times)
    gone = [] if only else [name for name in sorted(lock) if name not in suite.cases]
    verdicts += [CaseVerdict(name, None) for name in gone]
    updated = None
    if update:
        kept = {name: locked for name, locked in lock.items() if name not in gone}
        updated = write_lock(suite.lock, {**kept, **_accepted(verdicts, lock)})
    return Verdict(suite, tuple(verdicts), updated)


def _lock(suite: Suite, *, update: bool, all_cases: bool) -> Mapping[str, Locked]:
    """What was accepted. An update of all cases needs none, nor either side of a conflict."""
    try:
        lock = read_lock(suite.lock)
    except ConflictError:
        if not (update and all_cases):
            raise
        return {}
    if lock is None and not update:
        raise UsageError(f"there is no {suite.lock} to compare with: {UPDATE} makes it")
    return lock or {}


def _times(
    suite: Suite, cases: list[Case], lock: Mapping[str, Locked], progress: Callable[[str], None]
) -> dict[str, TimeChange]:
    machine = machine_name()
    measured = measure_cases(cases, suite.path.resolve().parent, progress=progress)
    return {
        name: TimeChange(
            machine,
            before=lock[name].times.get(machine) if name in lock else None,
            after=after,
            tolerance=suite.time_tolerance,
        )
        for name, after in measured.items()
    }


def _accepted(verdicts: list[CaseVerdict], lock: Mapping[str, Locked]) -> dict[str, Locked]:
    """The cases that were counted, as the lock is to have them from now on. A ratio of times that
    is where it was stays as it is, unless it was of counts that are past."""
    accepted = {}
    for verdict in verdicts:
        if verdict.case is None or verdict.snapshot is None:
            continue
        step = str(verdict.case.step)
        known = lock.get(verdict.name)
        locked = Locked(step, (verdict.snapshot,))
        if known is not None:
            locked = known.accepting(step, verdict.snapshot)
        time = verdict.time
        if (
            time is not None
            and not isinstance(time.after, str)
            and (time.machine not in locked.times or time.parted)
        ):
            locked = replace(locked, times={**locked.times, time.machine: time.after})
        accepted[verdict.name] = locked
    return accepted
