"""All that a terminal shows."""

import pytest

from flopratio.report.terminal import page
from flopratio.report.view import view
from tests.report.small import printed, small_ledger


def shown(ledger, width):
    return printed(page(ledger, view(ledger), width=width), width)


def test_headline_tables_and_remarks():
    lines = shown(small_ledger(), 120).splitlines()
    assert lines[0] == "toy batch=2 image=3x8x8: 1,230 parameters"
    assert lines[10] == (
        "total                5.500  1.500   5.500  1.273     4.510       1.230  3.500"
    )
    assert [line.split() for line in lines[12:]] == [
        ["element-"],
        ["products", "wise", "share", "ratio", "to"],
        ["phase", "MFLOP", "kFLOP", "of", "both", "forward"],
        [lines[15]],
        ["forward", "5.50", "3.010", "44.0%", "██████████▌", "1"],
        ["grad_input", "1.50", "1.000", "12.0%", "██▉", "0.273"],
        ["grad_weight", "5.50", "0.500", "44.0%", "██████████▌", "1"],
        [lines[15]],
        ["total", "12.50", "4.510"],
        ["backward", ":", "forward", "1.273"],
        ["…", "with", "elementwise", "1.272"],
        [],
        ["memory,", "the", "most", "at", "once", "KiB"],
        [lines[25]],
        ["parameters", "4.80"],
        [lines[25]],
        ["peak", "10.00"],
        [],
        ["reconciled", "analytic", "=", "executed", "in", "all", "3", "layers"],
    ]


def test_a_language_model_has_6_n_d_too():
    ledger = small_ledger()
    ledger.settings["tokens"] = 100
    lines = shown(ledger, 120).splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("6·N·D"))
    assert lines[start - 1] == ""
    assert lines[start].split() == ["6·N·D", "=", "6", "·", "1,230", "·", "100", "738,000"]
    end = lines.index("", start)
    assert lines[end - 1].split()[-1] == "12,500,000"
    terms = [int(line.split()[-1].replace(",", "")) for line in lines[start:end]]
    assert sum(terms[:-1]) == terms[-1]


@pytest.mark.parametrize("width", [40, 80, 120])
def test_it_fits_the_terminal(width):
    ledger = small_ledger()
    ledger.settings["tokens"] = 100
    assert max(map(len, shown(ledger, width).splitlines())) <= width
