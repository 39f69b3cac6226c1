"""Where a training step's time goes: forward, backward, update, and setting gradients to zero;
measured, beside the shares in the DDP paper's figure."""

from __future__ import annotations

import re
import time
from statistics import median
from typing import Any

import pandas as pd
import torch

import flopratio as fr
from experiments.claims import Claim, Draw, conclude, panels, reference
from flopratio.models import load
from flopratio.report.figures.style import PHASE_COLOURS, legend_below

PAPER = "Li et al. 2020 (PyTorch Distributed), figure 6, as estimated in ai.stackexchange 5861"
STEPS: dict[str, dict[str, Any]] = {
    "torchvision:resnet50": {"batch": 2},
    "hf:bert": {"batch": 1, "seq": 128},
}
PHASES = ["forward", "backward", "update"]
COLOURS = {"forward": "forward", "backward": "grad_input", "update": "update"}
REPEATS = 20


def zero_grad_ms(model: str, settings: dict[str, Any]) -> float:
    """Milliseconds that it takes to fill a model's gradients with zeros."""
    module = load(model, settings, real=True).module
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    taken = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        module.zero_grad(set_to_none=False)
        taken.append(time.perf_counter() - start)
    return 1e3 * median(taken)


def published() -> dict[str, str]:
    """The shares in the paper's figure, as they were read off it."""
    table = reference("ddp_breakdown")
    (shares,) = table.loc[table["item"].str.startswith("Fig6"), "value"]
    return dict(zip(PHASES, re.findall(r"\d+%", shares), strict=True))


def main() -> None:
    rows = []
    for model, settings in STEPS.items():
        profile = fr.profile(model, optimizer="sgd", device="cpu", budget_s=3, **settings)
        times = {phase: getattr(profile.timing, f"{phase}_ms").median for phase in PHASES}
        flops = profile.ledger.totals
        rows.append(
            {
                "model": model,
                "settings": " ".join(f"{key}={value}" for key, value in settings.items()),
                **{f"{phase}_ms": times[phase] for phase in PHASES},
                "zero_grad_ms": (zeroing := zero_grad_ms(model, settings)),
                "zero_grad_share": zeroing / (zeroing + sum(times.values())),
                **{f"{phase}_share": times[phase] / sum(times.values()) for phase in PHASES},
                **{f"{phase}_flops": getattr(flops, phase) for phase in PHASES},
                "device": "cpu",
                "processor": profile.machine["processor"],
                "threads": profile.machine["threads"],
                "torch": torch.__version__,
            }
        )
    frame = pd.DataFrame(rows)
    conclude("step_breakdown", frame, picture(frame), claims_of(frame))


def picture(frame: pd.DataFrame) -> Draw:
    """The shares, one bar a model, and the paper's."""
    printed = {phase: float(share.rstrip("%")) for phase, share in published().items()}

    def draw(axes: Any) -> None:
        names = [*frame["model"], "DDP paper, figure 6"]
        floor = [0.0] * len(names)
        for phase in PHASES:
            widths = [*(100 * frame[f"{phase}_share"]), printed[phase]]
            axes.barh(names, widths, left=floor, label=phase, color=PHASE_COLOURS[COLOURS[phase]])
            floor = [left + width for left, width in zip(floor, widths, strict=True)]
        axes.invert_yaxis()
        axes.set_xlabel("% of a step's time")
        legend_below(axes, columns=3)

    return panels("Where a step's time goes", draw, width=6)


def claims_of(frame: pd.DataFrame) -> list[Claim]:
    at, shares = frame.set_index("model"), published()
    return [
        *(
            Claim(
                f"{model}: share of {phase}",
                PAPER,
                shares[phase],
                at.loc[model, f"{phase}_share"],
                reason="the figure is of 32 GPUs, and its backward holds the communication "
                "that it is overlapped with; this is one core",
                measured=True,
            )
            for model in STEPS
            for phase in PHASES
        ),
        *(
            Claim(
                f"{model}: backward takes most of the step",
                PAPER,
                None,
                bool(at.loc[model, "backward_share"] > 0.5),
                reason=f"it takes {at.loc[model, 'backward_share']:.0%}",
                measured=True,
            )
            for model in STEPS
        ),
        *(
            Claim(
                f"{model}: share of zeroing gradients, in a step that does so",
                PAPER,
                None,
                at.loc[model, "zero_grad_share"],
                measured=True,
            )
            for model in STEPS
        ),
        *(
            Claim(
                f"{model}: zeroing gradients takes less than the update",
                PAPER,
                None,
                bool(at.loc[model, "zero_grad_ms"] < at.loc[model, "update_ms"]),
                reason=f"it takes {at.loc[model, 'zero_grad_ms']:.3g} ms, the update "
                f"{at.loc[model, 'update_ms']:.3g}",
                measured=True,
            )
            for model in STEPS
        ),
    ]
