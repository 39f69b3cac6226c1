"""Dropout, against the mask multiplied in by hand, and against torch."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flopratio.formulas import LAYERS, OPERATORS, Call, LayerCost, Tensor
from tests.formulas import counting
from tests.formulas.counting import counted
from tests.formulas.executed import (
    agrees_on_arrays_and_symbols,
    agrees_with_torch,
    analytic,
    executed,
)


@pytest.mark.oracle
@settings(max_examples=20, deadline=None)
@given(
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple),
    p=st.sampled_from([0.1, 0.5]),
    fused=st.booleans(),
)
def test_dropout_and_its_gradient_are_counted(
    shape: tuple[int, ...], p: float, fused: bool
) -> None:
    x, grad, drawn = (counting.tensor(shape, seed) for seed in (1, 2, 3))
    layer = LAYERS["Dropout"](Tensor(shape), p=p, fused=fused)
    cost = [call.cost for call in layer.calls]

    counting.reset()
    if fused:  # the mask is of bits, and is scaled each time
        x * drawn * (1 / (1 - p))
    else:
        mask = drawn / (1 - p)
        x * mask
    assert sum(one.elementwise for one in cost) == counted()

    counting.reset()
    if fused:
        grad * drawn * (1 / (1 - p))
    else:
        grad * mask
    (work,) = analytic(layer, layer.calls[-1].operands["input" if fused else "self"]).backward
    assert work.elementwise == counted()


@pytest.mark.parametrize(
    "arguments", [{"p": 0.3}, {"p": 0.3, "inplace": True}, {"p": 0.0}, {"p": 1.0}], ids=str
)
@pytest.mark.parametrize("training", [True, False])
def test_torch_runs_what_the_formula_says(arguments: dict[str, Any], training: bool) -> None:
    module = torch.nn.Dropout(**arguments).train(training)
    agrees_with_torch(LAYERS["Dropout"], module, torch.randn(4, 6), **arguments, training=training)


@pytest.mark.parametrize("train", [True, False])
def test_torch_runs_the_fused_operator_as_the_formula_says(train: bool) -> None:
    """On the CPU when called by name; its mask is a byte an element."""
    x, y, mask = Tensor((4, 6)), Tensor((4, 6)), Tensor((4, 6), itemsize=1)
    operands = {"input": x, "p": 0.3, "train": train}
    layer = LayerCost(y, (Call("aten.native_dropout", operands, (y, mask)),))
    real = torch.randn(4, 6, requires_grad=True)
    found = executed(lambda x: torch.native_dropout(x, 0.3, train), real)
    assert found == analytic(layer, x)
    assert found.saved_bytes == 24
    assert found.figures["elementwise_forward"] == (48 if train else 0)


def test_the_fused_layer_is_the_fused_operator() -> None:
    layer = LAYERS["Dropout"](Tensor((4, 6)), p=0.3, fused=True)
    assert [call.op for call in layer.calls] == ["aten.native_dropout"]
    nothing = LAYERS["Dropout"](Tensor((4, 6)), p=1, fused=True)
    assert [call.op for call in nothing.calls] == ["aten.mul"]
    (gradient,) = layer.calls[0].cost.gradients
    backward = OPERATORS[gradient.op](Tensor((4, 6)), Tensor((4, 6)), 2.0, out=Tensor((4, 6)))
    assert gradient.elementwise == backward.elementwise


@pytest.mark.parametrize("arguments", [{}, {"fused": True}, {"p": 0}, {"p": 1}], ids=str)
def test_arrays_and_symbols_say_the_same(arguments: dict[str, Any]) -> None:
    def figures(**size: Any) -> dict[str, Any]:
        x = Tensor((size["batch"], size["width"]))
        return analytic(LAYERS["Dropout"](x, **arguments), x).figures

    agrees_on_arrays_and_symbols(figures, {"batch": 2, "width": 6}, {"batch": 10**12, "width": 1})


def test_without_dropping_the_output_is_the_input() -> None:
    x = Tensor((4, 6))
    assert LAYERS["Dropout"](x, p=0).out is x
    assert LAYERS["Dropout"](x, training=False).out is x


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("inplace", [False, True])
def test_in_place_the_output_takes_the_memory_of_the_input(inplace: bool, fused: bool) -> None:
    x = Tensor((4, 6))
    out = LAYERS["Dropout"](x, inplace=inplace, fused=fused).out
    assert (out.storage is x.storage) == inplace
