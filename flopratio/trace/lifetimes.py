"""When each storage of a step is alive, if the step runs as it does without a recorder.

Under any dispatch mode, and on fake tensors, torch does a few things otherwise than on ordinary
tensors; here they are put back.

- Gradients that meet at one value are summed. Ordinarily torch adds into the one that came first if
  nothing else refers to it (``can_accumulate_inplace`` in torch/csrc/autograd/input_buffer.cpp);
  under a mode the sum is always a new tensor.
- A constant (``torch.tensor(1.0)``) is made as a real tensor and then as a fake one: it is one.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import NamedTuple

import torch

from flopratio.torch_private import disable_current_modes
from flopratio.trace.recorder import Record, Recorder


class Life(NamedTuple):
    """A piece of memory, and when it is alive: while the records ``born`` to ``died - 1`` run."""

    storages: tuple[int, ...]
    """The numbers of the storages that are recorded of it, the first one it is named by."""
    nbytes: int
    born: int
    """Index of the record that made it; -1: it was there before the step."""
    died: int | None
    """None: it outlives the step."""


def lifetimes(recorder: Recorder) -> list[Life]:
    """Every piece of memory of a step, in the order in which they were seen."""
    constants = {
        number
        for record in recorder.records
        if record.op is torch.ops.aten.lift_fresh.default
        for number in record.inputs
        if number not in record.outputs and recorder.storages[number].kind == "outside"
    }
    reused = _reused(recorder)
    end = len(recorder.records)
    lives = []
    for storage in recorder.storages:
        if storage.number in constants or storage.number in reused.values():
            continue
        numbers = [storage.number]
        while (following := reused.get(numbers[-1])) is not None:
            numbers.append(following)
        died = recorder.storages[numbers[-1]].died
        if died is not None and died >= end:
            died = None
        lives.append(Life(tuple(numbers), storage.nbytes, storage.born, died))
    return lives


def _reused(recorder: Recorder) -> dict[int, int]:
    """The storage of a gradient that is added into -> the storage of the sum."""
    if not recorder.sums:
        return {}
    alone = _references_of_the_engine()
    reused = {}
    for index, references in recorder.sums.items():
        record = recorder.records[index]
        if references == alone and _is_dense(recorder, record):
            reused[record.inputs[0]] = record.outputs[0]
    return reused


def _is_dense(recorder: Recorder, record: Record) -> bool:
    """Whether the first operand fills its storage and is as large as the sum, and nothing else."""
    first, sum_ = record.inputs[0], record.outputs[0]
    if len(record.inputs) != 2 or min(*record.inputs, sum_) < 0 or first == record.inputs[1]:
        return False
    _, shape, dtype = record.arguments[0]
    nbytes = prod(shape) * dtype.itemsize
    sizes = recorder.storages[first].nbytes, recorder.storages[sum_].nbytes
    return sizes == (nbytes, nbytes) and recorder.storages[sum_].kind == "made"


@lru_cache(maxsize=1)
def _references_of_the_engine() -> tuple[int, int]:
    """How many references the recorder sees of a gradient that only the engine holds: a matter of
    how Python wraps tensors, so it is tried."""
    recorder = Recorder()
    with (
        disable_current_modes(),
        torch.inference_mode(mode=False),
        torch.enable_grad(),
        torch.device("cpu"),
        recorder,
    ):
        x = torch.zeros(1, requires_grad=True) * 1
        (x.exp() + x.sin()).sum().backward()
    (found,) = recorder.sums.values()
    return found
