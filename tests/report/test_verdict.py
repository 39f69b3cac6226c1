"""The verdict of a sweep for people."""

from flopratio.report.verdict import verdict_headline, verdict_table
from flopratio.verbs.sweep.judgement import Claim


def claim(name: str, holds: bool | None) -> Claim:
    return Claim(claim=name, expected="equal", observed="?", tolerance=0.0, holds=holds)


def test_the_headline_counts_what_was_judged() -> None:
    sound = [claim("a", True), claim("b", True)]
    assert verdict_headline(sound) == "All 2 claims hold"
    assert verdict_headline([*sound, claim("c", None)]) == "All 2 claims hold, 1 left out"
    assert verdict_headline([*sound, claim("c", False)]) == "1 of 3 claims FAIL"
    assert verdict_headline([]) == "No claim could be tested"


def test_the_table_says_what_failed_and_what_was_left_out() -> None:
    table = verdict_table([claim("a", True), claim("b", False), claim("c", None)])
    marks = dict(zip(table.columns[0].cells, table.columns[3].cells, strict=True))
    for name, mark in (("a", "holds"), ("b", "FAILS"), ("c", "left out")):
        assert mark in marks[name]
