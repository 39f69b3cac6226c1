"""The ledger: sums, ratios and exactness of the one table."""

import dataclasses
import json
import pickle
from typing import Any

import pytest
import torch

import flopratio as fr
from flopratio.errors import UsageError
from flopratio.ledger import Ledger, Row, autograd_node
from flopratio.memory import Memory


def a_ledger() -> Ledger:
    """A first layer of 100 FLOP (1:1), an inner one of 300 (2:1), 7 checkpointed, 20 of update."""
    return Ledger(
        [
            Row("first", "Linear", "aten.addmm", "", "forward", 100, 5, dtype="bfloat16"),
            Row("inner", "Linear", "aten.mm", "", "forward", flops=300, saved_bytes=64),
            Row("inner", "Linear", "aten.mm", "MmBackward0", "grad_input", flops=300),
            Row("inner", "Linear", "aten.mm", "MmBackward0", "grad_weight", flops=300),
            Row("inner", "Linear", "aten.mm", "", "recompute", flops=7, elementwise=3),
            Row("first", "Linear", "aten.mm", "AddmmBackward0", "grad_weight", flops=100),
            Row("first", "Linear", "aten.sum", "AddmmBackward0", "grad_weight", elementwise=5),
            Row("first", "Linear", "aten.add_", "", "update", elementwise=20),
        ],
        parameters={"first": 10, "inner": 30},
        types={"first": "Linear", "inner": "Linear"},
        analytic={"forward": 400, "grad_input": 300, "grad_weight": 400, "saved_bytes": 64},
    )


def test_totals_sum_the_rows_by_phase() -> None:
    total = a_ledger().totals
    assert (total.forward, total.grad_input, total.grad_weight) == (400, 300, 400)
    assert total.backward == 700
    assert (total.recompute, total.update) == (7, 20)
    assert (total.elementwise_forward, total.elementwise_backward) == (5, 5)
    assert total.elementwise_recompute == 3
    assert (total.parameters, total.saved_bytes) == (40, 64)


FIGURES = ("forward", "grad_input", "grad_weight", "recompute", "update")
FIGURES += ("elementwise_forward", "elementwise_backward", "elementwise_recompute")
"""Of a document: each FLOP of the table is in one of them."""


class Blocks(torch.nn.Sequential):
    def __init__(self) -> None:
        super().__init__(*(torch.nn.Sequential(self.linear(), self.linear()) for _ in range(4)))

    @staticmethod
    def linear() -> torch.nn.Sequential:
        return torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.GELU())


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"checkpoint": "?", "optimizer": "adamw"},
        {"checkpoint": "auto", "accumulate": 2},
        {"inference": True},
    ],
    ids=str,
)
def test_the_figures_of_a_document_sum_to_the_table(options: dict[str, Any]) -> None:
    ledger = fr.count(Blocks(), torch.empty(2, 8), **options)
    table = sum(row.flops + row.elementwise for row in ledger.rows)
    document = ledger.document()
    assert sum(document["flops"][name] for name in FIGURES) == table
    assert sum(layer[name] for layer in document["layers"] for name in FIGURES) == table
    again = any(row.phase == "recompute" and row.elementwise for row in ledger.rows)
    assert again == bool(document["flops"]["elementwise_recompute"]) == ("checkpoint" in options)


def test_each_ratio_divides_by_forward() -> None:
    ratio = a_ledger().ratio
    assert ratio.backward_to_forward == 700 / 400
    assert ratio.with_elementwise == 705 / 405
    assert ratio.with_update == 720 / 400
    assert ratio.hardware == 707 / 400


def test_layers_come_in_the_order_in_which_they_ran() -> None:
    first, inner = a_ledger().layers()
    assert (first.name, first.ratio, first.update) == ("first", 1.0, 20)
    assert (inner.name, inner.ratio, inner.saved_bytes) == ("inner", 2.0, 64)


def test_a_step_without_contractions_has_no_ratio() -> None:
    ledger = Ledger([Row("relu", "ReLU", "aten.relu", "", "forward", elementwise=8)])
    assert ledger.ratio.backward_to_forward is None
    assert ledger.layers()[0].ratio is None


def test_counts_past_int64_stay_exact() -> None:
    huge = 3 * 10**23 + 1
    ledger = Ledger([Row("l", "Linear", "aten.mm", "", "forward", flops=huge)] * 2)
    assert ledger.totals.forward == 2 * huge
    assert ledger.frame["flops"].sum() == 2 * huge
    assert fr.Ledger is Ledger


def test_json_gives_the_same_ledger_back() -> None:
    ledger = a_ledger()
    again = Ledger.from_json(ledger.to_json())
    assert again.rows == ledger.rows
    assert again.document() == ledger.document()


def test_a_row_ends_with_the_dtype_that_it_computes_in() -> None:
    ledger = a_ledger()
    assert ledger.document()["rows"][0][-1] == "bfloat16"
    assert list(ledger.frame)[-2:] == ["time_us", "dtype"]
    assert list(ledger.frame["dtype"][:2]) == ["bfloat16", ""]
    assert ledger.to_csv().splitlines()[1].split(",")[12] == "bfloat16"


def test_a_ledger_of_before_rows_had_a_dtype_is_read() -> None:
    document = a_ledger().document()
    document["rows"] = [row[:-1] for row in document["rows"]]
    assert {row.dtype for row in Ledger.from_json(json.dumps(document)).rows} == {""}


def test_the_document_has_the_designs_keys() -> None:
    document = a_ledger().document()
    assert document["schema"] == "flopratio.ledger/1"
    assert document["flops"]["model"] == 1100
    assert document["flops"]["hardware"] == 1107
    assert document["analytic"]["backward"] == 700
    assert document["reconciled"] is True


def test_what_is_given_as_a_function_is_made_once_when_it_is_looked_at() -> None:
    made = []

    def memory() -> Memory:
        made.append("memory")
        return Memory({"peak": 7})

    ledger = Ledger([], memory=memory)
    assert made == []
    assert ledger.memory is ledger.memory
    assert (made, ledger.memory.peak) == (["memory"], 7)
    assert (ledger.analytic, ledger.saved_mismatches) == ({}, [])
    ledger.analytic = lambda: {"forward": 3}
    assert pickle.loads(pickle.dumps(ledger)).analytic == {"forward": 3}


def test_a_ledger_is_plain_data() -> None:
    ledger = fr.count("mlp", depth=1, width=8, batch=2)
    fields = dataclasses.asdict(ledger)
    assert fields["memory"] == ledger.memory
    assert fields["rows"] == ledger.rows
    assert fields["analytic"] == ledger.analytic


@pytest.mark.parametrize("text", ["", "[]", '{"schema": "other/1"}'])
def test_what_is_no_ledger_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not a ledger"):
        Ledger.from_json(text)


def test_diff_lists_what_changed_and_what_only_one_side_has() -> None:
    ledger = a_ledger()
    changed = Ledger([*ledger.rows, Row("new", "Linear", "aten.mm", "", "forward", flops=8)],
                     parameters=ledger.parameters, types=ledger.types)  # fmt: skip
    assert ledger.diff(ledger).empty
    assert ledger.diff(changed).to_numpy().tolist() == [["new", "forward", 0, 8]]


@pytest.mark.parametrize(
    ("op", "node"),
    [
        ("aten.addmm", "AddmmBackward0"),
        ("aten._grouped_mm", "GroupedMmBackward0"),
        (
            "aten._scaled_dot_product_flash_attention_for_cpu",
            "ScaledDotProductFlashAttentionForCpuBackward0",
        ),
        ("aten._flash_attention_forward", "FlashAttentionBackward0"),
        ("aten.max_pool2d_with_indices", "MaxPool2DWithIndicesBackward0"),
        ("aten.add_", "AddBackward0"),
    ],
)
def test_autograd_names_its_nodes_after_operators(op, node):
    assert autograd_node(op) == node
