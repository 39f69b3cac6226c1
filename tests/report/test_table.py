"""Tables as a terminal shows them."""

from textwrap import dedent

import pytest

from flopratio.ledger import Ledger, Row
from flopratio.report.table import table
from flopratio.report.view import view
from tests.report.small import printed, small_ledger


def shown(width=100, **words):
    return printed(table(view(small_ledger(), **words), width=width), width)


def text(expected):
    return dedent(expected).strip("\n")


def test_layers_have_one_unit_a_column():
    assert shown() == text(
        """\
                                    grad_   grad_         element-
                           forward  input  weight             wise  parameters  saved
        layer      type      MFLOP  MFLOP   MFLOP  ratio     kFLOP    thousand    KiB
        ─────────────────────────────────────────────────────────────────────────────
        stem.conv  Conv2d    4.000      0   4.000      1     2.500       1.200      0
        stem.relu  ReLU          0      0       0            2.000           0  3.000
        head       Linear    1.500  1.500   1.500      2     0.010       0.030  0.500
        ─────────────────────────────────────────────────────────────────────────────
        total                5.500  1.500   5.500  1.273     4.510       1.230  3.500
        """
    )


def test_the_unit_suits_the_total_too():
    rows = [Row("a", "Linear", "aten.mm", "", "forward", saved_bytes=3 * 2**10),
            Row("b", "Linear", "aten.mm", "", "forward", saved_bytes=5 * 2**30)]  # fmt: skip
    lines = printed(table(view(Ledger(rows), top=1), width=100), 100).splitlines()
    assert "MiB" in lines[2].split()
    assert lines[4].split()[-1] == "0.003"
    assert lines[-2].split()[-1] == "5,120.003"


def test_a_narrow_terminal_has_no_room_for_types():
    assert shown(70) == text(
        """\
                            grad_   grad_         element-
                   forward  input  weight             wise  parameters  saved
        layer        MFLOP  MFLOP   MFLOP  ratio     kFLOP    thousand    KiB
        ─────────────────────────────────────────────────────────────────────
        stem.conv    4.000      0   4.000      1     2.500       1.200      0
        stem.relu        0      0       0            2.000           0  3.000
        head         1.500  1.500   1.500      2     0.010       0.030  0.500
        ─────────────────────────────────────────────────────────────────────
        total        5.500  1.500   5.500  1.273     4.510       1.230  3.500
        """
    )


def test_a_narrower_one_has_none_for_the_last_columns_and_says_so():
    assert shown(50) == text(
        """\
                            grad_   grad_         element-
                   forward  input  weight             wise
        layer        MFLOP  MFLOP   MFLOP  ratio     kFLOP
        ──────────────────────────────────────────────────
        stem.conv    4.000      0   4.000      1     2.500
        stem.relu        0      0       0            2.000
        head         1.500  1.500   1.500      2     0.010
        ──────────────────────────────────────────────────
        total        5.500  1.500   5.500  1.273     4.510
        No room for parameters, saved_bytes.
        """
    )


def test_autograd_nodes_stand_above_their_operators():
    assert shown(by="autograd") == text(
        """\
                                           grad_   grad_  element-
                                           input  weight      wise  read  written
        autograd                     rows  MFLOP   MFLOP     kFLOP     B        B
        ─────────────────────────────────────────────────────────────────────────
        AddmmBackward0                  2  1.500   1.500         0    80       70
          aten.mm                       2  1.500   1.500         0    80       70
        TBackward0                      1      0       0         0     0        0
          aten.t                        1      0       0         0     0        0
        AccumulateGrad                  1      0       0         0     0        0
          aten.detach                   1      0       0         0     0        0
        ReluBackward0                   1      0       0     1.000    80       40
          aten.threshold_backward       1      0       0     1.000    80       40
        ConvolutionBackward0            1      0   4.000     0.500    80       50
          aten.convolution_backward     1      0   4.000     0.500    80       50
        ─────────────────────────────────────────────────────────────────────────
        total                           6  1.500   5.500     1.500   240      160
        """
    )


def test_lines_left_out_are_counted():
    assert shown(top=1) == text(
        """\
                                    grad_   grad_         element-
                           forward  input  weight             wise  parameters  saved
        layer      type      MFLOP  MFLOP   MFLOP  ratio     kFLOP    thousand    KiB
        ─────────────────────────────────────────────────────────────────────────────
        stem.conv  Conv2d    4.000      0   4.000      1     2.500       1.200      0
        ─────────────────────────────────────────────────────────────────────────────
        total                5.500  1.500   5.500  1.273     4.510       1.230  3.500
        … and 2 more layers (--top 0 for all)
        """
    )


def test_macs_halve_products_and_nothing_else():
    assert shown(macs=True) == text(
        """\
                                    grad_   grad_         element-
                           forward  input  weight             wise  parameters  saved
        layer      type       MMAC   MMAC    MMAC  ratio     kFLOP    thousand    KiB
        ─────────────────────────────────────────────────────────────────────────────
        stem.conv  Conv2d    2.000      0   2.000      1     2.500       1.200      0
        stem.relu  ReLU          0      0       0            2.000           0  3.000
        head       Linear    0.750  0.750   0.750      2     0.010       0.030  0.500
        ─────────────────────────────────────────────────────────────────────────────
        total                2.750  0.750   2.750  1.273     4.510       1.230  3.500
        """
    )


def test_exact_figures_have_every_digit():
    assert shown(exact=True) == text(
        """\
                                          grad_      grad_         element-
                             forward      input     weight             wise              saved
        layer      type         FLOP       FLOP       FLOP  ratio      FLOP  parameters      B
        ──────────────────────────────────────────────────────────────────────────────────────
        stem.conv  Conv2d  4,000,000          0  4,000,000      1     2,500       1,200      0
        stem.relu  ReLU            0          0          0            2,000           0  3,072
        head       Linear  1,500,000  1,500,000  1,500,000      2        10          30    512
        ──────────────────────────────────────────────────────────────────────────────────────
        total              5,500,000  1,500,000  5,500,000  1.273     4,510       1,230  3,584
        """
    )


def test_a_pipe_gets_all_columns_and_whole_names():
    name = "transformer.layers.11.attention.output"
    ledger = Ledger([Row(name, "NonDynamicallyQuantizableLinear", "aten.mm", "", "forward", 8)])
    printed_wide = printed(table(view(ledger)), 1000)
    assert f"{name}  NonDynamicallyQuantizableLinear" in printed_wide
    assert "saved" in printed_wide


def test_long_names_are_shortened_in_the_middle_to_fit():
    ledger = Ledger(
        [Row(f"transformer.layers.{n}.attention.output", "Linear", "aten.mm", "", "forward", 8)
         for n in range(3)]
    )  # fmt: skip
    lines = printed(table(view(ledger), width=80), 80).splitlines()
    assert max(map(len, lines)) <= 80
    assert [line.split()[0] for line in lines[4:7]] == ["transform…ion.output"] * 3


@pytest.mark.parametrize("width", [20, 40, 60, 80, 100, 120])
@pytest.mark.parametrize("by", ["layer", "type", "op", "phase", "autograd"])
def test_a_table_fits_its_terminal(width, by):
    assert max(map(len, shown(width, by=by).splitlines())) <= width


def test_names_are_no_markup():
    ledger = Ledger([Row("a[bold]b", "L[red]", "aten.mm", "", "forward", 8)])
    assert "a[bold]b  L[red]" in printed(table(view(ledger), width=100))


def test_a_ledger_without_rows_is_an_empty_table():
    assert printed(table(view(Ledger([])), width=100)).splitlines()[-1].startswith("total")
