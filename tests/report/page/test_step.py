"""The page of one step."""

from __future__ import annotations

import re

import pytest

import flopratio as fr
from flopratio.ledger import Ledger, Mismatch, Row
from flopratio.report.page.step import ledger_page, measured_page
from flopratio.report.profile.view import profile_view
from flopratio.report.view import view
from tests.report.page.parsed import Page, asked_for
from tests.report.small import small_ledger
from tests.verbs.profile.small import small_profile

NAMES = ("<script>alert(1)</script>", "=cmd()", "a&b\"'", "$\\frac{$", "{{ 7 * 7 }}", "x</style>")


@pytest.fixture(scope="module")
def counted() -> Ledger:
    return fr.count("mlp", depth=2, width=16, batch=4, optimizer="adamw")


def page_of(ledger: Ledger, **words: object) -> Page:
    return Page(ledger_page(ledger, view(ledger, **words)))  # type: ignore[arg-type]


def test_headline_figures_phases_memory_layers_and_conventions(counted: Ledger) -> None:
    page = page_of(counted)
    ratio = counted.ratio.backward_to_forward
    for words in (
        f"{ratio:.3f} : 1",
        "law = execution",
        "optimizer adamw",
        "grad_weight",
        "memory at the peak, in ",
        "hidden.0.linear",
        "One multiply-add is 2 FLOP",
        f"torch {counted.versions['torch']}",
    ):
        assert words in page.text
    assert [tag for tag, _ in page.elements].count("svg") == 1  # the memory over the step


def test_nothing_is_fetched(counted: Ledger) -> None:
    text = ledger_page(counted, view(counted))
    page = Page(text)
    assert asked_for(page) == []
    scripts = [attributes for tag, attributes in page.elements if tag == "script"]
    assert all("src" not in attributes for attributes in scripts)
    assert "link" not in [tag for tag, _ in page.elements]
    assert "@import" not in text
    assert "url(" not in re.sub(r"url\(#\w+\)", "", text)
    places = re.findall(r"https?://[^\s\"'<>]+", text)
    assert set(places) <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}


def test_cells_carry_what_they_are_sorted_by(counted: Ledger) -> None:
    page = page_of(counted)
    layers = counted.layers()
    table = next(n for n, lines in enumerate(page.tables) if len(lines) == len(layers))
    assert [text for text, _ in page.column(table, 0)] == [layer.name for layer in layers]
    assert [value for _, value in page.column(table, 3)] == [str(each.forward) for each in layers]
    products = [str(each.forward + each.backward + each.recompute) for each in layers]
    assert [value for _, value in page.column(table, 2)] == products
    ratios = [None if each.ratio is None else str(each.ratio) for each in layers]
    assert [value for _, value in page.column(table, 6)] == ratios


def test_it_carries_its_document(counted: Ledger) -> None:
    document = page_of(counted).data["ledger"]
    assert document["flops"] == counted.document()["flops"]
    assert "rows" not in document


@pytest.mark.parametrize("name", NAMES)
def test_names_are_text(name: str) -> None:
    ledger = small_ledger()
    ledger.rows = [row._replace(layer=name, type=name, op=name) for row in ledger.rows]
    ledger.model = name
    ledger.types, ledger.parameters = {name: name}, {name: 5}
    ledger.settings, ledger.uncounted_ops = {name: name}, {name: 1}
    ledger.notes, ledger.convention = [name], {"loss": name}
    ledger.mismatches = [Mismatch(name, "forward", 1, 2, (name,))]
    page = page_of(ledger)
    assert name in page.text
    scripts = [attributes for tag, attributes in page.elements if tag == "script"]
    assert len(scripts) == 2  # its document, and its own lines
    assert page.data["ledger"]["model"] == name
    assert "49" not in page.words


def test_names_are_text_in_pictures_too() -> None:
    name = "".join(NAMES)
    model = fr.count("mlp", depth=1, width=8, batch=2)
    blocks = [
        type(block)(block.number, block.nbytes, block.category, name, name, block.born, block.died)
        for block in model.memory.blocks
    ]
    operators = [operator._replace(layer=name, op=name) for operator in model.memory.operators]
    model.memory = type(model.memory)(model.memory, blocks=blocks, operators=operators)
    page = page_of(model)
    assert f"{name} for {name}" in "".join(page.words)


def test_a_ledger_without_rows_and_one_without_memory() -> None:
    assert "forward has no products to divide by" in page_of(Ledger([])).text
    forward = Ledger([Row("a", "Linear", "aten.mm", "", "forward", 8)])
    page = page_of(forward)
    assert "no backward ran" in page.text
    assert "svg" not in [tag for tag, _ in page.elements]


def test_what_was_asked_for_is_shown() -> None:
    ledger = small_ledger()
    assert "aten.addmm" in page_of(ledger, by="op").text
    assert "2.750 MMAC" in page_of(ledger, macs=True).text
    assert "5,500,000 FLOP" in page_of(ledger, exact=True).text
    few = page_of(ledger, top=1)
    assert "… and 2 more layers" in few.text


def test_a_disagreement_is_the_badge() -> None:
    ledger = small_ledger()
    ledger.mismatches = [Mismatch("head", "forward", 1, 2)]
    assert "law ≠ execution" in page_of(ledger).text
    ledger = small_ledger()
    ledger.uncounted_ops = {"mine.op": 1}
    assert "some operators have no formula" in page_of(ledger).text


def test_measured_times_stand_under_the_roofs() -> None:
    profile = small_profile()
    page = Page(measured_page(profile, profile_view(profile)))
    pictures = [attributes for tag, attributes in page.elements if tag == "svg"]
    assert {"roofline", "share of time and of FLOP"} <= {
        attributes.get("aria-label") for attributes in pictures
    }
    for words in ("a step, measured", "ratio in time", "MFU", "why the measured ratio"):
        assert words in page.text
    assert asked_for(page) == []
