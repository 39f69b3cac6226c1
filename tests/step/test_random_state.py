"""The random numbers of a step: none of the caller's."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch

from flopratio.step.random_state import own_random_state

DRAWS = {
    "torch": lambda: torch.rand(3).tolist(),
    "python": lambda: [random.random() for _ in range(3)],
    "numpy": lambda: np.random.rand(3).tolist(),
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_numbers_are_the_same_each_time_and_the_callers_go_on(draw: Any) -> None:
    torch.manual_seed(5)
    random.seed(5)
    np.random.seed(5)
    undisturbed = [draw(), draw()]
    torch.manual_seed(5)
    random.seed(5)
    np.random.seed(5)
    inside, outside = [], []
    for _ in range(2):
        with own_random_state():
            inside.append(draw())
        outside.append(draw())
    assert inside[0] == inside[1]
    assert outside == undisturbed


def test_after_an_error_too() -> None:
    before = torch.get_rng_state(), random.getstate()

    def fails() -> None:
        with own_random_state():
            _ = torch.rand(1) / (random.random() // 1 / 0)

    with pytest.raises(ZeroDivisionError):
        fails()
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]


def test_what_cuda_is_seeded_with_later_is_the_callers_affair(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """``torch.manual_seed`` would have it seeded when it is first used."""
    seeded: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    monkeypatch.setattr(torch.cuda, "manual_seed", seeded.append)
    with own_random_state():
        pass
    assert not seeded
