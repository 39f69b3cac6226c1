"""The bubble of a pipeline of p stages and m micro-batches, from the FLOP that each stage costs;
its blocks drawn to their lengths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import pandas as pd

import flopratio as fr
from experiments.claims import Claim, conclude, panels
from flopratio.report.figures.style import BLUE, ORANGE

MEGATRON = "Narayanan et al. 2021, arXiv:2104.04473, section 2.2"
GPIPE = "Huang et al. 2019 (GPipe), arXiv:1811.06965, section 2.3"


@dataclass(frozen=True)
class Stage:
    """FLOP of a micro-batch in a stage."""

    forward: int
    backward: int


@dataclass(frozen=True)
class Block:
    """A pass of a micro-batch through a stage."""

    kind: str
    microbatch: int
    stage: int
    start: int
    end: int


def main() -> None:
    equal = Stage(1, 2)
    grid = [(p, m, v) for p in (2, 4, 8) for m in (8, 16, 64) for v in (1, 2, 4)]
    rows = [
        {
            "stages": "equal, 2:1",
            "p": p,
            "m": m,
            "v": v,
            "bubble": float(bubble(scheduled([equal] * (p * v), p, m), [equal] * (p * v), p, m)),
            "formula": float(Fraction(p - 1, v * m)),
        }
        for p, m, v in grid
    ]
    counted = stages_of_mlp(4)
    for m in (8, 16, 64):
        found = bubble(scheduled(counted, 4, m), counted, 4, m)
        rows.append(
            {"stages": "mlp, counted", "p": 4, "m": m, "v": 1, "bubble": float(found)}
            | {"formula": 3 / m}
        )
    frame = pd.DataFrame(rows)
    ideal = frame[frame["stages"] == "equal, 2:1"]
    at_four_p = ideal.query("p == 4 and m == 16 and v == 1")["bubble"].iloc[0]
    own = frame[frame["stages"] == "mlp, counted"]
    first, *others = (stage.backward / stage.forward for stage in counted)

    conclude(
        "pipeline",
        frame,
        panels(
            "One forward, one backward: 4 stages, 8 micro-batches",
            lambda axes: gantt(axes, scheduled([equal] * 4, 4, 8), 4, "equal stages of 2:1"),
            lambda axes: gantt(axes, scheduled(counted, 4, 8), 4, "an mlp's stages, as counted"),
            lambda axes: gantt(
                axes, scheduled([equal] * 8, 4, 8), 4, "equal stages, interleaved, v = 2"
            ),
            width=5,
            height=2.6,
        ),
        [
            Claim(
                "the bubble is (p - 1)/m of the ideal time: equal stages of 2:1, p = 2, 4, 8",
                MEGATRON,
                None,
                same(ideal[ideal["v"] == 1]),
            ),
            Claim(
                "interleaved, (p - 1)/(v m): v = 2, 4",
                f"{MEGATRON}, interleaved schedule",
                None,
                same(ideal[ideal["v"] > 1]),
            ),
            Claim(
                "backward is 2:1 in each stage: in an mlp's first of four",
                f"{MEGATRON}, figure 4",
                "2:1",
                first,
                "the network's first layer passes no gradient on",
            ),
            Claim("in its other stages", f"{MEGATRON}, figure 4", "2:1", min(others)),
            Claim(
                "the bubble of an mlp's four stages at 8 micro-batches is (p - 1)/m",
                MEGATRON,
                "37.5%",
                own["bubble"].iloc[0],
                "of the time that the longest stage works: the first one is shorter by its first "
                "layer's gradient, and the last has the small output layer",
            ),
            Claim(
                "the bubble is negligible when m ≥ 4 p: at 4 stages and 16 micro-batches",
                GPIPE,
                None,
                at_four_p < 0.05,
                f"(p - 1)/m is {at_four_p:.1%} of the ideal time then",
            ),
        ],
    )


def same(rows: pd.DataFrame) -> bool:
    return bool((rows["bubble"] == rows["formula"]).all())


def stages_of_mlp(p: int) -> list[Stage]:
    """An mlp of 16 hidden layers and its output, divided evenly."""
    ledger = fr.count("mlp", 8, depth=16, input=512)
    layers = [layer for layer in ledger.layers() if layer.forward]
    each = 16 // p
    parts = [layers[start * each : (start + 1) * each] for start in range(p)]
    parts[-1].append(layers[-1])
    return [Stage(sum(x.forward for x in part), sum(x.backward for x in part)) for part in parts]


def order(rank: int, p: int, m: int, v: int) -> list[tuple[str, int, int]]:
    """The passes of a device, one after the other: kind, micro-batch, stage. Forwards until the
    first backward can start, then one forward and one backward in turn; with v stages on each
    device p micro-batches at a time through each of them."""

    def nth(number: int, backward: bool) -> tuple[str, int, int]:
        group, inside = divmod(number, p * v)
        chunk = inside // p
        if backward:
            chunk = v - 1 - chunk
        return ("backward" if backward else "forward", group * p + inside % p, chunk * p + rank)

    total = m * v
    ahead = p - rank - 1 if v == 1 else 2 * (p - rank - 1) + (v - 1) * p
    ahead = min(ahead, total)
    passes = [nth(number, False) for number in range(ahead)]
    for number in range(total - ahead):
        passes += [nth(ahead + number, False), nth(number, True)]
    return passes + [nth(number, True) for number in range(total - ahead, total)]


def scheduled(stages: Sequence[Stage], p: int, m: int) -> list[Block]:
    """When each pass runs: as soon as its device is free and what it reads is there."""
    last = len(stages) - 1
    waiting = [order(rank, p, m, len(stages) // p) for rank in range(p)]
    free, done = [0] * p, {}
    blocks = []
    while any(waiting):
        before = len(blocks)
        for rank, passes in enumerate(waiting):
            while passes:
                kind, microbatch, stage = passes[0]
                if kind == "forward":
                    needs = (kind, microbatch, stage - 1) if stage else None
                elif stage == last:
                    needs = ("forward", microbatch, stage)
                else:
                    needs = (kind, microbatch, stage + 1)
                if needs is not None and needs not in done:
                    break
                start = max(free[rank], done.get(needs, 0))
                end = start + getattr(stages[stage], kind)
                blocks.append(Block(kind, microbatch, stage, start, end))
                free[rank] = done[passes.pop(0)] = end
        assert len(blocks) > before, "the schedule waits for itself"
    return blocks


def bubble(blocks: Sequence[Block], stages: Sequence[Stage], p: int, m: int) -> Fraction:
    """The time beyond that in which the busiest device works, over it."""
    work = [sum(s.forward + s.backward for s in stages[rank::p]) for rank in range(p)]
    ideal = m * max(work)
    return Fraction(max(block.end for block in blocks) - ideal, ideal)


def gantt(axes: Any, blocks: Sequence[Block], p: int, title: str) -> None:
    for block in blocks:
        colour = BLUE if block.kind == "forward" else ORANGE
        shade = 1 if block.stage < p else 0.6
        axes.barh(
            block.stage % p,
            block.end - block.start,
            left=block.start,
            color=colour,
            edgecolor="black",
            linewidth=0.4,
            height=0.9,
            alpha=shade,
        )
    axes.set_yticks(range(p), [f"device {rank + 1}" for rank in range(p)])
    axes.invert_yaxis()
    axes.set_xlabel("FLOP")
    axes.set_title(title)
    axes.grid(visible=False)
