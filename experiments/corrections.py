"""Where texts that people learn from are off, each with the exact figure."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

import flopratio as fr
from experiments.claims import Claim, conclude, panels
from flopratio.ledger import LayerTotals
from flopratio.report.figures.style import BLUE, PALE_GREY

ARTICLE = "Hobbhahn & Sevilla 2021"
SURVEY = "Baydin et al. 2018, JMLR 18(153), 3.2: typically 2 to 3 times the function"
ANATOMY = "Hugging Face transformers, docs: model training anatomy"
ACCUMULATION = "Hugging Face transformers, docs: gradient accumulation"
PRECISION = "Micikevicius et al. 2018, arXiv:1710.03740: nearly halves memory"
THUMB = "Kaplan et al. 2020, 2.1: 6 N, without the terms that depend on the context"
DIVE = "Zhang et al., Dive into Deep Learning, 5.3: intermediates are kept until backward"


def main() -> None:
    gpt2, resnet = (
        count("hf:gpt2", 1, seq=1024),
        count("torchvision:resnet50", 1, optimizer="adamw"),
    )
    products = [row for row in gpt2.rows if "attention" in row.op and row.phase == "forward"]
    scores = sum(row.flops for row in products) / 2 / gpt2.totals.forward
    relu, gelu = (activated_by(name) for name in ("relu", "gelu"))
    small = memory_against_inference("mlp", 512, depth=1, width=256, loss="sum")
    deep = memory_against_inference("cnn", 1, depth=100)
    precise, cast = (count("mlp", 1, amp=amp).totals for amp in (None, "bf16"))
    decayed = sgd_with_decay()
    flops, nbytes = shares_of_update(resnet)
    added, multiplied = outer_product(100, 50)
    narrow = activations_and_loss(1)
    micro = {
        "mlp": of_micro_batches("mlp", 64, 2, depth=1, optimizer="momentum"),
        "gpt2": of_micro_batches("hf:gpt2", 32, 4, seq=1024, optimizer="adamw"),
    }
    training = {
        "LinearNet, SGD": step_against_forward("linearnet", "sgd"),
        "LinearNet, AdamW": step_against_forward("linearnet", "adamw"),
        "AlexNet, AdamW": step_against_forward("torchvision:alexnet", "adamw"),
    }
    claims = [
        Claim(
            "the first layer is 1:1, so a network's ratio is less than 2: GPT-2",
            ARTICLE,
            "less than 2",
            gpt2.totals.ratio,
            f"{gpt2.totals.ratio:.4f}: its first layer is a lookup, without a product, and every "
            "product has two operands that want a gradient",
        ),
        Claim(
            "backward takes 2 times forward's FLOPs: GPT-2 as it is executed",
            ARTICLE,
            "2:1",
            gpt2.ratio.hardware,
            f"{gpt2.ratio.hardware:.3f}: fused attention keeps no scores, and its backward "
            "evaluates Q Kᵀ again",
        ),
        *(
            Claim(
                f"training is 2 to 3 × a forward: {name}, at batch 1, with the update",
                SURVEY,
                "2 to 3",
                value,
                "the update's FLOP don't depend on the batch, and at batch 1 are as many as those "
                "of products or more",
            )
            for name, value in training.items()
        ),
        Claim(
            "training takes much more memory than inference, twice as much or more: mlp with one "
            "hidden layer of 256 at batch 512, its outputs summed",
            ANATOMY,
            None,
            small >= 2,
            f"{small:.2f} ×: weights and inputs are most of it, one layer's activations little",
        ),
        Claim(
            f"cnn with 100 convolutions in its middle at batch 1, {deep:.1f} ×",
            ANATOMY,
            None,
            deep >= 2,
        ),
        Claim(
            "micro-batches lower the peak: mlp with one hidden layer and momentum, 64 examples as "
            "2 × 32",
            ACCUMULATION,
            None,
            micro["mlp"] < 0,
            f"{micro['mlp']:+.0%}: the gradients of all weights are there from the first "
            "micro-batch's backward on, and outweigh the activations saved",
        ),
        Claim(
            f"gpt2 with AdamW, 32 sequences of 1,024 as 4 × 8, {micro['gpt2']:+.0%}",
            ACCUMULATION,
            None,
            micro["gpt2"] < 0,
        ),
        Claim(
            "mixed precision halves what activations take: mlp at batch 1, bytes kept",
            PRECISION,
            None,
            cast.saved_bytes <= precise.saved_bytes / 2,
            f"{precise.saved_bytes:,} bytes become {cast.saved_bytes:,}: autocast keeps a copy of "
            "each weight",
        ),
        Claim(
            "and leaves the FLOP of products as they are",
            PRECISION,
            None,
            cast.forward == precise.forward and cast.backward == precise.backward,
        ),
        Claim(
            "a forward is 2 FLOP a parameter and token: Q Kᵀ, which has none, is nothing in GPT-2 "
            "at 1,024",
            THUMB,
            None,
            scores == 0,
            f"{scores:.1%} of forward, and P V as much",
        ),
        Claim(
            "all intermediates are kept: before a ReLU as before a GELU",
            DIVE,
            None,
            relu.saved_bytes == gelu.saved_bytes,
            f"{relu.saved_bytes:,} bytes with ReLU, {gelu.saved_bytes:,} with GELU: ReLU's "
            "backward asks for its output, the next layer's input; GELU's for its input",
        ),
        Claim(
            "ReLU and loss are negligible: less than 1% in an mlp of width 1 at batch 64",
            f"{ARTICLE}, assumptions",
            None,
            narrow < 0.01,
            f"{narrow:.1%}: products grow with the square of the width, the others with the width",
        ),
        Claim(
            "SGD is 2 FLOP a parameter: with weight decay",
            f"{ARTICLE}, appendix B",
            "2",
            decayed,
            "a multiplication and an addition more",
        ),
        Claim(
            "a weight gradient is as many additions as multiplications: of one example",
            f"{ARTICLE}, 2 FLOP a multiply-add",
            None,
            added == multiplied,
            f"{multiplied:,} multiplications and {added} additions: an outer product has nothing "
            "to sum (every counter, this one too, has 2 FLOP there)",
        ),
        Claim(
            f"the update is little: {flops:.1%} of its FLOP and those of products, of ResNet-50 "
            "with AdamW at batch 1",
            ARTICLE,
            None,
            flops < 0.02,
        ),
        Claim(
            "and as little of the bytes read and written",
            ARTICLE,
            None,
            nbytes < 0.02,
            f"{nbytes:.0%}: each parameter, its gradient and both moments are read and written, by "
            "each of the update's operators",
        ),
    ]
    rows = [
        {
            "claim": claim.claim,
            "source": claim.source,
            "published": claim.published,
            "exact": str(claim.ours),
            "because": claim.reason,
        }
        for claim in claims
    ]
    share = {
        "FLOP of the update": flops,
        "bytes of the update": nbytes,
        "Q Kᵀ in GPT-2": scores,
        "ReLU and loss at width 1": narrow,
    }
    conclude(
        "corrections",
        pd.DataFrame(rows),
        panels(
            "Where texts are off",
            lambda axes: bars(axes, training, 3, "a training step : a forward, batch 1"),
            lambda axes: bars(axes, {k: 100 * v for k, v in share.items()}, 0, "% of a step"),
            width=5.6,
        ),
        claims,
    )


@cache
def count(model: str, batch: int, **options: Any) -> fr.Ledger:
    return fr.count(model, batch, **options)


def step_against_forward(model: str, optimizer: str) -> float:
    """A step's FLOP, update included, over its forward's."""
    total = count(model, 1, optimizer=optimizer).totals
    return (total.forward + total.backward + total.update) / total.forward


def activated_by(name: str) -> LayerTotals:
    return count("mlp", 64, activation=name).totals


def memory_against_inference(model: str, batch: int, **settings: Any) -> float:
    memory = count(model, batch, **settings).memory
    return memory["peak"] / memory["inference_peak"]


def of_micro_batches(model: str, batch: int, parts: int, **settings: Any) -> float:
    """How much the peak changes with a batch in parts."""
    whole = count(model, batch, **settings).memory.peak
    return count(model, batch // parts, accumulate=parts, **settings).memory.peak / whole - 1


def activations_and_loss(width: int) -> float:
    """Their share in the FLOP of forward and backward."""
    ledger = count("mlp", 64, width=width, input=width)
    own = sum(row.elementwise for row in ledger.rows if row.type in ("ReLU", "Loss"))
    return own / sum(row.flops + row.elementwise for row in ledger.rows)


def sgd_with_decay() -> float:
    """FLOP a parameter."""
    model = nn.Linear(64, 32)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.01)
    with fr.Profiler(model) as profiler:
        model(torch.rand(8, 64)).sum().backward()
        optimizer.step()
    total = profiler.ledger.totals
    return total.update / total.parameters


def shares_of_update(ledger: fr.Ledger) -> tuple[float, float]:
    """Of the FLOP of products and update, and of the bytes that the step reads and writes."""
    total = ledger.totals
    rows = pd.DataFrame(ledger.rows)
    nbytes = (rows["bytes_read"] + rows["bytes_written"]).groupby(rows["phase"]).sum()
    flops = total.update / (total.forward + total.backward + total.update)
    return flops, float(nbytes["update"] / nbytes.sum())


@dataclass
class Tally:
    """Additions and multiplications of numbers that count them."""

    added: int = 0
    multiplied: int = 0


@dataclass
class Number:
    tally: Tally

    def __add__(self, other: Number) -> Number:
        self.tally.added += 1
        return self

    def __mul__(self, other: Number) -> Number:
        self.tally.multiplied += 1
        return self


def outer_product(inputs: int, outputs: int) -> tuple[int, int]:
    """Additions and multiplications of a linear layer's weight gradient, of one example."""
    tally = Tally()
    error, activation = (np.full((1, size), Number(tally)) for size in (outputs, inputs))
    assert (error.T @ activation).shape == (outputs, inputs)
    return tally.added, tally.multiplied


def bars(axes: Any, values: dict[str, float], said: float, label: str) -> None:
    """Each figure, and what the text says."""
    colours = [BLUE if value > said else PALE_GREY for value in values.values()]
    axes.barh(list(values)[::-1], list(values.values())[::-1], color=colours[::-1])
    axes.axvline(said, color="black", linewidth=1)
    axes.set_xlabel(label)
    axes.grid(visible=False, axis="y")
