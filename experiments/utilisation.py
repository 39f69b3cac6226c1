"""The utilisation that papers print, from exact counts, their own times and the datasheets' peaks:
model FLOPs per second over the peak (MFU), or those executed (HFU)."""

from __future__ import annotations

from typing import Any

import pandas as pd
import torch

from experiments.claims import Claim, conclude, panels, reference
from experiments.literature.gpt import Sizes, tokens, weightless
from experiments.literature.palm import PaLM
from experiments.literature.steps import Counts, of_layers

MEGATRON = "Narayanan et al. 2021, arXiv:2104.04473, table 1"
PALM = "Chowdhery et al. 2022 (PaLM), arXiv:2204.02311, table 3"
KORTHIKANTI = "Korthikanti et al. 2022, arXiv:2205.05198, table 5"

A100 = 312e12
"""FLOP/s in bfloat16 without sparsity, NVIDIA's datasheet; TPU v4's is in PaLM's table."""


def main() -> None:
    found = [*megatron(), *palm(), *korthikanti()]
    frame = pd.DataFrame([row for row, _ in found])

    def draw(axes: Any) -> None:
        shown = frame[frame["printed"] != ""]
        groups = shown.groupby(["paper", "figure"], sort=False)
        for marker, ((paper, figure), some) in zip("os^DvXP", groups, strict=True):
            style = {"linestyle": "", "marker": marker, "label": f"{paper}, {figure}"}
            printed = some["printed"].str.removesuffix("%").astype(float)
            axes.plot(printed, 100 * some["ours"], **style)
        axes.axline((45, 45), slope=1, color="black", linewidth=1)
        axes.set(xlabel="as printed, %", ylabel="from exact counts, %")
        axes.legend(fontsize=7)

    conclude(
        "utilisation",
        frame,
        panels("Utilisation, from exact counts", draw, width=6),
        [claim for _, claim in found],
    )


Found = tuple[dict[str, Any], Claim]


def found(
    source: str, model: str, figure: str, printed: str, ours: float, reason: str = ""
) -> Found:
    """A row and a claim. Not printed: ""."""
    row = {"paper": source.partition(",")[0], "model": model, "figure": figure}
    claim = Claim(f"{model}: {figure}", source, printed or None, ours, reason)
    return {**row, "printed": printed, "ours": round(ours, 6)}, claim


def gpt(row: dict[str, str], **more: Any) -> Counts:
    layers, width, heads = (int(row[name]) for name in ("layers", "hidden", "heads"))

    def model(few: int) -> torch.nn.Module:
        return weightless(Sizes(few, width, heads, 51200, 2048, **more))

    return of_layers(model, layers, tokens(1, 2048))


def megatron() -> list[Found]:
    """Its throughputs are of executed FLOPs, with every layer computed again."""
    results = []
    for row in reference("megatron2021_table1").to_dict("records"):
        counts = gpt(row, recompute=True)
        seconds = (
            counts.hardware_flops
            * int(row["batch"])
            / (int(row["gpus"]) * float(row["TFLOPs_per_gpu"]) * 1e12)
        )
        peak = int(row["gpus"]) * A100
        size, rate = row["params_B"], row["TFLOPs_per_gpu"]
        name = f"{size}B at {rate} TFLOP/s, an iteration in {seconds:.1f} s"
        hardware, model = (
            flops * int(row["batch"]) / seconds / peak
            for flops in (counts.hardware_flops, counts.model_flops)
        )
        results.append(found(MEGATRON, name, "HFU", f"{row['pct_peak']}%", hardware))
        if row["params_B"] in ("1.7", "1008.0"):
            results.append(found(MEGATRON, name, "MFU", "", model))
    return results


def palm() -> list[Found]:
    """The utilisation of its largest model, and of Megatron-Turing NLG by its count."""
    table = reference("palm_mfu").set_index("model")
    (largest,) = reference("palm_flops_per_token").query("model == '540B'").to_dict("records")

    def model(few: int) -> torch.nn.Module:
        with torch.device("meta"):
            return PaLM.of_row(largest, layers=few)

    turing = {"layers": "105", "hidden": "20480", "heads": "128"}
    counted = {
        "PaLM 540B": of_layers(model, int(largest["layers"]), tokens(1, 2048)),
        "MT-NLG 530B": gpt(turing),
    }
    results = []
    for name, counts in counted.items():
        row = table.loc[name]
        peak = int(row["accelerators"].partition(" ")[0]) * float(row["peak_TFLOPs"]) * 1e12
        rate = float(row["tokens_per_s"]) / 2048 / peak
        flops = {
            "MFU without attention": (counts.model_flops - 3 * counts.attention, "MFU_no_attn_pct"),
            "MFU": (counts.model_flops, "MFU_pct"),
            "HFU, if all is computed again": (counts.model_flops + counts.forward, "HFU_pct"),
        }
        for figure, (each, column) in flops.items():
            if row[column]:
                reason = (
                    "which activations are computed again the paper doesn't say: 3/4 of forward "
                    "comes to its figure"
                    if column == "HFU_pct"
                    else "of the 530 B parameters that it multiplies with 6"
                )
                results.append(found(PALM, name, figure, f"{row[column]}%", each * rate, reason))
    return results


def korthikanti() -> list[Found]:
    """With sequence parallelism and selective recompute: of attention, whose two products are
    evaluated again."""
    results = []
    for row in reference("korthikanti_table3_5_end2end").to_dict("records"):
        counts = gpt(row)
        capacity = float(row["present_s"]) * int(row["gpus"]) * A100
        batch = int(row["global_batch"])
        flops = {
            "MFU": counts.model_flops,
            "HFU by its equation 8": counts.model_flops + 3 * counts.attention,
            "HFU": counts.model_flops + counts.attention,
        }
        seconds = row["present_s"]
        rounded = f"the time, {seconds} s, is rounded: {0.005 / float(seconds):.2%} either way"
        reasons = {
            "MFU": rounded,
            "HFU by its equation 8": rounded,
            "HFU": "equation 8 adds attention's products three times, once for each of a step's; "
            "forward's alone are computed again",
        }
        for figure, each in flops.items():
            printed = f"{row['MFU_pct' if figure == 'MFU' else 'HFU_pct']}%"
            ours = each * batch / capacity
            results.append(found(KORTHIKANTI, row["model"], figure, printed, ours, reasons[figure]))
    return results
