"""What torch's caching allocator did in a step, and where a prediction of it parts ways.

The allocator's own history tells sizes and addresses in order; torch's profiler tells the operator
of each allocation, whose address joins the two.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, NamedTuple

import torch
from torch.profiler import ProfilerActivity, profile

from flopratio.allocator import Workspace
from flopratio.measure.operators import is_dispatched
from flopratio.memory import Memory

MOST_ENTRIES = 1_000_000
LARGEST_NUMBER = 16
"""Bytes, of a complex one."""


class Taken(NamedTuple):
    """Memory that a step takes.

    Args:
        nbytes: as requested.
        operator: during which (``aten.addmm``); empty between operators.
        alive: the bytes that the step has requested and not given back just before, without what
            kernels hold for themselves.
        in_kernel: whether the operator gives it back before it returns; or it is a number that is
            made a tensor on its way into an operator.
    """

    nbytes: int
    operator: str
    alive: int
    in_kernel: bool = False


class Change(NamedTuple):
    """Memory that the profiler sees taken (positive bytes) or given back (negative)."""

    address: int
    nbytes: int
    operator: str
    call: int
    """Which call of the operator it is; 0: between operators."""


class History(NamedTuple):
    """What a step took.

    Args:
        taken: in order.
        workspaces: operator -> the bytes that its kernel held for itself when most was alive.
        peak: the most that was alive, with what kernels held; from the step's beginning on.
        peak_operator: the operator that reached it.
    """

    taken: list[Taken]
    workspaces: dict[str, int]
    peak: int
    peak_operator: str


class Parting(NamedTuple):
    """The first allocation in which two steps differ, by its index; None where a step has none."""

    index: int
    predicted: Taken | None
    measured: Taken | None


# -- measured -------------------------------------------------------------------------------------


def record(step: Callable[[], object], device: torch.device) -> History:
    """Run a step on a CUDA device and note what it takes."""
    torch.cuda.synchronize(device)
    torch.cuda.memory._record_memory_history(enabled="all", context=None, max_entries=MOST_ENTRIES)
    try:
        with profile(
            activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True
        ) as profiler:
            result = step()
            torch.cuda.synchronize(device)
        snapshot = torch.cuda.memory._snapshot()
        del result
    finally:
        torch.cuda.memory._record_memory_history(enabled=None)
    assert profiler.profiler is not None
    assert profiler.profiler.kineto_results is not None
    tree = profiler.profiler.kineto_results.experimental_event_tree()
    return history(snapshot["device_traces"][device.index or 0], changes(tree, device.type))


def changes(tree: Iterable[Any], device_type: str) -> list[Change]:
    """The allocations of a profile, in order.

    Args:
        tree: as ``experimental_event_tree`` gives it.
        device_type: of which device.
    """
    found: list[tuple[int, Change]] = []
    numbers = count(1)

    def walk(events: Iterable[Any], operator: str, call: int) -> None:
        for event in events:
            if event.tag.name == "Allocation":
                place = event.extra_fields
                if place.device.type == device_type:
                    change = Change(place.ptr, place.alloc_size, operator, call)
                    found.append((event.start_time_ns, change))
            elif not operator and is_dispatched(event.name):
                walk(event.children, event.name.replace("::", ".", 1), next(numbers))
            else:
                walk(event.children, operator, call)

    walk(tree, "", 0)
    # The backward of a device runs in a thread of its own, which is a tree of its own.
    return [change for _, change in sorted(found, key=lambda pair: pair[0])]


def history(trace: Sequence[Mapping[str, Any]], seen: Sequence[Change]) -> History:
    """The allocator's history, with the operators that the profiler saw.

    Args:
        trace: ``device_traces`` of one device in a snapshot: ``action``, ``addr`` and ``size``; of
            a block that is taken, as requested.
        seen: the same allocations, in the same order at each address.
    """
    taken_by: defaultdict[int, deque[Change]] = defaultdict(deque)
    given_by: defaultdict[int, deque[Change]] = defaultdict(deque)
    for change in seen:
        (taken_by if change.nbytes > 0 else given_by)[change.address].append(change)
    taken: list[Taken] = []
    calls: list[int] = []
    live: dict[int, int] = {}  # address -> index in taken
    ended: dict[int, int] = {}  # index in taken -> the call that gave it back
    order: list[tuple[str, int]] = []
    outside: dict[int, int] = {}  # position in order -> bytes that were there before
    for entry in trace:
        address, nbytes = entry.get("addr", 0), int(entry["size"])
        if entry["action"] == "alloc":
            by = _next(taken_by[address])
            live[address] = len(taken)
            order.append(("alloc", len(taken)))
            taken.append(Taken(nbytes, by.operator, 0))
            calls.append(by.call)
        elif entry["action"] == "free_completed":
            by = _next(given_by[address])
            index = live.pop(address, -1)
            if index < 0:
                outside[len(order)] = nbytes
            else:
                ended[index] = by.call
            order.append(("free", index))
    for index, end in ended.items():
        one = taken[index]
        is_number = not one.operator and one.nbytes <= LARGEST_NUMBER
        if is_number or (calls[index] and calls[index] == end):
            taken[index] = one._replace(in_kernel=True)
    return _walked(taken, order, outside)


def _next(waiting: deque[Change]) -> Change:
    return waiting.popleft() if waiting else Change(0, 0, "", 0)


def _walked(
    taken: list[Taken], order: Sequence[tuple[str, int]], outside: Mapping[int, int]
) -> History:
    alive = held = peak = 0
    holds: Counter[str] = Counter()
    at_peak: dict[str, int] = {}
    operator = ""
    for position, (kind, index) in enumerate(order):
        if index < 0:
            alive -= outside[position]
            continue
        sign = 1 if kind == "alloc" else -1
        one = taken[index]
        if sign > 0:
            taken[index] = one._replace(alive=alive)
        if one.in_kernel:
            held += sign * one.nbytes
            holds[one.operator] += sign * one.nbytes
        else:
            alive += sign * one.nbytes
        if alive + held > peak:
            peak, operator = alive + held, one.operator
            at_peak = {name: nbytes for name, nbytes in holds.items() if nbytes}
    return History(taken, at_peak, peak, operator)


# -- predicted ------------------------------------------------------------------------------------


def predicted(memory: Memory, workspaces: Iterable[Workspace]) -> list[Taken]:
    """What a step is predicted to take, after it has begun."""
    at: defaultdict[int, list[Workspace]] = defaultdict(list)
    for workspace in workspaces:
        at[workspace.before].append(workspace)
    events = list(memory.events())
    return list(_predicted(memory, events, at))


def _predicted(
    memory: Memory, events: Sequence[Any], at: Mapping[int, Sequence[Workspace]]
) -> Iterator[Taken]:
    alive = 0
    for index in range(len(events) + 1):
        for workspace in at.get(index, ()):
            in_kernel = workspace.until is not None
            yield Taken(workspace.nbytes, workspace.name, alive, in_kernel)
            alive += 0 if in_kernel else workspace.nbytes
        if index == len(events) or events[index].record < 0:
            continue
        event = events[index]
        if event.kind == "alloc" and event.nbytes:
            yield Taken(event.nbytes, memory.operators[event.record].op, alive)
        alive += event.nbytes if event.kind == "alloc" else -event.nbytes


def first_parting(expected: Iterable[Taken], measured: Iterable[Taken]) -> Parting | None:
    """The first allocation that is of another size, or that finds another sum alive, on either
    side; None: there is none. In what order an operator takes its results is its own affair, and
    so is what its kernel takes for itself."""
    groups = deque(_by_operator(one for one in expected if not one.in_kernel))
    index = 0
    for theirs in measured:
        if theirs.in_kernel:
            continue
        group = groups[0] if groups else None
        place = None if group is None else group.place_of(theirs)
        if group is not None and place is not None:
            del group.waiting[place]
            group.started = True
            index += 1
            if not group.waiting:
                groups.popleft()
        else:
            return Parting(index, None if group is None else group.waiting[0], theirs)
    return Parting(index, groups[0].waiting[0], None) if groups else None


@dataclass
class _Group:
    """What one operator takes, and nothing else between."""

    waiting: list[Taken]
    started: bool = False

    def place_of(self, one: Taken) -> int | None:
        """Where an allocation is among those that are waited for."""
        if not self.started and one.alive != self.waiting[0].alive:
            return None
        sizes = [waiting.nbytes for waiting in self.waiting]
        return sizes.index(one.nbytes) if one.nbytes in sizes else None


def _by_operator(taken: Iterable[Taken]) -> Iterator[_Group]:
    group: list[Taken] = []
    for one in taken:
        last = group[-1] if group else None
        if last is not None and (
            one.operator != last.operator or one.alive != last.alive + last.nbytes
        ):
            yield _Group(group)
            group = []
        group.append(one)
    if group:
        yield _Group(group)
