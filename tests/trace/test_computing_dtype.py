"""In which element type each operator of a step computes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import flopratio as fr
from flopratio.trace.computing_dtype import computing_dtype
from flopratio.trace.recording import LIST, NESTED, TENSOR
from tests.trace.steps import profiled


def note(dtype: torch.dtype, *shape: int):
    return TENSOR, shape, dtype


SINGLE, HALF = note(torch.float32, 2, 3), note(torch.bfloat16, 2, 3)
INDEX, MASK, SCALAR = note(torch.int64, 2), note(torch.bool, 2, 3), note(torch.float32)


@pytest.mark.parametrize(
    ("operands", "dtype"),
    [
        ((HALF, HALF), "bfloat16"),
        ((SINGLE, INDEX), "float32"),
        ((INDEX, SINGLE), "float32"),  # an index comes before what is looked up
        ((MASK, HALF, SCALAR), "bfloat16"),  # torch.where with a number
        ((SCALAR, HALF), "bfloat16"),
        ((SCALAR, INDEX), "float32"),  # as torch promotes
        ((HALF, SINGLE), "bfloat16"),  # layer norm with its parameters in single precision
        ((MASK, INDEX), "bool"),
        (((LIST, SINGLE, SINGLE), 0.1), "float32"),
        ((((NESTED, ((1, 2), (1, 3)), torch.float16)),), "float16"),
        ((INDEX, note(torch.complex64, 2)), "complex64"),
        ((note(torch.float8_e4m3fn, 2, 2),), "float8_e4m3fn"),
    ],
    ids=str,
)
def test_the_first_operand_with_real_numbers_decides(operands, dtype) -> None:
    assert computing_dtype(operands, INDEX) == dtype


def test_without_operands_it_is_the_results() -> None:
    assert computing_dtype(((2, 3),), HALF) == "bfloat16"
    assert computing_dtype(((2, 3),), None) == ""


def dtypes(ledger: fr.Ledger, op: str) -> list[str]:
    return [row.dtype for row in ledger.rows if row.op == op]


def test_a_product_under_autocast_computes_in_bfloat16_and_a_cast_in_its_source() -> None:
    model, x = nn.Linear(4, 4), torch.ones(2, 4)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(x).float().sum()
        loss.backward()

    ledger = profiled(model, step)
    assert dtypes(ledger, "aten.addmm") == ["bfloat16"]
    assert set(dtypes(ledger, "aten.mm")) == {"bfloat16"}
    casts = dtypes(ledger, "aten._to_copy")
    assert casts[:3] == ["float32"] * 3  # weight, bias, input
    assert "bfloat16" in casts[3:]  # the output, and gradients on their way back


def test_both_halves_of_a_fused_backward_have_it() -> None:
    ledger = fr.count(nn.Sequential(nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1)),
                      torch.empty(1, 2, 4, 4), dtype="float64")  # fmt: skip
    assert dtypes(ledger, "aten.convolution_backward") == ["float64"] * 3
    assert all(row.dtype for row in ledger.rows)


def test_what_fused_attention_computes_again_has_it() -> None:
    model = nn.TransformerEncoderLayer(8, 2, 8, dropout=0.0, batch_first=True)
    ledger = fr.count(model, torch.empty(1, 4, 8), attention="flash", target="cuda",
                      dtype="bfloat16")  # fmt: skip
    again = [row.dtype for row in ledger.rows if row.phase == "recompute"]
    assert again
    assert set(again) == {"bfloat16"}


def test_the_embedding_table_decides_and_not_the_indices() -> None:
    ledger = fr.count(nn.Embedding(5, 4, dtype=torch.bfloat16), torch.zeros(2, dtype=torch.int64))
    assert dtypes(ledger, "aten.embedding") == ["bfloat16"]
    assert dtypes(ledger, "aten.embedding_dense_backward") == ["bfloat16"]


def test_a_foreach_update_has_its_parameters() -> None:
    ledger = fr.count("mlp", depth=1, width=8, batch=2, optimizer="adamw",
                      optimizer_implementation="foreach")  # fmt: skip
    assert {row.dtype for row in ledger.rows if row.phase == "update"} == {"float32"}
