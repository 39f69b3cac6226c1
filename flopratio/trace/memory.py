"""The memory of a step, read off its recording: which storages there were, what each is for, and
the figures that follow from them.

Tensors that share a storage (views, in-place results) are one block, of the storage's full size.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import TYPE_CHECKING

from flopratio.allocator.caching import CachingAllocator
from flopratio.allocator.cpu import CpuAllocator
from flopratio.allocator.device import device_profile
from flopratio.allocator.replay import Event, Workspace, replay
from flopratio.allocator.workspaces import (
    cublas_workspaces,
    flash_attention_backward,
    unknown_workspaces,
)
from flopratio.memory import (
    CATEGORIES,
    STEP_PHASE_OF,
    Memory,
    MemoryBlock,
    Operator,
    bytes_alive,
)
from flopratio.trace.lifetimes import lifetimes
from flopratio.trace.recorder import Recorder

if TYPE_CHECKING:
    from flopratio.ledger import Row
    from flopratio.trace.attribution import Attribution

FLASH_BACKWARD = "aten._scaled_dot_product_flash_attention_backward"

CUBLAS = {f"aten.{name}" for name in ("mm", "addmm", "mv", "addmv", "bmm", "baddbmm", "addbmm")}
"""Operators that call cuBLAS."""

StepMemory = Memory


def step_memory(attribution: Attribution) -> Memory:
    """The memory of a profiled step, with its blocks."""
    profiler = attribution.profiler
    rows = [attribution.rows[row] for row in attribution.first_rows]
    memory = Memory(
        blocks=_blocks(attribution),
        operators=[Operator(row.layer, row.op, row.phase) for row in rows],
    )
    if profiler.target != "cpu":
        memory.unknown_workspaces = unknown_workspaces(row.op for row in rows)
    sizes = dict.fromkeys(CATEGORIES, 0)
    for block in memory.blocks:
        sizes[block.category] += block.nbytes
    allocated, reserved = _allocated(memory, _flash_backwards(attribution), profiler.target)
    memory.update(
        parameters=sizes["parameters"],
        buffers=sizes["buffers"],
        inputs=sizes["inputs"],
        gradients=sizes["gradients"],
        optimizer_state=sizes["optimizer_state"],
        saved_activations=_saved_bytes(profiler.recorder),
        peak=memory.at_peak.nbytes,
        peak_phase=memory.at_peak.phase,
        peak_allocated=allocated,
        peak_reserved=reserved,
        inference_peak=None,
        first_step_peak=_first_step_peak(memory, frozenset(profiler.fresh_state)),
    )
    return memory


FlashBackwards = dict[int, tuple[tuple[int, ...], tuple[int, ...], int]]
"""Record -> the shapes of query and key, and the query's bytes an element."""


def _flash_backwards(attribution: Attribution) -> FlashBackwards:
    """Where the backward of flash attention runs."""
    ops = [attribution.rows[row].op for row in attribution.first_rows]
    return {
        record: (note.arguments[1][1], note.arguments[2][1], note.arguments[1][2].itemsize)
        for record, note in enumerate(attribution.recorder.records)
        if ops[record] == FLASH_BACKWARD
    }


def _first_step_peak(memory: Memory, fresh: frozenset[int]) -> int:
    """The peak if the optimizer makes its state when the update begins.

    Args:
        fresh: the storages of the state that the optimizer makes in its first step.
    """
    if not fresh:
        return memory.at_peak.nbytes
    updates = (i for i, operator in enumerate(memory.operators) if operator.phase == "update")
    update = next(updates, -1)
    lives = (
        (
            block.nbytes,
            max(block.born, update) if block.number in fresh else block.born,
            block.died,
        )
        for block in memory.blocks
    )
    return max(bytes_alive(lives, len(memory.operators)))


def _allocated(memory: Memory, flash_backwards: FlashBackwards, target: str) -> tuple[int, int]:
    """Peak bytes that the device's allocator hands out, and that it takes from the device; with
    what kernels and libraries take of it, as far as that is known."""
    moves = list(memory.events())
    events = (Event(event.kind, event.block, event.nbytes) for event in moves)
    if target == "cpu":
        replayed = replay(events, CpuAllocator())
    else:
        after = [event.record for event in moves]
        workspaces = [
            workspace._replace(before=place, until=None if workspace.until is None else place)
            for workspace in _workspaces(memory, flash_backwards, target)
            for place in [bisect_right(after, workspace.before)]
        ]
        replayed = replay(events, CachingAllocator(), workspaces=workspaces)
    return replayed.peak_allocated, replayed.peak_reserved


def _workspaces(
    memory: Memory, flash_backwards: FlashBackwards, target: str
) -> Iterator[Workspace]:
    """What CUDA's kernels and libraries take while a record runs, once its results have their
    memory; the places are indices of records."""
    if target != "cuda":
        products: dict[str, int] = {}
        for record, operator in enumerate(memory.operators):
            if operator.op in CUBLAS:
                backward = STEP_PHASE_OF[operator.phase] == "backward"
                products.setdefault("backward" if backward else "forward", record)
        yield from cublas_workspaces(device_profile(target), products.items())
    for record, (shape, keys, itemsize) in flash_backwards.items():
        batch, heads, queries, head_size = shape
        inside = flash_attention_backward(
            batch,
            heads,
            queries,
            head_size,
            keys=keys[2],
            key_heads=keys[1],
            itemsize=itemsize,
        )
        for name, nbytes in inside.items():
            yield Workspace(f"{FLASH_BACKWARD} {name}", nbytes, record, record)


def peak_bytes(recorder: Recorder) -> int:
    """The most bytes alive at once: the sum of live tensors, as a perfect allocator would hold."""
    lives = ((life.nbytes, life.born, life.died) for life in lifetimes(recorder))
    return max(bytes_alive(lives, len(recorder.records)))


def _saved(recorder: Recorder) -> set[int]:
    """The storages that autograd keeps for the backward, parameters apart."""
    return {
        number
        for _, number, _ in recorder.saved
        if number >= 0 and recorder.storages[number].kind != "parameter"
    }


def _saved_bytes(recorder: Recorder) -> int:
    """The most that is alive at once of what autograd keeps: of several micro-batches one's."""
    saved = (recorder.storages[number] for number in _saved(recorder))
    lives = ((storage.nbytes, storage.born, storage.died) for storage in saved)
    return max(bytes_alive(lives, len(recorder.records)))


def _blocks(attribution: Attribution) -> list[MemoryBlock]:
    """Every piece of memory with what it is for."""
    profiler, recorder = attribution.profiler, attribution.recorder
    operators = [attribution.rows[row] for row in attribution.first_rows]
    owners = {  # in reverse order of precedence
        "gradients": _gradients(attribution),
        "optimizer_state": profiler.state_layers,
        "buffers": profiler.buffer_layers,
        "parameters": profiler.parameter_layers,
    }
    owned = {
        number: (category, layer)
        for category, layers in owners.items()
        for number, layer in layers.items()
    }
    saved = _saved(recorder)
    recomputed = _after_recomputation(operators)
    blocks = []
    for numbers, nbytes, born, died in lifetimes(recorder):
        row = operators[born] if born >= 0 else None
        layer, op = (row.layer, row.op) if row else ("", "")
        owner = next((owned[number] for number in numbers if number in owned), None)
        if owner is not None:
            category, layer = owner
        elif row is None:
            kind = recorder.storages[numbers[0]].kind
            category = "parameters" if kind == "parameter" else "inputs"
        elif not saved.isdisjoint(numbers) or (
            row.phase == "recompute" and (died is None or died > recomputed[born])
        ):
            category = "saved_activations"
        else:
            category = "temporaries"
        blocks.append(MemoryBlock(numbers[0], nbytes, category, layer, op, born, died))
    return blocks


def _gradients(attribution: Attribution) -> dict[int, str]:
    """Storage -> layer, of those that are the ``.grad`` of a leaf at some time."""
    profiler, recorder = attribution.profiler, attribution.recorder
    layers = dict(profiler.gradient_layers)
    for index, leaf in recorder.accumulated.items():
        layer = profiler.parameter_layers.get(leaf, "")
        # What AccumulateGrad makes or adds to.
        layers.update((number, layer) for number in recorder.records[index].outputs if number >= 0)
    return layers


def _after_recomputation(operators: list[Row]) -> list[int]:
    """For each record, the index of the first one from there on that recomputes nothing."""
    following = [len(operators)] * (len(operators) + 1)
    for index in range(len(operators) - 1, -1, -1):
        recomputes = operators[index].phase == "recompute"
        following[index] = following[index + 1] if recomputes else index
    return following
