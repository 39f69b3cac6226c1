"""The life of every storage of a step: what is alive when, and how much at most."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate
from typing import Any

import torch

from flopratio.trace.profiler import Profiler
from flopratio.trace.recorder import BACKWARD, UPDATE, Recorder


def timeline(recorder: Recorder) -> list[int]:
    """Bytes alive while each record ran. Storages that were there before count from the start."""
    changes = [0] * (len(recorder.records) + 1)
    for storage in recorder.storages:
        born = max(storage.born, 0)
        changes[born] += storage.nbytes
        if storage.died is not None:
            changes[max(storage.died, born)] -= storage.nbytes
    return list(accumulate(changes))


def peak_bytes(recorder: Recorder) -> int:
    """The most bytes alive at once: the sum of live tensors, as a perfect allocator would hold."""
    return max(timeline(recorder))


def _storage_bytes(tensors: Iterable[Any]) -> int:
    """The bytes behind tensors, each storage once; what is no tensor is passed over."""
    storages = {}
    for tensor in tensors:
        if isinstance(tensor, torch.Tensor):
            storage = tensor.untyped_storage()
            storages[storage._cdata] = storage.nbytes()
    return sum(storages.values())


def memory_of(
    profiler: Profiler, inputs: Iterable[Any], optimizer: torch.optim.Optimizer | None
) -> dict[str, Any]:
    """What a profiled step held, in bytes.

    Args:
        profiler: of one step.
        inputs: the tensors that the model was called with.
        optimizer: whose state counts.

    Returns:
        ``parameters``, ``buffers``, ``inputs``, ``gradients``, ``optimizer_state``, ``peak`` and
        ``peak_phase``; what only an allocator knows is None.
    """
    recorder = profiler.recorder
    alive = timeline(recorder)
    peak = max(alive)
    at = alive.index(peak)
    scope = recorder.records[min(at, len(recorder.records) - 1)].scope if recorder.records else 0
    kinds = dict.fromkeys(("parameter", "buffer"), 0)
    for storage in recorder.storages:
        if storage.kind in kinds:
            kinds[storage.kind] += storage.nbytes
    model = profiler.model
    trained = [p.grad for p in model.parameters()] if model is not None else []
    state = optimizer.state.values() if optimizer is not None else []
    return {
        "parameters": kinds["parameter"],
        "buffers": kinds["buffer"],
        "inputs": _storage_bytes(inputs),
        "gradients": _storage_bytes(trained),
        "optimizer_state": _storage_bytes(value for entry in state for value in entry.values()),
        "saved_activations": None,
        "peak": peak,
        "peak_phase": {BACKWARD: "backward", UPDATE: "update"}.get(scope, "forward"),
        "peak_allocated": None,
        "peak_reserved": None,
        "inference_peak": None,
    }
