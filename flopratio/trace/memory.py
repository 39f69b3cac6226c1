"""The life of every storage of a step: what is alive when, what it is for, and how much at most.

All of it is read off the notes of the one trace that counts the FLOPs. Tensors that share a storage
(views, in-place results) are one block, of the storage's full size.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Literal, NamedTuple

from flopratio.allocator.caching import CachingAllocator
from flopratio.allocator.cpu import CpuAllocator
from flopratio.allocator.device import device_profile
from flopratio.allocator.replay import Event, Workspace, replay
from flopratio.allocator.workspaces import (
    cublas_workspaces,
    flash_attention_backward,
    unknown_workspaces,
)
from flopratio.ledger import Memory, Row
from flopratio.trace.attribution import Attribution
from flopratio.trace.lifetimes import lifetimes
from flopratio.trace.recording import Recording

CATEGORIES = (
    "parameters",
    "buffers",
    "inputs",
    "optimizer_state",
    "gradients",
    "saved_activations",
    "temporaries",
)
"""What a block is for.

- ``inputs`` were there before the step and are neither of the model nor of the optimizer.
- ``gradients`` are, or become, the ``.grad`` of some leaf.
- ``saved_activations`` are kept for the backward, those that it recomputes too.
- ``temporaries`` are the rest.
"""

PHASES = ("forward", "backward", "update")

FLASH_BACKWARD = "aten._scaled_dot_product_flash_attention_backward"

CUBLAS = {f"aten.{name}" for name in ("mm", "addmm", "mv", "addmv", "bmm", "baddbmm", "addbmm")}
"""Operators that call cuBLAS."""

PHASE_OF_ROW = {
    "forward": "forward",
    "grad_input": "backward",
    "grad_weight": "backward",
    "recompute": "backward",
    "update": "update",
}


@dataclass(frozen=True, slots=True)
class Block:
    """A storage and its life.

    Args:
        number: of the storage, see :class:`flopratio.trace.recording.Storage`.
        nbytes: its size.
        category: one of :data:`CATEGORIES`.
        layer: the module that it was made for, or that owns it.
        op: the operator that made it; empty if it was there before the step.
        born: index of the record that made it; -1 if it was there before the step.
        died: index of the first record that ran without it; None if it outlives the step.
    """

    number: int
    nbytes: int
    category: str
    layer: str
    op: str
    born: int
    died: int | None

    def alive_at(self, record: int) -> bool:
        return self.born <= record and (self.died is None or record < self.died)


class MemoryEvent(NamedTuple):
    """An allocation or a release."""

    kind: Literal["alloc", "free"]
    block: int
    """The storage's number."""
    nbytes: int
    layer: str
    """The layer of the block."""
    phase: str
    """One of :data:`PHASES`; empty before the step."""
    category: str
    record: int
    """Index of the record that allocates, or that is the first to run after the release; -1 before
    the step."""


@dataclass(frozen=True)
class Peak:
    """The moment at which most bytes are alive.

    Args:
        nbytes: how many.
        record: index of the record that runs then.
        phase: one of :data:`PHASES`.
        layer, op: which operator runs, and for which layer.
        blocks: what is alive, the largest first.
    """

    nbytes: int
    record: int
    phase: str
    layer: str
    op: str
    blocks: tuple[Block, ...]

    @property
    def by_category(self) -> dict[str, int]:
        """Bytes of each category, in the order of :data:`CATEGORIES`."""
        sizes = dict.fromkeys(CATEGORIES, 0)
        for block in self.blocks:
            sizes[block.category] += block.nbytes
        return sizes

    @property
    def by_layer(self) -> dict[str, int]:
        """Bytes of each layer, the largest first."""
        sizes: defaultdict[str, int] = defaultdict(int)
        for block in self.blocks:
            sizes[block.layer] += block.nbytes
        return dict(sorted(sizes.items(), key=lambda item: -item[1]))


class StepMemory(Memory):
    """What a step held: the figures of the ledger's ``memory`` by name, and what they come from.

    As a mapping, in bytes: ``parameters, buffers, inputs, gradients, optimizer_state``: all there
    is of each; ``saved_activations``: what forward keeps for the backward, each storage once,
    parameters apart, the most at once; ``peak``: the most that is alive, and ``peak_phase``;
    ``peak_allocated``, ``peak_reserved``: what the device's allocator would report;
    ``inference_peak``: None unless told; ``first_step_peak``: where the optimizer has yet to make
    its state.

    Args:
        recording: of a step.
        attribution: of that recording.
    """

    def __init__(self, recording: Recording, attribution: Attribution) -> None:
        super().__init__()
        self.operators = attribution.row_of_each_record()
        """The ledger's row of each record."""
        self.blocks = _blocks(recording, self.operators)
        """Every storage of the step, in the order in which they were seen."""
        self.unknown_workspaces: tuple[str, ...] = ()
        """Operators whose kernels on the target take memory beside, of a size that no shape tells:
        it is in no figure."""
        self._fresh = frozenset(recording.owners.fresh_state)
        self._flash_backwards = {
            record: (note.arguments[1][1], note.arguments[2][1], note.arguments[1][2].itemsize)
            for record, note in enumerate(recording.records)
            if self.operators[record].op == FLASH_BACKWARD
        }
        """Record -> the shapes of query and key, and the query's bytes an element."""
        sizes = dict.fromkeys(CATEGORIES, 0)
        for block in self.blocks:
            sizes[block.category] += block.nbytes
        peak = self.at_peak
        allocated, reserved = self._allocated(recording.target)
        self.update(
            parameters=sizes["parameters"],
            buffers=sizes["buffers"],
            inputs=sizes["inputs"],
            gradients=sizes["gradients"],
            optimizer_state=sizes["optimizer_state"],
            saved_activations=_saved_bytes(recording),
            peak=peak.nbytes,
            peak_phase=peak.phase,
            peak_allocated=allocated,
            peak_reserved=reserved,
            inference_peak=None,
            first_step_peak=self._first_step_peak(),
        )

    def events(self) -> Iterator[MemoryEvent]:
        """Every allocation and release in order; what was there before the step comes first."""
        born: defaultdict[int, list[Block]] = defaultdict(list)
        died: defaultdict[int, list[Block]] = defaultdict(list)
        for block in self.blocks:
            born[block.born].append(block)
            if block.died is not None:
                died[block.died].append(block)
        for record in range(-1, len(self.operators)):
            phase = PHASE_OF_ROW[self.operators[record].phase] if record >= 0 else ""
            moves: list[tuple[Literal["alloc", "free"], Block]] = [
                ("free", block) for block in died[record] if block.born < record
            ]
            for block in born[record]:
                moves.append(("alloc", block))
                if block.died == record:
                    moves.append(("free", block))
            for kind, block in moves:
                yield MemoryEvent(
                    kind, block.number, block.nbytes, block.layer, phase, block.category, record
                )

    def timeline(self) -> dict[str, list[int]]:
        """Category -> the bytes alive while each record ran."""
        lives: dict[str, list[tuple[int, int, int | None]]] = {name: [] for name in CATEGORIES}
        for block in self.blocks:
            lives[block.category].append((block.nbytes, block.born, block.died))
        return {category: _alive(of, len(self.operators)) for category, of in lives.items()}

    def phases(self) -> list[tuple[str, range]]:
        """The stretches of records that belong to one phase, in order."""
        stretches: list[tuple[str, range]] = []
        for index, row in enumerate(self.operators):
            phase = PHASE_OF_ROW[row.phase]
            if stretches and stretches[-1][0] == phase:
                stretches[-1] = (phase, range(stretches[-1][1].start, index + 1))
            else:
                stretches.append((phase, range(index, index + 1)))
        return stretches

    @cached_property
    def at_peak(self) -> Peak:
        """When most is alive, and what."""
        alive = self._total(lambda block: block.born)
        peak = max(alive)
        record = alive.index(peak)
        row = self.operators[record] if self.operators else None
        blocks = [block for block in self.blocks if block.alive_at(record) and block.nbytes]
        return Peak(
            peak,
            record,
            PHASE_OF_ROW[row.phase] if row else PHASES[0],
            row.layer if row else "",
            row.op if row else "",
            tuple(sorted(blocks, key=lambda block: -block.nbytes)),
        )

    def _total(self, born: Callable[[Block], int]) -> list[int]:
        """Bytes alive while each record ran, if blocks were born so."""
        lives = ((block.nbytes, born(block), block.died) for block in self.blocks)
        return _alive(lives, len(self.operators))

    def _first_step_peak(self) -> int:
        """The peak if the optimizer makes its state when the update begins."""
        if not self._fresh:
            return self.at_peak.nbytes
        updates = (i for i, row in enumerate(self.operators) if row.phase == "update")
        update = next(updates, -1)
        return max(
            self._total(
                lambda block: max(block.born, update) if block.number in self._fresh else block.born
            )
        )

    def _allocated(self, target: str) -> tuple[int, int]:
        """Peak bytes that the device's allocator hands out, and that it takes from the device; with
        what kernels and libraries take of it, as far as that is known."""
        moves = list(self.events())
        events = (Event(event.kind, event.block, event.nbytes) for event in moves)
        if target == "cpu":
            replayed = replay(events, CpuAllocator())
        else:
            self.unknown_workspaces = unknown_workspaces(row.op for row in self.operators)
            after = [event.record for event in moves]
            workspaces = [
                workspace._replace(before=place, until=None if workspace.until is None else place)
                for workspace in self._workspaces(target)
                for place in [bisect_right(after, workspace.before)]
            ]
            replayed = replay(events, CachingAllocator(), workspaces=workspaces)
        return replayed.peak_allocated, replayed.peak_reserved

    def _workspaces(self, target: str) -> Iterator[Workspace]:
        """What CUDA's kernels and libraries take while a record runs, once its results have their
        memory; the places are indices of records."""
        if target != "cuda":
            products: dict[str, int] = {}
            for record, row in enumerate(self.operators):
                if row.op in CUBLAS:
                    thread = "backward" if PHASE_OF_ROW[row.phase] == "backward" else "forward"
                    products.setdefault(thread, record)
            yield from cublas_workspaces(device_profile(target), products.items())
        for record, (shape, keys, itemsize) in self._flash_backwards.items():
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
    return max(_alive(lives, len(recording.records)))


def _alive(lives: Iterable[tuple[int, int, int | None]], records: int) -> list[int]:
    """The bytes alive while each of so many records ran; before the step, if there are none.

    Args:
        lives: (bytes, born, died), see :class:`flopratio.trace.lifetimes.Life`.
    """
    changes = [0] * (max(records, 1) + 1)
    for nbytes, born, died in lives:
        born = max(born, 0)
        changes[born] += nbytes
        if died is not None:
            changes[max(died, born)] -= nbytes
    return list(accumulate(changes[:-1]))


def _saved_bytes(recording: Recording) -> int:
    """The most that is alive at once of what autograd keeps: of several micro-batches one's."""
    saved = (recording.storages[number] for number in recording.kept_for_backward())
    lives = ((storage.nbytes, storage.born, storage.died) for storage in saved)
    return max(_alive(lives, len(recording.records)))


def _blocks(recording: Recording, operators: list[Row]) -> list[Block]:
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
    saved = recording.kept_for_backward()
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
        blocks.append(Block(numbers[0], nbytes, category, layer, op, born, died))
    return blocks


def _gradients(recording: Recording) -> dict[int, str]:
    """Storage -> layer, of those that are the ``.grad`` of a leaf at some time."""
    layers = dict(recording.owners.gradients)
    for index, leaf in recording.accumulated.items():
        layer = recording.owners.parameters.get(leaf, "")
        # What AccumulateGrad makes or adds to.
        layers.update((number, layer) for number in recording.records[index].outputs if number >= 0)
    return layers


def _after_recomputation(operators: list[Row]) -> list[int]:
    """For each record, the index of the first one from there on that recomputes nothing."""
    following = [len(operators)] * (len(operators) + 1)
    for index in range(len(operators) - 1, -1, -1):
        recomputes = operators[index].phase == "recompute"
        following[index] = following[index + 1] if recomputes else index
    return following
