"""How long does it take to join a profile onto the recording of its step? The events are made up
after those of a multilayer perceptron, so many as asked for, with kernels on a device or without.

    python benchmarks/profile_join.py [EVENTS]
"""

import gc
import sys
from collections.abc import Callable
from itertools import groupby
from time import perf_counter
from typing import TypeVar

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

import flopratio as fr
from flopratio.measure.events import (
    BACKWARD_RANGE,
    EVALUATE,
    FORWARD_RANGE,
    UPDATE_RANGE,
    HostEvent,
    Kernel,
    ProfiledEvents,
    event_tree,
)
from flopratio.measure.join import ACCUMULATE, join
from flopratio.measure.layers import layer_times
from flopratio.measure.profiled import step_events
from flopratio.trace.attribution import attribute
from flopratio.trace.recording import ACCUMULATE_GRAD, Recording

EVENTS = 100_000
EVENTS_A_LAYER = 160
MAIN, DEVICE_THREAD = 1, 2
WITHIN = ("aten::as_strided", "aten::empty_strided", "aten::expand", "aten::resolve_conj")
"""What an operator calls for itself."""

Result = TypeVar("Result")


def recording_of(depth: int) -> Recording:
    """A step of so many layers, and the batch of one that makes it quick."""
    model = nn.Sequential(*(nn.Sequential(nn.Linear(8, 8), nn.ReLU()) for _ in range(depth)))
    optimizer = torch.optim.AdamW(model.parameters(), foreach=False)
    x = torch.randn(1, 8)
    for _ in range(2):  # the first one makes the optimizer's state
        with fr.Profiler(model) as profiler:
            model(x).sum().backward()
            optimizer.step()
    return profiler.recording


class Writer:
    """Makes up the events of a recorded step."""

    def __init__(self, *, on_device: bool) -> None:
        self.events = ProfiledEvents()
        self._on_device = on_device
        self._now = 0

    def step(self, recording: Recording) -> ProfiledEvents:
        """The whole step; backward in a thread of its own on a device."""
        records = list(enumerate(recording.records))
        forward = [index for index, record in records if record.scope == "forward"]
        backward = [index for index, record in records if record.scope == "backward"]
        update = [index for index, record in records if record.scope == "update"]
        self._around(FORWARD_RANGE, recording, forward)
        start = self._now
        thread = DEVICE_THREAD if self._on_device else MAIN
        for node, of_node in groupby(backward, lambda i: recording.records[i].node):
            self._node(recording, node, list(of_node), thread)
        self._host(BACKWARD_RANGE, start, MAIN, is_annotation=True)
        self._around(UPDATE_RANGE, recording, update)
        return self.events

    def _around(self, name: str, recording: Recording, records: list[int]) -> None:
        start = self._now
        for record in records:
            self._operator(recording, record, MAIN)
        self._host(name, start, MAIN, is_annotation=True)

    def _node(
        self, recording: Recording, node: int | None, records: list[int], thread: int
    ) -> None:
        assert node is not None
        start = self._now
        for record in records:
            self._operator(recording, record, thread)
        is_leaf = node == ACCUMULATE_GRAD
        name = ACCUMULATE if is_leaf else recording.nodes[node]
        sequence, made_in = (-1, 0) if is_leaf else (node, MAIN)
        self._host(name, start, thread, sequence=sequence, made_in=made_in)
        self._host(EVALUATE + name, start, thread, sequence=sequence, made_in=made_in)

    def _operator(self, recording: Recording, record: int, thread: int) -> None:
        start = self._now
        for name in WITHIN:
            inner = self._now
            self._now += 100
            self._host(name, inner, thread)
        name = recording.records[record].op.name.replace(".", "::", 1)
        own = self._host(name, start, thread)
        if self._on_device:
            kernel = Kernel(f"kernel of {name}", start + 5000, self._now + 5000, 7, own)
            self.events.kernels.append(kernel)

    def _host(
        self,
        name: str,
        start: int,
        thread: int,
        *,
        sequence: int = -1,
        made_in: int = 0,
        is_annotation: bool = False,
    ) -> int:
        self._now += 500
        number = len(self.events.host) + 1
        self.events.host.append(
            HostEvent(name, start, self._now, thread, number, sequence, made_in, is_annotation)
        )
        return number


def seconds(run: Callable[[], Result]) -> tuple[float, Result]:
    gc.collect()
    start = perf_counter()
    result = run()
    return perf_counter() - start, result


def main() -> None:
    asked = int(sys.argv[1]) if sys.argv[1:] else EVENTS
    recording = recording_of(max(asked // EVENTS_A_LAYER, 1))
    attributing, attribution = seconds(lambda: attribute(recording))
    table = Table("on", "events", "kernels", "attribute s", "tree s", "join s", "export s", "all s")
    for on_device in (False, True):
        profiled = Writer(on_device=on_device).step(recording)
        growing, tree = seconds(lambda: event_tree(profiled, on_device=on_device))  # noqa: B023
        joining, timed = seconds(lambda: join(recording, attribution, tree))  # noqa: B023
        keeping, _ = seconds(lambda: (layer_times(timed), step_events(tree)))  # noqa: B023
        assert not timed.unmatched + timed.untraced
        assert not timed.unattributed
        table.add_row(
            "a device" if on_device else "the CPU",
            f"{len(profiled.host):,}",
            f"{len(profiled.kernels):,}",
            *(f"{figure:.2f}" for figure in (attributing, growing, joining, keeping)),
            f"{attributing + growing + joining + keeping:.2f}",
        )
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
