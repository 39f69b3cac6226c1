"""Closed forms of steps that do something else at other residues of a size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from flopratio.closed_form import Polynomial
from flopratio.closed_form.polynomial import floor_of
from flopratio.step.options import StepOptions
from flopratio.verbs.formula import formula_of
from flopratio.verbs.formula.result import ClosedForm

NET = """
import torch
from torch.nn import functional

class Masked(torch.nn.Module):
    def __init__(self, seq):
        super().__init__()
        self.linear = torch.nn.Linear(seq, seq)

    def forward(self, x, mask):
        if missing := -mask.size(-1) % 8:
            mask = functional.pad(mask, (0, missing))[..., :-missing]
        return self.linear(x) * mask

class Twice(torch.nn.Module):
    def __init__(self, seq):
        super().__init__()
        self.first, self.second = Masked(seq), Masked(seq)
        self.register_buffer("mask", torch.ones(seq, seq))

    def forward(self, x):
        return self.second(self.first(x, self.mask), self.mask)

def masked(seq: int = 64):
    return Twice(seq), torch.empty(2, seq, seq)

def pooled(image: int = 96, batch: int = 2):
    layers = torch.nn.Conv2d(1, 3, 3, stride=8, padding=1), torch.nn.AdaptiveAvgPool2d(6)
    return torch.nn.Sequential(*layers), torch.empty(batch, 1, image, image)
"""


@pytest.fixture
def net(tmp_path: Path) -> str:
    (tmp_path / "net.py").write_text(NET)
    return str(tmp_path / "net.py")


def form_of(model: str, *keys: str, **values: Sequence[int]) -> ClosedForm:
    options = StepOptions(optimizer="sgd")
    return formula_of(model, keys, values, options, verify=2, cached=False, peak=False)


def test_a_tensor_that_is_shared_where_it_is_aligned(net: str) -> None:
    """One mask where 8 divides its rows; else a copy for each of two layers, of longer rows."""
    found = form_of(f"{net}:masked", "seq")
    assert not found.refused
    assert not list(found.held_against([{"seq": seq} for seq in (65, 72, 80, 95)]))
    s = Polynomial.of("seq")
    rows = floor_of(s + 7, 8) * 8 * s * 4
    copies = {entry: form for entry, form in found.entries.items() if "floor" in str(form)}
    assert {entry.quantity for entry in copies} == {"saved_bytes"}
    assert set(copies.values()) == {rows, rows * (floor_of(s + 7, 8) - floor_of(s, 8))}


def test_windows_that_overlap_where_they_do_not_divide(net: str) -> None:
    found = form_of(f"{net}:pooled", "batch", "image", image=range(32, 161))
    assert not found.refused
    points = [{"batch": 3, "image": image} for image in (33, 48, 96, 97, 105, 144, 159)]
    assert not list(found.held_against(points))
