"""A network of one hidden layer, with biases and weight decay, forward and backward written out in
NumPy line by line: its gradients are autograd's, and the FLOP of its lines the ledger's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

import flopratio as fr
from experiments.claims import Claim, conclude, panels
from flopratio.report.figures.style import ORANGE

BOOK = "Zhang et al., Dive into Deep Learning, 5.3.1 and 5.3.3: forward and backward by hand"

N, D, H, Q = 64, 784, 256, 10
"""Examples, inputs, hidden units, outputs."""

DECAY = 0.01


@dataclass
class Line:
    """One line of the computation.

    Args:
        text: as the book has it.
        phase: forward, grad_input or grad_weight.
        flops: of its products.
        elementwise: its other FLOP.
        result: what it gives.
    """

    text: str
    phase: str
    flops: int
    elementwise: int
    result: np.ndarray


def by_hand(x: Any, y: Any, w1: Any, b1: Any, w2: Any, b2: Any) -> dict[str, Line]:
    """Every line; a product with the shapes [a, b] and [b, c] is 2 a b c FLOP."""
    lines: dict[str, Line] = {}

    def line(
        name: str, text: str, phase: str, result: Any, product: int = 0, elementwise: int = 0
    ) -> Any:
        lines[name] = Line(f"{name} = {text}", phase, 2 * product, elementwise, result)
        return result

    forward, inputs, weights = "forward", "grad_input", "grad_weight"
    z = line("Z", "X W1ᵀ + b1", forward, x @ w1.T + b1, N * D * H, N * H)
    h = line("H", "max(Z, 0)", forward, np.maximum(z, 0), 0, N * H)
    o = line("O", "H W2ᵀ + b2", forward, h @ w2.T + b2, N * H * Q, N * Q)
    # A difference and a square an element, and their sum.
    loss = line("L", "Σ (O - Y)²", forward, ((o - y) ** 2).sum(), 0, 3 * N * Q)
    # A square an element and their sum, of both; the factor; and two more sums.
    decay = DECAY * ((w1**2).sum() + (w2**2).sum())
    squares = 2 * (w1.size + w2.size) + 2
    s = line("s", "λ (Σ W1² + Σ W2²)", forward, decay, 0, squares)
    line("J", "L + s", forward, loss + s, 0, 1)

    # 2 and the upstream gradient of 1, each a multiplication.
    d_o = line("dO", "2 (O - Y)", inputs, 2 * (o - y), 0, 2 * N * Q)
    d_h = line("dH", "dO W2", inputs, d_o @ w2, N * Q * H)
    d_z = line("dZ", "dH where Z > 0", inputs, d_h * (z > 0), 0, N * H)
    line("db2", "Σ dO", weights, d_o.sum(0), 0, N * Q)
    line("db1", "Σ dZ", weights, d_z.sum(0), 0, N * H)
    # The decay's gradient: the factor; 2 and the upstream one, each a multiplication; its sum.
    line("dW2", "dOᵀ H + 2 λ W2", weights, d_o.T @ h + 2 * DECAY * w2, N * Q * H, 3 * w2.size)
    line("dW1", "dZᵀ X + 2 λ W1", weights, d_z.T @ x + 2 * DECAY * w1, N * H * D, 3 * w1.size)
    line("ds", "λ", weights, DECAY, 0, 1)
    return lines


def main() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(D, H), nn.ReLU(), nn.Linear(H, Q)).double()
    x, y = torch.rand(N, D).double(), torch.rand(N, Q).double()
    first, last = network[0].weight, network[2].weight
    with fr.Profiler(network) as profiler:
        decay = DECAY * (first.square().sum() + last.square().sum())
        objective = (network(x) - y).square().sum() + decay
        objective.backward()
    ledger = profiler.ledger

    parameters = [parameter.detach().numpy() for parameter in network.parameters()]
    lines = by_hand(x.numpy(), y.numpy(), *parameters)
    rows = [
        {
            "line": line.text,
            "phase": line.phase,
            "shape": "x".join(map(str, np.shape(line.result))) or "scalar",
            "flops": line.flops,
            "elementwise": line.elementwise,
        }
        for line in lines.values()
    ]
    frame = pd.DataFrame(rows)
    total = ledger.totals
    summed = frame.groupby("phase")[["flops", "elementwise"]].sum()
    gradients = [
        np.abs(lines[name].result - parameter.grad.numpy()).max()
        for name, parameter in zip(("dW1", "db1", "dW2", "db2"), network.parameters(), strict=True)
    ]

    def draw(axes: Any) -> None:
        shown = frame[frame["flops"] + frame["elementwise"] > 1].iloc[::-1]
        axes.barh(shown["line"], shown["flops"], label="products")
        axes.barh(
            shown["line"], shown["elementwise"], left=shown["flops"], color=ORANGE, label="other"
        )
        axes.set_xscale("log")
        axes.set_xlabel("FLOP")
        axes.legend()
        axes.grid(visible=False, axis="y")

    other = summed["elementwise"]
    other_backward = other["grad_input"] + other["grad_weight"]
    conclude(
        "by_hand_mlp",
        frame,
        panels(f"One hidden layer, line by line: batch {N}, {D}-{H}-{Q}", draw, width=6),
        [
            Claim(
                "the objective by hand is autograd's (float64)",
                BOOK,
                None,
                bool(np.isclose(lines["J"].result, objective.item(), rtol=1e-12)),
            ),
            Claim("so are the four gradients (float64)", BOOK, None, bool(max(gradients) < 1e-10)),
            *(
                Claim(
                    f"FLOP of the lines of {phase} sum to the ledger's: {flops:,}",
                    BOOK,
                    None,
                    bool(flops == getattr(total, phase)),
                )
                for phase, flops in summed["flops"].items()
            ),
            Claim(
                f"their other FLOP too, forward: {other['forward']:,}",
                BOOK,
                None,
                bool(other["forward"] == total.elementwise_forward),
            ),
            Claim(
                f"and backward: {other_backward:,}",
                BOOK,
                None,
                bool(other_backward == total.elementwise_backward),
            ),
            Claim(
                "the network's ratio: 1 of the first layer, 2 of the small other",
                BOOK,
                None,
                total.ratio,
            ),
        ],
    )
