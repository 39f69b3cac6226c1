"""The primitives that torch makes other operators of."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import flopratio as fr
from flopratio.formulas import OPERATORS, Tensor
from flopratio.formulas.primitives import ONE_EACH
from tests.formulas import counting
from tests.formulas.counting import counted


@pytest.mark.oracle
def test_one_element_after_another() -> None:
    a, b = counting.tensor((4, 6), 1), counting.tensor((4, 6), 2)
    shape = Tensor((4, 6))
    for name, run in (
        ("add", lambda: a + b),
        ("mul", lambda: a * b),
        ("div", lambda: a / b),
        ("neg", lambda: -a),
    ):
        counting.reset()
        run()
        operands = (shape,) if name == "neg" else (shape, shape)
        assert OPERATORS[f"prims.{name}"](*operands, out=shape).elementwise == counted() > 0


def test_each_is_what_it_is_in_aten() -> None:
    """Where ``aten`` has an operator of the same name, and it takes no more than numbers."""
    shape = Tensor((4, 6))
    same = 0
    for name in ONE_EACH.split():
        aten = OPERATORS.get(f"aten.{name}")
        operands = (shape, shape)
        try:
            assert aten is not None
            expected = aten(*operands[:1], out=shape).elementwise
        except (AssertionError, TypeError):
            continue
        assert OPERATORS[f"prims.{name}"](*operands[:1], out=shape).elementwise == expected, name
        same += 1
    assert same > 20


@pytest.mark.filterwarnings("ignore:.*torch.jit.script")
def test_forward_mode_leaves_nothing_uncounted() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 8), nn.GLU())
    x, tangent = torch.randn(3, 8), torch.randn(3, 8)
    with fr.Profiler() as profiler:
        torch.func.jvp(model, (x,), (tangent,))
    ledger = profiler.ledger
    assert ledger.uncounted_ops == {}
    assert any(row.op.startswith("prims.") for row in ledger.rows)
    # In each layer the values', and those of the tangents of input and weight (which is 0).
    assert ledger.totals.forward == 2 * 3 * (2 * 3 * 8 * 8)
