"""Rows of a sweep to draw, and the words of what is drawn."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

TIMES = ("forward_ms", "backward_ms", "update_ms")


def row(depth: int, batch: int, *, model: str = "mlp", measured: bool = True) -> dict:
    """A point of an MLP of ``depth + 1`` layers of 8 units whose first layer has 8 inputs too."""
    forward = 128 * batch * (depth + 1)
    backward = 2 * forward - 128 * batch
    update = 2 * 72 * (depth + 1)
    times: dict = dict.fromkeys([*TIMES, "time_ratio", "time_ratio_low", "time_ratio_high"], None)
    if measured:
        times = {"forward_ms": 2.0, "backward_ms": 3.0, "update_ms": 5.0}
        times |= {"time_ratio": 1.5, "time_ratio_low": 1.4, "time_ratio_high": 1.7}
    return {
        "model": model,
        "depth": depth,
        "batch": batch,
        "forward": forward,
        "ratio": backward / forward,
        "ratio_with_update": (backward + update) / forward,
        "first_layer_share": 128 * batch / forward,
        "saved_bytes": 1024 * batch * (depth + 1) + 4,
        "peak_bytes": 2048 * (depth + 1) + 1024 * batch * (depth + 1),
        "inference_peak_bytes": 1024 * (depth + 1) + 1024 * batch,
        "checkpointed_saved_bytes": 1024 * batch + 4,
        "checkpointed_peak_bytes": 2048 * (depth + 1) + 1024 * batch,
        "checkpointed_recompute": forward // 2,
        **times,
        "status": "ok",
    }


def frame_of(*rows: dict) -> pd.DataFrame:
    return pd.DataFrame(rows, dtype=object)


def texts(paths: list[Path]) -> list[str]:
    """The words in a figure: matplotlib writes each as a comment beside its outlines."""
    svg = next(path for path in paths if path.suffix == ".svg")
    return re.findall(r"<!-- (.*?) -->", svg.read_text())
