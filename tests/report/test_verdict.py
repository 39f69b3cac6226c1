"""The verdict as a table."""

from flopratio.report.verdict import verdict_table
from flopratio.verbs.sweep.verdict import Claim


def claim(text: str, holds: bool) -> Claim:
    return Claim(claim=text, expected="2", observed="2 at 8 points", tolerance=0.0, holds=holds)


def test_the_table_says_what_failed():
    table = verdict_table([claim("first", True), claim("second", False), claim("third", True)])
    marks = dict(zip(table.columns[0].cells, table.columns[3].cells, strict=True))
    assert list(marks) == ["first", "second", "third"]
    assert [text for text, mark in marks.items() if "FAILS" in mark] == ["second"]
