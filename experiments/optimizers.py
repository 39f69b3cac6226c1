"""What an optimizer's update costs: FLOP and bytes of state per parameter, and its share of a
training step's FLOPs against the batch."""

from __future__ import annotations

from typing import Any

import pandas as pd

import flopratio as fr
from experiments.claims import Claim, conclude, panels, reference

ARTICLE = "Hobbhahn & Sevilla 2021, appendix B"
ANATOMY = "Hugging Face transformers, docs: model training anatomy"
ZERO = "Rajbhandari et al. 2020 (ZeRO), arXiv:1910.02054"
OPTIMIZERS = ["sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamw"]
BATCHES = [2**power for power in range(0, 13, 2)]
GPT2_XL: dict[str, Any] = {"n_layer": 48, "n_embd": 1600, "n_head": 25}


def costs(optimizer: str, batch: int) -> dict[str, Any]:
    """An MLP's step with an optimizer."""
    ledger = fr.count("mlp", batch, optimizer=optimizer)
    totals, state = ledger.totals, ledger.memory["optimizer_state"]
    return {
        "optimizer": optimizer,
        "batch": batch,
        "parameters": totals.parameters,
        "update": totals.update,
        "optimizer_state": state,
        "flop_per_parameter": totals.update / totals.parameters,
        "bytes_per_parameter": state / totals.parameters,
        "update_share": totals.update / (totals.forward + totals.backward + totals.update),
    }


def main() -> None:
    frame = pd.DataFrame([costs(name, batch) for name in OPTIMIZERS for batch in BATCHES])
    by_name = frame[frame["batch"] == 1].set_index("optimizer")
    flop, nbytes = by_name["flop_per_parameter"], by_name["bytes_per_parameter"]
    share = frame.set_index(["optimizer", "batch"])["update_share"]
    flops_of = {name: frame[frame["optimizer"] == name]["update"].nunique() for name in OPTIMIZERS}

    printed = {
        row["item"]: row["value"]
        for row in reference("zero_optimizer_and_activation_memory").to_dict("records")
    }
    xl = fr.count("hf:gpt2", 1, seq=1024, optimizer="adam", amp="bf16", **GPT2_XL)
    states = sum(xl.memory[part] for part in ("parameters", "gradients", "optimizer_state"))

    def cost(axes: Any) -> None:
        places = range(len(OPTIMIZERS))
        axes.bar([x - 0.2 for x in places], flop, 0.4, label="FLOP of an update")
        axes.bar([x + 0.2 for x in places], nbytes, 0.4, label="bytes of state")
        axes.set_xticks(places, OPTIMIZERS, rotation=30)
        axes.set_ylabel("per parameter")
        axes.legend()

    def shares(axes: Any) -> None:
        for name in ("sgd", "momentum", "rmsprop", "adamw"):
            axes.plot(BATCHES, 100 * share[name], label=name)
        axes.set_xscale("log", base=2)
        axes.set_xlabel("batch")
        axes.set_ylabel("% of a step's FLOPs in the update")
        axes.legend()

    conclude(
        "optimizers",
        frame,
        panels("An update costs the same at every batch, and fades", cost, shares),
        [
            Claim("SGD: FLOP a parameter", ARTICLE, 2, flop["sgd"]),
            Claim(
                "Adam: FLOP a parameter",
                ARTICLE,
                "18",
                flop["adam"],
                reason="the article corrects both moments parameter by parameter (3 + 4 + 3 + 3 + "
                "5); torch folds the corrections into two scalars of the step",
            ),
            *(
                Claim(f"{label}: FLOP a parameter, as torch runs it", ARTICLE, None, flop[name])
                for name, label in {
                    "momentum": "momentum",
                    "nesterov": "Nesterov",
                    "adagrad": "AdaGrad",
                    "rmsprop": "RMSProp",
                    "adamw": "AdamW",
                }.items()
            ),
            Claim("AdamW: bytes of state a parameter", ANATOMY, "8", nbytes["adamw"]),
            Claim("Adam: bytes of state a parameter", ANATOMY, "8", nbytes["adam"]),
            Claim("momentum: bytes of state a parameter", ANATOMY, "4", nbytes["momentum"]),
            Claim(
                "Nesterov, AdaGrad and RMSProp keep one state, as momentum does",
                ANATOMY,
                None,
                {round(nbytes[name], 2) for name in ("nesterov", "adagrad", "rmsprop")} == {4},
            ),
            Claim("SGD keeps nothing", ANATOMY, None, bool(nbytes["sgd"] == 0)),
            Claim(
                "Adam with mixed precision: bytes a parameter of weights, gradients and state",
                ZERO,
                printed["mixed-precision Adam total"],
                states / xl.totals.parameters,
            ),
            Claim(
                "GPT-2 1.5B: GB of weights, gradients and state",
                ZERO,
                printed["GPT-2 1.5B model states"],
                states / 1e9,
                reason=f"the model has {xl.totals.parameters / 1e9:.3f} billion parameters; the "
                "paper multiplies 16 by 1.5",
            ),
            Claim(
                "an update's FLOPs are the same at every batch",
                ARTICLE,
                None,
                set(flops_of.values()) == {1},
            ),
            Claim(
                "the ratio of 2:1 holds with Adam too, at batch 4,096: the update's share is "
                "below 1%",
                ARTICLE,
                None,
                bool(share["adam", 4096] < 0.01),
            ),
            Claim("AdamW's share of a step at batch 1", ARTICLE, None, share["adamw", 1]),
        ],
    )
