"""Values chosen by a mask or an index: no FLOP; what is summed in backward, in loops."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from flopratio.formulas import OPERATORS, Tensor
from tests.formulas.counting import Counted, counted, reset, tensor, values
from tests.formulas.executed import agrees_with_autograd, executed

MASK = torch.tensor([[True, False, True, False]] * 3)
INDEX = torch.tensor([0, 2])

FILLED: dict[str, tuple[Callable[..., torch.Tensor], torch.Tensor]] = {
    "masked_fill": (lambda x, value: x.masked_fill(MASK, value), MASK),
    "index_fill": (
        lambda x, value: x.index_fill(0, INDEX, value),
        torch.tensor([[True], [False], [True]]).expand(3, 4),
    ),
}
"""A value written to some of the places, and which they are."""


@pytest.mark.oracle
@pytest.mark.parametrize("name", FILLED)
def test_the_gradient_of_a_value_in_loops(name: str) -> None:
    """It is the sum of what came for its places, of zeros at the others."""
    run, places = FILLED[name]
    g = tensor((3, 4))
    reset()
    total = Counted(0)
    for place in np.ndindex(3, 4):
        total = total + (g[place] if places[place] else 0)
    count = counted()

    value = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    run(torch.randn(3, 4, dtype=torch.float64), value).backward(torch.tensor(values(g)))
    assert value.grad.item() == pytest.approx(total.value)
    gradients = OPERATORS[f"aten.{name}"](*operands(name), out=operands(name)[0]).gradients
    assert {gradient.operand: gradient.elementwise for gradient in gradients} == {
        "self": 0,
        "value": count,
    }


def operands(name: str) -> tuple[object, ...]:
    x, value = Tensor((3, 4)), Tensor(())
    return (
        (x, Tensor((3, 4), 1), value) if name == "masked_fill" else (x, 0, Tensor((2,), 8), value)
    )


CHOSEN: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "masked_fill": lambda x: x.masked_fill(MASK, 0.0),
    "masked_select": lambda x: x.masked_select(MASK),
    "sort": lambda x: x.sort(1)[0],
    "topk": lambda x: x.topk(2)[0],
    "index_fill": lambda x: x.index_fill(0, INDEX, 0.0),
}


@pytest.mark.parametrize("name", CHOSEN)
def test_choosing_is_no_arithmetic(name: str) -> None:
    x = torch.randn(3, 4)
    assert executed(CHOSEN[name], x.requires_grad_()).forward == []
    if name != "masked_select":  # its backward fills zeros, of a size that no formula asks for
        agrees_with_autograd(CHOSEN[name], torch.randn(3, 4))
