"""Anybody's loop, timed: which steps are recorded, which are timed, and what is left behind."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest
import torch
from torch import nn

import flopratio as fr
from flopratio.errors import UsageError
from flopratio.torch_private import ENGINE
from flopratio.trace import profiler as trace


def a_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 3, 3),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.Conv2d(3, 2, 3),
        nn.Flatten(),
        nn.Linear(2 * 4 * 4, 2),
    )


def train(model: nn.Module, steps: int, *, named: bool = True, **words: Any) -> fr.Profiler:
    """So many steps of a loop as people write it."""
    torch.manual_seed(1)
    optimizer = torch.optim.AdamW(model.parameters())
    with fr.Profiler(model if named else None, timing=True, **words) as p:
        for _ in range(steps):
            x, y = torch.randn(4, 2, 8, 8), torch.randint(2, (4,))
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            p.step()
    return p


def test_the_ledger_is_of_one_step_and_has_times() -> None:
    p = train(a_model(), 7)
    alone = fr.count(
        a_model(), torch.randn(4, 2, 8, 8), loss="cross_entropy", optimizer="adamw", target="cpu"
    )
    assert p.ledger.totals.forward == alone.totals.forward
    assert p.ledger.totals.backward == alone.totals.backward
    assert p.ledger.totals.update == alone.totals.update
    assert p.ledger.reconciled is True
    assert p.ledger.notes == []
    assert all(row.time_us is not None for row in p.ledger.rows if row.flops)
    assert p.ledger.frame["time_us"].notna().any()


def test_steps_are_timed_in_turn_with_and_without_the_profiler() -> None:
    timing = train(a_model(), 9).timing
    assert timing is not None
    assert timing.profiled is not None
    assert timing.repeats == 3  # the fourth, the sixth and the eighth
    assert timing.profiled.repeats == 3
    assert not timing.profiled.unmatched
    assert not timing.profiled.untraced
    assert not timing.profiled.unattributed
    assert not timing.profiled.undivided  # the halves of the convolutions' backward were timed
    assert timing.time_ratio.low <= timing.time_ratio.median <= timing.time_ratio.high


def test_phases_by_the_clock() -> None:
    """Each look at the clock takes a second: one where the step begins, five where it goes from one
    phase to another, one at the end of the last, one where it ends."""
    seconds = count()
    p = train(a_model(), 5, clock=lambda: float(next(seconds)))
    assert p.timing is not None
    phases = (p.timing.forward_ms, p.timing.backward_ms, p.timing.update_ms)
    assert [phase.median for phase in phases] == [1000.0, 1000.0, 1000.0]
    assert p.timing.step_ms.median == 8000.0


def test_without_a_model_all_that_is_neither_backward_nor_update_is_forward() -> None:
    seconds = count()
    p = train(a_model(), 5, named=False, clock=lambda: float(next(seconds)))
    assert p.timing is not None
    assert p.timing.forward_ms.median == 3000.0
    assert p.ledger.totals.forward > 0


@pytest.mark.parametrize("steps", range(5))
def test_with_too_few_steps_there_are_counts_and_no_times(steps: int) -> None:
    p = train(a_model(), steps)
    assert p.timing is None
    assert p.ledger.notes == [
        f"no times: p.step() ended {steps} steps, and it takes 5, for those that are recorded run "
        "slower than those that are timed"
    ]
    assert all(row.time_us is None for row in p.ledger.rows)
    if steps:
        forward = 2 * 4 * (3 * 6 * 6 * 2 * 9 + 2 * 4 * 4 * 3 * 9 + 32 * 2)
        assert p.ledger.totals.forward == forward


def test_a_step_alone_is_counted_as_without_timing() -> None:
    model, other, x = a_model(), a_model(), torch.randn(4, 2, 8, 8)
    with fr.Profiler(model, timing=True) as p:
        model(x).sum().backward()
    with fr.Profiler(other) as q:
        other(x).sum().backward()
    assert p.ledger.totals == q.ledger.totals
    assert p.timing is None
    assert q.timing is None
    assert q.ledger.notes == []


def test_training_goes_as_it_would_without() -> None:
    watched, alone = a_model(), a_model()
    train(watched, 6)
    torch.manual_seed(1)
    optimizer = torch.optim.AdamW(alone.parameters())
    for _ in range(6):
        x, y = torch.randn(4, 2, 8, 8), torch.randint(2, (4,))
        nn.functional.cross_entropy(alone(x), y).backward()
        optimizer.step()
        optimizer.zero_grad()
    for mine, others in zip(watched.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(mine, others)


@pytest.mark.parametrize("steps", range(6))
def test_nothing_is_left_behind_also_after_an_error(steps: int) -> None:
    from torch.optim import optimizer as optim

    model, engine = a_model(), getattr(torch.autograd, ENGINE)
    hooks = (optim._global_optimizer_pre_hooks, optim._global_optimizer_post_hooks)
    there = [len(each) for each in hooks]

    def fail() -> None:
        with fr.Profiler(model, timing=True) as p:
            for _ in range(steps):
                model(torch.randn(4, 2, 8, 8)).sum().backward()
                p.step()
            model(torch.randn(4, 2, 8, 8))
            raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        fail()
    assert getattr(torch.autograd, ENGINE) is engine
    assert not model._forward_pre_hooks
    assert [len(each) for each in hooks] == there
    with torch.autograd.profiler.profile():  # none runs any more
        pass
    with fr.Profiler(model) as q:
        model(torch.randn(4, 2, 8, 8))
    assert q.ledger.totals.forward > 0


def test_a_step_that_nobody_ended_is_not_timed() -> None:
    model = a_model()
    with fr.Profiler(model, timing=True) as p:
        for _ in range(6):
            model(torch.randn(4, 2, 8, 8)).sum().backward()
            p.step()
        model(torch.randn(4, 2, 8, 8))
    assert p.timing is not None
    assert p.timing.repeats == 2
    with p:
        model(torch.randn(4, 2, 8, 8)).sum().backward()
        p.step()
    assert p.timing.profiled is not None
    assert p.timing.profiled.repeats == 2


def test_several_backwards_in_a_step() -> None:
    model = a_model()
    with fr.Profiler(model, timing=True) as p:
        for _ in range(5):
            for _ in range(2):
                model(torch.randn(4, 2, 8, 8)).sum().backward()
            p.step()
    assert p.timing is not None
    assert p.timing.profiled is not None
    assert not p.timing.profiled.unmatched
    assert not p.timing.profiled.undivided


def test_a_step_without_a_backward_may_be_among_them() -> None:
    """A batch that is skipped, in the step that runs its fused operators in halves."""
    model = a_model()
    with fr.Profiler(model, timing=True) as p:
        for step in range(6):
            loss = model(torch.randn(4, 2, 8, 8)).sum()
            if step != 2:
                loss.backward()
            p.step()
    assert p.timing is not None
    assert p.timing.profiled is not None
    assert p.timing.profiled.undivided  # nothing tells how


def test_step_is_for_timing_and_within_the_block() -> None:
    with (
        pytest.raises(UsageError, match=r"write fr.Profiler\(model, timing=True\)"),
        fr.Profiler(a_model()) as p,
    ):
        p.step()
    with pytest.raises(UsageError, match="within the block"):
        fr.Profiler(a_model(), timing=True).step()


def test_it_is_the_profiler_with_times() -> None:
    assert issubclass(fr.Profiler, trace.Profiler)
    p = fr.Profiler(parameters=iter([torch.ones(2, requires_grad=True)]), timing=True)
    assert p.timing is None
