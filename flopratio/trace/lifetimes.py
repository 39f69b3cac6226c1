"""When each storage of a step is alive, if the step runs as it does without a recording.

Under any dispatch mode, and on fake tensors, torch does a few things otherwise than on ordinary
tensors; here they are put back.

- Gradients that meet at one value are summed. Ordinarily torch adds into the one that came first if
  nothing else refers to it (``can_accumulate_inplace`` in torch/csrc/autograd/input_buffer.cpp);
  under a mode the sum is always a new tensor.
- A constant (``torch.tensor(1.0)``) is made as a real tensor and then as a fake one: it is one.
"""

from __future__ import annotations

from math import prod
from typing import NamedTuple

from flopratio.trace.recording import Record, Recording


class Life(NamedTuple):
    """A piece of memory, and when it is alive: while the records ``born`` to ``died - 1`` run."""

    storages: tuple[int, ...]
    """The numbers of the storages that are recorded of it, the first one it is named by."""
    nbytes: int
    born: int
    """Index of the record that made it; -1: it was there before the step."""
    died: int | None
    """None: it outlives the step."""


def lifetimes(recording: Recording) -> list[Life]:
    """Every piece of memory of a step, in the order in which they were seen."""
    constants = {
        number
        for record in recording.records
        if record.op.name == "aten.lift_fresh"
        for number in record.inputs
        if number not in record.outputs and recording.storages[number].kind == "outside"
    }
    reused = _reused(recording)
    end = len(recording.records)
    lives = []
    for storage in recording.storages:
        if storage.number in constants or storage.number in reused.values():
            continue
        numbers = [storage.number]
        while (following := reused.get(numbers[-1])) is not None:
            numbers.append(following)
        died = recording.storages[numbers[-1]].died
        if died is not None and died >= end:
            died = None
        lives.append(Life(tuple(numbers), storage.nbytes, storage.born, died))
    return lives


def _reused(recording: Recording) -> dict[int, int]:
    """The storage of a gradient that is added into -> the storage of the sum."""
    if not recording.sums:
        return {}
    reused = {}
    for index, alone in recording.sums.items():
        record = recording.records[index]
        if alone and _is_dense(recording, record):
            reused[record.inputs[0]] = record.outputs[0]
    return reused


def _is_dense(recording: Recording, record: Record) -> bool:
    """Whether the first operand fills its storage and is as large as the sum, and nothing else."""
    first, sum_ = record.inputs[0], record.outputs[0]
    if len(record.inputs) != 2 or min(*record.inputs, sum_) < 0 or first == record.inputs[1]:
        return False
    _, shape, dtype, *sparse = record.arguments[0]
    if sparse:
        return False
    nbytes = prod(shape) * dtype.itemsize
    sizes = recording.storages[first].nbytes, recording.storages[sum_].nbytes
    return sizes == (nbytes, nbytes) and recording.storages[sum_].kind == "made"
