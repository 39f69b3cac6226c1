"""The memory of a step, read off its recording: which storages there were, what each is for, and
the figures that follow from them.

Tensors that share a storage (views, in-place results) are one block, of the storage's full size.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator

from flopratio.allocator.caching import CachingAllocator
from flopratio.allocator.cpu import CpuAllocator
from flopratio.allocator.device import device_profile
from flopratio.allocator.replay import Event, Workspace, replay
from flopratio.allocator.workspaces import (
    cublas_workspaces,
    flash_attention_backward,
    unknown_workspaces,
)
from flopratio.ledger import Row
from flopratio.memory import (
    CATEGORIES,
    STEP_PHASE_OF,
    Memory,
    MemoryBlock,
    OperatorRun,
    bytes_alive,
)
from flopratio.trace.attribution import Attribution
from flopratio.trace.kept import most_kept
from flopratio.trace.lifetimes import lifetimes
from flopratio.trace.recording import Recording
from flopratio.trace.update import accumulations

FLASH_BACKWARD = "aten._scaled_dot_product_flash_attention_backward"

CUBLAS = {f"aten.{name}" for name in ("mm", "addmm", "mv", "addmv", "bmm", "baddbmm", "addbmm")}
"""Operators that call cuBLAS."""


def step_memory(recording: Recording, attribution: Attribution) -> Memory:
    """The memory of a profiled step, with its blocks."""
    rows = attribution.row_of_each_record()
    memory = Memory(
        blocks=_blocks(recording, rows),
        operators=[
            OperatorRun(row.layer, row.op, row.phase, first)
            for row, first in zip(rows, attribution.first_rows, strict=True)
        ],
    )
    if recording.target != "cpu":
        memory.unknown_workspaces = unknown_workspaces(row.op for row in rows)
    lives: dict[str, list[tuple[int, int, int | None]]] = {name: [] for name in CATEGORIES}
    for block in memory.blocks:
        lives[block.category].append((block.nbytes, block.born, block.died))
    sizes = {name: max(bytes_alive(of, len(rows))) for name, of in lives.items()}
    allocated, reserved = _allocated(
        memory, _flash_backwards(recording, attribution), recording.target
    )
    memory.update(
        parameters=sizes["parameters"],
        buffers=sizes["buffers"],
        inputs=sizes["inputs"],
        gradients=sizes["gradients"],
        optimizer_state=sizes["optimizer_state"],
        saved_activations=most_kept(recording).nbytes,
        peak=memory.at_peak.nbytes,
        peak_phase=memory.at_peak.phase,
        peak_allocated=allocated,
        peak_reserved=reserved,
        inference_peak=None,
        first_step_peak=_first_step_peak(memory, recording),
    )
    return memory


FlashBackwards = dict[int, tuple[tuple[int, ...], tuple[int, ...], int]]
"""Record -> the shapes of query and key, and the query's bytes an element."""


def _flash_backwards(recording: Recording, attribution: Attribution) -> FlashBackwards:
    """Where the backward of flash attention runs."""
    ops = [row.op for row in attribution.row_of_each_record()]
    return {
        record: (note.arguments[1][1], note.arguments[2][1], note.arguments[1][2].itemsize)
        for record, note in enumerate(recording.records)
        if ops[record] == FLASH_BACKWARD
    }


def _first_step_peak(memory: Memory, recording: Recording) -> int:
    """The peak if the optimizer makes its state when its first step begins."""
    fresh = recording.owners.fresh_state
    if not fresh:
        return memory.at_peak.nbytes
    updates = (i for i, record in enumerate(recording.records) if record.scope == "update")
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
    events = (Event(event.kind, event.block, event.nbytes) for event in memory.events())
    if target == "cpu":
        replayed = replay(events, CpuAllocator())
    else:
        workspaces = _placed(memory, _workspaces(memory, flash_backwards, target))
        replayed = replay(events, CachingAllocator(), workspaces=workspaces)
    return replayed.peak_allocated, replayed.peak_reserved


def known_workspaces(recording: Recording, attribution: Attribution) -> list[Workspace]:
    """What kernels and libraries take of a CUDA device's allocator in a profiled step, as far as
    that is known; their places are those of :meth:`Memory.events`."""
    memory = step_memory(recording, attribution)
    flash_backwards = _flash_backwards(recording, attribution)
    return _placed(memory, _workspaces(memory, flash_backwards, recording.target))


def _placed(memory: Memory, workspaces: Iterable[Workspace]) -> list[Workspace]:
    """Workspaces by the events of the memory, whose places were those of its records."""
    by_record = list(workspaces)
    after = [event.record for event in memory.events()] if by_record else []
    return [
        workspace._replace(before=place, until=None if workspace.until is None else place)
        for workspace in by_record
        for place in [bisect_right(after, workspace.before)]
    ]


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


def peak_bytes(recording: Recording) -> int:
    """The most bytes alive at once: the sum of live tensors, as a perfect allocator would hold."""
    lives = ((life.nbytes, life.born, life.died) for life in lifetimes(recording))
    return max(bytes_alive(lives, len(recording.records)))


def _blocks(recording: Recording, operators: list[Row]) -> list[MemoryBlock]:
    """Every piece of memory with what it is for."""
    whose = recording.owners
    owners = {  # in reverse order of precedence
        "gradients": _gradients(recording),
        "optimizer_state": whose.state,
        "buffers": whose.buffers,
        "parameters": whose.parameters,
    }
    owned = {
        number: (category, layer)
        for category, layers in owners.items()
        for number, layer in layers.items()
    }
    saved = {kept.storage for kept in recording.kept_for_backward()}
    recomputed = _after_recomputation(operators)
    blocks = []
    for numbers, nbytes, born, died in lifetimes(recording):
        row = operators[born] if born >= 0 else None
        layer, op = (row.layer, row.op) if row else ("", "")
        owner = next((owned[number] for number in numbers if number in owned), None)
        if owner is not None:
            category, layer = owner
        elif row is None:
            kind = recording.storages[numbers[0]].kind
            category = "parameters" if kind == "parameter" else "inputs"
        elif not saved.isdisjoint(numbers) or (
            row.phase == "recompute" and (died is None or died > recomputed[born])
        ):
            category = "saved_activations"
        else:
            category = "temporaries"
        blocks.append(MemoryBlock(numbers[0], nbytes, category, layer, op, born, died))
    return blocks


def _gradients(recording: Recording) -> dict[int, str]:
    """Storage -> layer, of those that are the ``.grad`` of a leaf at some time."""
    layers = dict(recording.owners.gradients)
    accumulated = accumulations(recording)
    for index, leaf in accumulated.items():
        if accumulated.get(index + 1) == leaf:
            continue  # on the way to it: a sparse gradient is taken apart and put together
        layer = recording.owners.parameters.get(leaf, "")
        for number in recording.records[index].outputs:  # what AccumulateGrad makes or adds to
            indices = recording.indices.get((number, "sparse_coo"), ())
            layers.update((each, layer) for each in (number, *indices) if each >= 0)
    return layers


def _after_recomputation(operators: list[Row]) -> list[int]:
    """For each record, the index of the first one from there on that recomputes nothing."""
    following = [len(operators)] * (len(operators) + 1)
    for index in range(len(operators) - 1, -1, -1):
        recomputes = operators[index].phase == "recompute"
        following[index] = following[index + 1] if recomputes else index
    return following
