"""A step on a device that is run again and again: plain, watched by the recorder, under torch's
profiler, with its fused backward operators in halves."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from itertools import cycle
from typing import Any

import torch
from torch import Tensor
from torch.autograd.profiler import profile, record_function

from flopratio.ledger import Ledger
from flopratio.measure.events import (
    BACKWARD_RANGE,
    FORWARD_RANGE,
    UPDATE_RANGE,
    event_tree,
    read_events,
)
from flopratio.measure.fused_halves import FusedHalves
from flopratio.measure.join import join
from flopratio.measure.nodes import by_node
from flopratio.measure.profiled import ProfiledStep, StepEvent, step_events
from flopratio.measure.stopwatch import DeviceStopwatch, Stopwatch
from flopratio.models import Inputs
from flopratio.step.run import NOBODY, Observer, PreparedStep, Step
from flopratio.torch_private import (
    buffers,
    named_submodules,
    parameters,
    sequence_number,
    tree_map_only,
)
from flopratio.trace.attribution import Attribution, attribute
from flopratio.trace.profiler import Profiler
from flopratio.trace.reconcile import reconcile
from flopratio.trace.recording import Recording

# Without it the profiler writes a line on stderr at each start and stop.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")

MAX_WARM_UP = 10
AGREEMENT = 0.1
"""Two warm-up steps agree when their times differ by no more than this share."""


class WatchedBy:
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


class TimedStep:
    """A step that is run again and again, in several ways.

    Args:
        watched: what the step was prepared with.

    Attributes:
        phase: of the step that runs now.
        events: of the first profiled step.
    """

    def __init__(
        self,
        step: Step,
        prepared: PreparedStep,
        watched: WatchedBy,
        *,
        repeats: int,
        clock: Callable[[], float],
    ) -> None:
        self._step = step
        self._prepared = prepared
        self._watched = watched
        self._profiler: Profiler | None = None
        self._attribution: Attribution | None = None
        batches = _rotation(step.inputs, step.device, repeats)
        self._batches = cycle(batches)
        tensors = (*parameters(step.module), *(x for batch in batches for x in batch.tensors))
        self._leaves = [x for x in tensors if x.requires_grad]
        self._on_device = step.device.type == "cuda"
        self._clock = clock
        self._watch = DeviceStopwatch(clock) if self._on_device else Stopwatch(clock)
        self._has_fused_backward = True
        self.phase = "forward"
        self.events: list[StepEvent] = []

    # -- without the profiler ------------------------------------------------------------------

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
        self._watch.prepare()
        self._run(self._watch.mark)
        self._clear()
        *laps, update = self._watch.laps_ms()
        if self._step.options.inference:
            return [sum(laps[::2]), 0.0, 0.0]
        return [sum(laps[::2]), sum(laps[1::2]), update]

    def _run(
        self,
        mark: Callable[[], object] = lambda: None,
        within: Callable[[str], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        """The whole step.

        Args:
            mark: called before and after each forward, each backward and the update.
            within: gives what is entered around each, by its name in a profile.
        """
        options = self._step.options
        mark()
        for _ in range(options.accumulate):
            batch = next(self._batches)
            self.phase = "forward"
            with within(FORWARD_RANGE):
                loss = self._forward(batch)
            mark()
            if not options.inference:
                self.phase = "backward"
                with within(BACKWARD_RANGE):
                    loss.backward()
            mark()
        if not options.inference:
            self.phase = "update"
            with within(UPDATE_RANGE):
                self._prepared.update()
        mark()

    def _forward(self, batch: Inputs) -> Any:
        if self._step.options.inference:
            return self._prepared.output(batch)
        return self._prepared.forward(batch)

    def _clear(self) -> None:
        for leaf in self._leaves:
            leaf.grad = None

    def _wall_ms(self, **how: Any) -> float:
        """Milliseconds from the step's first line to the end of its last kernel."""
        self._synchronize()
        start = self._clock()
        self._run(**how)
        self._synchronize()
        wall_ms = (self._clock() - start) * 1e3
        self._clear()
        return wall_ms

    def _synchronize(self) -> None:
        if self._on_device:
            torch.cuda.synchronize(self._step.device)

    # -- watched -------------------------------------------------------------------------------

    @property
    def types(self) -> Mapping[str, str]:
        """Layer path -> class, once a step has been recorded."""
        return {} if self._profiler is None else self._profiler.recording.types

    def record(self) -> tuple[Recording, Attribution]:
        """The step as the Profiler sees it, and what each of its operators works for."""
        if self._profiler is None or self._attribution is None:
            profiler = self._new_profiler()
            with self._watched.replaced_by(profiler), profiler:
                self._run()
            self._clear()
            self._profiler = profiler
            self._attribution = attribute(profiler.recording)
        return self._profiler.recording, self._attribution

    def _new_profiler(self) -> Profiler:
        options = self._step.options
        return Profiler(
            self._step.module, names=self._step.names, target=options.target, causal=options.causal
        )

    def ledger(self) -> Ledger:
        """Of the step as it was recorded."""
        recording, attribution = self.record()
        return reconcile(recording, attribution=attribution)

    def last_layer(self) -> str | None:
        """The layer of the last operator that still ran, of a step that fails; None if it does not
        fail when it is run again."""
        profiler = self._new_profiler()
        try:
            with self._watched.replaced_by(profiler), profiler:
                self._run()
        except (MemoryError, RuntimeError):
            self._clear()
            rows = attribute(profiler.recording, strict=False).rows
            return rows[-1].layer if rows else None
        return None

    # -- under torch's profiler ----------------------------------------------------------------

    def warm_up_profiler(self) -> None:
        """The first start loads and probes, for up to seconds, and a first step is slower."""
        self.record()
        self._profile()

    def _profile(self) -> tuple[profile, float]:
        """A step under torch's profiler, and how long it took."""
        device = "cuda" if self._on_device else None
        # torch.profiler's own is this, and makes objects of all events that nobody looks at.
        with profile(use_device=device, use_kineto=True) as profiler:
            wall_ms = self._wall_ms(within=record_function)
        return profiler, wall_ms

    def profile(self) -> ProfiledStep:
        """One step under torch's profiler, and one without beside it."""
        recording, attribution = self.record()
        shares = self._fused_shares() if self._has_fused_backward else {}
        plain_ms = self._wall_ms()
        profiler, wall_ms = self._profile()
        tree = event_tree(read_events(profiler), on_device=self._on_device)
        timed = join(recording, attribution, tree, shares=by_node(recording, shares))
        if not self.events:
            self.events = step_events(tree)
        return ProfiledStep.of(
            timed, tree, on_device=self._on_device, wall_ms=wall_ms, plain_ms=plain_ms
        )

    def _fused_shares(self) -> dict[int, float]:
        """Of a step's fused backward nodes, see :meth:`FusedHalves.shares`."""
        if self._step.options.inference:
            return {}
        loss = self._prepared.forward(next(self._batches))
        assert loss.grad_fn is not None
        newest = sequence_number(loss.grad_fn)
        halves = FusedHalves(self._watch.mark)
        self._watch.prepare()
        with halves:
            loss.backward()
        self._clear()
        self._has_fused_backward = bool(halves.nodes)
        return halves.shares(self._watch.laps_ms(), newest)


@contextmanager
def left_as_found(step: Step) -> Iterator[None]:
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


def layer_of_failure(error: BaseException, step: Step) -> str | None:
    """The innermost module whose forward raised an error; None if none did."""
    paths = {id(module): path for path, module in named_submodules(step.module)}
    paths |= {id(module): name for name, module in step.names.items()}
    layer = None
    traceback = error.__traceback__
    while traceback is not None:
        module = traceback.tb_frame.f_locals.get("self")
        layer = paths.get(id(module), layer)
        traceback = traceback.tb_next
    return layer
