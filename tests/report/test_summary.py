"""What is said beside the table."""

from flopratio.ledger import Ledger, Mismatch, Row
from flopratio.report.summary import headline, remarks, token_terms
from flopratio.report.view import view
from tests.report.small import small_ledger


def said(ledger, **words):
    return {remark.about: remark.text for remark in remarks(ledger, view(ledger, **words))}


def test_notes_stand_below() -> None:
    ledger = Ledger([Row("a", "Linear", "aten.mm", "", "forward", 8)], notes=["it ran eagerly"])
    lines = remarks(ledger, view(ledger))
    assert [line.text for line in lines if line.about == "note"] == ["it ran eagerly"]


def test_the_headline_says_what_was_counted():
    ledger = small_ledger()
    assert headline(ledger) == "toy batch=2 image=3x8x8: 1,230 parameters"
    ledger.settings |= {"depth": None, "shared": True, "tokens": 16}
    ledger.convention = {"optimizer": "adamw", "amp": None, "attention": "flash", "causal": "half"}
    assert headline(ledger) == (
        "toy batch=2 image=3x8x8 shared=true: 1,230 parameters, optimizer adamw, attention flash,"
        " causal half"
    )
    ledger.convention = {"optimizer": "none", "attention": "none", "causal": "full"}
    assert headline(ledger).endswith("1,230 parameters")


def test_without_backward_or_products_there_is_no_ratio():
    forward = Row("a", "Linear", "aten.mm", "", "forward", 8)
    assert said(Ledger([forward]))["ratio"] == "none: no backward ran"
    assert said(Ledger([]))["ratio"] == "none: forward has no products to divide by"
    assert "ratio" not in said(small_ledger())


def test_reconciled():
    ledger = small_ledger()
    assert said(ledger)["reconciled"] == "analytic = executed in all 3 layers"
    ledger.analytic = {}
    assert said(ledger)["reconciled"] == "analytic alone: no step was run beside it"


def test_each_mismatch_is_told_with_both_numbers_and_the_node():
    ledger = small_ledger()
    ledger.mismatches = [
        Mismatch("head", "grad_input", 1_500_000, 3_000_000, ("AddmmBackward0",)),
        Mismatch("head", "grad_weight", 1_500_000, 0),
    ]
    found = [remark for remark in remarks(ledger, view(ledger)) if remark.good is False]
    assert [remark.text for remark in found] == [
        "no: analytic ≠ executed in 1 layer",
        "head grad_input: 1,500,000 by the law, 3,000,000 executed in AddmmBackward0",
        "head grad_weight: 1,500,000 by the law, 0 executed in no node",
    ]


def test_what_was_not_counted_is_told():
    ledger = small_ledger()
    ledger.uncounted_ops = {"aten.foo": 2, "mine.bar": 1}
    assert said(ledger)["uncounted"] == "no formula for aten.foo (2 calls), mine.bar (1 call)"


def test_parameters_that_no_line_has_are_told():
    ledger = small_ledger()
    ledger.parameters |= {f"unused.{n}": 5 for n in range(4)}
    assert said(ledger)["parameters"] == (
        "20 parameters in modules without operators of their own: "
        "unused.0, unused.1, unused.2 and 1 more"
    )


def test_a_language_models_terms_add_up():
    ledger = Ledger(
        [
            Row("wte", "Embedding", "aten.embedding", "", "forward"),
            Row("up", "Linear", "aten.mm", "", "forward", 140_000),
            Row("up", "Linear", "aten.mm", "MmBackward0", "grad_weight", 140_000),
        ],
        parameters={"wte": 30, "up": 70},
        settings={"tokens": 1_000},
    )
    assert token_terms(ledger) == [
        ("6·N·D = 6 · 100 · 1,000", "600,000"),
        ("embeddings: looked up, not multiplied (wte)", "-180,000"),
        ("gradients that nobody asks for (frozen, or of the input) (up)", "-140,000"),
        ("exact forward + backward: 0.4667 of it", "280,000"),
    ]
    assert token_terms(small_ledger()) == []
