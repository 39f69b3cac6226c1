"""The time between marks in a step: of the host, or of the device."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch

from flopratio.torch_private import cuda_sleep

MAX_PAUSE_S = 0.2
PAUSE_CYCLES_PER_S = 2e9
"""No device's clock is much faster, so a pause is hardly ever shorter than asked for."""


class Stopwatch:
    """Wall time between marks."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._marks: list[float] = []

    def prepare(self) -> None:
        """To be called ahead of a step: starts over, also after one that was broken off."""
        self._marks = []

    def mark(self) -> None:
        self._marks.append(self._clock())

    def laps_ms(self) -> list[float]:
        """Milliseconds from each mark to the next; starts over."""
        marks, self._marks = self._marks, []
        return [(b - a) * 1e3 for a, b in pairwise(marks)]


class DeviceStopwatch(Stopwatch):
    """Device time between marks, without the gaps in which the device would wait for the host."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self._events: list[torch.cuda.Event] = []
        self._enqueueing_s: float | None = None
        """What the host needs at best to enqueue a step; None before the first one."""

    def prepare(self) -> None:
        super().prepare()
        self._events = []
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
