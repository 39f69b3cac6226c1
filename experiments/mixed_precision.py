"""Autocast to bfloat16: the FLOPs stay, the bytes that backward keeps change, down or up, with the
copies that it makes; what computes in float32 all the same."""

from __future__ import annotations

from typing import Any

import pandas as pd

import flopratio as fr
from experiments.claims import Claim, conclude, panels
from flopratio import Ledger

PAPER = "Micikevicius et al. 2018, arXiv:1710.03740, section 3.1"
ANATOMY = "Hugging Face transformers, docs: model training anatomy"
AUTOCAST = "torch.amp, docs: autocast op reference"
STEPS: dict[str, tuple[str, dict[str, Any]]] = {
    "mlp, batch 1": ("mlp", {"batch": 1}),
    "mlp, batch 512": ("mlp", {"batch": 512}),
    "resnet50, batch 32": ("torchvision:resnet50", {"batch": 32}),
    "gpt2, batch 8": ("hf:gpt2", {"batch": 8, "seq": 1024}),
}
TO_FLOAT32 = ["native_layer_norm", "pow", "_log_softmax", "nll_loss_forward"]
"""Of the operators that autocast computes in float32, those that GPT-2 has."""


def weight_copies(ledger: Ledger) -> int:
    """Bytes of the bfloat16 copies of weights: half of the gradients that are cast back."""
    return sum(
        row.bytes_written // 2
        for row in ledger.rows
        if (row.op, row.phase, row.dtype) == ("aten._to_copy", "grad_weight", "bfloat16")
    )


def main() -> None:
    ledgers = {
        (name, amp): fr.count(model, optimizer="adamw", amp=amp, **settings)
        for name, (model, settings) in STEPS.items()
        for amp in (None, "bf16")
    }
    rows = []
    for (name, amp), ledger in ledgers.items():
        totals = ledger.totals
        rows.append(
            {
                "step": name,
                "amp": amp or "none",
                "forward": totals.forward,
                "backward": totals.backward,
                "saved_bytes": totals.saved_bytes,
                "weight_copies": weight_copies(ledger),
                "peak": ledger.memory["peak"],
            }
        )
    frame = pd.DataFrame(rows)
    plain, mixed = (frame[frame["amp"] == amp].set_index("step") for amp in ("none", "bf16"))
    same = [bool((plain[phase] == mixed[phase]).all()) for phase in ("forward", "backward")]
    saved = mixed["saved_bytes"] / plain["saved_bytes"]
    peak = mixed["peak"] / plain["peak"]
    gpt2 = ledgers["gpt2, batch 8", "bf16"]
    computed = {
        (row.op.removeprefix("aten."), row.dtype, bool(row.flops))
        for row in gpt2.rows
        if row.phase == "forward" and (row.flops or row.elementwise)
    }
    in_float32 = {op for op, dtype, _ in computed if dtype == "float32"}
    weights = gpt2.memory["parameters"] + weight_copies(gpt2)

    def draw(axes: Any) -> None:
        places = range(len(STEPS))
        for shift, rows, label in ((-0.2, plain, "float32"), (0.2, mixed, "autocast bf16")):
            heights = 100 * rows["saved_bytes"] / plain["saved_bytes"]
            axes.bar([x + shift for x in places], heights, 0.4, label=label)
        axes.set_yscale("log")
        axes.set_xticks(places, list(STEPS), rotation=20)
        axes.set_ylabel("% of float32's saved bytes")
        axes.legend()

    conclude(
        "mixed_precision",
        frame,
        panels("Autocast: the same FLOPs, and not always fewer bytes", draw, width=6),
        [
            Claim("FLOPs of forward and backward are what they were", PAPER, None, all(same)),
            *(
                Claim(
                    f"{name}: training's memory is roughly halved",
                    PAPER,
                    "about 50%",
                    peak[name],
                    reason="weights, gradients and state stay float32, and copies of the weights "
                    f"come; what backward keeps is {saved[name]:.3g} of float32's",
                )
                for name in STEPS
            ),
            *(
                Claim(
                    f"{name}: what backward keeps is fewer bytes",
                    PAPER,
                    None,
                    bool(saved[name] < 1),
                    reason=f"{plain.loc[name, 'saved_bytes']:,} become "
                    f"{mixed.loc[name, 'saved_bytes']:,}: the copies of the weights are kept too",
                )
                for name in STEPS
            ),
            Claim(
                "gpt2: bytes a parameter of the weights in both precisions",
                ANATOMY,
                "6",
                weights / gpt2.totals.parameters,
            ),
            Claim(
                "gpt2: every product computes in bfloat16",
                AUTOCAST,
                None,
                {dtype for _, dtype, product in computed if product} == {"bfloat16"},
            ),
            Claim(
                "gpt2: layer norm, pow and the loss compute in float32",
                AUTOCAST,
                None,
                set(TO_FLOAT32) <= in_float32,
            ),
        ],
    )
