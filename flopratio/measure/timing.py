"""The real training step on a device, timed: milliseconds per phase, and per layer and phase.

Phases are timed without the profiler, whose overhead would be in them; a few more steps run under
it to split the phases over the layers.

On the CPU a phase's time is wall time. On CUDA it is the device's: a pause is queued ahead of the
step, so that its kernels stand ready one behind the other when the pause ends, and no gap in which
the device waits for Python is counted.
"""

from __future__ import annotations

import math
import os
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache
from itertools import cycle, pairwise
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile, record_function

from flopratio.errors import UsageError
from flopratio.measure.layers import (
    FORWARD,
    UPDATE,
    Attribution,
    FusedHalves,
    LayerTime,
    layer_ranges,
    operands,
)
from flopratio.step.optimizers import make_optimizer
from flopratio.torch_private import cuda_sleep, sequence_number, tree_leaves, tree_map

# Without it the profiler writes a line on stderr at each start and stop.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")

Batch = tuple[Any, ...] | dict[str, Any]
"""Positional or keyword inputs of a module."""

CONFIDENCE = 0.95
MIN_REPEATS = 3
MAX_WARM_UP = 10
AGREEMENT = 0.1
"""Two warm-up steps agree when their times differ by no more than this share."""
PROFILED_REPEATS = 5
MAX_PAUSE_S = 0.2
PAUSE_CYCLES_PER_S = 2e9
"""No device's clock is much faster, so a pause is hardly ever shorter than asked for."""

Result = TypeVar("Result")


@dataclass(frozen=True)
class Interval:
    """A median and its 95% confidence interval."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Interval:
        """Distribution-free, from order statistics.

        1. How many of n values lie below the true median is binomial(n, 1/2).
        2. So the k-th smallest and the k-th largest enclose it with probability
           1 - 2 P(binomial < k).
        3. The interval is that of the largest k with 95% or more. Below 6 values there is none:
           then it is the smallest and the largest value, and encloses with 1 - 2^(1 - n) only (75%
           for 3).
        """
        ordered = sorted(values)
        count = len(ordered)
        k, outside = 1, 2 / 2**count
        while outside + 2 * math.comb(count, k) / 2**count <= 1 - CONFIDENCE:
            outside += 2 * math.comb(count, k) / 2**count
            k += 1
        return cls(statistics.median(ordered), ordered[k - 1], ordered[-k])


@dataclass(frozen=True)
class LayerTiming:
    """One layer's milliseconds: medians over the profiled steps, operators only.

    On the CPU that is the operators' time with the profiler's overhead, on CUDA their kernels'
    time; what lies between operators (Python) belongs to no layer.

    Args:
        name: path of the module; the root is the empty string, the loss ``loss``.
        grad_input_ms, grad_weight_ms: None where a fused operator's time can't be divided.
        update_ms: by parameter; by size where the optimizer updates all parameters at once.
    """

    name: str
    type: str
    forward_ms: float
    grad_input_ms: float | None
    grad_weight_ms: float | None
    backward_ms: float
    update_ms: float


@dataclass(frozen=True)
class Timing:
    """What a step took.

    Args:
        forward_ms: with the loss.
        step_ms: forward, backward and update together.
        time_ratio: backward over forward, taken within each repeat.
        repeats: steps that the intervals come from.
        layers: in the order in which they first ran; empty if not asked for.
    """

    forward_ms: Interval
    backward_ms: Interval
    update_ms: Interval
    step_ms: Interval
    time_ratio: Interval
    repeats: int
    layers: list[LayerTiming] = field(default_factory=list)

    def columns(self) -> dict[str, float]:
        """The columns of a sweep's row: ``forward_ms``, ``forward_ms_low``, ``forward_ms_high``,
        and so for backward, update and ``time_ratio``."""
        found = {}
        for name in ("forward_ms", "backward_ms", "update_ms", "time_ratio"):
            interval: Interval = getattr(self, name)
            found[name] = interval.median
            found[f"{name}_low"] = interval.low
            found[f"{name}_high"] = interval.high
        return found


def measure_step(
    module: nn.Module,
    batch: Batch,
    loss: Callable[[Any], Tensor],
    optimizer: str,
    device: str | torch.device,
    *,
    repeats: int = 20,
    budget_s: float = 1.0,
    layers: bool = True,
    clock: Callable[[], float] = time.perf_counter,
) -> Timing:
    """Time a training step: forward and loss, ``backward()``, ``Optimizer.step()``.

    Parameters, gradients, buffers, random state and modes are afterwards as they were, also after
    an exception: the optimizer runs at a learning rate of 0, which costs the same and moves
    nothing.

    Args:
        module: on ``device`` already, in the mode (train or eval) that is to be timed.
        batch: its positional or keyword inputs, on ``device``.
        loss: takes the module's output, gives a scalar.
        optimizer: one of ``flopratio.step.optimizers.NAMES``.
        device: ``cpu`` or ``cuda``.
        repeats: steps to time at most.
        budget_s: seconds after which no further step is timed; three are timed at any cost. The
            profiled steps have the same budget once more, and are one at least.
        layers: whether to split the phases over the layers, in further steps.
        clock: seconds; a fake one tests the bookkeeping.

    Raises:
        UsageError: an unknown optimizer, a device that is not there, a loss without a gradient.
        torch.OutOfMemoryError: the step does not fit.
    """
    device = torch.device(device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UsageError("there is no CUDA device here: measure on the cpu instead")
    with _left_as_found(module, batch, device):
        step = _Step(module, _rotation(batch, device, repeats), loss, optimizer, device, clock)
        step.warm_up(budget_s / 4)
        laps = _within_budget(step.timed, clock, MIN_REPEATS, repeats, budget_s)
        profiled: list[dict[str, LayerTime]] = []
        if layers:
            _start_profiler_once(step.activities)
            profiled = _within_budget(step.profiled, clock, 1, PROFILED_REPEATS, budget_s)
    return Timing(
        forward_ms=Interval.of(forward for forward, _, _ in laps),
        backward_ms=Interval.of(backward for _, backward, _ in laps),
        update_ms=Interval.of(update for _, _, update in laps),
        step_ms=Interval.of(sum(lap) for lap in laps),
        time_ratio=Interval.of(backward / forward for forward, backward, _ in laps),
        repeats=len(laps),
        layers=_layer_timings(module, profiled),
    )


class _Stopwatch:
    """Wall time between marks."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._marks: list[float] = []

    def prepare(self) -> None:
        """To be called ahead of a step."""

    def mark(self) -> None:
        self._marks.append(self._clock())

    def laps_ms(self) -> list[float]:
        """Milliseconds from each mark to the next; starts over."""
        marks, self._marks = self._marks, []
        return [(b - a) * 1e3 for a, b in pairwise(marks)]


class _DeviceStopwatch(_Stopwatch):
    """Device time between marks, without the gaps in which the device would wait for the host."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self._events: list[torch.cuda.Event] = []
        self._enqueueing_s: float | None = None
        """What the host needs at best to enqueue a step; None before the first one."""

    def prepare(self) -> None:
        torch.cuda.synchronize()
        if self._enqueueing_s is not None:
            pause_s = min(1.5 * self._enqueueing_s, MAX_PAUSE_S)
            cuda_sleep(int(pause_s * PAUSE_CYCLES_PER_S))

    def mark(self) -> None:
        super().mark()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        self._events.append(event)

    def laps_ms(self) -> list[float]:
        host_s = sum(super().laps_ms()) / 1e3
        self._enqueueing_s = min(host_s, self._enqueueing_s or math.inf)
        events, self._events = self._events, []
        torch.cuda.synchronize()
        return [a.elapsed_time(b) for a, b in pairwise(events)]


class _Step:
    """One training step, to be run again and again in several ways."""

    def __init__(
        self,
        module: nn.Module,
        batches: list[Batch],
        loss: Callable[[Any], Tensor],
        optimizer: str,
        device: torch.device,
        clock: Callable[[], float],
    ) -> None:
        self._module = module
        self._batches = cycle(batches)
        self._loss = loss
        self._on_device = device.type == "cuda"
        self._clock = clock
        self._watch = _DeviceStopwatch(clock) if self._on_device else _Stopwatch(clock)
        self._parameters = [p for p in module.parameters() if p.requires_grad]
        self._leaves = [*self._parameters, *_leaves(batches)]
        # A rate of 0 costs what any other does, and leaves the parameters where they are. torch is
        # left to choose its implementation, as in anybody's step.
        self._optimizer = make_optimizer(optimizer, self._parameters, lr=0.0, foreach=None)
        self._has_fused_backward = True
        self.activities: tuple[ProfilerActivity, ...] = (ProfilerActivity.CPU,)
        if self._on_device:
            self.activities += (ProfilerActivity.CUDA,)

    def warm_up(self, budget_s: float) -> None:
        """Run until two steps in a row agree, or the budget or the patience is spent; two steps at
        least, of which the first one creates the optimizer's state."""
        start = self._clock()
        previous = math.inf
        for count in range(1, MAX_WARM_UP + 1):
            duration = sum(self.timed())
            agree = abs(duration - previous) <= AGREEMENT * duration
            if agree or (count > 1 and self._clock() - start > budget_s):
                return
            previous = duration

    def timed(self) -> list[float]:
        """Milliseconds of forward, backward and update."""
        batch = next(self._batches)
        self._watch.prepare()
        self._watch.mark()
        loss = self._forward(batch)
        self._watch.mark()
        loss.backward()
        self._watch.mark()
        self._update()
        self._watch.mark()
        self._clear()
        return self._watch.laps_ms()

    def profiled(self) -> dict[str, LayerTime]:
        """Microseconds of each layer."""
        batch = next(self._batches)
        shares = self._fused_shares(batch) if self._has_fused_backward else {}
        with (
            profile(activities=self.activities, acc_events=True) as profiler,
            layer_ranges(self._module),
        ):
            with record_function(FORWARD):
                loss = self._forward(batch)
            graph = operands(loss, self._parameters)
            newest = _number(loss)
            loss.backward()
            with record_function(UPDATE):
                self._update()
            if self._on_device:
                torch.cuda.synchronize()
        owners = {
            id(parameter): path
            for path, submodule in self._module.named_modules()
            for parameter in submodule.parameters(recurse=False)
        }
        updated = [(owners[id(p)], p.numel()) for p in self._parameters if p.grad is not None]
        self._clear()
        return Attribution(
            profiler.events() or (),
            graph,
            {newest - back: share for back, share in shares.items()},
            updated,
            on_device=self._on_device,
        ).layers

    def _fused_shares(self, batch: Batch) -> dict[int, float]:
        """The input's part in the time of each fused backward node, by how far its sequence number
        lies behind the loss's: the distance is the same in every step."""
        loss = self._forward(batch)
        newest = _number(loss)
        halves = FusedHalves(self._watch.mark)
        self._watch.prepare()
        with halves:
            loss.backward()
        self._clear()
        self._has_fused_backward = bool(halves.nodes)
        laps = self._watch.laps_ms()
        # Three marks a node: the third lap of each lies between two nodes.
        return {
            newest - node: for_input / (for_input + for_weights or math.inf)
            for node, for_input, for_weights in zip(
                halves.nodes, laps[::3], laps[1::3], strict=True
            )
        }

    def _forward(self, batch: Batch) -> Tensor:
        output = self._module(**batch) if isinstance(batch, dict) else self._module(*batch)
        loss = self._loss(output)
        if not loss.requires_grad:
            raise UsageError("the loss needs no gradient: leave a parameter unfrozen to time it")
        return loss

    def _update(self) -> None:
        if self._optimizer is not None:
            self._optimizer.step()

    def _clear(self) -> None:
        for leaf in self._leaves:
            leaf.grad = None


@cache
def _start_profiler_once(activities: tuple[ProfilerActivity, ...]) -> None:
    """The first start loads and probes, for up to seconds that are nobody's budget."""
    with profile(activities=activities, acc_events=True):  # torch 2.11 warns without
        pass


def _number(loss: Tensor) -> int:
    assert loss.grad_fn is not None
    return sequence_number(loss.grad_fn)


def _leaves(batches: Any) -> list[Tensor]:
    """The tensors in a batch whose gradient backward writes."""
    return [x for x in tree_leaves(batches) if isinstance(x, Tensor) and x.requires_grad]


@contextmanager
def _left_as_found(module: nn.Module, batch: Batch, device: torch.device) -> Iterator[None]:
    """Put gradients, buffers and random state back, whatever happens within."""
    leaves = [*module.parameters(), *_leaves(batch)]
    gradients = [leaf.grad for leaf in leaves]
    buffers = [(buffer, buffer.clone()) for buffer in module.buffers()]
    with ExitStack() as stack:
        on_device = device.type == "cuda"
        if on_device:
            stack.enter_context(torch.cuda.device(device))
        devices = [torch.cuda.current_device()] if on_device else []
        stack.enter_context(torch.random.fork_rng(devices))
        stack.enter_context(torch.enable_grad())
        for leaf in leaves:
            leaf.grad = None
        try:
            yield
        finally:
            for leaf, gradient in zip(leaves, gradients, strict=True):
                leaf.grad = gradient
            with torch.no_grad():
                for buffer, value in buffers:
                    buffer.copy_(value)


def _rotation(batch: Batch, device: torch.device, repeats: int) -> list[Batch]:
    """The batch; on CUDA so many copies of it that no step finds its input in the L2 cache."""
    if device.type != "cuda":
        return [batch]
    tensors = [x for x in tree_leaves(batch) if isinstance(x, Tensor)]
    size = sum(x.untyped_storage().nbytes() for x in tensors)
    cache = torch.cuda.get_device_properties(device).L2_cache_size
    copies = min(repeats, 1 + cache // max(size, 1))

    def copy(x: Any) -> Any:
        if not isinstance(x, Tensor):
            return x
        return x.detach().clone().requires_grad_(x.requires_grad)

    return [batch, *(tree_map(copy, batch) for _ in range(copies - 1))]


def _within_budget(
    action: Callable[[], Result],
    clock: Callable[[], float],
    least: int,
    most: int,
    budget_s: float,
) -> list[Result]:
    """Results of doing it again while the budget has room for one more."""
    start = clock()
    results: list[Result] = []
    while len(results) < most:
        spent = clock() - start
        if len(results) >= least and spent * (1 + 1 / len(results)) > budget_s:
            break
        results.append(action())
    return results


def _layer_timings(module: nn.Module, profiled: list[dict[str, LayerTime]]) -> list[LayerTiming]:
    """Medians over the profiled steps."""
    types = {path: type(submodule).__name__ for path, submodule in module.named_modules()}
    times: dict[str, list[LayerTime]] = defaultdict(list)
    for step in profiled:
        for path, layer in step.items():
            times[path].append(layer)

    def ms(path: str, name: str) -> float:
        return float(statistics.median(getattr(layer, name) for layer in times[path])) / 1e3

    timings = []
    for path in times:
        divided = not any(layer.undivided for layer in times[path])
        timings.append(
            LayerTiming(
                name=path,
                type=types.get(path, ""),
                forward_ms=ms(path, "forward"),
                grad_input_ms=ms(path, "grad_input") if divided else None,
                grad_weight_ms=ms(path, "grad_weight") if divided else None,
                backward_ms=ms(path, "backward"),
                update_ms=ms(path, "update"),
            )
        )
    return timings
