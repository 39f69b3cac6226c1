"""A ledger as Markdown."""

from flopratio.report.markdown import markdown
from flopratio.report.view import view
from tests.report.small import small_ledger


def test_the_verdict_comes_first_and_the_table_after():
    ledger = small_ledger()
    assert markdown(ledger, view(ledger, by="type")) == (
        "**toy batch=2 image=3x8x8: 1,230 parameters**\n"
        "\n"
        "- reconciled: analytic = executed in all 3 layers\n"
        "\n"
        "| phase | share of both | products MFLOP | elementwise kFLOP | ratio to forward |\n"
        "| --- | --- | ---: | ---: | ---: |\n"
        "| forward | 44.0% █████▎ | 5.50 | 3.010 | 1 |\n"
        "| grad\\_input | 12.0% █▌ | 1.50 | 1.000 | 0.273 |\n"
        "| grad\\_weight | 44.0% █████▎ | 5.50 | 0.500 | 1 |\n"
        "| total |  | 12.50 | 4.510 |  |\n"
        "| backward : forward |  |  |  | 1.273 |\n"
        "| … with elementwise |  |  |  | 1.272 |\n"
        "\n"
        "| memory, the most at once | KiB |\n"
        "| --- | ---: |\n"
        "| parameters | 4.80 |\n"
        "| peak | 10.00 |\n"
        "\n"
        "| type | layers | forward (MFLOP) | grad\\_input (MFLOP) | grad\\_weight (MFLOP) | ratio "
        "| elementwise (kFLOP) | parameters (thousand) | saved\\_bytes (KiB) |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n"
        "| Conv2d | 1 | 4.000 | 0 | 4.000 | 1 | 2.500 | 1.200 | 0 |\n"
        "| ReLU | 1 | 0 | 0 | 0 |  | 2.000 | 0 | 3.000 |\n"
        "| Linear | 1 | 1.500 | 1.500 | 1.500 | 2 | 0.010 | 0.030 | 0.500 |\n"
        "| total | 3 | 5.500 | 1.500 | 5.500 | 1.273 | 4.510 | 1.230 | 3.500 |\n"
    )


def test_layers_have_their_types():
    ledger = small_ledger()
    assert "| stem.conv | Conv2d | 4.000 |" in markdown(ledger, view(ledger))
    assert "| total |  | 5.500 |" in markdown(ledger, view(ledger))


def test_names_are_no_markup():
    ledger = small_ledger()
    ledger.model = "my_model*|<x>"
    assert markdown(ledger, view(ledger)).startswith("**my\\_model\\*|\\<x> ")


def test_lines_left_out_and_tokens_are_told():
    ledger = small_ledger()
    ledger.settings["tokens"] = 100
    document = markdown(ledger, view(ledger, top=1))
    assert "… and 2 more layers (--top 0 for all)" in document
    assert "| 6·N·D = 6 · 1,230 · 100 | 738,000 |" in document
