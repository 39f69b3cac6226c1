"""Verdicts without a model behind them."""

from pathlib import Path

from flopratio.step.written import WrittenStep
from flopratio.verbs.check import Case, Suite, Verdict
from flopratio.verbs.check.expectation import read_expectation
from flopratio.verbs.check.lock import Locked
from flopratio.verbs.check.verdict import judged
from tests.verbs.check.small import small

LOCK = {"a": Locked("mlp", (small(),))}


def verdict(counts, *, lock=LOCK, path="cases.toml", line=3, times=None, updated=None, **expected):
    """Of the cases that were counted, all of which are expected to be so.

    Args:
        counts: name -> a snapshot, or why there is none.
    """
    cases = {
        name: Case(
            name,
            WrittenStep("mlp"),
            tuple(read_expectation(key, value, counts) for key, value in expected.items()),
            line,
        )
        for name in counts
    }
    judged_cases = judged(cases.values(), counts, lock, times or {})
    return Verdict(Suite(Path(path), cases), tuple(judged_cases), updated)
