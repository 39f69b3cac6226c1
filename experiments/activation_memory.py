"""What forward keeps for backward grows in proportion to the batch and with every layer; inference
keeps next to nothing, √n segments the root of it. What a peak is made of, and what fits a card."""

from __future__ import annotations

import itertools
from typing import Any

import pandas as pd

import flopratio as fr
from experiments.claims import Claim, conclude, panels, reference
from flopratio.memory import CATEGORIES
from flopratio.report.figures.timeline import CATEGORY_FILLS

CHEN = "Chen et al. 2016, arXiv:1604.06174"
ZERO = "Rajbhandari et al. 2020 (ZeRO), arXiv:1910.02054"
DEPTHS = [1, 2, 4, 16, 64]
BATCHES = [1, 64, 8192]
WIDTH = 512
GPT2_XL: dict[str, Any] = {"n_layer": 48, "n_embd": 1600, "n_head": 25, "seq": 1024}
CARD = "24GiB"
GB = 10**9


def main() -> None:
    kinds: dict[str, dict[str, Any]] = {"kept": {}, "in √n segments": {"checkpoint": "auto"}}
    ledgers = {
        (kind, depth, batch): fr.count("mlp", batch, depth=depth, width=WIDTH, **options)
        for kind, options in kinds.items()
        for depth in DEPTHS
        for batch in (BATCHES if kind == "kept" else [8192])
    }
    frame = pd.DataFrame(
        {
            "model": "mlp",
            "activations": kind,
            "depth": depth,
            "batch": batch,
            "saved_bytes": ledger.totals.saved_bytes,
            "peak": ledger.memory["peak"],
            "inference_peak": ledger.memory["inference_peak"],
            **ledger.memory.at_peak.by_category,
        }
        for (kind, depth, batch), ledger in ledgers.items()
    )
    plain = frame[frame["activations"] == "kept"].set_index(["depth", "batch"])
    saved = plain["saved_bytes"]
    constant = 4  # the loss keeps one number, whatever the batch
    linear = all(
        saved[depth, batch] - constant == batch * (saved[depth, 1] - constant)
        for depth in DEPTHS
        for batch in BATCHES
    )
    per_layer = {
        (saved[deeper, 64] - saved[depth, 64]) / (deeper - depth)
        for depth, deeper in itertools.pairwise(DEPTHS)
    }
    activations = {
        (kind, depth): ledgers[kind, depth, 8192].memory.at_peak.by_category["saved_activations"]
        for kind in kinds
        for depth in (16, 64)
    }
    growth = {kind: activations[kind, 64] / activations[kind, 16] for kind in kinds}
    inference = plain["inference_peak"] - plain["parameters"]

    printed = {
        row["item"]: row["value"]
        for row in reference("zero_optimizer_and_activation_memory").to_dict("records")
    }
    options: dict[str, Any] = {"optimizer": "adam", "amp": "bf16", **GPT2_XL}
    xl = fr.count("hf:gpt2", 32, **options)
    xl_again = fr.count("hf:gpt2", 32, checkpoint="transformer.h.*", **options)
    alone = fr.count("hf:gpt2", 1, attention="math", **options)
    fits = fr.fit("hf:gpt2", seq=1024, optimizer="adamw", memory=CARD, figure="peak_reserved")

    def against_batch(axes: Any) -> None:
        for depth in (1, 4, 16, 64):
            axes.plot(BATCHES, saved[depth] / 1e6, label=f"depth {depth}")
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xlabel("batch")
        axes.set_ylabel("MB kept for backward")
        axes.legend()

    def against_depth(axes: Any) -> None:
        for kind in kinds:
            rows = frame[(frame["activations"] == kind) & (frame["batch"] == 8192)]
            axes.plot(rows["depth"], rows["saved_activations"] / 1e6, label=kind)
        rows = plain.xs(8192, level="batch")
        inferred = (rows["inference_peak"] - rows["parameters"]) / 1e6
        axes.plot(DEPTHS, inferred, label="inference, all but weights")
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xlabel("depth (layers), at batch 8,192")
        axes.set_ylabel("MB of activations at the peak")
        axes.legend()

    def composition(axes: Any) -> None:
        steps = {"plain": xl, "checkpointed": xl_again}
        floor = [0.0] * len(steps)
        for category in CATEGORIES:
            heights = [each.memory.at_peak.by_category[category] / GB for each in steps.values()]
            if sum(heights) > 0.1:
                colour = CATEGORY_FILLS[category]
                label = category.replace("_", " ")
                axes.bar(list(steps), heights, bottom=floor, color=colour, label=label)
            floor = [low + height for low, height in zip(floor, heights, strict=True)]
        axes.set_ylabel("GB at the peak of GPT-2 1.5B, batch 32")
        axes.legend()

    conclude(
        "activation_memory",
        frame,
        panels("Activations grow with batch and depth", against_batch, against_depth, composition),
        [
            Claim("what is kept is linear in the batch", CHEN, None, linear),
            Claim(
                "every layer adds the same: its output, batch x width x 4 bytes",
                CHEN,
                None,
                per_layer == {64 * WIDTH * 4},
            ),
            Claim(
                "four times the layers keep four times the activations (16 to 64)",
                CHEN,
                "4",
                growth["kept"],
            ),
            Claim(
                "four times the layers keep twice the activations in √n segments",
                CHEN,
                "2",
                growth["in √n segments"],
            ),
            Claim(
                "without training no layer's activations are kept: inference at 64 layers takes "
                "what it takes at 2",
                CHEN,
                1,
                inference[64, 8192] / inference[2, 8192],
            ),
            Claim(
                "training's peak is above inference's at every point",
                CHEN,
                None,
                bool((plain["peak"] > plain["inference_peak"]).all()),
            ),
            Claim(
                "GPT-2 1.5B at 1,024 tokens and batch 32: GB of activations",
                ZERO,
                printed["GPT-2 1.5B seq1K batch32 activations"],
                xl.totals.saved_bytes / GB,
                reason="the paper estimates 12 x hidden x batch x seq x layers numbers of 2 bytes; "
                "this GELU alone, written out, keeps several of 4 bytes, and so do the residual "
                "stream and the logits under autocast",
            ),
            Claim(
                "the same, every block checkpointed",
                ZERO,
                printed["same with activation checkpointing"],
                xl_again.totals.saved_bytes / GB,
                reason="the residual stream, which is what the blocks keep, is float32 under "
                "autocast, and the logits are kept too",
            ),
            Claim(
                "checkpointing it computes a third of the FLOPs again",
                ZERO,
                "33%",
                xl_again.totals.recompute / (xl_again.totals.forward + xl_again.totals.backward),
            ),
            Claim(
                "GPT-2 1.5B can't be trained on a single GPU of 32 GB, even at batch 1 (with the "
                "attention of 2019)",
                ZERO,
                None,
                alone.memory["peak"] > 32 * GB,
                reason=f"its peak is {alone.memory['peak'] / GB:.1f} GB",
            ),
            Claim(
                f"GPT-2 124M, float32, AdamW, 1,024 tokens: the largest batch that fits {CARD}",
                ZERO,
                None,
                fits.largest,
            ),
        ],
    )
