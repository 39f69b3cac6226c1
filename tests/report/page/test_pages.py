"""The pages of what is no ledger, and of what is predicted."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flopratio.report.page.difference import difference_page
from flopratio.report.page.fit import fit_page
from flopratio.report.page.step import ledger_page
from flopratio.verbs.diff import difference
from flopratio.verbs.fit import Fit, Tried
from tests.report.page.parsed import Page, asked_for
from tests.report.test_prediction import a_ledger, predicted
from tests.verbs.fit.small import nothing_fits, small_fit, small_levers, tried
from tests.verbs.test_diff import BLOCKS, layer, snapshot


def test_the_answer_its_proof_and_what_was_tried() -> None:
    page = Page(fit_page(small_fit()))
    for words in ("largest batch 4", "batch=4 needs 3.906 KiB", "batch=5 needs 4.883 KiB", "fits"):
        assert words in page.text
    sizes = next(table for table in page.tables if table[-1][0][0] == "5")
    assert [line[0][0] for line in sizes] == [str(each.size) for each in small_fit().tried]
    assert page.data["fit"]["largest"] == 4
    assert asked_for(page) == []


REFUSED = small_fit(tried=(tried(4, 4_000), Tried(5, refusal="<b>")), peak_at_next=None)


@pytest.mark.parametrize("fit", [nothing_fits(), small_fit(levers=small_levers()), REFUSED])
def test_every_fit_has_a_page(fit: Fit) -> None:
    page = Page(fit_page(fit))
    assert ("does not fit" in page.text) is not bool(fit.largest)
    assert ("Levers" in page.text) is bool(fit.levers)
    assert ("refused" in page.text) is bool(fit.refusal)


def test_what_changed() -> None:
    other = {**BLOCKS, "a": layer(forward=20), "<i>": layer(forward=1)}
    page = Page(difference_page(difference(snapshot(BLOCKS), snapshot(other))))
    assert "changed" in page.text
    assert "<i>" in page.text
    assert "The whole step" in page.text
    assert asked_for(page) == []


def test_what_did_not_change() -> None:
    same = replace(snapshot(BLOCKS))
    assert "unchanged" in Page(difference_page(difference(snapshot(BLOCKS), same))).text


def test_predicted_times_and_why() -> None:
    page = Page(ledger_page(a_ledger(), predicted()))
    for words in ("a step, predicted 12.84 ms", "on a processor", "Predicted by layer", "bound by"):
        assert words in page.text
