"""Statistics, budget and bookkeeping of the timer, on a clock that the test turns itself."""

from __future__ import annotations

import pickle
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from flopratio.errors import UsageError
from flopratio.measure import measure_step, stopwatch
from flopratio.measure import timing as timing_module
from flopratio.measure.join import Timed
from flopratio.measure.profiled import ProfiledStep
from flopratio.measure.stopwatch import DeviceStopwatch
from flopratio.measure.timed_step import TimedStep
from flopratio.memory import Memory
from flopratio.step.optimizers import NAMES
from flopratio.step.options import StepOptions
from flopratio.step.out_of_memory import OutOfMemoryError, is_out_of_memory
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
    # After four of a quarter of a second there is no room for a fifth.
    assert slow_step([0.125], [0.125], repeats=20, budget_s=1.125).repeats == 4


@pytest.mark.parametrize(("takes_s", "profiled"), [(0.04, 5), (0.06, 1)])
def test_short_steps_are_profiled_five_times_whatever_the_budget(takes_s, profiled):
    clock = FakeClock()
    module = Slow(clock, [takes_s], [takes_s])
    timing = timed(module, (torch.ones(3),), clock=clock, budget_s=1e-6)
    assert timing.profiled.repeats == profiled


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


class Needy(nn.Module):
    """Runs out of memory where it is told to."""

    def __init__(self, phase: str) -> None:
        super().__init__()
        self.before = nn.Linear(6, 6)
        self.after = nn.ReLU()

        class Fails(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                if phase == "forward":
                    raise torch.OutOfMemoryError("too large")
                return x.clone()

            @staticmethod
            def backward(ctx, grad):
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")

        class Failing(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return Fails.apply(x)

        self.needy = Failing()

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.needy(self.before(x)))


@pytest.mark.parametrize(
    ("phase", "layer", "where"),
    [
        ("forward", "needy", "forward of needy"),
        ("backward", "after", "backward at or after after"),  # the last that still ran
    ],
)
def test_out_of_memory_tells_where_and_what_was_predicted(phase, layer, where):
    with pytest.raises(OutOfMemoryError) as caught:
        timed(Needy(phase), (torch.randn(4, 6),), predicted=Memory({"peak": 3 * 2**29}))
    error = caught.value
    assert (error.phase, error.layer, error.predicted) == (phase, layer, 3 * 2**29)
    assert is_out_of_memory(error)  # by which a sweep knows it
    assert str(error) == (
        f"memory ran out in {where} (the step was predicted to take 1.50 GiB at its peak): a "
        "smaller batch, dtype=bfloat16 or checkpoint=auto takes less"
    )


class Stopped(nn.Module):
    """Ctrl-C at a forward."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 6)
        self.at, self.calls = at, 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        if self.calls == self.at:
            raise KeyboardInterrupt
        return self.linear(x)


def test_what_was_measured_before_an_interrupt_is_kept():
    module = Stopped(at=5)  # two to warm up, two are timed
    timing = timed(module, (torch.randn(4, 6),), clock=lambda: 1e-3 * module.calls, repeats=7)
    assert timing.interrupted
    assert (timing.repeats, timing.profiled, timing.layers) == (2, None, [])
    assert timing.notes == ["interrupted: 2 of 7 steps were timed, and 0 profiled"]
    assert module.linear.weight.grad is None


def test_an_interrupt_of_the_profiled_steps_keeps_the_others():
    def clock() -> float:
        return 1e-3 * module.calls

    # Two to warm up, three are timed, one is recorded and one warms the profiler up; then a plain
    # one and a profiled one each, with one in halves before the first.
    module = Stopped(at=2 + 3 + 1 + 1 + 3 + 2 + 2 + 1)
    timing = timed(module, (torch.randn(4, 6),), repeats=3, budget_s=1e3, clock=clock)
    assert timing.interrupted
    assert timing.profiled is not None
    assert timing.profiled.repeats == 3
    assert timing.notes == ["interrupted: 3 of 3 steps were timed, and 3 profiled"]


def test_an_interrupt_before_anything_was_measured_is_passed_on():
    with pytest.raises(KeyboardInterrupt):
        timed(Stopped(at=1), (torch.randn(4, 6),))
    with pytest.raises(KeyboardInterrupt):
        timed(Stopped(at=3), (torch.randn(4, 6),), clock=lambda: 0.0)


def test_a_short_step_is_repeated_more_often_and_it_is_said():
    timing = slow_step([1e-5], [2e-5], repeats=20, budget_s=1)
    assert timing.repeats == 200
    assert timing.notes == [
        "a step takes 0.030 ms, too short to be timed one by one to a percent: 200 were timed, "
        "not 20"
    ]
    assert slow_step([1e-3], [2e-3], repeats=20, budget_s=1).notes == []


def test_a_step_that_the_clock_does_not_see_is_refused():
    with pytest.raises(UsageError, match=r"is over before the clock ticks: use a larger batch$"):
        slow_step([0.0], [1.0])


def test_a_profile_without_kernels_is_one_sentence(monkeypatch):
    nothing = ProfiledStep(Timed([]), {}, 0.0, {}, 1.0, 1.0)
    monkeypatch.setattr(TimedStep, "profile", lambda self: nothing)
    timing = timed(nn.Linear(2, 2), (torch.randn(1, 2),))
    assert timing.profiled is None
    assert timing.notes[-1].startswith("torch's profiler saw no kernel on the device: ")


def test_micro_batches_are_summed(update_takes):
    clock = FakeClock()
    update_takes += [clock, 0.002]
    module = Slow(clock, [0.003], [0.007])
    step = Step.of_module(
        module, (torch.ones(3),), StepOptions(loss=torch.sum, optimizer="sgd", accumulate=4)
    )
    timing = measure_step(step, clock=clock)
    assert timing.forward_ms.median == pytest.approx(12)
    assert timing.backward_ms.median == pytest.approx(28)
    assert timing.update_ms.median == pytest.approx(2)
    assert timing.time_ratio.median == pytest.approx(7 / 3)
    profiled = timing.profiled
    assert profiled is not None
    # By this clock, Python takes all the time and the profiler none.
    assert profiled.wall_ms.median == pytest.approx(42)
    assert profiled.overhead == pytest.approx(0)
    assert not profiled.unmatched + profiled.untraced


def test_an_inference_is_its_forward():
    module = Everything()
    step = Step.of_module(module, (torch.randn(4, 6),), StepOptions(inference=True))
    timing = measure_step(step)
    assert timing.forward_ms.low > 0
    assert timing.backward_ms.high == timing.update_ms.high == timing.time_ratio.high == 0
    assert timing.profiled is not None
    assert not timing.profiled.unmatched + timing.profiled.untraced
    assert timing.profiled.phases_ms["forward"].low > 0
    assert timing.profiled.phases_ms["backward"].high == 0
    assert {row.phase for row in timing.profiled.ledger.rows} == {"forward"}


def test_all_time_of_a_real_step_is_in_its_layers(monkeypatch):
    monkeypatch.setattr(timing_module, "PROFILED_REPEATS", 1)
    module = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 2))
    # With one profiled step the medians are that step's times.
    timing = timed(module, (torch.randn(4, 6),), budget_s=0.0)
    profiled = timing.profiled
    assert profiled is not None
    assert profiled.repeats == 1
    in_layers = sum(
        layer.forward_ms + layer.backward_ms + layer.recompute_ms + layer.update_ms
        for layer in timing.layers
    )
    assert not profiled.unattributed
    assert in_layers == pytest.approx(profiled.kernels_ms.median)
    phases = profiled.phases_ms
    by_phase = sum(phases[p].median for p in ("forward", "backward", "recompute", "update"))
    assert by_phase == pytest.approx(in_layers)
    times = profiled.times()
    parts = (times.rest.values(), times.undivided.values())
    assert sum(row.time_us or 0 for row in times.rows) + sum(map(sum, parts)) == pytest.approx(
        1e3 * in_layers
    )
    assert profiled.ledger.reconciled
    assert {event.row for event in profiled.events} >= {
        i for i, row in enumerate(profiled.ledger.rows) if row.time_us and row.flops
    }
    copy = pickle.loads(pickle.dumps(profiled.events))
    assert copy == profiled.events


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
def test_on_cuda_all_time_in_kernels_is_in_the_layers():
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(800, 10)).cuda()
    timing = timed(module, (torch.randn(64, 3, 12, 12, device="cuda"),), optimizer="adamw")
    profiled = timing.profiled
    assert profiled is not None
    assert not profiled.unmatched + profiled.untraced
    phases = profiled.phases_ms
    by_phase = sum(phases[p].median for p in ("forward", "backward", "recompute", "update"))
    named = sum(profiled.unattributed.values()) / 1e3
    assert by_phase + named == pytest.approx(profiled.kernels_ms.median, rel=0.01)
    assert any(event.track == "host backward" for event in profiled.events)


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
