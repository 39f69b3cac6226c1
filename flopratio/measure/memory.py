"""The memory of a step on the CPU: the allocations that torch's profiler records of it, replayed.

What a kernel allocates for itself and gives back before it returns is no tensor of the step, and no
shape tells its size: it is told apart, and named by its operator.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch.profiler import ProfilerActivity, profile

from flopratio.measure.operators import is_dispatched
from flopratio.torch_private import storage_address, tree_iter

_ALLOCATION = "Allocation"
"""The tag of an event that is no call."""


class Allocation(NamedTuple):
    """Memory that is taken (positive bytes) or given back (negative)."""

    nbytes: int
    operator: str
    """The operator during which it happens (``aten::addmm``), empty between operators."""
    in_kernel: bool = False
    """Whether one and the same call of the operator takes it and gives it back."""


@dataclass(frozen=True)
class MeasuredPeak:
    """The most bytes of a step that were alive at once.

    Args:
        nbytes: how many.
        outside_kernels: the most that was alive without what kernels took for themselves.
        kernels: operator -> the bytes that it held for itself at the peak.
    """

    nbytes: int
    outside_kernels: int
    kernels: dict[str, int]


def measure_peak(step: Callable[[], object], there: Iterable[Any] = ()) -> MeasuredPeak:
    """Run a step and measure its peak.

    Args:
        there: the tensors that hold memory before it, however nested; each storage counts once.
    """
    storages = [
        tensor.untyped_storage() for tensor in tree_iter(there) if isinstance(tensor, torch.Tensor)
    ]
    start = sum({storage_address(storage): storage.nbytes() for storage in storages}.values())
    return peak_of(start, record_allocations(step))


def record_allocations(step: Callable[[], object]) -> list[Allocation]:
    """Run a step and note what it takes of the CPU's memory and gives back, in order."""
    # Accumulated events: torch 2.11 warns without them, also where there is one cycle only.
    with profile(
        activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True
    ) as profiler:
        step()
    assert profiler.profiler is not None
    assert profiler.profiler.kineto_results is not None
    allocations: list[Allocation] = []
    taken: dict[int, tuple[int, object]] = {}  # address -> index of the allocation, its call

    def walk(events: Iterable[Any], operator: str, call: object) -> None:
        for event in events:
            if event.tag.name == _ALLOCATION:
                place = event.extra_fields
                allocations.append(Allocation(place.alloc_size, operator))
                if place.alloc_size > 0:
                    taken[place.ptr] = len(allocations) - 1, call
                    continue
                index, by = taken.pop(place.ptr, (0, None))
                if by is not None and by is call:
                    for own in (index, -1):
                        allocations[own] = allocations[own]._replace(in_kernel=True)
            elif call is None and is_dispatched(event.name):
                walk(event.children, event.name, event)
            else:
                walk(event.children, operator, call)

    walk(profiler.profiler.kineto_results.experimental_event_tree(), "", None)
    return allocations


def peak_of(start: int, allocations: Iterable[Allocation]) -> MeasuredPeak:
    """Replay the allocations.

    Args:
        start: bytes alive before the first.
    """
    alive = outside = start
    peak = MeasuredPeak(start, start, {})
    outside_peak = start
    held: Counter[str] = Counter()
    for allocation in allocations:
        alive += allocation.nbytes
        if allocation.in_kernel:
            held[allocation.operator] += allocation.nbytes
        else:
            outside += allocation.nbytes
            outside_peak = max(outside_peak, outside)
        if alive > peak.nbytes:
            peak = MeasuredPeak(alive, 0, {name: size for name, size in held.items() if size})
    return MeasuredPeak(peak.nbytes, outside_peak, peak.kernels)
