"""Stage 5: models as people train them, their times measured and predicted."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch

from experiments.gpu.cases import Case, sizes
from experiments.gpu.roofs import roofs_of
from experiments.gpu.rows import Run, run_rows
from flopratio.hardware import DeviceProfile
from flopratio.ledger import Ledger
from flopratio.measure import Timing, measure_step
from flopratio.measure.profiled import Profiled
from flopratio.roofline import Prediction, explain, predict
from flopratio.verbs.traced import trace_step

OWN = "experiments.gpu.networks"
IMAGES = {"batch": 64}
LARGE_IMAGES = {"batch": 32}
TEXT = {"batch": 8, "seq": 1024}
SHORT_TEXT = {"batch": 16, "seq": 512}
BERT_LARGE = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
}

ZOO: dict[str, tuple[str, Mapping[str, Any]]] = {
    "mlp": ("mlp", {"batch": 4096, "width": 4096, "depth": 8}),
    "resnet18": ("torchvision:resnet18", {"batch": 128}),
    "resnet50": ("torchvision:resnet50", IMAGES),
    "resnet152": ("torchvision:resnet152", LARGE_IMAGES),
    "vgg16": ("torchvision:vgg16", IMAGES),
    "densenet121": ("torchvision:densenet121", IMAGES),
    "convnext_tiny": ("torchvision:convnext_tiny", IMAGES),
    "convnext_base": ("torchvision:convnext_base", LARGE_IMAGES),
    "efficientnet_b0": ("torchvision:efficientnet_b0", IMAGES),
    "efficientnet_v2_s": ("torchvision:efficientnet_v2_s", LARGE_IMAGES),
    "mobilenet_v3_large": ("torchvision:mobilenet_v3_large", IMAGES),
    "regnet_y_8gf": ("torchvision:regnet_y_8gf", LARGE_IMAGES),
    "resnext50_32x4d": ("torchvision:resnext50_32x4d", IMAGES),
    "vit_b_16": ("torchvision:vit_b_16", IMAGES),
    "vit_l_16": ("torchvision:vit_l_16", LARGE_IMAGES),
    "swin_t": ("torchvision:swin_t", IMAGES),
    "swin_b": ("torchvision:swin_b", LARGE_IMAGES),
    "mixer_b16_224": ("timm:mixer_b16_224", IMAGES),
    "unet": (f"{OWN}:unet", {"batch": 16, "image": 256, "width": 64, "depth": 4}),
    "gpt2": ("hf:gpt2", TEXT),
    "gpt2-medium": ("hf:gpt2", {**TEXT, "n_layer": 24, "n_embd": 1024, "n_head": 16}),
    "gpt2-large": (
        "hf:gpt2",
        {"batch": 4, "seq": 1024, "n_layer": 36, "n_embd": 1280, "n_head": 20},
    ),
    "gpt": (f"{OWN}:gpt", {**TEXT, "width": 768, "depth": 12, "vocabulary": 50304}),
    "llama": (
        f"{OWN}:llama",
        {"batch": 4, "seq": 2048, "width": 2048, "depth": 8, "vocabulary": 32000},
    ),
    "bert": ("hf:bert", SHORT_TEXT),
    "bert-large": ("hf:bert", {**SHORT_TEXT, **BERT_LARGE}),
    "t5": ("hf:t5", SHORT_TEXT),
    "lstm": (
        f"{OWN}:lstm",
        {"batch": 64, "seq": 256, "width": 1024, "depth": 2, "vocabulary": 10000},
    ),
}
SMALL: dict[str, tuple[str, Mapping[str, Any]]] = {
    "mlp": ("mlp", {"batch": 8, "width": 64}),
    "gpt": (f"{OWN}:gpt", {"depth": 1}),
}
"""Name -> MODEL and its sizes; those of the rehearsal."""

PRECISIONS: dict[str, dict[str, Any]] = {"float32": {}, "bf16 autocast": {"amp": "bf16"}}

BUDGET_S = 0.6
REPEATS = 20

PHASES = ("forward", "grad_input", "grad_weight", "recompute", "update")
BACKWARD = ("grad_input", "grad_weight", "recompute")
INTERVALS = ("forward_ms", "backward_ms", "update_ms", "step_ms", "time_ratio")
COLUMNS = (
    *(f"{name}{end}" for name in INTERVALS for end in ("", "_low", "_high")),
    *(f"kernels_{phase}_ms" for phase in (*PHASES, "undivided")),
    *("kernels_ms", "idle_ms", "attributed", "overhead", "repeats"),
    *(f"predicted_{name}" for name in INTERVALS),
    *(f"predicted_{phase}_kernels_ms" for phase in PHASES),
    *("flop_ratio", "model_flops", "hardware_flops", "achieved_flops_per_s", "mfu"),
    *("parameters", "saved_bytes", "peak_bytes", "attention", "bounds", "explanation"),
    *("unmatched", "unattributed", "reconciled", "target", "sizes"),
)
"""``forward_ms`` to ``time_ratio`` are measured without the profiler, with the ends of their 95%
intervals. ``kernels_...`` are times in kernels (on the CPU: in operators) under it, and
``attributed`` is the share of them that rows, and what is around them, add up to."""


def run(run: Run) -> bool:
    """``zoo.csv``."""
    roofs = roofs_of(run)
    return run_rows(run, "zoo", ("model", "precision"), COLUMNS, _work(run, roofs))


def _work(run: Run, roofs: DeviceProfile) -> Iterator[Any]:
    for precision, computed in PRECISIONS.items():
        for name, (model, settings) in (SMALL if run.small else ZOO).items():
            case = Case(name, model, settings, {"optimizer": "adamw", **computed})
            yield (name, precision), lambda case=case: [timed(run, case, roofs)]


def timed(run: Run, case: Case, roofs: DeviceProfile) -> dict[str, Any]:
    """One row."""
    ledger = trace_step(case.predicted(run.target)).ledger
    prediction = predict(ledger.rows, roofs, tf32="none")
    gc.collect()
    if run.on_cuda:
        torch.cuda.empty_cache()
    timing = measure_step(
        case.real(run.device, run.target),
        repeats=REPEATS,
        budget_s=BUDGET_S / 10 if run.small else BUDGET_S,
        layers=True,
    )
    precision = "bfloat16" if case.options.get("amp") else "float32"
    return {
        **_measured(timing),
        **_predicted(prediction),
        **_counted(ledger),
        **_achieved(ledger, timing, roofs.roof(precision)),
        **(_under_profiler(timing.profiled, roofs) if timing.profiled is not None else {}),
        "target": run.target,
        "sizes": sizes({**case.settings, **case.options}),
    }


def _measured(timing: Timing) -> dict[str, Any]:
    columns: dict[str, Any] = {"repeats": timing.repeats}
    for name in INTERVALS:
        interval = getattr(timing, name)
        columns |= {
            name: interval.median,
            f"{name}_low": interval.low,
            f"{name}_high": interval.high,
        }
    return columns


def _predicted(prediction: Prediction) -> dict[str, Any]:
    return {
        "predicted_forward_ms": 1e3 * prediction.seconds("forward"),
        "predicted_backward_ms": 1e3 * prediction.seconds(*BACKWARD),
        "predicted_update_ms": 1e3 * prediction.seconds("update"),
        "predicted_step_ms": 1e3 * prediction.step_seconds,
        "predicted_time_ratio": prediction.time_ratio,
        **{f"predicted_{phase}_kernels_ms": 1e3 * prediction.seconds(phase) for phase in PHASES},
        "bounds": json.dumps(prediction.bounds),
    }


def _counted(ledger: Ledger) -> dict[str, Any]:
    total = ledger.totals
    attention = (row.op for row in ledger.rows if "attention" in row.op)
    return {
        "flop_ratio": ledger.ratio.backward_to_forward,
        "model_flops": total.forward + total.backward,
        "hardware_flops": total.forward + total.backward + total.recompute,
        "parameters": total.parameters,
        "saved_bytes": total.saved_bytes,
        "peak_bytes": ledger.memory.peak,
        "attention": next((op for op in attention if "backward" not in op), ""),
        "reconciled": ledger.reconciled,
    }


def _achieved(ledger: Ledger, timing: Timing, roof: float | None) -> dict[str, Any]:
    total = ledger.totals
    rate = (total.forward + total.backward) / (timing.step_ms.median / 1e3)
    return {"achieved_flops_per_s": rate, "mfu": rate / roof if roof else ""}


def _under_profiler(profiled: Profiled, roofs: DeviceProfile) -> dict[str, Any]:
    rows = sum(row.time_us or 0.0 for row in profiled.ledger.rows)
    around = sum(profiled.rest.values()) + sum(profiled.undivided.values())
    kernels = profiled.kernels_ms.median
    phases = profiled.phases_ms
    columns = {
        f"kernels_{phase}_ms": phases[phase].median
        for phase in (*PHASES, "undivided")
        if phase in phases
    }
    return {
        **columns,
        "kernels_ms": kernels,
        "idle_ms": sum(interval.median for interval in profiled.idle_ms.values()),
        "attributed": (rows + around) / 1e3 / kernels if kernels else "",
        "overhead": profiled.overhead,
        "unmatched": json.dumps(dict(profiled.unmatched)),
        "unattributed": _largest(profiled.unattributed),
        "explanation": json.dumps(_explained(profiled, roofs)),
    }


def _explained(profiled: Profiled, roofs: DeviceProfile) -> dict[str, float]:
    """The ratios, and what each reason contributes to their difference."""
    found = explain(profiled.times(), roofs, tf32="none")
    reasons = {reason.name: reason.contribution for reason in found.reasons}
    return {"flop_ratio": found.flop_ratio, "time_ratio": found.time_ratio, **reasons}


def _largest(times: Mapping[str, float], most: int = 20) -> str:
    """Microseconds by name, the largest first."""
    ordered: Iterable[tuple[str, float]] = sorted(times.items(), key=lambda item: -item[1])
    return json.dumps({name: round(us, 1) for name, us in list(ordered)[:most]})
