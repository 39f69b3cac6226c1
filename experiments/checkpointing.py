"""Activation checkpointing: memory falls to the root of the depth for a forward more, traced as a
curve; and the optimum, schedules in which little is kept and much computed again."""

from __future__ import annotations

from typing import Any

import pandas as pd
import torch

import flopratio as fr
from experiments.claims import Claim, conclude, panels, reference
from experiments.literature.revolve import scheduled
from flopratio import Ledger

CHEN = "Chen et al. 2016, arXiv:1604.06174"
BULATOV = "cybertronai/gradient-checkpointing, test/memory_test.py"
KORTHIKANTI = "Narayanan et al. 2021, eq. 3, against Korthikanti et al. 2022, eq. 7"
REVOLVE = "Griewank & Walther 2000, Algorithm 799: revolve"
MEGABYTE = 10**6
CHAIN = 100
SEGMENTS = [1, 2, 3, 4, 5, 7, 10, 14, 20, 33, 50]


def chain(nodes: int, **options: Any) -> Ledger:
    """A chain of tanh over a node of 1 MB, as in the test suite that printed its peaks; the first
    node is its input."""
    layers = [torch.nn.Tanh() for _ in range(nodes - 1)]
    start = torch.empty(MEGABYTE // 4, device="meta")
    return fr.count(torch.nn.Sequential(*layers), start, loss="sum", input_grad=True, **options)


def reversed_chain(steps: int, snapshots: int) -> float:
    """Forward steps that a chain of products computes again, when it is run after the schedule."""
    weight = torch.empty(8, 8, device="meta", requires_grad=True)
    x = torch.empty(4, 8, device="meta", requires_grad=True)
    with fr.Profiler() as profiler:
        scheduled(lambda x: torch.tanh(x @ weight), x, steps, snapshots).sum().backward()
    totals = profiler.ledger.totals
    return totals.recompute / (totals.forward / steps)


def main() -> None:
    options = [{"checkpoint": f"auto:{k}"} if k > 1 else {} for k in SEGMENTS]
    chains = [chain(CHAIN, **given) for given in options]
    mlps = [fr.count("mlp", 512, depth=CHAIN, width=256, **given) for given in options]
    frame = pd.DataFrame(
        {
            "segments": k,
            "chain_peak": tanh.memory["peak"],
            "mlp_peak": mlp.memory["peak"],
            "mlp_forward": mlp.totals.forward,
            "mlp_backward": mlp.totals.backward,
            "mlp_recompute": mlp.totals.recompute,
        }
        for k, tanh, mlp in zip(SEGMENTS, chains, mlps, strict=True)
    )
    best = int(frame.loc[frame["chain_peak"].idxmin(), "segments"])
    at = frame.set_index("segments")

    gpt2 = fr.count("hf:gpt2", 1, seq=1024, checkpoint="transformer.h.*", attention="math")
    blocks = [layer for layer in gpt2.layers() if layer.name.startswith("transformer.h.")]
    again = sum(layer.recompute for layer in blocks)
    once = sum(layer.forward + layer.backward for layer in blocks)
    whole = gpt2.totals.forward + gpt2.totals.backward
    roots = [chain(nodes, checkpoint="auto").memory["peak"] for nodes in (100, 400)]
    optimal = [
        row
        for row in reference("revolve_optimal_checkpointing").to_dict("records")
        if row["steps"] in ("10", "50")
    ]

    def peaks(axes: Any) -> None:
        axes.plot(SEGMENTS, frame["chain_peak"] / MEGABYTE, label=f"chain of {CHAIN} tanh")
        axes.plot(
            SEGMENTS, [k + CHAIN / k for k in SEGMENTS], color="black", marker="", label="k + n / k"
        )
        axes.set_xscale("log")
        axes.set_xticks(SEGMENTS[::2], [str(k) for k in SEGMENTS[::2]])
        axes.set_xlabel("segments k")
        axes.set_ylabel("peak, nodes of 1 MB")
        axes.legend()

    def curves(axes: Any) -> None:
        for k, ledger in ((1, mlps[0]), (10, mlps[SEGMENTS.index(10)])):
            by_category = ledger.memory.timeline()
            alive = [sum(at_once) / MEGABYTE for at_once in zip(*by_category.values(), strict=True)]
            label = "kept" if k == 1 else f"in {k} segments"
            axes.plot(
                [100 * x / len(alive) for x in range(len(alive))], alive, marker="", label=label
            )
        axes.set_xlabel("% of the step's operators")
        axes.set_ylabel("MB alive, mlp of 100 layers")
        axes.legend()

    once_more = at.loc[[k for k in SEGMENTS if k > 1], "mlp_recompute"] / at["mlp_forward"]
    conclude(
        "checkpointing",
        frame,
        panels("Checkpoints: the root of the memory for a forward more", peaks, curves),
        [
            Claim(
                "a chain of 5 nodes of 1 MB peaks at 5 MB, to 1.01 MB",
                BULATOV,
                "3.99 to 6.01 MB",
                chain(5).memory["peak"] / MEGABYTE,
            ),
            Claim(
                "100 nodes peak at about 100 MB",
                BULATOV,
                "about 100 MB",
                at.loc[1, "chain_peak"] / MEGABYTE,
                reason="the gradient, which is on its way beside the nodes, is one more of 1 MB",
            ),
            Claim(
                "100 nodes with √n segments peak at 20 MB, to 1.1 MB",
                BULATOV,
                "18.9 to 21.1 MB",
                roots[0] / MEGABYTE,
            ),
            Claim("the fewest bytes are kept in √n segments", CHEN, 10, best),
            Claim(
                "with √n segments four times the layers take twice the memory",
                CHEN,
                "2",
                roots[1] / roots[0],
            ),
            Claim("the price is one forward more, at most", CHEN, "≤ 1", once_more.max()),
            Claim(
                "GPT-2's blocks, each computed again: 96 instead of 72 BLsh², a third more FLOPs",
                KORTHIKANTI,
                "33.3%",
                again / once,
            ),
            Claim(
                "GPT-2 at 1,024 tokens, the whole step: a third more FLOPs",
                KORTHIKANTI,
                "33.3%",
                again / whole,
                reason="the head on the vocabulary is in no block, and is not computed again; the "
                "sources' models are so large that it weighs nothing",
            ),
            *(
                Claim(
                    f"{row['steps']} steps in {row['snapshots']} snapshots: forward steps at least",
                    REVOLVE,
                    int(row["min_forward_steps"]),
                    reversed_chain(int(row["steps"]), int(row["snapshots"])),
                )
                for row in optimal
            ),
        ],
    )
