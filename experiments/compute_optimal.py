"""6 N D against the exact count: where the rule of thumb is off by 1%, 5% and 10%, and what that
does to the size that is best for a budget. The count is the closed form of a traced step."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

import flopratio as fr
from experiments.claims import Claim, conclude, panels
from experiments.literature import factories, gpt3
from experiments.literature.gpt import Sizes, tokens, weightless
from experiments.literature.steps import of_layers
from flopratio.closed_form import Polynomial

KAPLAN = "Kaplan et al. 2020, arXiv:2001.08361, section 2.1"
CHINCHILLA = "Hoffmann et al. 2022 (Chinchilla), arXiv:2203.15556"
GPT3 = "Brown et al. 2020 (GPT-3), arXiv:2005.14165"

VOCABULARY, CONTEXT = 32_000, 2048
"""Chinchilla's."""

ASPECT = 128
"""Width over layers, as of GPT-3 175B; and the width of a head."""

SEQUENCES = (512, 2048, 8192, 32_768)
OFF = (0.10, 0.05, 0.01)
BUDGETS = [float(f"1e{exponent}") for exponent in range(18, 27)]


class Form(NamedTuple):
    """Of a language model as GPT-2 and Megatron-LM have it, in ``seq``, ``layers``, ``width`` and
    ``vocabulary``.

    Args:
        flops: of forward and backward, of two sequences.
        parameters: all of them.
    """

    flops: Polynomial
    parameters: Polynomial

    def at(self, width: int, seq: int, layers: int, vocabulary: int) -> tuple[float, int, int]:
        """FLOP of a token, and parameters: all, and those that Kaplan et al. count, without the
        embeddings of tokens and positions."""
        sizes = {"seq": seq, "layers": layers, "width": width, "vocabulary": vocabulary}
        number = int(self.parameters(sizes))
        embedded = (vocabulary + seq) * width
        return float(self.flops(sizes) / (2 * seq)), number, number - embedded


@cache
def form() -> Form:
    keys = ("seq", "layers", "width", "vocabulary")
    found = fr.formula(f"{Path(factories.__file__)}:gpt", *keys, batch=2, loss="sum")
    return Form(found["model"], found["parameters"])


def main() -> None:
    rule = pd.DataFrame(over_sizes())
    optimal = pd.DataFrame(over_budgets())
    table = pd.concat([rule, optimal], keys=["size", "budget"], names=["row", None])

    def draw_rule(axes: Any) -> None:
        for seq, some in rule.groupby("seq"):
            (line,) = axes.plot(some["parameters"], 100 * some["off"], label=f"{seq:,} tokens")
            axes.plot(
                some["parameters"],
                100 * some["off_without_embeddings"],
                ":",
                color=line.get_color(),
            )
        for off in OFF:
            axes.axhline(-100 * off, color="grey", linewidth=0.5)
        axes.set(
            xscale="log",
            ylim=(-60, 10),
            xlabel="parameters N",
            ylabel="6 N over the FLOP of a token, less 1, %\n(dotted: N without embeddings)",
        )
        axes.legend(fontsize=7)

    def draw_optimal(axes: Any) -> None:
        over = optimal["cost_rule"] / optimal["budget"] - 1
        axes.plot(optimal["budget"], 100 * over)
        axes.set(
            xscale="log",
            ylim=(0, None),
            xlabel="FLOP, by 6 N D",
            ylabel="more to train the best model for it, %",
        )

    conclude(
        "compute_optimal",
        table.reset_index(level="row").round(6),
        panels("6 N D against the exact count", draw_rule, draw_optimal, width=5),
        [*claims_of_sizes(), *claims_of_gpt3(), *claims_of_budgets(optimal)],
    )


# -- 6 N D over sizes ------------------------------------------------------------------------------


def off(width: int, seq: int, *, embeddings: bool) -> float:
    """6 N over the FLOP of a token, less 1."""
    flops, everything, inner = form().at(width, seq, width // ASPECT, VOCABULARY)
    return 6 * (everything if embeddings else inner) / flops - 1


def over_sizes() -> Iterator[dict[str, Any]]:
    for seq in SEQUENCES:
        for width in range(2 * ASPECT, 320 * ASPECT, 2 * ASPECT):
            flops, everything, inner = form().at(width, seq, width // ASPECT, VOCABULARY)
            yield {
                "seq": seq,
                "width": width,
                "layers": width // ASPECT,
                "parameters": everything,
                "flops_per_token": flops,
                "off": 6 * everything / flops - 1,
                "off_without_embeddings": 6 * inner / flops - 1,
            }


def within(share: float, seq: int, *, embeddings: bool) -> int:
    """The width from which on 6 N is off by no more, in steps of the head's width."""
    widths = range(2 * ASPECT, 4096 * ASPECT, ASPECT)
    beyond = [width for width in widths if abs(off(width, seq, embeddings=embeddings)) > share]
    return max(beyond, default=ASPECT) + ASPECT


def claims_of_sizes() -> Iterator[Claim]:
    for seq in (CONTEXT, 8192):
        for share in OFF:
            for embeddings in (True, False) if seq == CONTEXT else (True,):
                width = within(share, seq, embeddings=embeddings)
                number = form().at(width, seq, width // ASPECT, VOCABULARY)[1]
                yield Claim(
                    f"6 N D, N {'with' if embeddings else 'without'} embeddings, {seq:,} tokens of "
                    f"{VOCABULARY:,}, width {ASPECT} x layers: within {share:.0%} from this width "
                    f"on ({number:.2e} parameters)",
                    CHINCHILLA if embeddings else KAPLAN,
                    None,
                    width,
                )


def claims_of_gpt3() -> Iterator[Claim]:
    """The closed form at GPT-3's sizes, against their traces."""
    equal = []
    for name, (layers, width) in gpt3.SIZES.items():
        flops, everything, _ = form().at(width, 2048, layers, 50257)
        sizes = Sizes(layers, width, width // 64, 50257, 2048)
        counts = of_layers(
            lambda few, sizes=sizes: weightless(Sizes(few, *_rest(sizes))), layers, tokens(1, 2048)
        )
        equal.append(flops * 2048 == counts.model_flops)
        if name in ("GPT-3-Small", "GPT-3-13B", "GPT-3-175B"):
            yield Claim(
                f"{name}: 6 N D over the FLOP of training, less 1",
                GPT3,
                None,
                f"{100 * (6 * everything / flops - 1):+.2f}%",
            )
    yield Claim("the closed form is the traced count, at GPT-3's sizes", GPT3, None, all(equal))


def _rest(sizes: Sizes) -> tuple[int, int, int, int]:
    return sizes.width, sizes.heads, sizes.vocabulary, sizes.context


# -- the best size for a budget --------------------------------------------------------------------


def loss(parameters: Any, trained_on: Any) -> Any:
    """Hoffmann et al. 2022, equation 10."""
    return 1.69 + 406.4 / parameters**0.34 + 410.7 / trained_on**0.28


def over_budgets() -> Iterator[dict[str, Any]]:
    """The widths at which the loss is least, if a token costs 6 N and if it costs what it does."""
    widths = np.arange(2, 700) * ASPECT
    sizes = [form().at(int(width), CONTEXT, int(width) // ASPECT, VOCABULARY) for width in widths]
    flops = np.array([each[0] for each in sizes])
    parameters = np.array([each[1] for each in sizes], dtype=float)
    for budget in BUDGETS:
        row: dict[str, Any] = {"budget": budget}
        for name, token in (("rule", 6 * parameters), ("exact", flops)):
            best = int(np.argmin(loss(parameters, budget / token)))
            row[f"width_{name}"] = int(widths[best])
            row[f"parameters_{name}"] = parameters[best]
            row[f"tokens_{name}"] = budget / token[best]
            row[f"cost_{name}"] = budget / token[best] * flops[best]
        yield row


def claims_of_budgets(optimal: pd.DataFrame) -> Iterator[Claim]:
    over = optimal["cost_rule"] / optimal["budget"]
    for budget in (1e19, 1e21, 1e24):
        (place,) = np.flatnonzero(np.isclose(optimal["budget"], budget))
        yield Claim(
            f"the best model of {budget:.0e} FLOP by 6 N D takes this much of them to train",
            f"{CHINCHILLA}, equation 10",
            None,
            f"{100 * over[place]:.1f}%",
        )
    steps = (optimal["width_exact"] - optimal["width_rule"]) / ASPECT
    yield Claim(
        "the best width by the exact count against that by 6 N D, at most so many layers' widths "
        f"of {ASPECT} apart at any budget",
        f"{CHINCHILLA}, equation 10",
        None,
        int(steps.abs().max()),
    )
