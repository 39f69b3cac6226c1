"""Which bytes an operator moves, where it is not just its operands and results."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import flopratio as fr
from flopratio.formulas import OPERATORS
from flopratio.roofline import traffic
from flopratio.roofline.traffic import moved
from tests.roofline.devices import row


@pytest.mark.parametrize(
    ("op", "read", "written", "nbytes"),
    [
        ("mm", 70, 30, 100),
        ("relu_", 40, 40, 80),  # in place: read and written all the same
        ("empty_like", 40, 40, 0),
        ("zeros", 0, 40, 40),
        ("zero_", 40, 40, 40),  # what was there is not read
        ("bernoulli_", 40, 40, 40),
        ("copy_", 40 + 20, 40, 20 + 40),  # a cast copied into place: source and target
        ("embedding", 1000 + 8, 40, 40 + 40),  # rows of a table, not the table
        ("nll_loss_forward", 1000, 4, 8),
        ("nll_loss_backward", 1000 + 16, 1000, 16 + 1000),  # the input gives its shape alone
        ("max_pool2d_with_indices_backward", 400 + 100 + 200, 400, 100 + 200 + 400),
        ("index_add_", 1000 + 60, 1000, 2 * 60),  # its source, and as many entries of the target
        ("native_layer_norm", 44, 48, 92),  # a row stays on the chip
        ("native_layer_norm_backward", 84, 44, 2 * 84 + 44),
        ("native_group_norm", 44, 48, 2 * 44 + 48),
        ("_local_scalar_dense", 4, 0, 0),
    ],
)
def test_bytes_of_an_operator(op: str, read: int, written: int, nbytes: int) -> None:
    assert moved(row(op, read=read, written=written)) == nbytes


def test_every_operator_in_a_table_has_a_formula() -> None:
    tables = (
        traffic.NO_KERNEL, traffic.GATHERS, traffic.SHAPE_ONLY, traffic.SCATTERS, traffic.TWICE,
    )  # fmt: skip
    assert frozenset().union(*tables) - OPERATORS.keys() == set()


@pytest.mark.parametrize(("inference", "times"), [(False, 2), (True, 1)])
@pytest.mark.parametrize("affine", [True, False])
def test_a_batch_norm_reads_its_input_twice_for_a_mean_over_the_batch(
    inference: bool, times: int, affine: bool
) -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8, affine=affine))
    ledger = fr.count(model, torch.empty(2, 3, 8, 8), inference=inference)
    (norm,) = (row for row in ledger.rows if row.op == "aten.native_batch_norm")
    assert moved(norm) == times * norm.bytes_read + norm.bytes_written


def test_an_embedding_moves_what_it_looks_up() -> None:
    ledger = fr.count(nn.Embedding(1000, 4), torch.zeros(8, dtype=torch.int64))
    (lookup,) = (row for row in ledger.rows if row.op == "aten.embedding")
    assert lookup.bytes_read == 1000 * 4 * 4 + 8 * 8
    assert moved(lookup) == 2 * (8 * 4 * 4)
