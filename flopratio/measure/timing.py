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
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache
from itertools import cycle
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile, record_function

from flopratio.measure.fused_halves import FusedHalves
from flopratio.measure.interval import Interval
from flopratio.measure.join import FORWARD_RANGE, UPDATE_RANGE, join, newest_node
from flopratio.measure.layers import LayerTime, layer_times
from flopratio.measure.profiled import Profiled
from flopratio.measure.stopwatch import DeviceStopwatch, Stopwatch
from flopratio.models import Inputs
from flopratio.step.run import NOBODY, Observer, PreparedStep, Step
from flopratio.torch_private import buffers, parameters, sequence_number, tree_map_only
from flopratio.trace.attribution import Attribution, attribute
from flopratio.trace.profiler import Profiler
from flopratio.trace.recording import Recording

# Without it the profiler writes a line on stderr at each start and stop.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")

MIN_REPEATS = 3
MAX_WARM_UP = 10
AGREEMENT = 0.1
"""Two warm-up steps agree when their times differ by no more than this share."""
PROFILED_REPEATS = 5

Result = TypeVar("Result")


@dataclass(frozen=True)
class LayerTiming:
    """One layer's milliseconds: medians over the profiled steps, operators only.

    On the CPU that is the operators' time with the profiler's overhead, on CUDA their kernels'
    time; what lies between operators (Python) belongs to no layer.

    Args:
        name: path of the module; the root is the empty string, the loss ``loss``.
        grad_input_ms, grad_weight_ms: None where a fused operator's time can't be divided.
        backward_ms: without what it computes again, which is ``recompute_ms``.
        update_ms: by parameter; by size where the optimizer updates all parameters at once.
    """

    name: str
    type: str
    forward_ms: float
    grad_input_ms: float | None
    grad_weight_ms: float | None
    backward_ms: float
    recompute_ms: float
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
        profiled: the further steps under torch's profiler; None if not asked for.
    """

    forward_ms: Interval
    backward_ms: Interval
    update_ms: Interval
    step_ms: Interval
    time_ratio: Interval
    repeats: int
    layers: list[LayerTiming] = field(default_factory=list)
    profiled: Profiled | None = None

    def columns(self) -> dict[str, float]:
        """The columns of a sweep's row: ``forward_ms``, ``forward_ms_low``, ``forward_ms_high``,
        and so for backward, update and ``time_ratio``."""
        columns = {}
        for name in ("forward_ms", "backward_ms", "update_ms", "time_ratio"):
            interval: Interval = getattr(self, name)
            columns[name] = interval.median
            columns[f"{name}_low"] = interval.low
            columns[f"{name}_high"] = interval.high
        return columns


def measure_step(
    step: Step,
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
        step: on real tensors, its module in the mode (train or eval) that is to be timed.
        repeats: steps to time at most.
        budget_s: seconds after which no further step is timed; three are timed at any cost. The
            profiled steps have the same budget once more, and are one at least.
        layers: whether to split the phases over the layers, in further steps.
        clock: seconds; a fake one tests the bookkeeping.

    Raises:
        UsageError: an option that doesn't fit the module, a loss without a gradient.
        torch.OutOfMemoryError: the step does not fit.
    """
    # A rate of 0 costs what any other does, and leaves the parameters where they are.
    optimizer_arguments: dict[str, Any] = {"lr": 0.0}
    if step.options.optimizer_implementation is None:  # left to torch, as in anybody's step
        optimizer_arguments["foreach"] = None
    observer = _Observer()
    with _left_as_found(step), step.prepared(observer, **optimizer_arguments) as prepared:
        batches = _rotation(step.inputs, step.device, repeats)
        timed = _TimedStep(step, prepared, observer, batches, clock)
        timed.warm_up(budget_s / 4)
        laps = _within_budget(timed.lap, clock, MIN_REPEATS, repeats, budget_s)
        profiled: list[dict[str, LayerTime]] = []
        if layers:
            _start_profiler_once(timed.activities)
            profiled = _within_budget(timed.profiled, clock, 1, PROFILED_REPEATS, budget_s)
    return Timing(
        forward_ms=Interval.of(forward for forward, _, _ in laps),
        backward_ms=Interval.of(backward for _, backward, _ in laps),
        update_ms=Interval.of(update for _, _, update in laps),
        step_ms=Interval.of(sum(lap) for lap in laps),
        time_ratio=Interval.of(backward / forward for forward, backward, _ in laps),
        repeats=len(laps),
        layers=_layer_timings(timed.types, profiled),
    )


class _Observer:
    """Whoever watches the step at the moment: nobody, while it is timed."""

    def __init__(self) -> None:
        self._now: Observer = NOBODY

    def layer(self, name: str, kind: str = "") -> AbstractContextManager[Any]:
        return self._now.layer(name, kind)

    def paused(self) -> AbstractContextManager[Any]:
        return self._now.paused()

    @contextmanager
    def replaced_by(self, observer: Observer) -> Iterator[None]:
        self._now = observer
        try:
            yield
        finally:
            self._now = NOBODY


class _TimedStep:
    """A step that is run again and again, in several ways."""

    def __init__(
        self,
        step: Step,
        prepared: PreparedStep,
        observer: _Observer,
        batches: list[Inputs],
        clock: Callable[[], float],
    ) -> None:
        self._step = step
        self._prepared = prepared
        self._observer = observer
        self._recorded: tuple[Recording, Attribution] | None = None
        self._batches = cycle(batches)
        self._on_device = step.device.type == "cuda"
        self._clock = clock
        self._watch = DeviceStopwatch(clock) if self._on_device else Stopwatch(clock)
        self._parameters = [p for p in parameters(step.module) if p.requires_grad]
        inputs = [x for batch in batches for x in batch.tensors if x.requires_grad]
        self._leaves = [*self._parameters, *inputs]
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
            duration = sum(self.lap())
            agree = abs(duration - previous) <= AGREEMENT * duration
            if agree or (count > 1 and self._clock() - start > budget_s):
                return
            previous = duration

    def lap(self) -> list[float]:
        """Milliseconds of forward, backward and update."""
        batch = next(self._batches)
        self._watch.prepare()
        self._watch.mark()
        loss = self._prepared.forward(batch)
        self._watch.mark()
        loss.backward()
        self._watch.mark()
        self._prepared.update()
        self._watch.mark()
        self._clear()
        return self._watch.laps_ms()

    @property
    def types(self) -> Mapping[str, str]:
        """Layer path -> class, once a step has been profiled."""
        return {} if self._recorded is None else self._recorded[0].types

    def recorded(self) -> tuple[Recording, Attribution]:
        """The step as the Profiler sees it, and what each of its operators works for."""
        profiler = Profiler(self._step.module, names=self._step.names)
        with self._observer.replaced_by(profiler), profiler:
            self._prepared.forward(next(self._batches)).backward()
            self._prepared.update()
        self._clear()
        return profiler.recording, attribute(profiler.recording)

    def profiled(self) -> dict[str, LayerTime]:
        """Microseconds of each layer."""
        if self._recorded is None:
            self._recorded = self.recorded()
        recording, attribution = self._recorded
        batch = next(self._batches)
        shares = self._fused_shares(batch) if self._has_fused_backward else {}
        with profile(activities=self.activities, acc_events=True) as profiler:
            with record_function(FORWARD_RANGE):
                loss = self._prepared.forward(batch)
            loss.backward()
            with record_function(UPDATE_RANGE):
                self._prepared.update()
            if self._on_device:
                torch.cuda.synchronize()
        self._clear()
        newest = newest_node(recording)
        timed = join(
            recording,
            attribution,
            [event for event in profiler.events() or () if event.device_type.name == "CPU"],
            on_device=self._on_device,
            shares={newest - back: share for back, share in shares.items()},
        )
        return layer_times(timed)

    def _fused_shares(self, batch: Inputs) -> dict[int, float]:
        """The input's part in the time of each fused backward node, by how far its sequence number
        lies behind the loss's: the distance is the same in every step."""
        loss = self._prepared.forward(batch)
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


@contextmanager
def _left_as_found(step: Step) -> Iterator[None]:
    """Put buffers and random state back, whatever happens within."""
    values = [(buffer, buffer.clone()) for buffer in buffers(step.module)]
    with ExitStack() as stack:
        on_device = step.device.type == "cuda"
        if on_device:
            stack.enter_context(torch.cuda.device(step.device))
        devices = [torch.cuda.current_device()] if on_device else []
        stack.enter_context(torch.random.fork_rng(devices))
        stack.enter_context(torch.enable_grad())
        try:
            yield
        finally:
            with torch.no_grad():
                for buffer, value in values:
                    buffer.copy_(value)


def _rotation(inputs: Inputs, device: torch.device, repeats: int) -> list[Inputs]:
    """The inputs; on CUDA so many copies of them that no step finds its own in the L2 cache."""
    if device.type != "cuda":
        return [inputs]
    size = sum(x.untyped_storage().nbytes() for x in inputs.tensors)
    cache = torch.cuda.get_device_properties(device).L2_cache_size
    copies = min(repeats, 1 + cache // max(size, 1))

    def copy(x: Tensor) -> Tensor:
        return x.detach().clone().requires_grad_(x.requires_grad)

    return [
        inputs,
        *(Inputs(*tree_map_only(Tensor, copy, tuple(inputs))) for _ in range(copies - 1)),
    ]


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


def _layer_timings(
    types: Mapping[str, str], profiled: list[dict[str, LayerTime]]
) -> list[LayerTiming]:
    """Medians over the profiled steps."""
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
                recompute_ms=ms(path, "recompute"),
                update_ms=ms(path, "update"),
            )
        )
    return timings
