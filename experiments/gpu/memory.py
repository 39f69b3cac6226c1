"""Stage 2: the peak memory of a step, predicted beside measured; where they differ, the first
allocation in which they do, and what kernels took for themselves."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from experiments.gpu.cases import Case, sizes
from experiments.gpu.history import Parting, first_parting, predicted, record
from experiments.gpu.rows import Run, run_rows
from flopratio.allocator import CachingAllocator, Event, replay
from flopratio.measure.memory import measured_memory
from flopratio.step.run import PreparedStep
from flopratio.torch_private import (
    named_submodules,
    own_buffers,
    own_parameters,
    storage_address,
    tree_iter,
)
from flopratio.trace.attribution import attribute
from flopratio.trace.memory import known_workspaces
from flopratio.trace.profiler import Profiler
from flopratio.verbs.traced import trace_step

OWN = "experiments.gpu.networks"
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "mlp": ("mlp", {"batch": 512, "width": 2048, "depth": 4}),
    "resnet": ("torchvision:resnet50", {"batch": 32}),
    "vit": ("timm:vit_base_patch16_224", {"batch": 32}),
    "convnext": ("torchvision:convnext_tiny", {"batch": 32}),
    "gpt": (
        f"{OWN}:gpt",
        {"batch": 8, "seq": 1024, "width": 768, "depth": 12, "vocabulary": 50304},
    ),
    "llama": (
        f"{OWN}:llama",
        {"batch": 4, "seq": 1024, "width": 1024, "depth": 12, "vocabulary": 32000},
    ),
    "unet": (f"{OWN}:unet", {"batch": 8, "image": 256, "width": 64, "depth": 4}),
    "lstm": (
        f"{OWN}:lstm",
        {"batch": 64, "seq": 128, "width": 1024, "depth": 2, "vocabulary": 10000},
    ),
}
SMALL: dict[str, tuple[str, dict[str, Any]]] = {
    "mlp": ("mlp", {"batch": 8, "width": 64}),
    "gpt": (f"{OWN}:gpt", {}),
}
"""Name -> MODEL and its sizes; those of the rehearsal."""

PRECISIONS: dict[str, dict[str, Any]] = {
    "float32": {},
    "bf16 autocast": {"amp": "bf16"},
    "bfloat16": {"dtype": "bfloat16"},
}
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "sgd": {"optimizer": "sgd"},
    "adam foreach": {"optimizer": "adam", "optimizer_implementation": "foreach"},
    "adam fused": {"optimizer": "adam", "optimizer_implementation": "fused"},
}
CHECKPOINTS: dict[str, dict[str, Any]] = {"no": {}, "yes": {"checkpoint": "auto"}}

FIGURES = ("requested", "allocated", "reserved")
COLUMNS = (
    *(f"{source}_{figure}" for figure in FIGURES for source in ("predicted", "measured")),
    *(f"difference_{figure}" for figure in FIGURES),
    *("predicted_before", "measured_before", "already_there"),
    *("first_difference", "predicted_size", "measured_size", "predicted_op", "measured_op"),
    *("predicted_alive", "measured_alive", "measured_peak_op"),
    *("workspaces_at_peak", "kernel_bytes", "unknown_workspaces", "target", "sizes"),
)
"""All in bytes, but for names and ``first_difference``, the index of an allocation. ``before``: at
the step's beginning; ``already_there``: of rows that ran before, which is to be 0."""


def run(run: Run) -> bool:
    """``memory.csv``."""
    return run_rows(
        run, "memory", ("model", "precision", "optimizer", "checkpoint"), COLUMNS, _work(run)
    )


def _work(run: Run) -> Iterator[Any]:
    """Every model once before any has another precision: what time allows is of all kinds."""
    for checkpoint, checkpointed in CHECKPOINTS.items():
        for optimizer, updated in OPTIMIZERS.items():
            for precision, computed in PRECISIONS.items():
                for name, (model, settings) in (SMALL if run.small else MODELS).items():
                    options = {**updated, **computed, **checkpointed}
                    case = Case(name, model, settings, options)
                    key = (name, precision, optimizer, checkpoint)
                    yield key, lambda case=case: [compared(run, case)]


def compared(run: Run, case: Case) -> dict[str, Any]:
    """One row."""
    profiler = trace_step(case.predicted(run.target))
    row = {"target": run.target, "sizes": sizes(case.settings)}
    figures = _on_cuda if run.on_cuda else _on_cpu
    return {**row, **figures(run, case, profiler)}


def _on_cpu(run: Run, case: Case, profiler: Profiler) -> dict[str, Any]:
    """The CPU has one figure: what is alive."""
    peak = measured_memory(case.real(run.device, run.target))
    mine = profiler.ledger.memory.peak
    return {
        "predicted_requested": mine,
        "measured_requested": peak.peak,
        "difference_requested": mine - peak.peak,
        "workspaces_at_peak": json.dumps(peak.kernels),
        "kernel_bytes": sum(peak.kernels.values()),
    }


def _on_cuda(run: Run, case: Case, profiler: Profiler) -> dict[str, Any]:
    memory = profiler.ledger.memory
    workspaces = known_workspaces(profiler.recording, attribute(profiler.recording))
    events = (Event(event.kind, event.block, event.nbytes) for event in memory.events())
    expected = replay(events, CachingAllocator(), workspaces=workspaces)
    _forget_workspaces()
    already_there = torch.cuda.memory_allocated(run.device)
    step = case.real(run.device, run.target)
    with step.prepared() as prepared:
        prepared.run()  # which makes the optimizer's state
        before = laid_out_afresh(prepared, run.device)
        torch.cuda.reset_peak_memory_stats(run.device)
        result = prepared.run()
        stats = torch.cuda.memory_stats(run.device)
        del result
        row: dict[str, Any] = {
            "predicted_requested": expected.peak,
            "predicted_allocated": expected.peak_allocated,
            "predicted_reserved": expected.peak_reserved,
            **{f"measured_{name}": stats[f"{name}_bytes.all.peak"] for name in FIGURES},
            "predicted_before": sum(b.nbytes for b in memory.blocks if b.born < 0),
            "measured_before": before,
            "already_there": already_there,
            "unknown_workspaces": " ".join(memory.unknown_workspaces),
        }
        for name in FIGURES:
            row[f"difference_{name}"] = row[f"predicted_{name}"] - row[f"measured_{name}"]
        if any(row[f"difference_{name}"] for name in FIGURES):
            laid_out_afresh(prepared, run.device)
            seen = record(prepared.run, run.device)
            row |= _parting(first_parting(predicted(memory, workspaces), seen.taken))
            row["workspaces_at_peak"] = json.dumps(seen.workspaces)
            row["kernel_bytes"] = sum(seen.workspaces.values())
            row["measured_peak_op"] = seen.peak_operator
    return row


def _parting(parting: Parting | None) -> dict[str, Any]:
    if parting is None:
        return {"first_difference": "none"}
    columns: dict[str, Any] = {"first_difference": parting.index}
    for source, one in (("predicted", parting.predicted), ("measured", parting.measured)):
        if one is not None:
            columns |= {
                f"{source}_size": one.nbytes,
                f"{source}_op": one.operator,
                f"{source}_alive": one.alive,
            }
    return columns


def laid_out_afresh(prepared: PreparedStep, device: torch.device) -> int:
    """All that is there before a step, in the order in which a prediction has it and with nothing
    between: the first step, which made the optimizer's state, has left holes.

    Returns:
        The bytes requested then.
    """
    prepared.clear()
    storages = {
        storage_address(storage): storage
        for tensor in _tensors(prepared)
        if tensor.device.type == device.type
        for storage in [tensor.untyped_storage()]
    }
    parked = []
    for storage in storages.values():
        parked.append(torch.UntypedStorage(storage.nbytes(), device="cpu").copy_(storage))
        storage.resize_(0)
    _forget_workspaces()
    for storage, values in zip(storages.values(), parked, strict=True):
        storage.resize_(values.nbytes())
        storage.copy_(values)
    if device.type != "cuda":
        return sum(storage.nbytes() for storage in storages.values())
    torch.cuda.synchronize(device)
    return int(torch.cuda.memory_stats(device)["requested_bytes.all.current"])


def _forget_workspaces() -> None:
    """Give back what cuBLAS keeps and the allocator caches."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        torch._C._cuda_clearCublasWorkspaces()
        torch.cuda.empty_cache()


def _there(prepared: PreparedStep) -> list[Any]:
    step, optimizer = prepared.step, prepared.optimizer
    state = list(optimizer.state.values()) if optimizer is not None else []
    return [
        *(tensor for _, module in named_submodules(step.module) for tensor in _own(module)),
        *step.inputs.tensors,
        step.target,
        state,
    ]


def _own(module: torch.nn.Module) -> list[Tensor]:
    """As the Profiler meets them: module by module."""
    return [*own_parameters(module).values(), *own_buffers(module).values()]


def _tensors(prepared: PreparedStep) -> Iterator[Tensor]:
    return (tensor for tensor in tree_iter(_there(prepared)) if isinstance(tensor, Tensor))
