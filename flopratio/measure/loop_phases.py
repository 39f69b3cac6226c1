"""The phases of a step of somebody's loop: told by the model's call, the engine's and the
optimizer's."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch.autograd.profiler import record_function
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from flopratio.measure.events import STEP_PHASE_OF_RANGE
from flopratio.measure.stopwatch import Stopwatch
from flopratio.torch_private import ENGINE
from flopratio.trace.patches import replaced

BETWEEN = ""
"""The phase of what is neither forward, backward nor update: loading data, zeroing gradients."""

RANGE_OF = {phase: name for name, phase in STEP_PHASE_OF_RANGE.items()}


class LoopPhases:
    """In which phase a step is, from the model's call to the end of the update.

    Args:
        model: whose call begins a forward; None: whatever is neither backward nor update is one.
        profiled: whether to mark the phases for torch's profiler.
    """

    def __init__(self, model: torch.nn.Module | None, watch: Stopwatch, *, profiled: bool) -> None:
        self._model = model
        self._watch = watch
        self._profiled = profiled
        self._outside = self._around = BETWEEN if model is not None else "forward"
        self._names: list[str] = []
        self._range = ExitStack()

    @contextmanager
    def followed(self) -> Iterator[None]:
        """Within it, the step is followed."""

        @contextmanager
        def backward(roots: Any) -> Iterator[None]:
            self._go("backward")
            try:
                yield
            finally:
                self._go(self._around)

        def called(*arguments: Any) -> None:
            if self._names[-1] not in ("forward", "backward"):
                self._go("forward")

        def update(*arguments: Any) -> None:
            self._outside, self._around = self._around, "update"
            self._go("update")

        def updated(*arguments: Any) -> None:
            self._around = self._outside
            self._go(self._around)

        with ExitStack() as exits:
            if self._model is not None:
                exits.callback(self._model.register_forward_pre_hook(called).remove)
            exits.callback(register_optimizer_step_pre_hook(update).remove)
            exits.callback(register_optimizer_step_post_hook(updated).remove)
            exits.enter_context(backward_calls(backward))
            self._go(self._around)
            exits.callback(self._watch.mark)
            exits.callback(self._range.close)
            yield

    def _go(self, phase: str) -> None:
        self._range.close()
        self._watch.mark()
        self._names.append(phase)
        if self._profiled and phase:
            self._range.enter_context(record_function(RANGE_OF[phase]))

    def laps_ms(self) -> dict[str, float]:
        """Milliseconds of each phase; on a device once it is done."""
        sums: defaultdict[str, float] = defaultdict(float)
        for name, lap in zip(self._names, self._watch.laps_ms(), strict=True):
            sums[name] += lap
        return sums


@contextmanager
def backward_calls(around: Callable[[Any], Any]) -> Iterator[None]:
    """Run each backward within a context, which is given its roots; but not one that a backward
    itself calls for."""
    original: Callable[..., Any] = getattr(torch.autograd, ENGINE)
    running = False

    def run(roots: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal running
        if running:
            return original(roots, *args, **kwargs)
        running = True
        try:
            with around(roots):
                return original(roots, *args, **kwargs)
        finally:
            running = False

    with replaced(torch.autograd, ENGINE, run):
        yield
