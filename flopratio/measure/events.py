"""What torch's profiler saw of a step, as plain data: operators on the host, one inside the other,
and kernels on the device, each with the operator that launched it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, NamedTuple

from flopratio.memory import STEP_PHASES
from flopratio.torch_private import STEP_RANGE, is_host_operator, is_kernel, profiler_events

EVALUATE = "autograd::engine::evaluate_function: "
"""How the names of events begin that are the run of a node of backward."""

FORWARD_RANGE = "flopratio.forward"
BACKWARD_RANGE = "flopratio.backward"
UPDATE_RANGE = "flopratio.update"
"""The names of the ranges in a profile around forward, backward and update."""

STEP_PHASE_OF_RANGE = {
    FORWARD_RANGE: "forward",
    BACKWARD_RANGE: "backward",
    UPDATE_RANGE: "update",
}
"""The phase of the step, one of :data:`flopratio.memory.STEP_PHASES`, by the range around it."""

Place = tuple[str, str]
"""A layer and a phase of the ledger."""


class HostEvent(NamedTuple):
    """An operator, a node of backward, or a range that somebody marked, on the host."""

    name: str
    start_ns: int
    end_ns: int
    thread: int
    number: int
    """By which kernels name it."""
    sequence: int = -1
    """Of a node of backward, and of what runs it: the node's sequence number; -1 of AccumulateGrad,
    which has none."""
    made_in: int = 0
    """The thread that made the node, in which its number counts; 0 if it has none."""
    is_annotation: bool = False
    """Whether it is a range that somebody marked: what lies in it between operators is Python."""


class Kernel(NamedTuple):
    """A kernel, a copy or a filling of memory, on the device."""

    name: str
    start_ns: int
    end_ns: int
    stream: int
    operator: int
    """The number of the innermost operator that was running when it was launched; 0: none was."""

    @property
    def duration_ns(self) -> int:
        return self.end_ns - self.start_ns


@dataclass
class ProfiledEvents:
    """All that a profile of one step holds, in any order."""

    host: list[HostEvent] = field(default_factory=list)
    kernels: list[Kernel] = field(default_factory=list)


def read_events(profiler: Any) -> ProfiledEvents:
    """What a ``torch.autograd.profiler.profile`` saw, once it has ended."""
    events = ProfiledEvents()
    for event in profiler_events(profiler):
        if is_host_operator(event):
            events.host.append(
                HostEvent(
                    event.name(),
                    event.start_ns(),
                    event.end_ns(),
                    event.start_thread_id(),
                    event.correlation_id(),
                    event.sequence_nr(),
                    event.fwd_thread_id(),
                    event.is_user_annotation(),
                )
            )
        elif is_kernel(event):
            events.kernels.append(
                Kernel(
                    event.name(),
                    event.start_ns(),
                    event.end_ns(),
                    event.device_resource_id(),
                    event.linked_correlation_id(),
                )
            )
    return events


class Event:
    """An event on the host, with what ran inside of it.

    Attributes:
        host: the event itself.
        children: in order of their start.
        kernels: those that it launched itself.
        time_ns: of its kernels and its children's; on the CPU as long as it lasts, but of a marked
            range around operators, what they last.
        in_operator: whether an operator is around it.
        place: whose time it is, where that differs from what is around it.
        row: index of the first row of the ledger that it is the operator of.
    """

    __slots__ = ("children", "host", "in_operator", "kernels", "place", "row", "time_ns")

    def __init__(self, host: HostEvent, parent: Event | None) -> None:
        self.host = host
        self.children: list[Event] = []
        self.kernels: list[Kernel] = []
        self.time_ns = 0
        self.in_operator: bool = parent is not None and (parent.in_operator or not parent.is_range)
        self.place: Place | None = None
        self.row: int | None = None

    @property
    def name(self) -> str:
        return self.host.name

    @property
    def is_range(self) -> bool:
        """Whether somebody marked it around operators."""
        return self.host.is_annotation and not self.in_operator

    @property
    def is_node(self) -> bool:
        """Whether a node of backward runs in it."""
        return self.host.name.startswith(EVALUATE)


class Below(NamedTuple):
    """An event below another, so many levels deep."""

    event: Event
    depth: int


@dataclass
class EventTree:
    """The events of one step.

    Args:
        events: every one on the host, thread by thread, each before what ran inside of it.
        parents: what is around each of them.
        roots: those with nothing around them, in order of their start.
        orphans: kernels that no operator launched.
        total_ns: of all kernels; on the CPU, of all operators.
    """

    events: list[Event]
    parents: list[Event | None]
    roots: list[Event]
    orphans: list[Kernel]
    total_ns: int


def event_tree(profiled: ProfiledEvents, *, on_device: bool) -> EventTree:
    """What ran inside of what.

    Args:
        on_device: whether kernels' times count, rather than the processor's.
    """
    ordered = sorted(profiled.host, key=lambda e: (e.thread, e.start_ns, -e.end_ns, e.number))
    events: list[Event] = []
    parents: list[Event | None] = []
    roots: list[Event] = []
    for _, of_thread in groupby(ordered, key=lambda event: event.thread):
        around: list[Event] = []
        for host in of_thread:
            while around and around[-1].host.end_ns < host.end_ns:
                around.pop()
            while around and around[-1].host.end_ns <= host.start_ns < host.end_ns:
                around.pop()
            parent = around[-1] if around else None
            event = Event(host, parent)
            (roots if parent is None else parent.children).append(event)
            events.append(event)
            parents.append(parent)
            around.append(event)
    by_number = {event.host.number: event for event in events}
    orphans: list[Kernel] = []
    for kernel in profiled.kernels:
        owner = by_number.get(kernel.operator) if kernel.operator else None
        (orphans if owner is None else owner.kernels).append(kernel)
    for event, parent in zip(reversed(events), reversed(parents), strict=True):
        if on_device:
            event.time_ns += sum(kernel.duration_ns for kernel in event.kernels)
        elif not event.is_range:
            event.time_ns = event.host.end_ns - event.host.start_ns
        if parent is not None:
            parent.time_ns += event.time_ns
    roots.sort(key=lambda event: event.host.start_ns)
    total = sum(event.time_ns for event in roots)
    if on_device:
        total += sum(kernel.duration_ns for kernel in orphans)
    return EventTree(events, parents, roots, orphans, total)


def below(event: Event, depth: int = 0) -> Iterator[Below]:
    """The events below an event, each before its own children; without the runs of nodes, which
    have their own time, and what is below those."""
    for child in event.children:
        if not child.is_node:
            yield Below(child, depth)
            yield from below(child, depth + 1)


def nodes_below(event: Event) -> Iterator[Event]:
    """The runs of nodes below an event, without those that are inside of another."""
    for child in event.children:
        if child.is_node:
            yield child
        else:
            yield from nodes_below(child)


def operators_of(events: Iterable[Event]) -> Iterator[Event]:
    """The events, with what is inside of marked ranges in their place."""
    for event in events:
        if event.is_range:
            yield from operators_of(event.children)
        else:
            yield event


def is_update(event: Event) -> bool:
    """Whether it is a range around an update."""
    return event.is_range and (event.name == UPDATE_RANGE or event.name.startswith(STEP_RANGE))


def step_phases(tree: EventTree) -> dict[Event, str]:
    """Event -> the phase of the step in which it ran: forward, if nothing tells of another."""
    phases: dict[Event, str] = {}
    for event, parent in zip(tree.events, tree.parents, strict=True):
        if event.is_node or event.name == BACKWARD_RANGE:
            phases[event] = "backward"
        elif is_update(event):
            phases[event] = "update"
        else:
            phases[event] = "forward" if parent is None else phases[parent]
    return phases


def idle_ns(tree: EventTree, *, on_device: bool) -> dict[str, int]:
    """How long nothing ran, by the phase of the step.

    On the CPU, the time in its range in which no operator ran. On a device, the time between its
    first kernel and its last in which no kernel ran, in the phase of the kernel that it waited for;
    kernels that overlap, on several streams, are one stretch.
    """
    idle = dict.fromkeys(STEP_PHASES, 0)
    if not on_device:
        for root in tree.roots:
            if root.name in STEP_PHASE_OF_RANGE:
                lasts = root.host.end_ns - root.host.start_ns
                idle[STEP_PHASE_OF_RANGE[root.name]] += lasts - root.time_ns
        return idle
    phases = step_phases(tree)
    kernels: list[tuple[Kernel, str | None]] = [(kernel, None) for kernel in tree.orphans]
    kernels += [(kernel, phases[event]) for event in tree.events for kernel in event.kernels]
    busy_until: int | None = None
    phase = STEP_PHASES[0]
    for kernel, own in sorted(kernels, key=lambda pair: pair[0].start_ns):
        phase = own or phase  # one that no operator launched: as the one before
        if busy_until is not None:
            idle[phase] += max(kernel.start_ns - busy_until, 0)
        busy_until = max(kernel.end_ns, busy_until or 0)
    return idle
