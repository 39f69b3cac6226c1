"""The memory of a step: on CUDA what the caching allocator counts, on the CPU the allocations that
torch's profiler records of it, replayed.

What a kernel of the CPU allocates for itself and gives back before it returns is no tensor of the
step, and no shape tells its size: it is told apart, and named by its operator.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch.profiler import ProfilerActivity, profile

from flopratio.measure.operators import is_dispatched
from flopratio.measure.timed_step import left_as_found
from flopratio.step.run import Step
from flopratio.torch_private import buffers, parameters, storage_address, tree_iter

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


@dataclass(frozen=True)
class MeasuredMemory:
    """The most bytes that a device held at once, in a step as in the steady state.

    Args:
        device: ``cpu`` or ``cuda``.
        peak: the sum of what was asked for and not given back; on the CPU without what kernels took
            for themselves. It stands beside the predicted ``peak``.
        peak_allocated: on CUDA, with the rounding of the caching allocator, beside the predicted
            ``peak_allocated``; on the CPU with what kernels took for themselves.
        peak_reserved: what the caching allocator took from the device; None on the CPU.
        others: bytes that were there and are not of the step, on CUDA; they are in all figures.
        kernels: operator -> the bytes that it held for itself at the peak, on the CPU.
    """

    device: str
    peak: int
    peak_allocated: int
    peak_reserved: int | None = None
    others: int = 0
    kernels: dict[str, int] = field(default_factory=dict)


def measured_memory(step: Step) -> MeasuredMemory:
    """Run a step twice, the first time to make the optimizer's state, and measure the second.

    Parameters, buffers, gradients and random state are afterwards as they were: the optimizer runs
    at a learning rate of 0.

    Args:
        step: on real tensors.

    Raises:
        UsageError: an option that doesn't fit the module, a loss without a gradient.
        torch.OutOfMemoryError: the step does not fit.
    """
    with left_as_found(step), step.prepared(lr=0.0) as prepared:
        prepared.run()
        prepared.clear()
        optimizer = prepared.optimizer
        state = list(optimizer.state.values()) if optimizer is not None else []
        module = step.module
        there = [parameters(module), buffers(module), *step.inputs, step.target, state]
        if step.device.type == "cuda":
            return _measured_on_cuda(prepared.run, there, step.device)
        peak = measure_peak(prepared.run, there)
    return MeasuredMemory(step.device.type, peak.outside_kernels, peak.nbytes, kernels=peak.kernels)


def _measured_on_cuda(
    step: Callable[[], object], there: Iterable[Any], device: torch.device
) -> MeasuredMemory:
    own = _bytes_of(there)
    torch.cuda.synchronize(device)
    gc.collect()  # what an earlier step has left in cycles is not of this one
    before = torch.cuda.memory_stats(device)["requested_bytes.all.current"]
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    step()
    torch.cuda.synchronize(device)
    stats = torch.cuda.memory_stats(device)
    return MeasuredMemory(
        "cuda",
        stats["requested_bytes.all.peak"],
        stats["allocated_bytes.all.peak"],
        stats["reserved_bytes.all.peak"],
        others=before - own,
    )


def measure_peak(step: Callable[[], object], there: Iterable[Any] = ()) -> MeasuredPeak:
    """Run a step and measure its peak.

    Args:
        there: the tensors that hold memory before it, however nested; each storage counts once.
    """
    return peak_of(_bytes_of(there), record_allocations(step))


def _bytes_of(tensors: Iterable[Any]) -> int:
    """What tensors hold, however nested; each storage counts once."""
    storages = [
        tensor.untyped_storage()
        for tensor in tree_iter(tensors)
        if isinstance(tensor, torch.Tensor)
    ]
    return sum({storage_address(storage): storage.nbytes() for storage in storages}.values())


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
