"""Training costs 2 to 3 times what inference does: in FLOPs always, in measured time about, in
memory not at all."""

from __future__ import annotations

from typing import Any

import pandas as pd

import flopratio as fr
from experiments.claims import Claim, conclude, panels

SURVEY = "Baydin et al. 2018, section 3.2: a gradient is typically 2-3 evaluations"
COMPUTE = "Amodei & Hernandez 2018, AI and Compute: 3 for forward and backward pass"
NETWORKS: dict[str, dict[str, Any]] = {
    "mlp": {"depth": [1, 2, 8, 32], "batch": [1, 64, 512]},
    "cnn": {"depth": [0, 4, 16], "batch": [1, 8], "image": 64},
    "transformer": {
        "depth": [1, 2, 8],
        "batch": [1, 8],
        "width": 128,
        "heads": 4,
        "vocabulary": 1000,
        "seq": 128,
    },
}
"""What is counted; the last of each is timed too."""
COUNTS = ["forward", "backward", "update", "peak_bytes", "inference_peak_bytes"]
TIMES = ["forward_ms", "backward_ms", "update_ms"]


def main() -> None:
    swept = [
        fr.sweep(model, measure="none", **keys).assign(network=model)
        for model, keys in NETWORKS.items()
    ]
    frame = pd.concat(swept, ignore_index=True)[["network", "depth", "batch", *COUNTS]]
    frame["flops"] = (frame["forward"] + frame["backward"]) / frame["forward"]
    frame["memory"] = frame["peak_bytes"] / frame["inference_peak_bytes"]
    timed = {}
    for model, keys in NETWORKS.items():
        largest = {
            key: max(value) if isinstance(value, list) else value for key, value in keys.items()
        }
        row = fr.sweep(model, measure="cpu", **largest).iloc[0]
        timed[model] = (row["forward_ms"] + row["backward_ms"]) / row["forward_ms"]
        chosen = (frame["network"] == model) & (frame["depth"] == largest["depth"])
        chosen &= frame["batch"] == largest["batch"]
        for name in TIMES:
            frame.loc[chosen, name] = row[name]
    groups = frame.groupby("network")
    least, most = groups["flops"].min(), groups["flops"].max()
    low, high = groups["memory"].min(), groups["memory"].max()

    def flops(axes: Any) -> None:
        for model in NETWORKS:
            rows = frame[(frame["network"] == model) & (frame["batch"] == 1)]
            axes.plot(rows["depth"], rows["flops"], label=model)
        axes.axhspan(2, 3, color="#EEEEEE", zorder=0)
        axes.set_xlabel("depth")
        axes.set_ylabel("training : inference, FLOPs")
        axes.legend()

    def memory(axes: Any) -> None:
        for model in NETWORKS:
            batch = max(NETWORKS[model]["batch"])
            rows = frame[(frame["network"] == model) & (frame["batch"] == batch)]
            axes.plot(rows["depth"], rows["memory"], label=f"{model}, batch {batch}")
        axes.axhspan(2, 3, color="#EEEEEE", zorder=0)
        axes.set_xlabel("depth")
        axes.set_ylabel("training : inference, peak memory")
        axes.legend()

    conclude(
        "training_vs_inference",
        frame,
        panels("Training is 2 to 3 times inference in FLOPs, not in memory", flops, memory),
        [
            *(
                Claim(
                    f"{model}: forward and backward are 2 to 3 times a forward's FLOPs, the {end}",
                    SURVEY,
                    "2 to 3",
                    bound[model],
                )
                for model in NETWORKS
                for end, bound in (("least", least), ("most", most))
            ),
            Claim(
                "the deepest transformer: 3 times",
                COMPUTE,
                "3",
                most["transformer"],
            ),
            Claim(
                "a deep network's step is 3 times a forward, when the update is counted: mlp of "
                "32 layers at batch 1",
                COMPUTE,
                "3",
                _with_update(frame, "mlp", 32, 1),
                reason="SGD's 2 FLOP a parameter are as many as a forward at batch 1",
            ),
            *(
                Claim(
                    f"{model}: forward and backward take 2 to 3 times a forward's time",
                    SURVEY,
                    "2 to 3",
                    timed[model],
                    reason="time is not FLOPs: launches, memory traffic and the kernels' own "
                    "speeds are in it",
                    measured=True,
                )
                for model in NETWORKS
            ),
            *(
                Claim(
                    f"{model}: training takes 2 to 3 times inference's memory, the {end}",
                    SURVEY,
                    "2 to 3",
                    bound[model],
                    reason="the survey's bound is of operations: memory grows with the depth that "
                    "training keeps, and hardly where weights or inputs are most of it",
                )
                for model in NETWORKS
                for end, bound in (("least", low), ("most", high))
            ),
        ],
    )


def _with_update(frame: pd.DataFrame, model: str, depth: int, batch: int) -> float:
    at = frame.set_index(["network", "depth", "batch"]).loc[(model, depth, batch)]
    return float((at["forward"] + at["backward"] + at["update"]) / at["forward"])
