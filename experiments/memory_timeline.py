"""The memory of one training step of GPT-2 over its operators: rising in forward, falling in
backward."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

import flopratio as fr
from experiments.claims import Claim, conclude
from flopratio.report.figures import memory_timeline

BLOG = "PyTorch blog 2023, Understanding GPU Memory 1, the saw-tooth of a training step"


def main() -> None:
    memory = fr.count("hf:gpt2", 8, seq=1024, optimizer="adamw").memory
    frame = pd.DataFrame(
        memory.at_peak.by_category.items(), columns=["category", "bytes_at_peak"], dtype=object
    )

    def draw(directory: Path) -> Sequence[Path]:
        paths = [directory / f"timeline.{extension}" for extension in ("png", "svg")]
        for path in paths:
            memory_timeline(memory, path, "hf:gpt2 batch=8 seq=1024, adamw")
        return paths

    at_peak = memory.at_peak.by_category
    conclude(
        "memory_timeline",
        frame,
        draw,
        [
            Claim("memory peaks where backward begins", BLOG, "backward", memory.peak_phase),
            Claim(
                "at the peak, activations are the largest part",
                BLOG,
                "saved_activations",
                max(at_peak, key=lambda category: at_peak[category]),
            ),
        ],
    )
