"""Accumulation: a batch in micro-batches has the same FLOPs of forward and backward, one update,
and keeps a micro-batch's activations at a time; its peak is lower, or higher."""

from __future__ import annotations

from typing import Any

import pandas as pd

import flopratio as fr
from experiments.claims import Claim, conclude, panels

GPIPE = "Huang et al. 2019 (GPipe), arXiv:1811.06965, section 2"
GUIDE = "Hugging Face transformers, docs: gradient accumulation"
STEPS: dict[str, tuple[str, int, dict[str, Any]]] = {
    "mlp": ("mlp", 64, {}),
    "resnet18": ("torchvision:resnet18", 64, {}),
    "gpt2": ("hf:gpt2", 32, {"seq": 1024}),
}
PARTS = [1, 2, 4, 8]
COLUMNS = ["forward", "grad_input", "grad_weight", "update"]


def main() -> None:
    rows = []
    for name, (model, batch, settings) in STEPS.items():
        for parts in PARTS:
            ledger = fr.count(model, batch // parts, accumulate=parts, optimizer="sgd", **settings)
            counts = {column: getattr(ledger.totals, column) for column in COLUMNS}
            memory = {key: ledger.memory[key] for key in ("saved_activations", "peak")}
            rows.append({"step": name, "batch": batch, "micro_batches": parts, **counts, **memory})
    frame = pd.DataFrame(rows)
    at = frame.set_index(["step", "micro_batches"])
    constant = frame.groupby("step")[COLUMNS].nunique()
    peak = {(name, parts): at.loc[(name, parts), "peak"] for name in STEPS for parts in PARTS}
    saved = {name: at.loc[name, "saved_activations"] for name in STEPS}

    def draw(axes: Any) -> None:
        for name in STEPS:
            axes.plot(PARTS, [100 * peak[name, n] / peak[name, 1] for n in PARTS], label=name)
        axes.axhline(100, color="black", linewidth=1)
        axes.set_xscale("log", base=2)
        axes.set_xticks(PARTS, [str(parts) for parts in PARTS])
        axes.set_xlabel("micro-batches of the same batch")
        axes.set_ylabel("% of the peak of the whole batch")
        axes.legend()

    kept = "it keeps the gradients of all weights from the second micro-batch's forward on, "
    conclude(
        "micro_batches",
        frame,
        panels("Micro-batches keep less, and cost a gradient that stays", draw),
        [
            Claim(
                "forward and backward cost the same FLOPs in any number of micro-batches",
                GPIPE,
                None,
                bool((constant[["forward", "grad_input", "grad_weight"]] == 1).all(axis=None)),
            ),
            Claim(
                "there is one update, whatever the number of micro-batches",
                GPIPE,
                None,
                bool((constant["update"] == 1).all()),
            ),
            *(
                Claim(
                    f"{name}, batch {batch} as 2 micro-batches: the peak is lower",
                    GUIDE,
                    None,
                    peak[name, 2] < peak[name, 1],
                    reason=f"it is {peak[name, 2] / peak[name, 1] - 1:+.1%}: {kept}"
                    "and they weigh more than half of its activations",
                )
                for name, (_, batch, _) in STEPS.items()
            ),
            *(
                Claim(
                    f"{name}: what is kept halves with every doubling of the micro-batches, to "
                    "within 5%",
                    GUIDE,
                    None,
                    all(abs(saved[name][2 * n] / saved[name][n] - 0.5) < 0.025 for n in PARTS[:-1]),
                )
                for name in STEPS
            ),
            *(
                Claim(
                    f"{name}: peak in 4 micro-batches beside that of the whole, in per cent",
                    GUIDE,
                    None,
                    round(100 * peak[name, 4] / peak[name, 1], 2),
                )
                for name in STEPS
            ),
        ],
    )
