"""AOTAutograd's joint graph of forward and backward, of models that people train: its
products, summed by a count of their own, are the law's."""

from __future__ import annotations

from typing import Any

import pandas as pd
import torch

import flopratio as fr
from experiments.arbiters.joint_graph import count, joint_graph
from experiments.arbiters.zoo import MODELS, cross_entropy
from experiments.claims import Claim, conclude, panels
from flopratio.report.figures.style import REFERENCE

ARBITER = "AOTAutograd, joint graph"
COLUMNS = ("forward", "backward")


def compare(name: str) -> dict[str, Any]:
    """One model: FLOP of the joint graph's products, and those of the law."""
    torch.manual_seed(0)
    model, batch = MODELS[name]()
    graph = joint_graph(model, batch, cross_entropy)
    joint = count(graph)
    ledger = fr.count(model, batch, loss=cross_entropy)
    law = {
        "forward": ledger.analytic["forward"],
        "backward": ledger.analytic["grad_input"] + ledger.analytic["grad_weight"],
    }
    return {
        "model": name,
        "nodes": len(graph.nodes),
        "products": joint.products,
        **{f"joint_{column}": getattr(joint, column) for column in COLUMNS},
        **{f"law_{column}": law[column] for column in COLUMNS},
        "joint_recompute": joint.recompute,
    }


def draw_equal(frame: pd.DataFrame, axes: Any) -> None:
    """Backward over forward by both, model by model."""
    places = range(len(frame))
    joint, law = (frame[f"{by}_backward"] / frame[f"{by}_forward"] for by in ("joint", "law"))
    axes.plot(law, places, linestyle="", marker="o", markersize=9, fillstyle="none", label="law")
    axes.plot(joint, places, linestyle="", marker="o", markersize=3, label="joint graph")
    axes.axvline(2, **REFERENCE)
    axes.set_yticks(places, frame["model"], fontsize=6)
    axes.invert_yaxis()
    axes.set_xlabel("backward / forward")
    axes.legend()


def main() -> None:
    frame = pd.DataFrame([compare(name) for name in MODELS])
    claims = [
        Claim(
            f"models whose {column} contractions are the law's, to the integer",
            ARBITER,
            len(frame),
            int((frame[f"joint_{column}"] == frame[f"law_{column}"]).sum()),
        )
        for column in COLUMNS
    ]
    conclude(
        "arbiters_joint_graph",
        frame,
        panels(
            "The joint graph's products and the law",
            lambda axes: draw_equal(frame, axes),
            width=6,
            height=5.5,
        ),
        claims,
    )
