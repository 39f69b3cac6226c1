"""What a check found, in sentences."""

from dataclasses import replace

import pytest

from flopratio.report.check.sentences import (
    findings,
    headline,
    how_to_accept,
    time_sentence,
    violation_sentence,
)
from flopratio.verbs.check import CaseVerdict
from flopratio.verbs.check.times import TimeChange
from tests.report.check.small import verdict
from tests.verbs.check.small import layer, small


def violations(name, written, snapshot, **others):
    (judged, *_) = verdict({"a": snapshot, **others}, **{name: written}).cases
    return [violation_sentence(violation) for violation in judged.violations]


MANY = replace(small(), layers={f"fc{n}": layer(forward=2, grad_weight=2) for n in range(5)})


@pytest.mark.parametrize(
    ("name", "written", "sentence"),
    [
        ("ratio", 2, "ratio is 1.5, expected = 2"),
        ("ratio[first]", 2, "ratio[first] is 1 in first, expected = 2"),
        ("recompute_share", "<= 9%", "recompute_share is 0.09090909091, expected <= 9%"),
        ("forward", "<= 100 FLOP", "forward is 200 FLOP, expected <= 100 FLOP"),
        ("peak", "<= 1 KiB", "peak is 4.000 KiB (4,096 bytes), expected <= 1 KiB"),
        ("parameters", 4, "parameters is 10, expected = 4"),
        ("reconciled", False, "reconciled is true, expected = false"),
        ("ratio[no]", 2, "ratio[no]: no matches no layer: "),
    ],
)
def test_an_expectation_that_does_not_hold(name, written, sentence):
    (said,) = violations(name, written, small())
    assert said.startswith(sentence)


def test_a_few_layers_are_named_and_the_others_counted():
    (said,) = violations("ratio[fc*]", 2, MANY)
    assert said == "ratio[fc*] is 1 in fc0, fc1, fc2 and 2 more, expected = 2"
    (said,) = violations("ratio[fc[0-2]]", 2, MANY)
    assert said == "ratio[fc[0-2]] is 1 in fc0, fc1, fc2, expected = 2"


def test_what_another_case_comes_to_is_told():
    said = violations("forward", "<= 0.5 * other", small(), other=small(inner=0))
    assert said == ["forward is 200 FLOP, expected <= 0.5 * other, which is 50 FLOP"]


def test_headlines():
    lock = verdict({}).lock
    assert headline(verdict({"a": small()})) == "The case holds"
    assert headline(verdict({"a": small(inner=5)})) == "1 of 1 case CHANGED"
    several = {"a": small(inner=5), "b": small(), "c": "it can't be built"}
    assert headline(verdict(several)) == "1 of 3 cases CHANGED, 1 FAILED, 1 NEW"
    written = verdict({"a": small()}, updated=True)
    assert headline(written) == f"The case holds: {lock} was written anew"
    left = verdict({"a": small()}, updated=False)
    assert headline(left) == f"The case holds: {lock} stays as it is"


@pytest.mark.parametrize(
    ("counts", "accepts"),
    [
        ({"a": small()}, False),
        ({"a": "it can't be built"}, False),
        ({"a": small(inner=5)}, True),
        ({"b": small()}, True),  # which is NEW
    ],
)
def test_how_to_accept_is_told_where_an_update_can(counts, accepts):
    said = how_to_accept(verdict(counts), "flopratio check")
    told = "to accept the counts: flopratio check --update, and commit flopratio.lock.json"
    assert said == (told if accepts else "")
    assert how_to_accept(verdict(counts, updated=True), "flopratio check") == ""


def test_a_case_that_is_gone_can_be_accepted():
    gone = replace(verdict({}), cases=(CaseVerdict("a", None),))
    assert findings(gone.cases[0]) == ["the lock has this case, and its file has not"]
    assert how_to_accept(gone, "flopratio check")


BEFORE = (1.9, 2.0, 2.1)


@pytest.mark.parametrize(
    ("before", "after", "sentence"),
    [
        (BEFORE, BEFORE, ""),
        (
            BEFORE,
            (2.4, 2.5, 2.6),
            "backward takes 2.500 (2.400 to 2.600) times as long as forward, the lock has 2.000 "
            "(1.900 to 2.100): the intervals part by more than 10%",
        ),
        (
            None,
            BEFORE,
            "backward takes 2.000 (1.900 to 2.100) times as long as forward; the lock has no ratio "
            "of times of this machine (cpu)",
        ),
        (BEFORE, "too large", "its ratio of times could not be measured: too large"),
    ],
)
def test_times(before, after, sentence):
    assert time_sentence(TimeChange("cpu", before, after, 0.1)) == sentence
