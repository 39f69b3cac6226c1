"""The real training step on a device, timed: milliseconds per phase, and per layer and phase.

Phases are timed without the profiler, whose overhead would be in them; a few more steps run under
it to split the phases over the layers.

On the CPU a phase's time is wall time. On CUDA it is the device's: a pause is queued ahead of the
step, so that its kernels stand ready one behind the other when the pause ends, and no gap in which
the device waits for Python is counted.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from flopratio.errors import UsageError
from flopratio.measure.interval import Interval
from flopratio.measure.layers import LayerTime
from flopratio.measure.profiled import Profiled, ProfiledStep, profiled_of
from flopratio.measure.timed_step import TimedStep, WatchedBy, layer_of_failure, left_as_found
from flopratio.memory import Memory
from flopratio.networks.description import LOSS_LAYER
from flopratio.step.out_of_memory import OutOfMemoryError, is_out_of_memory
from flopratio.step.run import Step
from flopratio.trace.attribution import without_garbage_collection

MIN_REPEATS = 3
PROFILED_REPEATS = 5
LONG_STEP_MS = 100.0
"""Of steps that take less, all :data:`PROFILED_REPEATS` are profiled, whatever the budget: in a
median of few, one that the system held up would stand as what its layer takes."""
SHORT_STEP_MS = 0.1
"""A step that takes less is no hundred times as long as what Python and the clock add to it."""
SHORT_REPEATS = 10
"""How many times as often a short step is repeated."""

NO_KERNELS = (
    "torch's profiler saw no kernel on the device: another profiler may hold it, or this process "
    "may not read its counters; times are without layers"
)

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
        profiled: the further steps under torch's profiler; None if not asked for, or if there was
            none: ``notes`` says why.
        notes: what else to know of the figures, a sentence each.
        interrupted: whether the user stopped it, so that fewer steps are in it than were asked for.
    """

    forward_ms: Interval
    backward_ms: Interval
    update_ms: Interval
    step_ms: Interval
    time_ratio: Interval
    repeats: int
    layers: list[LayerTiming] = field(default_factory=list)
    profiled: Profiled | None = None
    notes: list[str] = field(default_factory=list)
    interrupted: bool = False

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
    predicted: Memory | None = None,
    clock: Callable[[], float] = time.perf_counter,
    progress: Callable[[str], None] = lambda what: None,
) -> Timing:
    """Time a training step: forward and loss, ``backward()``, ``Optimizer.step()``; of an inference
    the forward alone.

    Parameters, gradients, buffers, random state and modes are afterwards as they were, also after
    an exception: the optimizer runs at a learning rate of 0, which costs the same and moves
    nothing. Ctrl-C ends it early, with what was measured so far.

    Args:
        step: on real tensors, its module in the mode (train or eval) that is to be timed.
        repeats: steps to time at most; ten times as many of one that is over in
            :data:`SHORT_STEP_MS`, and a note says so.
        budget_s: seconds after which no further step is timed; three are timed at any cost. The
            profiled steps have the same budget once more; they are one at least, and five of a step
            that takes less than :data:`LONG_STEP_MS`.
        layers: whether to split the phases over the layers, in further steps.
        predicted: what the step should need of memory, for the message if it does not fit.
        clock: seconds; a fake one tests the bookkeeping.
        progress: called between steps with what is done next.

    Raises:
        UsageError: an option that doesn't fit the module, a loss without a gradient, a step that is
            over before the clock ticks.
        OutOfMemoryError: the step does not fit.
    """
    # A rate of 0 costs what any other does, and leaves the parameters where they are.
    optimizer_arguments: dict[str, Any] = {"lr": 0.0}
    if step.options.optimizer_implementation is None:  # left to torch, as in anybody's step
        optimizer_arguments["foreach"] = None
    watched = WatchedBy()
    with (
        without_garbage_collection(),
        left_as_found(step),
        step.prepared(watched, **optimizer_arguments) as prepared,
    ):
        timed = TimedStep(step, prepared, watched, repeats=repeats, clock=clock)
        try:
            return _Measurement(timed, repeats, budget_s, clock, progress).run(layers=layers)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            phase, layer = timed.phase, layer_of_failure(error, step)
        # Out of the handler, whose traceback keeps the step's tensors alive.
        if layer is None:
            layer = LOSS_LAYER if phase == "forward" else timed.last_layer()
        raise OutOfMemoryError(phase, layer, None if predicted is None else predicted.get("peak"))


class _Measurement:
    """The laps, and the profiled steps."""

    def __init__(
        self,
        timed: TimedStep,
        repeats: int,
        budget_s: float,
        clock: Callable[[], float],
        progress: Callable[[str], None],
    ) -> None:
        self._timed = timed
        self._progress = progress
        self._repeats = repeats
        self._budget_s = budget_s
        self._clock = clock
        self._notes: list[str] = []
        self._interrupted = False

    def run(self, *, layers: bool) -> Timing:
        self._progress("warming up")
        self._timed.warm_up(self._budget_s / 4)
        laps = self._laps()
        forward = Interval.of(lap[0] for lap in laps)
        backward = Interval.of(lap[1] for lap in laps)
        ratios = [lap[1] / lap[0] for lap in laps if lap[0]]
        if not ratios:
            raise UsageError(
                "the forward of this step is over before the clock ticks: use a larger batch"
            )
        time_ratio = Interval.of(ratios)
        profiled: list[ProfiledStep] = []
        if layers and not self._interrupted:
            self._within_budget("recording", self._timed.warm_up_profiler, 1, 1)
        if layers and not self._interrupted:
            takes_ms = statistics.median(sum(lap) for lap in laps)
            least = PROFILED_REPEATS if takes_ms < LONG_STEP_MS else 1
            profiled = self._within_budget(
                "profiling", self._timed.profile, least, PROFILED_REPEATS
            )
            if not any(each.kernels_us for each in profiled):
                profiled = []
                if not self._interrupted:
                    self._notes.append(NO_KERNELS)
        if self._interrupted:
            self._notes.append(
                f"interrupted: {len(laps)} of {self._repeats} steps were timed, and "
                f"{len(profiled)} profiled"
            )
        return Timing(
            forward_ms=forward,
            backward_ms=backward,
            update_ms=Interval.of(update for _, _, update in laps),
            step_ms=Interval.of(sum(lap) for lap in laps),
            time_ratio=time_ratio,
            repeats=len(laps),
            layers=_layer_timings(self._timed.types, [each.layers for each in profiled]),
            profiled=profiled_of(
                self._timed.ledger(),
                profiled,
                events=self._timed.events,
                time_ratio=time_ratio.median,
                forward_ms=forward.median,
                backward_ms=backward.median,
            )
            if profiled
            else None,
            notes=self._notes,
            interrupted=self._interrupted,
        )

    def _laps(self) -> list[list[float]]:
        """Milliseconds of forward, backward and update, of each repeat."""
        laps = self._within_budget("timing", self._timed.lap, MIN_REPEATS, self._repeats)
        if not laps:
            raise KeyboardInterrupt
        takes = statistics.median(sum(lap) for lap in laps)
        if takes < SHORT_STEP_MS and len(laps) == self._repeats:
            more = (SHORT_REPEATS - 1) * self._repeats
            laps += self._within_budget("timing", self._timed.lap, 0, more)
            self._notes.append(
                f"a step takes {takes:.3f} ms, too short to be timed one by one to a percent: "
                f"{len(laps)} were timed, not {self._repeats}"
            )
        return laps

    def _within_budget(
        self, what: str, action: Callable[[], Result], least: int, most: int
    ) -> list[Result]:
        """Results of doing it again while the budget has room for one more, and nobody stops it."""
        start = self._clock()
        results: list[Result] = []
        try:
            while len(results) < most:
                spent = self._clock() - start
                next_too = spent * (1 + 1 / len(results)) if results else spent
                if len(results) >= least and next_too > self._budget_s:
                    break
                self._progress(f"{what} step {len(results) + 1} of {most}")
                results.append(action())
        except KeyboardInterrupt:
            self._interrupted = True
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
