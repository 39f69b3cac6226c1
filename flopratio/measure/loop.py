"""A training loop as people write it, timed step by step beside the recording of one of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor
from torch.autograd.profiler import profile

from flopratio.errors import UsageError
from flopratio.ledger import Ledger
from flopratio.measure.events import EventTree, event_tree, read_events
from flopratio.measure.fused_halves import FusedHalves
from flopratio.measure.interval import Interval
from flopratio.measure.join import join
from flopratio.measure.loop_phases import LoopPhases, backward_calls
from flopratio.measure.nodes import by_node
from flopratio.measure.profiled import ProfiledStep, profiled_of, step_events
from flopratio.measure.stopwatch import DeviceStopwatch, Stopwatch
from flopratio.measure.timing import Timing
from flopratio.torch_private import parameters, sequence_number
from flopratio.trace import profiler as trace
from flopratio.trace.attribution import attribute

LEAST_STEPS = 5
"""Two are recorded, one runs its fused backward operators in halves, one is timed by the clock and
one under torch's profiler."""


class Profiler(trace.Profiler):
    """Counts whatever runs inside it: forward, loss, backward, optimizer step; and times it.

    Args:
        timing: whether to time the steps of a loop too, whose ends :meth:`step` tells.
        clock: seconds; a fake one tests the bookkeeping.

    The other arguments, and what is counted, are those of
    :class:`flopratio.trace.profiler.Profiler`. With ``timing``::

        with fr.Profiler(model, timing=True) as p:
            for x, y in batches:  # five at least; the more, the surer
                loss = criterion(model(x), y)
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                p.step()
        p.timing.time_ratio
        p.ledger.frame.time_us

    What is recorded runs slower, so no step is recorded and timed at once. Two are recorded, and
    the ledger is the second one's, in which the optimizer has its state. In the third, fused
    backward operators run in halves, which tells their time for the input from that for the
    weights. From then on every other step is timed by the clock alone, and those between them run
    under torch's profiler. Forward is from the model's call to ``backward()``; what lies between
    the phases is of none of them. On CUDA their times are the device's, with the gaps in which it
    waits for Python. With too few steps there are no times, and the ledger's ``notes`` say so.

    Raises:
        UsageError: as there.
    """

    def __init__(
        self,
        model: torch.nn.Module | None = None,
        *,
        timing: bool = False,
        names: Mapping[str, torch.nn.Module] | None = None,
        parameters: Iterable[Tensor] = (),
        target: str = "cuda",
        causal: str = "full",
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        given = trace.given_tensors(parameters)

        def recorder() -> trace.Profiler:
            return trace.Profiler(
                model, names=names, parameters=given, target=target, causal=causal
            )

        super().__init__(model, names=names, parameters=given, target=target, causal=causal)
        self._loop = _Loop(model, recorder, clock) if timing else None
        self._timing: tuple[int, Timing | None] = (-1, None)

    def __enter__(self) -> Self:
        if self._loop is not None and self._loop.ended:
            self._loop.begin()
            return self
        return super().__enter__()

    def __exit__(self, *exception: object) -> None:
        if self._loop is None or not self._loop.ended:
            super().__exit__(*exception)
        else:
            self._loop.abandon()

    def step(self) -> None:
        """Say that a step ends here, and the next one begins.

        Raises:
            UsageError: steps are not timed, or this is not running.
        """
        loop = self._loop
        if loop is None:
            raise UsageError(
                "step() tells where a step ends that is timed: write fr.Profiler(model, "
                "timing=True)"
            )
        if loop.ended:
            loop.end()
        elif self._running:
            super().__exit__()
            loop.ended = 1
        else:
            raise UsageError("step() is for within the block: with fr.Profiler(...) as p")
        loop.begin()

    @property
    def timing(self) -> Timing | None:
        """What the timed steps took so far; None where there are too few of them."""
        loop = self._loop
        if loop is None:
            return None
        if self._timing[0] != loop.ended:
            self._timing = loop.ended, loop.timing()
        return self._timing[1]

    @property
    def ledger(self) -> Ledger:
        """The table of all that was recorded; with timing, of one step, with its times."""
        timing, loop = self.timing, self._loop
        if timing is not None and timing.profiled is not None:
            return timing.profiled.ledger
        ledger = super().ledger if loop is None or loop.recorded is None else loop.recorded.ledger
        if loop is not None and (note := loop.too_few()) not in ledger.notes:
            ledger.notes.append(note)
        return ledger


@dataclass(frozen=True)
class _Lap:
    """A timed step: milliseconds of each phase, and of the whole."""

    phases: Mapping[str, float]
    wall_ms: float
    tree: EventTree | None
    """Of a step under torch's profiler."""


class _Loop:
    """The steps after the first one, each run in its way.

    Attributes:
        ended: how many steps have.
        recorded: the second step.
    """

    def __init__(
        self,
        model: torch.nn.Module | None,
        recorder: Callable[[], trace.Profiler],
        clock: Callable[[], float],
    ) -> None:
        self.ended = 0
        self.recorded: trace.Profiler | None = None
        self._model = model
        self._recorder = recorder
        self._clock = clock
        self._exits = ExitStack()
        self._keep: Callable[[], None] = lambda: None
        self._shares: dict[int, float] = {}
        self._laps: list[_Lap] = []
        self._on_device = model is not None and any(p.is_cuda for p in parameters(model))

    def begin(self) -> None:
        """Begin the next step."""
        with ExitStack() as exits:
            if self.ended == 1:
                recorder = exits.enter_context(self._recorder())
                self._keep = lambda: setattr(self, "recorded", recorder)
            elif self.ended == 2:
                self._keep = exits.enter_context(self._in_halves())
            else:
                self._keep = exits.enter_context(self._timed(profiled=self.ended % 2 == 0))
            self._exits = exits.pop_all()

    def end(self) -> None:
        """End the step that runs."""
        self._exits.close()
        self._keep()
        self.ended += 1

    def abandon(self) -> None:
        """Stop within a step, which nobody will end."""
        self._exits.close()

    @contextmanager
    def _in_halves(self) -> Iterator[Callable[[], None]]:
        """A step whose first backward runs its fused operators in halves."""
        watch = self._stopwatch()
        halves = FusedHalves(watch.mark)
        newest: list[int] = []

        @contextmanager
        def around(roots: Any) -> Iterator[None]:
            node = getattr(next(iter(roots), None), "grad_fn", None)
            if newest or node is None:
                yield
                return
            newest.append(sequence_number(node))
            with halves:
                yield

        def keep() -> None:
            if newest:  # else no backward ran
                self._shares = halves.shares(watch.laps_ms(), newest[0])

        with backward_calls(around):
            yield keep

    @contextmanager
    def _timed(self, *, profiled: bool) -> Iterator[Callable[[], None]]:
        """A step that is timed by its phases, under torch's profiler or not."""
        phases = LoopPhases(self._model, self._stopwatch(), profiled=profiled)
        device = "cuda" if self._on_device else None
        # torch.profiler's own is this, and makes objects of all events that nobody looks at.
        profiler = profile(use_device=device, use_kineto=True) if profiled else nullcontext()
        self._synchronize()
        with profiler:
            start = self._clock()
            with phases.followed():
                yield lambda: self._laps.append(_Lap(phases.laps_ms(), wall_ms, tree))
            self._synchronize()
            wall_ms = (self._clock() - start) * 1e3
        tree = event_tree(read_events(profiler), on_device=self._on_device) if profiled else None

    def _stopwatch(self) -> Stopwatch:
        return DeviceStopwatch(self._clock) if self._on_device else Stopwatch(self._clock)

    def _synchronize(self) -> None:
        if self._on_device:
            torch.cuda.synchronize()

    def too_few(self) -> str:
        """The note of a ledger without times."""
        return (
            f"no times: p.step() ended {self.ended} steps, and it takes {LEAST_STEPS}, for those "
            "that are recorded run slower than those that are timed"
        )

    def timing(self) -> Timing | None:
        """The medians of all timed steps."""
        plain = [lap for lap in self._laps if lap.tree is None and lap.phases["forward"]]
        profiled = [lap for lap in self._laps if lap.tree is not None]
        if self.recorded is None or not plain or not profiled:
            return None
        recording = self.recorded.recording
        attribution = attribute(recording)
        shares = by_node(recording, self._shares)
        plain_ms = statistics.median(lap.wall_ms for lap in plain)
        steps = []
        for lap in profiled:
            assert lap.tree is not None
            timed = join(recording, attribution, lap.tree, shares=shares)
            steps.append(
                ProfiledStep.of(
                    timed,
                    lap.tree,
                    on_device=self._on_device,
                    wall_ms=lap.wall_ms,
                    plain_ms=plain_ms,
                )
            )
        forward = Interval.of(lap.phases["forward"] for lap in plain)
        backward = Interval.of(lap.phases["backward"] for lap in plain)
        ratio = Interval.of(lap.phases["backward"] / lap.phases["forward"] for lap in plain)
        first = profiled[0].tree
        assert first is not None
        return Timing(
            forward_ms=forward,
            backward_ms=backward,
            update_ms=Interval.of(lap.phases["update"] for lap in plain),
            step_ms=Interval.of(lap.wall_ms for lap in plain),
            time_ratio=ratio,
            repeats=len(plain),
            profiled=profiled_of(
                self.recorded.ledger,
                steps,
                events=step_events(first),
                time_ratio=ratio.median,
                forward_ms=forward.median,
                backward_ms=backward.median,
            ),
        )
