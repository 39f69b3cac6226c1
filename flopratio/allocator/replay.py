"""A stream of allocations and releases, replayed on an allocator."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from flopratio.allocator.interface import Allocator, OutOfMemory


class Event(NamedTuple):
    """A storage comes or goes.

    Args:
        kind: whether it comes or goes.
        block: its number, or another name that no other live block has.
        nbytes: its size; of no account for a release.
        stream: the CUDA stream on which it was allocated.
    """

    kind: Literal["alloc", "free"]
    block: Hashable
    nbytes: int
    stream: int = 0


class Workspace(NamedTuple):
    """Memory that a library takes from the allocator behind the back of whoever wrote the events.

    Args:
        name: whose it is (``cuBLAS backward``).
        nbytes: its size.
        before: the index of the event before which it comes.
        until: the index of the event before which it goes; that of ``before``: it is there within
            one kernel only; None: it stays.
        stream: as in :class:`Event`.
    """

    name: str
    nbytes: int
    before: int
    until: int | None = None
    stream: int = 0


@dataclass(frozen=True)
class Replay:
    """What an allocator made of a stream of events, in bytes.

    Args:
        peak: the most bytes requested at once, the sum of live storages and workspaces.
        peak_allocated: the most bytes allocated at once, with rounding.
        peak_reserved: the most bytes held of the device.
        at: index of the event at which ``peak_allocated`` was reached (of a workspace: the event
            that it came before); None if there was nothing to allocate.
        rounding: what rounding and unsplit remainders add at that event.
        retries: how often cached memory went back to the device to make room.
        requested, allocated, reserved: what is left after the last event.
        unknown_workspaces: operators that ran and whose kernels take memory of a size that cannot
            be known beforehand. It is not contained in any figure.
    """

    peak: int
    peak_allocated: int
    peak_reserved: int
    at: int | None
    rounding: int
    retries: int
    requested: int
    allocated: int
    reserved: int
    unknown_workspaces: tuple[str, ...] = ()

    @property
    def fragmentation(self) -> float:
        """The share of ``peak_reserved`` that even at ``peak_allocated`` was not in use."""
        return 1 - self.peak_allocated / self.peak_reserved if self.peak_reserved else 0.0


def replay(
    events: Iterable[Event],
    allocator: Allocator,
    *,
    workspaces: Iterable[Workspace] = (),
    unknown_workspaces: Iterable[str] = (),
) -> Replay:
    """Replay a stream of events.

    Args:
        events: in the order of the calls; blocks that are never freed stay.
        allocator: a fresh one.
        workspaces: memory that libraries add.
        unknown_workspaces: see :class:`Replay`; passed on.

    Raises:
        ValueError: an event frees what is not live, or allocates what is.
        OutOfMemory: the device has no room; a note names the event.
    """
    at = None
    peak = rounding = 0
    allocate, free = allocator.allocate, allocator.free
    for index, (kind, block, nbytes, stream) in _interleaved(events, workspaces):
        try:
            if kind == "alloc":
                allocate(block, nbytes, stream)
                if allocator.allocated > peak:
                    at, peak = index, allocator.allocated
                    rounding = peak - allocator.requested
            elif kind == "free":
                free(block)
            else:
                raise ValueError(f"an event is an alloc or a free, not {kind!r}")
        except (ValueError, OutOfMemory) as error:
            error.add_note(f"at event {index}")
            raise
    return Replay(
        peak=allocator.peak,
        peak_allocated=allocator.peak_allocated,
        peak_reserved=allocator.peak_reserved,
        at=at,
        rounding=rounding,
        retries=allocator.retries,
        requested=allocator.requested,
        allocated=allocator.allocated,
        reserved=allocator.reserved,
        unknown_workspaces=tuple(unknown_workspaces),
    )


def _interleaved(
    events: Iterable[Event], workspaces: Iterable[Workspace]
) -> Iterator[tuple[int, Event]]:
    """Each event with its index, and before it those of the workspaces that come or go there."""
    due: list[tuple[int, int, Event]] = []  # the event's place, the order there, the event
    for number, workspace in enumerate(workspaces):
        _, nbytes, before, until, stream = workspace
        block = (workspace.name, number)
        due.append((before, 1, Event("alloc", block, nbytes, stream)))
        if until is not None:
            # What was there goes first; what comes and goes at one place goes last.
            due.append((until, 2 if until == before else 0, Event("free", block, nbytes, stream)))
    waiting = deque(sorted(due, key=lambda entry: entry[:2]))
    for index, event in enumerate(events):
        while waiting and waiting[0][0] <= index:
            yield index, waiting.popleft()[2]
        yield index, event
    for place, _, event in waiting:
        yield place, event
