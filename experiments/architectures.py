"""Backward : forward of every classifier of torchvision, beside the bars that the 2021 article
measured and beside what ``FlopCounterMode`` reports."""

from __future__ import annotations

import sys
from typing import Any

import pandas as pd
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import flopratio as fr
from experiments.claims import Claim, conclude, panels, reference
from flopratio.models import load
from flopratio.models.torchvision_operators import import_torchvision

ARTICLE = "Hobbhahn & Sevilla 2021, bars by architecture (digitised, ±0.01)"
GROUPS = "pytorch#183405, the weight gradient of grouped convolutions"
ATTENTION = "pytorch#195460, attention on the CPU"


BATCH = 2
"""Inception wants two images in training; the ratio is the same at any batch."""


def main() -> None:
    models = import_torchvision().models
    names = models.list_models(module=models)
    rows = []
    for done, name in enumerate(names, 1):
        rows.append(counted(name))
        if done % 10 == 0:
            print(f"architectures: {done} of {len(names)}", file=sys.stderr, flush=True)
    frame = pd.DataFrame(rows)
    at = frame.set_index("model")
    bars = reference("epoch_measured_ratio_by_arch_DIGITISED")
    bars["measured"] = bars.pop("bwd_fwd_ratio_pyprof_cleaned").astype(float)
    bars["exact"] = [at.loc[name, "ratio"] for name in bars["arch"]]
    grouped, attention = frame["grouped_excess"] > 0, frame["attention"] > 0
    wrong = frame["flop_counter"] != frame["forward"] + frame["backward"]
    worst = frame.loc[frame["flop_counter_ratio"].idxmax()]

    def by_ratio(axes: Any) -> None:
        ordered = frame.sort_values("ratio")
        axes.plot(range(len(frame)), ordered["ratio"], linestyle="", label="exact")
        reported = ordered["flop_counter_ratio"]
        axes.plot(range(len(frame)), reported, linestyle="", label="FlopCounterMode")
        axes.set(yscale="log", xlabel="the classifiers by ratio", ylabel="backward : forward")
        axes.legend()

    def beside_bars(axes: Any) -> None:
        for batch, some in bars.groupby(bars["batch"].astype(int)):
            axes.plot(some["exact"], some["measured"], linestyle="", label=f"batch {batch}")
        axes.axline((1.9, 1.9), slope=1, color="black", linewidth=1)
        axes.set(xlabel="exact", ylabel="measured by the article")
        axes.legend()

    conclude(
        "architectures",
        frame,
        panels("Backward : forward of torchvision's classifiers", by_ratio, beside_bars),
        [
            *(
                Claim(
                    f"{row.arch} at batch 64",
                    ARTICLE,
                    f"{row.measured - 0.01:.3f} to {row.measured + 0.01:.3f}",
                    row.exact,
                    "its figure is what pyprof derives from the kernels that ran: those with "
                    "unknown or transformed arithmetic (Winograd, FFT) are estimated or left out",
                )
                for row in bars[bars["batch"] == "64"].itertuples()
            ),
            Claim(
                "the largest bar: resnet152 at batch 1",
                ARTICLE,
                "2.528 to 2.548",
                at.loc["resnet152", "ratio"],
                "the exact ratio has no batch in it and can't exceed 2; what is above is kernels "
                "that the profiler counts twice or forward ones that it misses",
            ),
            Claim(
                "the ratio of FLOP lies between 1 and 2, for each of the classifiers",
                "Hobbhahn & Sevilla 2021, theory",
                None,
                bool(frame["ratio"].between(1, 2).all()),
            ),
            Claim(
                "FlopCounterMode is right where no convolution is grouped and no attention fused",
                GROUPS,
                None,
                not bool((wrong & ~grouped & ~attention).any()),
            ),
            Claim(
                "what it reports too much is (groups - 1) × those gradients, to the FLOP",
                GROUPS,
                None,
                bool((frame["unexplained"] == 0).all()),
            ),
            Claim(
                f"classifiers of {len(frame)} where it is off for groups",
                GROUPS,
                None,
                int(grouped.sum()),
            ),
            Claim(
                "classifiers whose attention it counts as 0", ATTENTION, None, int(attention.sum())
            ),
            Claim(
                f"its worst ratio: {worst['model']}, whose exact one is {worst['ratio']:.4f}",
                GROUPS,
                None,
                worst["flop_counter_ratio"],
            ),
        ],
    )


def counted(name: str) -> dict[str, Any]:
    """The exact and the reported counts of a classifier, for two images."""
    ledger = fr.count(f"torchvision:{name}", BATCH)
    forward, both, module = by_flop_counter(name)
    total = ledger.totals
    groups = {
        path: layer.groups for path, layer in module.named_modules() if isinstance(layer, nn.Conv2d)
    }
    excess = sum((groups.get(layer.name, 1) - 1) * layer.grad_weight for layer in ledger.layers())
    attention = [row for row in ledger.rows if "attention" in row.op and row.phase != "recompute"]
    missed = sum(row.flops for row in attention)
    return {
        "model": name,
        "parameters": total.parameters,
        "forward": total.forward,
        "backward": total.backward,
        "ratio": total.ratio,
        "ratio_with_elementwise": ledger.ratio.with_elementwise,
        "reconciled": ledger.reconciled,
        "flop_counter": both,
        "flop_counter_ratio": (both - forward) / forward,
        "grouped_excess": excess,
        "attention": missed,
        "unexplained": both - (total.forward + total.backward + excess - missed),
    }


def by_flop_counter(name: str) -> tuple[int, int, nn.Module]:
    """What ``FlopCounterMode`` reports of forward, and of forward and backward."""
    example = load(f"torchvision:{name}", {"batch": BATCH})
    with example.context(), FlopCounterMode(display=False) as counter:
        output = example.module(*example.args)
        forward = counter.get_total_flops()
        outputs = output if isinstance(output, tuple) else (output,)
        sum(each.sum() for each in outputs).backward()
    return forward, counter.get_total_flops(), example.module
