"""Quantisation, against loops that count, and against what torch runs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

import flopratio as fr
from flopratio.formulas import OPERATORS, Tensor
from tests.formulas import counting
from tests.formulas.counting import Counted, counted

LEAST, MOST = -8, 7


def held(number: Counted) -> Counted:
    """Between the bounds: two comparisons."""
    number = number if number > LEAST else Counted(LEAST)
    return number if number < MOST else Counted(MOST)


def there(number: Counted) -> Counted:
    """To a whole number, with a scale of 1 / 4 and a zero point of 1."""
    return held(rounded(number) + 1.0)


def rounded(number: Counted) -> Counted:
    """A multiplication and one rounding."""
    scaled = number * 4.0
    counting.COUNT["flops"] += 1
    return Counted(round(scaled.value))


def back(number: Counted) -> Counted:
    return (number - 1.0) * 0.25


@pytest.mark.oracle
def test_there_and_back_in_loops() -> None:
    numbers = counting.tensor((24,), 1)
    shape = Tensor((24,))

    counting.reset()
    whole = [there(number) for number in numbers]
    assert OPERATORS["aten.quantize_per_tensor"](shape, 0.25, 1, 0, out=shape).elementwise == (
        counted()
    )
    counting.reset()
    result = [back(number) for number in whole]
    assert OPERATORS["aten.dequantize"](shape, out=shape).elementwise == counted()

    counting.reset()
    for number in numbers:
        back(there(number))
        inside = rounded_is_inside(number)
        counting.COUNT["flops"] += 1  # the conjunction
        assert inside in (True, False)
    mask = Tensor((24,), itemsize=1)
    cost = OPERATORS["aten.fake_quantize_per_tensor_affine_cachemask"](
        shape, 0.25, 1, LEAST, MOST, out=(shape, mask)
    )
    assert cost.elementwise == counted()

    x = torch.tensor([number.value for number in numbers])
    expected = torch.fake_quantize_per_tensor_affine(x, 0.25, 1, LEAST, MOST)
    np.testing.assert_allclose([number.value for number in result], expected, atol=1e-6)


def rounded_is_inside(number: Counted) -> bool:
    """Two comparisons, of the whole number that is there already."""
    whole = Counted(round(number.value * 4.0) + 1.0)
    above, below = whole > LEAST - 1, whole < MOST + 1
    return above and below


def x() -> torch.Tensor:
    return torch.randn(3, 4, requires_grad=True)


scales, points = torch.full((3,), 0.1), torch.zeros(3, dtype=torch.int32)


def learnt(per_channel: bool) -> torch.Tensor:
    scale, point = (torch.ones(3 if per_channel else 1, requires_grad=True) for _ in range(2))
    if per_channel:
        run = torch._fake_quantize_learnable_per_channel_affine
        return run(x(), scale, point, 0, -128, 127, 1.0)
    return torch._fake_quantize_learnable_per_tensor_affine(x(), scale, point, -128, 127, 1.0)


def observed() -> torch.Tensor:
    observer = torch.ao.quantization.FusedMovingAvgObsFakeQuantize()
    result: torch.Tensor = observer(x())
    return result


STEPS: dict[str, tuple[Callable[[], torch.Tensor], tuple[int, int]]] = {
    "a tensor": (
        lambda: torch.fake_quantize_per_tensor_affine(x(), 0.1, 0, -128, 127),
        (10 * 12, 12),
    ),
    "channels": (
        lambda: torch.fake_quantize_per_channel_affine(x(), scales, points, 0, -128, 127),
        (10 * 12, 12),
    ),
    "learnt": (lambda: learnt(False), (7 * 12, (8 + 7 + 4) * 12)),
    "learnt channels": (lambda: learnt(True), (7 * 12, (8 + 7 + 4) * 12)),
    "observed": (observed, (12 * 12 + 11, 12)),
}


@pytest.mark.parametrize("name", STEPS)
def test_training_with_fake_quantisation(name: str) -> None:
    run, (forward, backward) = STEPS[name]
    with fr.Profiler() as profiler:
        run().backward(torch.ones(3, 4))
    ledger = profiler.ledger
    assert ledger.uncounted_ops == {}
    assert ledger.saved_mismatches == []
    totals = ledger.totals
    assert (totals.elementwise_forward, totals.elementwise_backward) == (forward, backward)


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
def test_storing_as_whole_numbers() -> None:
    with fr.Profiler() as profiler:
        torch.quantize_per_tensor(torch.randn(3, 4), 0.1, 0, torch.qint8).dequantize()
    ledger = profiler.ledger
    assert ledger.uncounted_ops == {}
    assert ledger.totals.elementwise_forward == (5 + 2) * 12
