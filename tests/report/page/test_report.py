"""Several steps side by side, as a page and as Markdown."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flopratio.ledger import Ledger, Row
from flopratio.report.page.report import report_markdown, report_page
from flopratio.verbs.saved import SavedStep
from tests.report.page.parsed import Page, asked_for
from tests.report.small import small_ledger


@pytest.fixture
def steps() -> list[SavedStep]:
    """A step, and one with twice the forward in ``head`` and AdamW."""
    other = small_ledger()
    other.rows[3] = other.rows[3]._replace(flops=3_000_000)
    other.convention = {"optimizer": "adamw"}
    return [SavedStep(small_ledger(), name="a.json"), SavedStep(other, name="b.json")]


def test_figures_stand_side_by_side(steps: list[SavedStep]) -> None:
    page = Page(report_page(steps))
    assert page.text.startswith("2 steps side by side 2 steps side by side a.json, b.json")
    figures = next(table for table in page.tables if table[0][0][0] == "forward" and
                   len(table[0]) == 4)  # fmt: skip
    assert [text for text, _ in figures[0]] == ["forward", "5.500 MFLOP", "7.000 MFLOP", "1.27 ×"]
    assert [line[0][0] for line in figures[-3:]] == [
        "backward : forward",
        "… with elementwise",
        "peak",
    ]
    differ = next(table for table in page.tables if table[0][0][0] == "optimizer")
    assert [text for text, _ in differ[0]] == ["optimizer", "none", "adamw"]
    assert asked_for(page) == []


def test_layers_of_both_are_lines_and_what_one_lacks_is_blank(steps: list[SavedStep]) -> None:
    steps[1].ledger.rows.append(Row("extra", "Linear", "aten.mm", "", "forward", 1_000_000))
    page = Page(report_page(steps))
    layers = next(table for table in page.tables if [line[0][0] for line in table] == [
        "stem.conv", "stem.relu", "head", "extra"
    ])  # fmt: skip
    assert [text for text, _ in layers[2]][:4] == ["head", "Linear", "4.500", "6.000"]
    assert layers[3][2] == ("", None)
    assert layers[3][3] == ("1.000", "1000000")
    assert "3 of 4 layers are in each of them" in page.text


def test_two_models_without_a_common_layer(steps: list[SavedStep]) -> None:
    other = Ledger([Row("mine", "Linear", "aten.mm", "", "forward", 8)], model="other")
    text = report_page([steps[0], SavedStep(other)])
    assert "No layer of one step has the path of a layer of all the others" in Page(text).text
    assert "no ratio" in Page(text).text


def test_each_step_follows_whole(steps: list[SavedStep]) -> None:
    page = Page(report_page(steps))
    assert set(page.data) == {"A", "B"}
    assert page.text.count("At a glance") == 3
    assert "A: toy batch=2 image=3x8x8 (a.json)" in page.text


def test_notes_of_a_document_are_told(steps: list[SavedStep]) -> None:
    noted = replace(steps[0], notes=["The operators are not in this document."])
    assert "The operators are not in this document." in Page(report_page([noted])).text
    assert "The operators are not in this document." in report_markdown([noted])


def test_markdown_for_a_pull_request(steps: list[SavedStep]) -> None:
    text = report_markdown(steps)
    assert "- A: toy batch=2 image=3x8x8: 1,230 parameters (a.json)" in text
    assert "| forward | 5.500 MFLOP | 7.000 MFLOP | 1.27 × |" in text
    assert "| optimizer | none | adamw |" in text
    assert text.count("<details>") == text.count("</details>") == 2


def test_markdown_of_one_step_is_that_of_count(steps: list[SavedStep]) -> None:
    assert report_markdown(steps[:1]).startswith("**toy batch=2 image=3x8x8: 1,230 parameters**")


def test_names_are_no_markup(steps: list[SavedStep]) -> None:
    steps[0].ledger.model = "<script>alert(1)</script>"
    assert "<script>alert" not in report_page(steps)
    assert "\\<script>" in report_markdown(steps)
