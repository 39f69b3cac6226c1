"""A check from the cases to the verdict, and the lock in between."""

import os
from concurrent.futures import Executor, Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from flopratio.errors import UsageError
from flopratio.step.written import WrittenStep
from flopratio.verbs.check import Case, Suite, check, run, times
from flopratio.verbs.check.expectation import read_expectation
from flopratio.verbs.check.lock import read_lock
from tests.verbs.check.small import small


@pytest.fixture
def counts(monkeypatch):
    """What the cases count, by name: a snapshot, or why there is none."""
    counts = {}
    monkeypatch.setattr(run, "count_case", lambda case: counts.get(case.name, small()))
    return counts


def suite(directory, *names, model="mlp", **expected):
    cases = {
        name: Case(
            name,
            WrittenStep(model),
            tuple(read_expectation(key, value, names) for key, value in expected.items()),
        )
        for name in names
    }
    return Suite(Path(directory) / "flopratio.toml", cases)


def states(verdict):
    return {case.name: " ".join(case.states) for case in verdict.cases}


def test_update_and_then_nothing_changes(tmp_path, counts):
    asked = suite(tmp_path, "a", "b")
    made = check(asked, update=True)
    assert states(made) == {"a": "NEW", "b": "NEW"}
    assert made.updated
    assert made.holds
    text = asked.lock.read_bytes()
    verdict = check(asked)
    assert states(verdict) == {"a": "ok", "b": "ok"}
    assert verdict.holds
    assert check(asked, update=True).updated is False
    assert asked.lock.read_bytes() == text


def test_a_change_is_told_and_accepted(tmp_path, counts):
    asked = suite(tmp_path, "a", "b")
    check(asked, update=True)
    counts["b"] = small(inner=50)
    verdict = check(asked)
    assert states(verdict) == {"a": "ok", "b": "CHANGED"}
    assert not verdict.holds
    (changed,) = verdict.named("CHANGED")
    assert list(changed.difference.changed) == ["inner"]
    assert changed.cause.startswith("the model")
    accepted = check(asked, update=True)
    assert states(accepted)["b"] == "CHANGED"
    assert accepted.holds
    assert check(asked).holds


def test_there_is_no_lock(tmp_path, counts):
    with pytest.raises(UsageError, match="flopratio check --update makes it"):
        check(suite(tmp_path, "a"))


def test_a_case_more_and_one_less(tmp_path, counts):
    check(suite(tmp_path, "a", "b"), update=True)
    asked = suite(tmp_path, "b", "c")
    verdict = check(asked)
    assert states(verdict) == {"b": "ok", "c": "NEW", "a": "GONE"}
    assert not verdict.holds
    check(asked, update=True)
    assert list(read_lock(asked.lock)) == ["b", "c"]


def test_a_case_alone(tmp_path, counts):
    asked = suite(tmp_path, "a", "b")
    check(asked, update=True)
    counts.update(a=small(inner=50), b=small(inner=60))
    assert states(check(asked, only=["b"])) == {"b": "CHANGED"}
    check(asked, update=True, only=["b"])
    assert states(check(asked)) == {"a": "CHANGED", "b": "ok"}
    with pytest.raises(UsageError, match="there is no case 'c': there are a, b"):
        check(asked, only=["c"])


def test_an_update_of_a_case_alone_leaves_all_others(tmp_path, counts):
    check(suite(tmp_path, "a", "b"), update=True)
    counts["b"] = small(inner=50)
    asked = suite(tmp_path, "b")
    check(asked, update=True, only=["b"])
    assert states(check(asked)) == {"b": "ok", "a": "GONE"}


def test_a_case_that_cannot_be_counted_fails_and_keeps_its_lock(tmp_path, counts):
    asked = suite(tmp_path, "a", "b")
    check(asked, update=True)
    counts["a"] = "it can't be built"
    verdict = check(asked, update=True)
    assert states(verdict) == {"a": "FAILED", "b": "ok"}
    assert not verdict.holds
    del counts["a"]
    assert check(asked).holds


def test_an_expectation_fails_whatever_the_lock_says(tmp_path, counts):
    asked = suite(tmp_path, "a", ratio=2)
    verdict = check(asked, update=True)
    assert states(verdict) == {"a": "FAILED NEW"}
    assert not verdict.holds
    assert states(check(asked)) == {"a": "FAILED"}


def test_a_case_that_another_is_compared_with_is_counted_too(tmp_path, counts):
    asked = suite(tmp_path, "a", "b", forward=["<= 1 * b"])
    check(asked, update=True)
    counts["b"] = small(inner=50)
    assert states(check(asked, only=["a"])) == {"a": "FAILED"}


def test_an_update_of_all_settles_a_conflict(tmp_path, counts):
    asked = suite(tmp_path, "a", "b")
    check(asked, update=True)
    text = asked.lock.read_text()
    asked.lock.write_text(f"<<<<<<< HEAD\n{text}=======\n{text}>>>>>>> other\n")
    for options in ({}, {"update": True, "only": ["a"]}):
        with pytest.raises(UsageError, match="merge-conflict markers at line 1"):
            check(asked, **options)
    check(asked, update=True)
    assert asked.lock.read_text() == text


def test_a_newer_lock_is_never_overwritten(tmp_path, counts):
    asked = suite(tmp_path, "a")
    asked.lock.write_text('{"schema": "flopratio.lock/99"}')
    with pytest.raises(UsageError, match="newer flopratio"):
        check(asked, update=True)


# -- causes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "before", "after", "cause"),
    [
        ("mlp", "2.13.0", "2.13.0", "the model, for all versions are those of the lock"),
        ("mlp", "2.11.0", "2.13.0", "torch 2.11.0 → 2.13.0, for the model's own code is that"),
        ("a.py:f", "2.11.0", "2.13.0", "torch 2.11.0 → 2.13.0, or an edit of the model"),
    ],
)
def test_what_a_change_comes_from(tmp_path, counts, model, before, after, cause):
    asked = suite(tmp_path, "a", model=model)
    counts["a"] = small(before)
    check(asked, update=True)
    counts["a"] = small(after, inner=50)
    (changed,) = check(asked).cases
    assert changed.cause.startswith(cause)


def test_a_change_of_several_packages_may_come_from_each(tmp_path, counts):
    asked = suite(tmp_path, "a", model="timm:vit_tiny_patch16_224")
    counts["a"] = replace(small(), versions={"torch": "2.11.0", "timm": "1.0"})
    check(asked, update=True)
    counts["a"] = replace(small(inner=50), versions={"torch": "2.13.0", "timm": "2.0"})
    (changed,) = check(asked).cases
    assert changed.cause == "torch 2.11.0 → 2.13.0, timm 1.0 → 2.0"


def test_a_step_that_is_another(tmp_path, counts):
    check(suite(tmp_path, "a"), update=True)
    counts["a"] = small(inner=50)
    (changed,) = check(suite(tmp_path, "a", model="cnn")).cases
    assert changed.cause == "another step: mlp → cnn"


def test_each_torch_has_its_count_where_they_differ(tmp_path, counts):
    asked = suite(tmp_path, "a")
    check(asked, update=True)
    counts["a"] = small("2.8.0", inner=50)
    check(asked, update=True)
    assert check(asked).holds
    counts["a"] = small("2.13.0")
    assert check(asked).holds
    assert len(read_lock(asked.lock)["a"].counts) == 2


# -- times -----------------------------------------------------------------------------------------


@pytest.fixture
def ratios(monkeypatch):
    """The ratio of times of each case."""
    ratios = {"a": (1.9, 2.0, 2.1)}
    monkeypatch.setattr(times, "_measured", lambda case: ratios[case.name])
    return ratios


def test_times_are_held_against_the_lock(tmp_path, counts, ratios):
    asked = suite(tmp_path, "a")
    check(asked, update=True)
    first = check(asked, timing=True)
    assert states(first) == {"a": "NEW"}
    assert states(check(asked)) == {"a": "ok"}
    check(asked, update=True, timing=True)
    text = asked.lock.read_text()
    assert "ms" not in text
    ratios["a"] = (2.2, 2.3, 2.4)  # 2.1 and 10% are 2.31
    assert check(asked, timing=True).holds
    check(asked, update=True, timing=True)
    assert asked.lock.read_text() == text
    ratios["a"] = (2.32, 2.4, 2.5)
    assert states(check(asked, timing=True)) == {"a": "CHANGED"}
    ratios["a"] = (1.5, 1.6, 1.7)  # which and 10% are 1.87
    assert states(check(asked, timing=True)) == {"a": "CHANGED"}
    assert check(asked, update=True, timing=True).holds
    assert check(asked, timing=True).holds


def test_new_counts_have_the_times_that_were_measured_with_them(tmp_path, counts, ratios):
    asked = suite(tmp_path, "a")
    check(asked, update=True, timing=True)
    counts["a"] = small(inner=50)
    ratios["a"] = (1.95, 2.0, 2.1)  # where it was
    check(asked, update=True, timing=True)
    assert list(read_lock(asked.lock)["a"].times.values()) == [(1.95, 2.0, 2.1)]
    assert check(asked, timing=True).holds


def test_a_step_that_cannot_be_timed_fails(tmp_path, counts, ratios):
    ratios["a"] = "it does not fit"
    asked = suite(tmp_path, "a")
    assert states(check(asked, update=True, timing=True)) == {"a": "FAILED NEW"}


def test_a_step_that_cannot_be_counted_is_not_timed(tmp_path, counts, ratios):
    asked = suite(tmp_path, "a", "b")
    counts["b"] = "it can't be built"
    (_, not_counted) = check(asked, update=True, timing=True).cases
    assert not_counted.time is None


def test_a_ratio_is_measured(tmp_path):
    asked = suite(tmp_path, "a")
    case = Case("a", WrittenStep("mlp", {"depth": 1, "width": 64, "batch": 32}))
    (measured,) = times.measure_cases([case], tmp_path, progress=print).values()
    low, median, high = measured
    assert 0 < low <= median <= high
    inference = Case("a", WrittenStep("mlp", {}, {"inference": True}))
    assert times.measure_cases([inference], tmp_path, progress=print) == {
        "a": "an inference has no ratio of times"
    }
    assert asked.time_tolerance == 0.1


# -- steps that are really counted -----------------------------------------------------------------

OWN = """
import os
from torch import nn

def fine(width=4):
    return nn.Linear(width, 2)

def broken():
    raise RuntimeError("no such luck")

def dies():
    os._exit(1)
"""


def test_steps_are_counted_in_processes_as_here(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    steps = {
        "mlp": WrittenStep("mlp", {"depth": 1, "width": 4, "input": 3, "classes": 2, "batch": 8}),
        "fine": WrittenStep("own.py:fine", {"batch": 2, "width": 6}),
        "module": WrittenStep("own:fine", {"batch": 2}),
        "broken": WrittenStep("own.py:broken"),
        "unknown": WrittenStep("mlp", {"bathc": 8}),
    }
    cases = [Case(name, step) for name, step in steps.items()]
    before = os.getcwd()
    here = run.count_cases(cases, tmp_path, processes=1)
    assert os.getcwd() == before
    assert here["mlp"].totals["forward"] == 2 * 8 * (3 * 4 + 4 * 2)
    assert here["fine"].totals["forward"] == 2 * 2 * 6 * 2
    assert "no such luck" in here["broken"]
    assert "did you mean 'batch'?" in here["unknown"]
    cases.append(Case("dies", WrittenStep("own.py:dies")))
    beside = run.count_cases(cases, tmp_path, processes=2)
    assert beside.pop("dies") == run.DIED
    assert beside == here


class Pool(Executor):
    """Counts in this process, and breaks after so many cases."""

    def __init__(self, lives):
        self.lives = lives

    def submit(self, function, case):
        if self.lives == 0:
            raise BrokenProcessPool
        self.lives -= 1
        future = Future()
        future.set_result(function(case))
        return future


def test_processes_that_break_before_they_have_all_cases(tmp_path, counts, monkeypatch):
    pools = iter([Pool(1), Pool(1), Pool(0), Pool(1)])
    monkeypatch.setattr(run, "_pool", lambda processes, directory: nullcontext(next(pools)))
    counts["a"] = small(inner=50)
    cases = [Case(name, WrittenStep("mlp")) for name in "abc"]
    found = run.count_cases(cases, tmp_path, processes=2)
    assert found == {"a": small(inner=50), "b": run.DIED, "c": small()}


@pytest.mark.parametrize(
    ("cases", "cores", "processes"), [(7, 4, None), (8, 4, 2), (8, 1, None), (40, 4, 4)]
)
def test_processes_are_as_many_as_pay(tmp_path, counts, monkeypatch, cases, cores, processes):
    begun = []
    monkeypatch.setattr(run, "usable_cores", lambda: cores)
    monkeypatch.setattr(
        run, "_pool", lambda number, directory: nullcontext(begun.append(number) or Pool(cases))
    )
    told = []
    named = [Case(str(number), WrittenStep("mlp")) for number in range(cases)]
    found = run.count_cases(named, tmp_path, progress=told.append)
    assert list(found) == [case.name for case in named]
    assert begun == ([] if processes is None else [processes])
    assert told[-1].startswith(f"{cases} of {cases}, ")
