"""Fused backward operators that are run in halves."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from flopratio.measure.fused_halves import FusedHalves


def test_halves_of_fused_operators_are_marked_and_give_the_same_gradients():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 3))
    x = torch.randn(2, 3, 8, 8)
    module(x).square().sum().backward()
    expected = [p.grad.clone() for p in module.parameters()]
    module.zero_grad()
    marks: list[None] = []
    loss = module(x).square().sum()
    with FusedHalves(lambda: marks.append(None)) as halves:
        loss.backward()
    # The last convolution, then the normalization; the first convolution has no half for its input.
    newest = loss.grad_fn._sequence_nr()
    assert [newest - node for node in halves.nodes] == [2, 3]
    assert len(marks) == 3 * 2
    for parameter, gradient in zip(module.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_the_inputs_share_is_that_of_the_first_of_three_laps():
    halves = FusedHalves(lambda: None)
    halves.nodes = [18, 17, 11]
    laps_ms = [1.0, 3.0, 50.0, 2.0, 2.0, 50.0, 0.0, 0.0]  # the last is over before the clock ticks
    assert halves.shares(laps_ms, newest=20) == {2: 0.25, 3: 0.5, 9: 0.0}


def test_a_mark_that_is_missing_is_no_share_of_another_node():
    halves = FusedHalves(lambda: None)
    halves.nodes = [18, 17]
    with pytest.raises(ValueError, match="shorter"):
        halves.shares([1.0, 3.0], newest=20)
