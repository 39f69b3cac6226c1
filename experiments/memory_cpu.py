"""The peak memory of a training step on the CPU, predicted without running it and measured: the
allocations that torch's profiler records of the real step, replayed.

What a kernel allocates for itself and gives back before it returns is no tensor of the step, and no
shape tells its size: it is told apart, and named by its operator.
"""

import sys
from typing import Any

import pandas as pd
import torch

import flopratio as fr
from experiments.claims import Claim, Draw, conclude, panels
from flopratio.measure.memory import MeasuredPeak, measure_peak
from flopratio.models import load
from flopratio.networks.library import NETWORKS, describe
from flopratio.step.network import network_step
from flopratio.step.options import StepOptions
from flopratio.step.run import Step

LLAMA = {"hidden_size": 256, "intermediate_size": 688, "num_attention_heads": 8}
LLAMA |= {"num_key_value_heads": 4, "num_hidden_layers": 4, "vocab_size": 4000}

TRACKER = "torch.distributed._tools.mem_tracker, the tolerance of its own tests"

STEPS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("mlp", {"batch": 256, "depth": 4}, {}),
    ("mlp", {"batch": 256, "depth": 4}, {"optimizer": "adamw"}),
    ("cnn", {"batch": 32}, {"optimizer": "momentum"}),
    ("torchvision:resnet18", {"batch": 8, "image": 128}, {}),
    ("torchvision:resnet18", {"batch": 8, "image": 128}, {"optimizer": "adamw"}),
    ("torchvision:resnet50", {"batch": 4, "image": 128}, {}),
    ("torchvision:densenet121", {"batch": 4, "image": 128}, {}),
    ("torchvision:mobilenet_v3_small", {"batch": 8, "image": 128}, {}),
    ("torchvision:efficientnet_b0", {"batch": 4, "image": 128}, {}),
    ("torchvision:regnet_y_400mf", {"batch": 4, "image": 128}, {"optimizer": "sgd"}),
    ("torchvision:swin_t", {"batch": 2, "image": 224}, {}),
    ("torchvision:convnext_tiny", {"batch": 2, "image": 128}, {"optimizer": "adamw"}),
    ("timm:vit_tiny_patch16_224", {"batch": 4}, {}),
    ("timm:vit_tiny_patch16_224", {"batch": 4}, {"amp": "bf16"}),
    ("timm:resmlp_12_224", {"batch": 4}, {}),
    ("hf:gpt2", {"batch": 2, "seq": 128, "n_layer": 4, "vocab_size": 8000}, {}),
    (
        "hf:gpt2",
        {"batch": 2, "seq": 128, "n_layer": 4, "vocab_size": 8000},
        {"optimizer": "adamw"},
    ),
    ("hf:llama", {"batch": 2, "seq": 128, **LLAMA}, {"optimizer": "adamw"}),
    ("hf:llama", {"batch": 2, "seq": 128, **LLAMA}, {"dtype": "bfloat16"}),
    ("hf:bert", {"batch": 2, "seq": 128, "num_hidden_layers": 4, "vocab_size": 8000}, {}),
    ("hf:t5", {"batch": 2, "seq": 64, "num_layers": 2, "vocab_size": 8000}, {}),
    ("hf:vit", {"batch": 2, "num_hidden_layers": 4}, {}),
]


def main() -> None:
    torch.set_num_threads(1)
    rows = []
    for model, settings, options in STEPS:
        predicted = fr.count(model, **settings, **options, target="cpu").memory["peak"]
        peak = measured(model, settings, StepOptions(**options, target="cpu"))
        difference = predicted - peak.nbytes
        rows.append(
            {
                "model": model,
                "settings": " ".join(f"{k}={v}" for k, v in (settings | options).items()),
                "predicted": predicted,
                "measured": peak.nbytes,
                "difference": difference,
                "percent": round(100 * difference / peak.nbytes, 4),
                "difference_outside_kernels": predicted - peak.outside_kernels,
                "kernel": max(peak.kernels, key=lambda name: peak.kernels[name], default=""),
                "kernel_bytes": sum(peak.kernels.values()),
            }
        )
        print(*rows[-1].values(), file=sys.stderr)
    frame = pd.DataFrame(rows).assign(torch=torch.__version__)
    conclude("memory_cpu", frame, picture(frame), claims_of(frame))


def picture(frame: pd.DataFrame) -> Draw:
    """How far the real peak is from the predicted one, step by step."""

    def draw(axes: Any) -> None:
        steps = [f"{row.model} {row.settings}"[:44] for row in frame.itertuples()]
        axes.barh(range(len(steps)), -frame["percent"])
        axes.set_yticks(range(len(steps)), steps, fontsize=6)
        axes.invert_yaxis()
        axes.set_xlabel("% that the real peak is above the predicted one")

    return panels("What kernels take for themselves", draw, width=7, height=4.5)


def claims_of(frame: pd.DataFrame) -> list[Claim]:
    percents = frame["percent"].abs()
    larger = set(frame.loc[percents > 2, "kernel"])
    return [
        Claim(
            "an estimate from a traced step is within 10% of the real peak: the worst",
            TRACKER,
            "at most 10%",
            float(percents.max()) / 100,
            reason="a kernel took so much for itself",
            measured=True,
        ),
        Claim(
            "an estimate from a traced step is within 10% of the real peak: the median",
            TRACKER,
            "at most 10%",
            float(percents.median()) / 100,
            reason="kernels took so much for themselves",
            measured=True,
        ),
        Claim(
            "without what kernels take for themselves: bytes between the two, the most",
            TRACKER,
            None,
            int(frame["difference_outside_kernels"].abs().max()),
            measured=True,
        ),
        Claim(
            "only a convolution holds more than 2% for itself",
            TRACKER,
            None,
            larger <= {"aten::convolution_backward"},
            reason=f"so do {', '.join(sorted(larger))}",
            measured=True,
        ),
    ]


def measured(model: str, settings: dict[str, Any], options: StepOptions) -> MeasuredPeak:
    """Run a step twice, the first time to make the optimizer's state, and measure the second."""
    torch.manual_seed(0)
    step = real_step(model, settings, options)
    with step.prepared() as prepared:
        prepared.run()
        prepared.clear()
        state = prepared.optimizer.state.values() if prepared.optimizer is not None else ()
        module = step.module
        there = [*module.parameters(), *module.buffers(), *step.inputs, step.target, *state]
        return measure_peak(prepared.run, there)


def real_step(model: str, settings: dict[str, Any], options: StepOptions) -> Step:
    """The step of a model with weights."""
    if model in NETWORKS:
        return network_step(describe(model, **settings), options, "cpu")
    return Step(load(model, settings, dtype=options.dtype, real=True), options)
