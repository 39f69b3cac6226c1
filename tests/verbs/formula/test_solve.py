"""The largest size within a number."""

from __future__ import annotations

from typing import Any

import pytest

import flopratio as fr
from experiments.literature.steps import hardware_flops
from flopratio.closed_form import Polynomial
from flopratio.errors import UsageError
from flopratio.report.formula.solution import document, lines, root
from flopratio.verbs.formula import ClosedForm
from flopratio.verbs.formula.solve import question, solve


@pytest.fixture(scope="module")
def mlp() -> ClosedForm:
    return fr.formula("mlp", "depth", "width", batch=8, verify=1)


def test_the_largest_width(mlp: ClosedForm) -> None:
    found = mlp.solve("hardware", 1e12, for_="width", depth=3)
    assert found.there <= 10**12 < found.beyond
    assert found.following == found.value + 1
    assert found.traced == (found.value, found.following)
    for width, flops in ((found.value, found.there), (found.following, found.beyond)):
        assert hardware_flops(fr.count("mlp", batch=8, depth=3, width=width)) == flops
    assert found.value <= root(found) < found.following


def test_a_depth_is_not_traced(mlp: ClosedForm) -> None:
    found = mlp.solve("saved_bytes", "1GiB", for_="depth", width=64)
    assert found.there <= 2**30 < found.beyond
    assert found.traced == ()
    assert found.value > 1000


def test_the_number_is_exact(mlp: ClosedForm) -> None:
    figure = int(mlp["forward"]({"depth": 2, "width": 100}))
    assert mlp.solve("forward", figure, for_="width", depth=2).value == 100
    assert mlp.solve("forward", figure - 1, for_="width", depth=2).value == 99
    largest = mlp.solve("forward", "1e30", for_="width", depth=2)
    assert largest.limit == 10**30
    assert largest.traced == ()  # its bytes overflow


def test_views(mlp: ClosedForm) -> None:
    found = mlp.solve("forward", "1e9", for_="width", depth=2)
    page = "\n".join(lines(mlp, found))
    assert f"width = {found.value:,}: forward =   {found.there:,}, the largest" in page
    written = document(mlp, found)
    assert (written["largest"], written["next"]) == (found.value, found.following)
    assert written["limit"] == 10**9


def test_the_steps_of_a_key_are_told() -> None:
    """Heads divide a width, and kernels take some widths of a head."""
    closed = fr.formula("transformer", "width", batch=2, seq=4, depth=1, heads=4, verify=1)
    found = closed.solve("parameters", 1e6)
    assert (found.step, found.value % 16) == (16, 0)
    page = list(lines(closed, found))
    assert (
        "width goes in steps of 16: values between are refused, or other operators run with them"
        in page
    )
    assert document(closed, found)["step"] == 16


def test_nothing_is_told_of_steps_of_one(mlp: ClosedForm) -> None:
    page = "\n".join(lines(mlp, mlp.solve("forward", "1e9", for_="width", depth=2)))
    assert "steps" not in page


@pytest.mark.parametrize(
    ("quantity", "limit", "sizes", "sentence"),
    [
        ("hardwar", 1, {"for_": "width", "depth": 2}, "did you mean 'hardware'"),
        ("peak", 1, {"for_": "width", "depth": 2}, "the moment of the peak"),
        ("hardware", 1, {"for_": "widt", "depth": 2}, "'widt' is no KEY: did you mean 'width'"),
        ("hardware", 1, {"for_": "width"}, "give one value for each of depth"),
        ("hardware", 10, {"for_": "width", "depth": 2}, "at width=2 already: give more than 10"),
        ("hardware", "1x", {"for_": "width", "depth": 2}, "1x is no number: write it like 1e24"),
        ("hardware", 0, {"for_": "width", "depth": 2}, "not above zero"),
        ("hardware", "inf", {"for_": "width", "depth": 2}, "inf is no number"),
        ("hardware", "1e999999999", {"for_": "width", "depth": 2}, "has over 300 digits"),
        ("saved_bytes", "3 GiBs", {"for_": "width", "depth": 2}, "GiBs .* is no unit of memory"),
    ],
)
def test_bad_questions_are_one_sentence(
    mlp: ClosedForm, quantity: str, limit: Any, sizes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UsageError, match=sentence):
        mlp.solve(quantity, limit, **sizes)


def test_what_does_not_depend_on_the_key() -> None:
    form = fr.formula("mlp", "batch", depth=2, width=8, verify=1)
    with pytest.raises(UsageError, match="parameters doesn't depend on batch: it is"):
        form.solve("parameters", 10**9)


def test_a_question_is_a_quantity_and_a_number() -> None:
    assert question("hardware = 1e24") == question("hardware<=1e24") == ("hardware", "1e24")
    with pytest.raises(UsageError, match="no question"):
        question("hardware")


def test_an_answer_that_a_fresh_trace_denies_is_none() -> None:
    def solved(wrong_at: int) -> tuple[int, ...]:
        x = Polynomial.of("x")
        return solve("forward", 100, x * x, "x", 2, 1, lambda v: v * v + (v == wrong_at)).traced

    assert solved(wrong_at=5) == (10, 11)
    assert solved(wrong_at=11) == (10,)
    with pytest.raises(UsageError, match="forward at x=10 is 101 in a fresh trace and 100 by the"):
        solved(wrong_at=10)
