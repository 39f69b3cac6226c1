"""What a ledger's rows are summed by, in which order, and how many lines of it are kept."""

import pytest

from flopratio.errors import UsageError
from flopratio.ledger import Ledger, Row
from flopratio.report.view import COLUMNS, view
from tests.report.small import small_ledger


def names(shown):
    return [line.name for line in shown.lines]


def column_names(shown):
    return [column.name for column in shown.columns]


def test_layers_come_as_they_ran():
    shown = view(small_ledger())
    assert names(shown) == ["stem.conv", "stem.relu", "head"]
    conv, relu, head = shown.lines
    assert (conv.type, conv.forward, conv.grad_weight, conv.ratio) == (
        "Conv2d",
        4_000_000,
        4_000_000,
        1.0,
    )
    assert (relu.elementwise, relu.saved_bytes, relu.ratio) == (2_000, 3_072, None)
    assert (head.ratio, head.parameters) == (2.0, 30)


def test_the_total_is_of_all_lines_also_those_left_out():
    shown = view(small_ledger(), top=1)
    assert names(shown) == ["stem.conv"]
    assert shown.left_out == 2
    assert (shown.total.forward, shown.total.backward) == (5_500_000, 7_000_000)
    assert (shown.total.parameters, shown.total.elementwise) == (1_230, 4_510)


def test_depth_folds_layers_below_a_dot():
    shown = view(small_ledger(), depth=1)
    assert [(line.name, line.type) for line in shown.lines] == [
        ("stem", "Sequential"),
        ("head", "Linear"),
    ]
    stem = shown.lines[0]
    assert (stem.forward, stem.elementwise, stem.parameters) == (4_000_000, 4_500, 1_200)


def test_depth_0_folds_all_into_the_model():
    (line,) = view(small_ledger(), depth=0).lines
    assert (line.name, line.type, line.parameters) == ("(model)", "Toy", 1_230)


def test_a_folded_layer_has_the_parameters_of_modules_that_did_not_run():
    ledger = Ledger(
        [Row("a", "Attention", "aten.mm", "", "forward", 8)],
        parameters={"a": 1, "a.projection": 2},
        types={"a": "Attention", "a.projection": "Linear"},
    )
    assert view(ledger).lines[0].parameters == 1
    assert view(ledger, depth=1).lines[0].parameters == 3


def test_types_are_counted():
    ledger = small_ledger()
    ledger.rows.append(Row("tail", "Linear", "aten.mm", "", "forward", 10))
    ledger.types["tail"] = "Linear"
    lines = {line.name: line for line in view(ledger, by="type").lines}
    assert lines["Linear"].layers == 2
    assert lines["Linear"].forward == 1_500_010
    assert lines["Linear"].parameters == 30


def test_types_of_folded_layers():
    assert names(view(small_ledger(), by="type", depth=1)) == ["Sequential", "Linear"]


def test_operators_are_summed_over_phases():
    lines = {line.name: line for line in view(small_ledger(), by="op").lines}
    assert (lines["aten.mm"].grad_input, lines["aten.mm"].grad_weight) == (1_500_000, 1_500_000)
    assert (lines["aten.mm"].bytes_read, lines["aten.mm"].bytes_written) == (80, 70)
    assert lines["aten.t"].rows == 2


def test_phases_come_in_the_order_of_a_step():
    shown = view(small_ledger(), by="phase")
    assert names(shown) == ["forward", "grad_input", "grad_weight"]
    assert [line.products for line in shown.lines] == [5_500_000, 1_500_000, 5_500_000]
    assert [line.elementwise for line in shown.lines] == [3_010, 1_000, 500]


def test_autograd_shows_the_products_under_each_node():
    """The picture that students are told about: a linear layer's backward is two products and a
    transposition, and its gradient is then kept."""
    shown = view(small_ledger(), by="autograd")
    assert names(shown) == [
        "AddmmBackward0",
        "TBackward0",
        "AccumulateGrad",
        "ReluBackward0",
        "ConvolutionBackward0",
    ]
    addmm = shown.lines[0]
    assert [(part.name, part.rows, part.backward) for part in addmm.parts] == [
        ("aten.mm", 2, 3_000_000)
    ]
    assert shown.total.forward == 0
    assert shown.total.backward == 7_000_000


def test_autograd_shows_what_checkpointing_runs_again():
    ledger = small_ledger()
    ledger.rows.append(Row("head", "Linear", "aten.addmm", "", "recompute", 7))
    shown = view(ledger, by="autograd")
    assert (shown.lines[-1].name, shown.lines[-1].recompute) == ("(recompute)", 7)


def test_columns_without_a_figure_are_left_out():
    ledger = small_ledger()
    assert "recompute" not in column_names(view(ledger))
    assert "update" not in column_names(view(ledger))
    ledger.rows.append(Row("head", "Linear", "aten.add_", "", "update", elementwise=60))
    ledger.rows.append(Row("head", "Linear", "aten.addmm", "", "recompute", 7))
    assert {"update", "recompute"} <= {*column_names(view(ledger))}
    assert view(ledger).lines[-1].update == 60


def test_the_update_is_no_part_of_elementwise():
    ledger = small_ledger()
    before = view(ledger).total.elementwise
    ledger.rows.append(Row("head", "Linear", "aten.add_", "", "update", elementwise=60))
    assert view(ledger).total.elementwise == before


@pytest.mark.parametrize(
    ("sort", "order"),
    [
        ("forward", ["stem.conv", "head", "stem.relu"]),
        ("saved_bytes", ["stem.relu", "head", "stem.conv"]),
        ("ratio", ["head", "stem.conv", "stem.relu"]),
        ("name", ["head", "stem.conv", "stem.relu"]),
        ("type", ["stem.conv", "head", "stem.relu"]),
    ],
)
def test_figures_fall_and_names_rise(sort, order):
    assert names(view(small_ledger(), sort=sort)) == order


@pytest.mark.parametrize("column", COLUMNS)
def test_every_column_sorts(column):
    assert len(view(small_ledger(), sort=column).lines) == 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"sort": "forwrd"}, "'forwrd' is no column: did you mean 'forward'?"),
        ({"sort": "foo"}, "'foo' is no column: there are backward, bytes_read"),
        ({"by": "lair"}, "'lair' is no view: did you mean 'layer'?"),
        ({"top": -1}, "at least 0"),
        ({"depth": -1}, "at least 0"),
    ],
)
def test_slips_are_told(words, said):
    with pytest.raises(UsageError, match=said.replace("?", r"\?")):
        view(small_ledger(), **words)


def test_a_ledger_without_rows_has_no_lines():
    shown = view(Ledger([]))
    assert (shown.lines, shown.left_out, shown.total.forward) == ((), 0, 0)
