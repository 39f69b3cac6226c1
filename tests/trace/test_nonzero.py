"""Masked weights count in full; beside it stands what their non-zeros alone would cost."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

import flopratio as fr
from flopratio.ledger import Ledger
from flopratio.report.summary import remarks
from flopratio.report.view import view


def pruned() -> nn.Sequential:
    """64 to 32, a quarter of which is kept; 32 to 8, whole."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 8))
    prune.random_unstructured(model[0], "weight", amount=0.75)
    return model


FIRST, SECOND = 2 * 4 * 64 * 32, 2 * 4 * 32 * 8
IN_FULL = {"forward": FIRST + SECOND, "grad_input": SECOND, "grad_weight": FIRST + SECOND}
ALONE = {
    "forward": FIRST // 4 + SECOND,
    "grad_input": SECOND,
    "grad_weight": FIRST // 4 + SECOND,
    "backward": FIRST // 4 + 2 * SECOND,
}


def profiled(model: nn.Module, x: torch.Tensor) -> Ledger:
    with fr.Profiler(model) as profiler:
        model(x).sum().backward()
    return profiler.ledger


def check(ledger: Ledger) -> None:
    totals = ledger.totals
    found = {phase: getattr(totals, phase) for phase in IN_FULL}
    assert found == IN_FULL
    assert ledger.nonzero == ALONE
    assert ledger.document()["nonzero"] == ALONE
    assert Ledger.from_json(ledger.to_json()).nonzero == ALONE
    (line,) = (each.text for each in remarks(ledger, view(ledger)) if each.about == "zeros")
    assert line.startswith("masked weights count in full; their non-zeros alone: forward")


def test_a_pruned_model_that_really_runs() -> None:
    check(profiled(pruned(), torch.randn(4, 64)))


def test_a_pruned_model_on_fake_tensors() -> None:
    model = pruned()
    model[0].weight = model[0].weight.detach()  # what the last forward left
    check(fr.count(model, torch.randn(4, 64), loss="sum"))


def test_with_autocast_and_a_convolution() -> None:
    """GIVEN a convolution of which half of the channels is 0, and casts, THEN half of it."""
    model = nn.Conv2d(4, 8, 3, bias=False)
    prune.ln_structured(model, "weight", amount=0.5, n=2, dim=0)
    with torch.autocast("cpu", torch.bfloat16):
        ledger = profiled(model, torch.randn(2, 4, 8, 8))
    assert ledger.nonzero["forward"] * 2 == ledger.totals.forward > 0
    assert ledger.nonzero["grad_weight"] * 2 == ledger.totals.grad_weight > 0


class Masked(nn.Linear):
    """A mask of one's own, as a buffer."""

    def __init__(self) -> None:
        super().__init__(64, 32)
        mask = torch.zeros(32, 64)
        mask[:, :16] = 1
        self.register_buffer("mask", mask)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(x, self.weight * self.mask, self.bias)


def test_a_mask_of_ones_own() -> None:
    ledger = profiled(Masked(), torch.randn(4, 64, requires_grad=True))
    assert ledger.totals.forward == FIRST
    assert ledger.nonzero == {
        "forward": FIRST // 4,
        "grad_input": FIRST // 4,
        "grad_weight": FIRST // 4,
        "backward": FIRST // 2,
    }


@pytest.mark.parametrize("buffer", [None, torch.ones(3, 3)])
def test_without_masks_nothing_is_said(buffer: torch.Tensor | None) -> None:
    model = nn.Linear(64, 32)
    if buffer is not None:
        model.register_buffer("other", buffer)
    ledger = profiled(model, torch.randn(4, 64))
    assert ledger.nonzero == {}
    assert "nonzero" not in json.loads(ledger.to_json())
    assert not any(each.about == "zeros" for each in remarks(ledger, view(ledger)))
