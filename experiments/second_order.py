"""A gradient of a gradient, reverse over reverse and forward over reverse, against depth; and a
Jacobian against a product with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.autograd import functional, grad

import flopratio as fr
from experiments.claims import Claim, conclude, panels

BOUNDS = "Griewank & Walther 2008, Evaluating Derivatives"
SURVEY = "Baydin et al. 2018, JMLR 18(153), 3.2"
PEARLMUTTER = "Pearlmutter 1994, Fast Exact Multiplication by the Hessian"

DEPTHS = [1, 2, 4, 8, 16, 32]
BATCH, WIDTH = 8, 64


def main() -> None:
    frame = pd.DataFrame([of_depth(depth) for depth in DEPTHS])
    times = frame.set_index("depth")
    for column in ("gradient", "reverse_over_reverse", "forward_over_reverse"):
        frame[f"{column}_over_forward"] = frame[column] / frame["forward"]
        times[column] /= times["forward"]
    deepest = times.loc[DEPTHS[-1]]
    product_of_hessian = deepest["forward_over_reverse"] / deepest["gradient"]
    jacobian, product = jacobian_of(4)

    def draw(axes: Any) -> None:
        for column in ("gradient", "reverse_over_reverse", "forward_over_reverse"):
            axes.plot(DEPTHS, times[column], label=column.replace("_", " "))
        for limit in (3, 9):
            axes.axhline(limit, color="black", linewidth=1)
        axes.set_xscale("log", base=2)
        axes.set_xticks(DEPTHS, [str(depth) for depth in DEPTHS])
        axes.set(xlabel="layers", ylabel="FLOP : those of a forward", ylim=0)
        axes.legend()

    conclude(
        "second_order",
        frame,
        panels("A gradient of a gradient tends to 9 forwards", draw),
        [
            Claim(
                "a gradient costs at most 3 evaluations, in multiplications: of 32 layers",
                f"{BOUNDS}, the cheap gradient principle",
                "at most 3",
                deepest["gradient"],
            ),
            Claim(
                "and typically 2 to 3",
                SURVEY,
                "2 to 3",
                deepest["gradient"],
            ),
            Claim(
                "and at most 3 again of the gradient: reverse over reverse, in gradients",
                f"{BOUNDS}, the cheap gradient principle",
                "at most 3",
                deepest["reverse_over_reverse"] / deepest["gradient"],
            ),
            *(
                Claim(
                    f"{name.replace('_', ' ')}, in evaluations: of {DEPTHS[-1]} layers",
                    BOUNDS,
                    None,
                    deepest[name],
                )
                for name in ("forward_over_reverse", "reverse_over_reverse")
            ),
            Claim(
                "each derivative multiplies by 3, so that with depth both tend to 9: each deeper "
                "network is nearer, and none beyond",
                BOUNDS,
                None,
                all(
                    times[column].is_monotonic_increasing and times[column].max() < 9
                    for column in ("reverse_over_reverse", "forward_over_reverse")
                ),
            ),
            Claim(
                "a Hessian times a vector costs about as much as a gradient",
                PEARLMUTTER,
                None,
                product_of_hessian < 1.5,
                f"{product_of_hessian:.2f} gradients, itself included: each of its products stays, "
                "and becomes two in its tangent",
            ),
            Claim(
                "the Jacobian of 64 outputs takes 64 products with it, in backward",
                SURVEY,
                WIDTH,
                jacobian / product,
            ),
        ],
    )


def network(depth: int) -> nn.Sequential:
    layers = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(depth))
    return nn.Sequential(*(module for layer in layers for module in (layer, nn.Tanh())))


def executed(step: Callable[[], Any], model: nn.Module) -> fr.Ledger:
    with fr.Profiler(model) as profiler:
        step()
    assert profiler.ledger.uncounted_ops == {}
    return profiler.ledger


def flops(ledger: fr.Ledger) -> int:
    """Of all products."""
    return sum(row.flops for row in ledger.rows)


def of_depth(depth: int) -> dict[str, int]:
    """FLOP of a loss, of its gradient by the weights, and of that one's derivatives."""
    model, x = network(depth), torch.rand(BATCH, WIDTH)
    weights = dict(model.named_parameters())

    def loss(weights: dict[str, Tensor]) -> Tensor:
        return torch.func.functional_call(model, weights, (x,)).square().sum()

    def reverse_over_reverse() -> None:
        gradient = grad(loss(weights), list(weights.values()), create_graph=True)
        grad(sum(each.square().sum() for each in gradient), list(weights.values()))

    def forward_over_reverse() -> None:
        along = {name: torch.ones_like(weight) for name, weight in weights.items()}
        at = {name: weight.detach() for name, weight in weights.items()}
        torch.func.jvp(torch.func.grad(loss), (at,), (along,))

    steps: dict[str, Callable[[], Any]] = {
        "forward": lambda: loss(weights),
        "gradient": lambda: grad(loss(weights), list(weights.values())),
        "reverse_over_reverse": reverse_over_reverse,
        "forward_over_reverse": forward_over_reverse,
    }
    return {"depth": depth} | {name: flops(executed(step, model)) for name, step in steps.items()}


def jacobian_of(depth: int) -> tuple[int, int]:
    """Backward FLOP of the Jacobian of an example, and of a vector times it."""
    model, x = network(depth), torch.rand(WIDTH)
    whole = executed(lambda: functional.jacobian(model, x), model)
    product = executed(lambda: functional.vjp(model, x, torch.ones(WIDTH)), model)
    return whole.totals.backward, product.totals.backward
