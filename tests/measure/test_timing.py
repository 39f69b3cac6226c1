"""Statistics, budget and bookkeeping of the timer, on a clock that the test turns itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from flopratio.errors import UsageError
from flopratio.measure import Interval, measure_step, stopwatch
from flopratio.measure.stopwatch import DeviceStopwatch
from flopratio.step.optimizers import NAMES
from flopratio.step.options import StepOptions
from flopratio.step.out_of_memory import OutOfMemoryError
from flopratio.step.run import Step


def timed(module, batch, loss=torch.sum, optimizer="sgd", **how):
    """The timing of a module's step, under these options."""
    options = StepOptions(loss=loss, optimizer=optimizer)
    return measure_step(Step.of_module(module, batch, options), **how)


class FakeClock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class Slow(nn.Module):
    """A scale that takes the clock's time, forward and backward."""

    def __init__(self, clock: FakeClock, forward_s: list[float], backward_s: list[float]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))
        self.calls = 0

        class Scale(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x, weight):
                clock.now_s += forward_s[min(self.calls, len(forward_s) - 1)]
                return x * weight

            @staticmethod
            def backward(ctx, grad):
                clock.now_s += backward_s[min(self.calls, len(backward_s) - 1)]
                self.calls += 1
                return None, grad

        self.scale = Scale

    def forward(self, x: Tensor) -> Tensor:
        return self.scale.apply(x, self.weight)


@pytest.fixture
def update_takes() -> Iterator[list]:
    """Fill it with a clock and seconds, and every optimizer step takes them."""
    asked: list = []

    def hook(*_) -> None:
        if asked:
            asked[0].now_s += asked[1]

    handle = register_optimizer_step_pre_hook(hook)
    yield asked
    handle.remove()


def slow_step(forward_s, backward_s, optimizer="sgd", **options):
    clock = FakeClock()
    module = Slow(clock, forward_s, backward_s)
    return timed(
        module, (torch.ones(3),), optimizer=optimizer, clock=clock, layers=False, **options
    )


@pytest.mark.parametrize(
    ("values", "low", "high"),
    [
        ([5.0], 5, 5),
        ([3.0, 1.0, 2.0], 1, 3),
        (range(1, 7), 1, 6),  # 1 - 2 / 2**6 = 0.969
        (range(1, 9), 1, 8),  # the second: 1 - 2 * (1 + 8) / 2**8 = 0.930, too little
        (range(1, 10), 2, 8),  # the second: 1 - 2 * (1 + 9) / 2**9 = 0.961
        (range(1, 21), 6, 15),  # the sixth: 0.959, the seventh 0.885
    ],
)
def test_interval_is_the_narrowest_pair_of_order_statistics_with_95_percent(values, low, high):
    interval = Interval.of(values)
    assert (interval.low, interval.high) == (low, high)
    assert interval.low <= interval.median <= interval.high


def test_phases_are_told_apart(update_takes):
    clock = FakeClock()
    update_takes += [clock, 0.002]
    module = Slow(clock, [0.003], [0.007])
    timing = timed(module, (torch.ones(3),), clock=clock, layers=False)
    assert timing.forward_ms.median == pytest.approx(3)
    assert timing.backward_ms.median == pytest.approx(7)
    assert timing.update_ms.median == pytest.approx(2)
    assert timing.step_ms.median == pytest.approx(12)
    assert timing.time_ratio.median == pytest.approx(7 / 3)


def test_time_ratio_is_taken_within_each_repeat():
    # GIVEN two warm-up steps, then three whose forward and backward drift together
    timing = slow_step([1.0, 1.0, 1.0, 2.0, 4.0], [2.0, 2.0, 2.0, 4.0, 8.0], budget_s=0.0)
    # THEN the times spread, and the ratio does not
    assert (timing.forward_ms.low, timing.forward_ms.high) == pytest.approx((1e3, 4e3))
    assert (timing.time_ratio.low, timing.time_ratio.high) == pytest.approx((2, 2))


def test_small_steps_are_repeated_to_the_limit_and_long_ones_three_times():
    assert slow_step([1e-4], [2e-4], repeats=20, budget_s=1).repeats == 20
    assert slow_step([1.0], [2.0], repeats=20, budget_s=1).repeats == 3
    assert slow_step([0.04], [0.06], repeats=20, budget_s=1).repeats == pytest.approx(10, abs=1)


def test_warm_up_lasts_until_two_steps_agree():
    # GIVEN four slow first steps, then an even pace; THEN none of the slow ones is counted
    warming = [0.9, 0.5, 0.3, 0.2]
    timing = slow_step([*warming, 0.1], [*warming, 0.1], repeats=5, budget_s=1e3)
    assert timing.forward_ms.high == pytest.approx(100)


def test_warm_up_ends_with_its_budget():
    # GIVEN steps that never agree; THEN two have passed before the first that counts
    endless = [2.0**n for n in range(12)]
    assert slow_step(endless, endless, budget_s=1).forward_ms.low == pytest.approx(4e3)


def test_no_optimizer_takes_no_time():
    assert slow_step([1.0], [1.0], optimizer="none").update_ms.high == 0


def test_columns_are_those_of_a_sweep():
    assert slow_step([1.0], [2.0], budget_s=0).columns() == {
        "forward_ms": 1e3,
        "forward_ms_low": 1e3,
        "forward_ms_high": 1e3,
        "backward_ms": 2e3,
        "backward_ms_low": 2e3,
        "backward_ms_high": 2e3,
        "update_ms": 0,
        "update_ms_low": 0,
        "update_ms_high": 0,
        "time_ratio": 2,
        "time_ratio_low": 2,
        "time_ratio_high": 2,
    }


class Everything(nn.Module):
    """What could be left changed: dropout's random numbers, running statistics, gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 6)
        self.norm = nn.BatchNorm1d(6)
        self.dropout = nn.Dropout()

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.norm(self.linear(x)))


def state_of(module: nn.Module) -> list:
    tensors = [*module.state_dict().values(), *(p.grad for p in module.parameters())]
    return [
        [t.clone() for t in tensors],
        torch.get_rng_state(),
        [m.training for m in module.modules()],
        [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in module.modules()],
        nn.Module.__call__,
        torch.is_grad_enabled(),
    ]


def same(a, b) -> bool:
    if isinstance(a, Tensor):
        return torch.equal(a, b)
    return all(map(same, a, b)) if isinstance(a, list) else a == b


def failing(_: Tensor) -> Tensor:
    raise torch.OutOfMemoryError("too large")


@pytest.mark.parametrize("optimizer", NAMES)
def test_a_measured_module_is_left_as_found(optimizer):
    module, x = Everything(), torch.randn(4, 6, requires_grad=True)
    for leaf in (x, *module.parameters()):
        leaf.grad = torch.randn_like(leaf)
    before, input_gradient = state_of(module), x.grad
    timed(module, (x,), optimizer=optimizer, repeats=3)
    assert same(before, state_of(module))
    assert x.grad is input_gradient


def test_out_of_memory_is_one_sentence_and_the_module_left_as_found():
    module, x = Everything(), torch.randn(4, 6)
    for parameter in module.parameters():
        parameter.grad = torch.randn_like(parameter)
    before = state_of(module)
    with pytest.raises(OutOfMemoryError, match=r"^memory ran out in forward of loss: a smaller"):
        timed(module, (x,), failing)
    assert same(before, state_of(module))


def test_inputs_may_be_keywords_and_grad_mode_off():
    with torch.no_grad():
        timing = timed(Everything(), {"x": torch.randn(4, 6)}, layers=False)
    assert timing.backward_ms.low > 0


def test_bad_input_is_one_sentence():
    module, batch = Everything(), (torch.randn(4, 6),)
    with pytest.raises(UsageError, match=r"optimizer=sdg should be one of .*: did you mean 'sgd'"):
        timed(module, batch, optimizer="sdg")
    with pytest.raises(UsageError, match=r"needs no gradient"):
        timed(module.requires_grad_(False), batch)


def test_device_stopwatch_queues_a_pause_as_long_as_the_host_needs(monkeypatch):
    # GIVEN a device whose events read what the test's own clock shows
    clock, pauses = FakeClock(), []

    class Event:
        def __init__(self, **_) -> None: ...

        def record(self) -> None:
            self.at_ms = clock.now_s * 1e3

        def elapsed_time(self, other: Event) -> float:
            return other.at_ms - self.at_ms

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(stopwatch, "cuda_sleep", lambda cycles: pauses.append(cycles / 2e9))
    watch = DeviceStopwatch(clock)

    def run(host_s: float) -> list[float]:
        watch.prepare()
        watch.mark()
        clock.now_s += host_s
        watch.mark()
        return watch.laps_ms()

    # WHEN the first step is slow to enqueue (start-up), and the later ones are not
    assert run(10.0) == [pytest.approx(10e3)]
    assert pauses == []
    run(0.02)
    run(0.04)
    run(0.02)
    # THEN the pause covers the fastest so far by half as much again, 0.2 s at most
    assert pauses == pytest.approx([0.2, 0.03, 0.03])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda_the_layers_times_are_within_the_phases():
    width = 2048
    module = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width)).cuda()
    batch = (torch.randn(4096, width, device="cuda"),)
    timing = timed(module, batch)
    first, relu, last = timing.layers[:3]
    assert first.grad_input_ms == 0
    assert relu.grad_weight_ms == 0
    assert last.grad_input_ms > 0
    assert last.grad_weight_ms > 0
    assert first.update_ms > 0
