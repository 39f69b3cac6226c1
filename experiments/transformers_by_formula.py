"""What papers print of transformers' FLOPs, parameters and memory, beside the ledger of a traced
step of each of their models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import pandas as pd
import torch

from experiments.claims import Claim, conclude, panels, reference
from experiments.literature import gpt3 as gpt3_paper
from experiments.literature.chinchilla import CONTEXT, chinchilla
from experiments.literature.gpt import Block, Sizes, tokens, weightless
from experiments.literature.palm import PaLM
from experiments.literature.reference import evaluate
from experiments.literature.steps import Counts, counts_of, of_layers, trained
from experiments.printed import Published, verdict_of

NANOGPT = "nanoGPT, transformer_sizing.ipynb"
MEGATRON = "Narayanan et al. 2021, arXiv:2104.04473"
KORTHIKANTI = "Korthikanti et al. 2022, arXiv:2205.05198"
PALM = "Chowdhery et al. 2022 (PaLM), arXiv:2204.02311"
CHINCHILLA = "Hoffmann et al. 2022 (Chinchilla), arXiv:2203.15556, table A4"
GPT3 = "Brown et al. 2020 (GPT-3), arXiv:2005.14165, table D.1"
ZERO_BUBBLE = "Qi et al. 2024 (Zero Bubble), arXiv:2401.10241"

Rows = list[dict[str, Any]]
"""What is printed and what was counted, one figure a row."""


def main() -> None:
    rows: Rows = []
    claims = [
        *nanogpt(rows),
        *megatron(rows),
        *korthikanti(rows),
        *palm(rows),
        *of_chinchilla(rows),
        *gpt3(rows),
        *zero_bubble(rows),
    ]
    frame = pd.DataFrame(rows, columns=["paper", "model", "figure", "printed", "ours"])
    numbers = frame[frame["printed"].str.fullmatch(r"[\d.E+]+%?")]

    def draw(axes: Any) -> None:
        for marker, (paper, some) in zip(
            "os^DvXP", numbers.groupby("paper", sort=False), strict=True
        ):
            printed, ours = some["printed"].astype(float), some["ours"].astype(float)
            axes.plot(printed, ours / printed, linestyle="", marker=marker, label=paper)
        axes.axhline(1, color="black", linewidth=1)
        axes.set(xscale="log", xlabel="as printed", ylabel="counted : printed")
        axes.legend(fontsize=7)

    frame["ours"] = [
        f"{ours:.6g}" if isinstance(ours, float) else str(ours)
        for ours in (row["ours"] for row in rows)
    ]
    conclude(
        "transformers_by_formula",
        frame,
        panels("What papers print of transformers, counted again", draw, width=6),
        claims,
    )


def note(rows: Rows, source: str, model: str, figure: str, printed: Published, ours: Any) -> bool:
    """Add a row; whether the figure is as printed, to its digits."""
    paper = source.partition(",")[0]
    rows.append(dict(zip(("paper", "model", "figure"), (paper, model, figure), strict=True)))
    rows[-1] |= {"printed": str(printed), "ours": ours}
    return verdict_of(printed, ours)[0] == "reproduced"


def all_of(claim: str, source: str, held: Iterable[bool], reason: str = "") -> Claim:
    """A claim of many rows; how many hold, of how many."""
    held = list(held)
    return Claim(f"{claim}: rows as printed", source, len(held), sum(held), reason)


def gpt(layers: int, width: int, heads: int, vocabulary: int, context: int, **more: Any) -> Counts:
    sizes = Sizes(layers, width, heads, vocabulary, context, **more)
    return of_layers(lambda few: weightless(replace(sizes, layers=few)), layers, tokens(1, context))


def nanogpt(rows: Rows) -> list[Claim]:
    printed = reference("nanogpt_gpt2_124M").set_index("item")["value"].astype(int)
    counts = counts_of(
        trained(weightless(Sizes(12, 768, 12, 50257, 1024, bias=False)), tokens(1, 1024))
    )
    figures = {
        "params/total": counts.parameters + counts.norms + counts.positions,
        "fwd/total": counts.forward,
        "bwd/total": counts.backward,
        "train/total": counts.model_flops,
        "train/palm_formula": counts.model_flops,
    }
    for name, ours in figures.items():
        note(rows, NANOGPT, "GPT-2 124M", name, int(printed[name]), ours)
    return [
        Claim(
            f"GPT-2 124M: {name}",
            NANOGPT,
            int(printed[name]),
            ours,
            f"6 N counts the {counts.norms:,} parameters of norms, which no product reads",
        )
        for name, ours in figures.items()
    ]


def megatron(rows: Rows) -> list[Claim]:
    table = reference("megatron2021_table1")
    found, held, equal = {}, [], []
    for row in table.to_dict("records"):
        sizes = (int(row[name]) for name in ("layers", "hidden", "heads"))
        counts = found[row["params_B"]] = gpt(*sizes, 51200, 2048, recompute=True)
        parameters = counts.parameters + counts.norms + counts.positions
        flops = counts.hardware_flops * int(row["batch"])
        held.append(
            note(
                rows,
                MEGATRON,
                row["params_B"],
                "parameters, 1e9",
                row["params_B"],
                parameters / 1e9,
            )
        )
        equal.append(
            note(
                rows,
                MEGATRON,
                row["params_B"],
                "FLOP of an iteration, equation 3",
                row["flops_per_iter_DERIVED"],
                float(flops),
            )
        )
    return [
        all_of("parameters", f"{MEGATRON}, table 1", held),
        all_of(
            "executed FLOP of an iteration, by equation 3",
            f"{MEGATRON}, table 1 and equation 3",
            equal,
        ),
        *(
            claim
            for row, size in zip(
                reference("megatron2021_training_time").to_dict("records"),
                ("145.6", "1008.0"),
                strict=True,
            )
            for claim in training_time(row, found[size])
        ),
    ]


def training_time(row: Mapping[str, str], counts: Counts) -> Iterable[Claim]:
    """The days at the printed rate, and the rate that the printed days imply. GPT-3 has 96 of the
    145.6B's layers, so that its own are counted."""
    if row["model"] == "GPT-3":
        counts = gpt(96, 12288, 96, 51200, 2048, recompute=True)
    teraflops = counts.hardware_flops / 2048 * float(row["tokens"]) / 1e12
    gpu_days = int(row["gpus"]) * 86400
    reason = (
        "8 T P leaves out the products of attention and the logits, which the throughput counts"
    )
    yield Claim(
        f"{row['model']} on {row['gpus']} GPUs at {row['TFLOPs']} TFLOP/s each: days of training",
        f"{MEGATRON}, section 5.1",
        f"{row['days']} days",
        teraflops / gpu_days / float(row["TFLOPs"]),
        reason,
    )
    yield Claim(
        f"{row['model']} on {row['gpus']} GPUs in {row['days']} days: TFLOP/s of each, as implied",
        f"{MEGATRON}, section 5.1",
        row["TFLOPs"],
        teraflops / gpu_days / float(row["days"]),
        reason,
    )


def korthikanti(rows: Rows) -> list[Claim]:
    table2 = reference("korthikanti_table2_act_mem").set_index("config")["bytes_per_layer_formula"]
    whole, parts = [], []
    for row in reference("korthikanti_table3_5_end2end").to_dict("records"):
        s, h, a, b = (int(row[name]) for name in ("seq", "hidden", "heads", "micro_batch"))
        b = max(b, 2)  # a batch of one needs fewer copies
        with torch.device("meta"):
            block = Block(Sizes(1, h, a, vocabulary=0, context=s, dropout=0.1)).bfloat16()
            x = torch.empty(b, s, h, dtype=torch.bfloat16, requires_grad=True)
        memory = trained(block, x).memory
        kept = [block for block in memory.blocks if block.category == "saved_activations"]
        statistics = 2 * 2 * 4 * s * b  # of the two norms, which the paper leaves out
        total = memory["saved_activations"] - statistics
        masks = sum(block.nbytes for block in kept if block.layer == "attention.dropout")
        softmax = sum(block.nbytes for block in kept if block.op == "aten._softmax")
        names = {"s": s, "b": b, "h": h, "a": a}
        printed = eval(table2["no parallelism"], {}, names)
        whole.append(note(rows, KORTHIKANTI, row["model"], "bytes of a layer", int(printed), total))
        share = f"{5 * a * s / h:.0f}"
        parts.append(
            note(
                rows, KORTHIKANTI, row["model"], "5 a s / h", share, (masks + softmax) / (s * b * h)
            )
        )
    return [
        all_of("activations of a layer, s b h (34 + 5 a s / h)", f"{KORTHIKANTI}, table 2", whole),
        all_of("of them attention's scores, 5 a s / h", f"{KORTHIKANTI}, section 4.1", parts),
    ]


def palm(rows: Rows) -> list[Claim]:
    claims = []
    for row in reference("palm_flops_per_token").to_dict("records"):
        layers, seq = int(row["layers"]), int(row["seq"])

        def model(few: int, row: dict[str, str] = row, remat: bool = False) -> PaLM:
            with torch.device("meta"):
                return PaLM.of_row(row, remat, few)

        counts = of_layers(model, layers, tokens(1, seq))
        again = of_layers(lambda few: model(few, remat=True), layers, tokens(1, seq))
        figures = {
            "TFLOP_per_token": counts.model_flops / seq / 1e12,
            "TFLOP_per_token_remat": again.hardware_flops / seq / 1e12,
        }
        three_quarters = counts.model_flops + 0.75 * counts.forward
        said = {
            "TFLOP_per_token": "training TFLOP a token",
            "TFLOP_per_token_remat": "with attention computed again",
        }
        for name, ours in figures.items():
            note(rows, PALM, row["model"], said[name], row[name], ours)
            claims.append(
                Claim(
                    f"{row['model']}: {said[name]}",
                    f"{PALM}, tables 1 and 22",
                    row[name],
                    ours,
                    "it computes more than attention again, and doesn't say what: 3/4 of forward "
                    f"would come to {three_quarters / seq / 1e12:.2f}",
                )
            )
    return claims


def of_chinchilla(rows: Rows) -> list[Claim]:
    notebook, table = [], []
    for row in reference("chinchilla_table_A4").to_dict("records"):
        layers = int(row["layers"])

        def model(few: int, row: dict[str, str] = row) -> torch.nn.Module:
            return chinchilla({**row, "layers": str(few)})

        counts = of_layers(model, layers, tokens(1, CONTEXT))
        parameters = counts.parameters + counts.norms
        head = 2 * CONTEXT * 32000 * int(row["d_model"])
        softmax = 3 * layers * int(row["heads"]) * CONTEXT**2
        flops = counts.model_flops - 3 * head + 3 * softmax
        ratio = flops / (6 * parameters * CONTEXT)
        label = row["params_label"]
        notebook.append(
            note(rows, CHINCHILLA, label, "FLOP a sequence", int(row["nanogpt_F_per_seq"]), flops)
        )
        table.append(
            note(
                rows,
                CHINCHILLA,
                label,
                "over 6 N D",
                f"{float(row['flop_ratio_ours_over_6ND']):.2f}",
                ratio,
            )
        )
    return [
        all_of("training FLOP over 6 N D", CHINCHILLA, table),
        all_of("training FLOP of a sequence", "nanoGPT, scaling_laws.ipynb", notebook),
    ]


def gpt3(rows: Rows) -> list[Claim]:
    table = reference("gpt3_table_D1").set_index("model")
    linear, whole = [], {}
    for model, (layers, width) in gpt3_paper.SIZES.items():
        row = table.loc[model]
        counts = gpt(layers, width, width // 64, 50257, 2048)
        tokens_seen = int(row["tokens_B"]) * 10**9 / 2048
        without = (counts.model_flops - 3 * counts.attention) * tokens_seen
        whole[model] = counts.model_flops * tokens_seen
        linear.append(
            note(rows, GPT3, model, "training FLOP but for attention", row["train_flops"], without)
        )
        note(rows, GPT3, model, "training FLOP", row["train_flops"], whole[model])
    return [
        all_of(
            "training FLOP, the products of attention left out",
            GPT3,
            linear,
            "6 N D has positions, biases and norms in N, which no product reads, and N rounded",
        ),
        *(
            Claim(
                f"{model}: training FLOP, in units of 1E{power}",
                GPT3,
                digits,
                whole[model] / 10 ** int(power),
                "6 N D leaves out the products of attention: the narrower a model, the more it is",
            )
            for model in ("GPT-3-175B", "GPT-3-Small")
            for digits, _, power in [table.loc[model, "train_flops"].partition("E+")]
        ),
    ]


def zero_bubble(rows: Rows) -> list[Claim]:
    formulas = {
        row["pass"][0]: row for row in reference("zerobubble_table1_flops_mem").to_dict("records")
    }
    held, ratios = [], {}
    for row in reference("zerobubble_table3_models").to_dict("records"):
        sizes = {
            name: int(row[key])
            for name, key in zip("sbha", ("seq", "microbatch", "hidden", "heads"), strict=True)
        }
        with torch.device("meta"):
            block = Block(Sizes(1, sizes["h"], sizes["a"], vocabulary=0, context=sizes["s"]))
            x = torch.empty(sizes["b"], sizes["s"], sizes["h"], requires_grad=True)
        total = trained(block, x).totals
        for name, ours in zip(
            "FBW", (total.forward, total.grad_input, total.grad_weight), strict=True
        ):
            printed = evaluate(formulas[name]["flops_per_layer_formula"], **sizes)
            held.append(note(rows, ZERO_BUBBLE, row["model"], f"FLOP of {name}", printed, ours))
        ratios[row["model"]] = total.grad_weight / total.forward
    profiled = reference("zerobubble_table9_profiled").drop_duplicates("model").set_index("model")
    return [
        all_of("F, B and W of a layer of the four models", f"{ZERO_BUBBLE}, table 1", held),
        *(
            Claim(
                f"{model}: W takes {measured:.2f} of F, as profiled",
                f"{ZERO_BUBBLE}, table 9",
                f"{measured:.2f}",
                ratios[model],
                "these are times, in which F and B have the elementwise work, and W products alone",
            )
            for model, measured in profiled["meas_W/F"].astype(float).items()
        ),
    ]
