"""In which phase a step of anybody's loop is."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from itertools import count
from typing import Any

import pytest
import torch
from torch import nn
from torch.autograd.profiler import profile
from torch.utils.checkpoint import checkpoint

from flopratio.measure.events import STEP_PHASE_OF_RANGE, read_events
from flopratio.measure.loop_phases import BETWEEN, LoopPhases, backward_calls
from flopratio.measure.stopwatch import Stopwatch

X = torch.ones(2, 3)


def phases_of(model: nn.Module | None, step: Callable[[], object]) -> dict[str, float]:
    """Seconds of each phase, if each change of it takes one."""
    seconds = count()
    phases = LoopPhases(model, Stopwatch(lambda: float(next(seconds))), profiled=False)
    with phases.followed():
        step()
    return {name: ms / 1e3 for name, ms in phases.laps_ms().items()}


class Checkpointed(nn.Module):
    """Calls itself, and its forward again in backward."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)
        self.depth = 0

    def forward(self, x: torch.Tensor) -> Any:
        if self.depth:
            return self.linear(x)
        self.depth = 1
        return checkpoint(self, x, use_reentrant=False)


def test_a_step_as_most_are() -> None:
    model = nn.Linear(3, 3)
    optimizer = torch.optim.SGD(model.parameters())

    def step() -> None:
        model(X).sum().backward()
        optimizer.step()

    # Between: ahead of the forward, between backward and update, and after that.
    assert phases_of(model, step) == {BETWEEN: 3, "forward": 1, "backward": 1, "update": 1}
    # Without a model: forward is what was between, and all that is before backward.
    assert phases_of(None, step) == {"forward": 3, "backward": 1, "update": 1}


@pytest.mark.parametrize("steps", [1, 2])
def test_micro_batches(steps: int) -> None:
    model = nn.Linear(3, 3)

    def step() -> None:
        for _ in range(steps):
            model(X).sum().backward()

    assert phases_of(model, step) == {BETWEEN: steps + 1, "forward": steps, "backward": steps}


def test_a_model_that_calls_itself_and_computes_again_in_backward() -> None:
    model = Checkpointed()
    found = phases_of(model, lambda: model(X).sum().backward())
    assert found == {BETWEEN: 2, "forward": 1, "backward": 1}


def test_what_an_update_calls_for_is_of_its_own_phase_and_then_it_goes_on() -> None:
    """An optimizer that takes a closure."""
    model = nn.Linear(3, 3)
    optimizer = torch.optim.SGD(model.parameters())

    def closure() -> Any:
        loss = model(X).sum()
        loss.backward()
        return loss

    found = phases_of(model, lambda: optimizer.step(closure))
    assert found == {BETWEEN: 2, "update": 2, "forward": 1, "backward": 1}


def test_a_backward_that_fails_is_over() -> None:
    model = nn.Linear(3, 3)
    loss = model(X).sum()
    loss.backward()

    def step() -> None:
        with pytest.raises(RuntimeError, match="second time"):
            loss.backward()

    assert phases_of(model, step) == {BETWEEN: 2, "backward": 1}


def test_the_phases_are_marked_in_a_profile() -> None:
    model = nn.Linear(3, 3)
    optimizer = torch.optim.SGD(model.parameters())
    phases = LoopPhases(model, Stopwatch(lambda: 0.0), profiled=True)
    with profile(use_kineto=True) as profiler, phases.followed():
        model(X).sum().backward()
        optimizer.step()
    names = {event.name for event in read_events(profiler).host}
    assert set(STEP_PHASE_OF_RANGE) <= names


def test_a_backward_within_a_backward_is_a_part_of_it() -> None:
    class Inner(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
            with torch.enable_grad():
                y = torch.ones(2, requires_grad=True)
                (y * y).sum().backward()
            return gradients[0]

    x = torch.ones(2, requires_grad=True)
    output = Inner.apply(x).sum()  # type: ignore[no-untyped-call]
    model = nn.Linear(3, 3)
    assert phases_of(model, output.backward) == {BETWEEN: 2, "backward": 1}


def test_a_backward_is_given_with_its_roots_and_another_one_may_follow() -> None:
    seen: list[Any] = []

    def around(roots: Any) -> Any:
        seen.append(tuple(roots))
        return nullcontext()

    x = torch.ones(2, requires_grad=True)
    losses = [x.sum(), (x * x).sum()]
    with backward_calls(around):
        for loss in losses:
            loss.backward()
    x.sum().backward()
    assert len(seen) == 2
    assert [roots[0] is loss for roots, loss in zip(seen, losses, strict=True)] == [True, True]
