"""What autograd's nodes compute: the four equations of backpropagation, each with its operator and
FLOP; a product's two gradients by hand; and what stops or repeats a backward."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck

import flopratio as fr
from experiments.claims import Claim, conclude, panels

NIELSEN = "Nielsen 2015, Neural Networks and Deep Learning, chapter 2"
JOHNSON = "Johnson 2017, Backpropagation for a Linear Layer, CS231n"
DOCS = "PyTorch documentation, Autograd mechanics"

BATCH, SIZES = 64, (784, 30, 10)
"""Nielsen's first network, and a batch."""

WHICH = {
    ("SigmoidBackward0", "aten.sigmoid_backward"): "BP1, BP2: times the slope",
    ("AddmmBackward0", "aten.mm", "grad_input"): "BP2: the error, a layer back",
    ("AddmmBackward0", "aten.sum"): "BP3: the bias's gradient",
    ("AddmmBackward0", "aten.mm", "grad_weight"): "BP4: the weight's gradient",
}
"""Autograd's node, the operator and where there are two, the phase -> the equation."""


def main() -> None:
    torch.manual_seed(0)
    network = double(*(layer for pair in pairwise(SIZES) for layer in sigmoid_layer(*pair)))
    x, y = torch.rand(BATCH, SIZES[0]).double(), torch.rand(BATCH, SIZES[-1]).double()

    def quadratic() -> Tensor:
        return (network(x) - y).square().sum() / 2

    ledger = profiled(lambda: quadratic().backward(), network)
    off = equal(by_equations(network, x, y), [p.grad for p in network.parameters()])
    equations = table(ledger)
    by_equation = equations.groupby("equation")[["products", "flops", "elementwise"]].sum()

    ways = pd.DataFrame(ratios(), columns=["case", "forward", "backward"])
    ways["ratio"] = ways["backward"] / ways["forward"]
    ratio = ways.set_index("case")["ratio"]
    total = ledger.totals
    hand, nodes, checked = product_by_hand()
    network_nodes = nodes_of(ledger, "nodes of the network")
    products = network_nodes.set_index("node")["products"]
    ways["part"] = "ways to stop or repeat"
    frame = pd.concat([equations, network_nodes, nodes, ways]).convert_dtypes()
    inner = next(layer for layer in ledger.layers() if layer.name == "2")

    conclude(
        "autograd_nodes",
        frame,
        panels(
            "What autograd's nodes compute",
            lambda axes: bars(axes, by_equation["flops"], "FLOP of products, by equation"),
            lambda axes: bars(axes, ratio, "backward : forward"),
            width=5.6,
        ),
        [
            Claim("BP1 to BP4 by hand are autograd's gradients (float64)", NIELSEN, None, off),
            Claim(
                "BP1 and BP3 have no product",
                NIELSEN,
                0,
                int(by_equation["products"].filter(regex="BP1|BP3").sum()),
            ),
            Claim(
                "a layer's BP2 costs its forward", NIELSEN, "1:1", inner.grad_input / inner.forward
            ),
            Claim(
                "a layer's BP4 costs its forward", NIELSEN, "1:1", inner.grad_weight / inner.forward
            ),
            Claim(
                "backpropagation takes as much as two passes forward through the network",
                NIELSEN,
                "2",
                (inner.forward + inner.backward) / inner.forward,
                "its plausibility argument counts the products with transposed weights, BP2, and "
                "leaves out those with the activations, BP4: an inner layer has both",
            ),
            Claim(
                "the same of the whole network, whose first layer has no BP2",
                NIELSEN,
                "2",
                (total.forward + total.backward) / total.forward,
                "2 of the first layer, 3 of the other",
            ),
            Claim("dX = dY Wᵀ and dW = Xᵀ dY are autograd's (float64)", JOHNSON, None, hand),
            Claim("gradcheck agrees", JOHNSON, None, checked),
            Claim(
                "both gradients of y = X W are under one node, MmBackward0",
                DOCS,
                2,
                int(nodes.loc[nodes["node"] == "MmBackward0", "products"].sum()),
            ),
            Claim(
                "nor is there a product under AccumulateGrad or TBackward0",
                DOCS,
                0,
                int(products["AccumulateGrad"] + products["TBackward0"]),
            ),
            Claim(
                "every product of backward is under AddmmBackward0",
                DOCS,
                total.backward,
                int(network_nodes.set_index("node")["flops"]["AddmmBackward0"]),
            ),
            Claim("a hook sees what becomes .grad", DOCS, None, hook_sees_gradient()),
            Claim("under no_grad nothing is recorded", DOCS, 0, float(ratio["no_grad"])),
            Claim("under inference_mode neither", DOCS, 0, float(ratio["inference_mode"])),
            Claim("detach ends backward there", DOCS, None, bool(ratio["detach"] < ratio["plain"])),
            Claim(
                "all but the last layer frozen: its own 1:1 is all that is left",
                DOCS,
                "1:1",
                last_layer_alone(),
            ),
            Claim(
                "a second backward adds to .grad, with no product more", DOCS, None, accumulates()
            ),
            Claim(
                "a gradient with create_graph, differentiated again: products in backward, of one",
                DOCS,
                None,
                float(ratio["create_graph, one layer"]),
            ),
        ],
    )


def double(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(*layers).double()


def sigmoid_layer(inputs: int, outputs: int) -> tuple[nn.Module, nn.Module]:
    return nn.Linear(inputs, outputs), nn.Sigmoid()


def profiled(step: Callable[[], Any], model: nn.Module | None = None) -> fr.Ledger:
    with fr.Profiler(model) as profiler:
        step()
    return profiler.ledger


@torch.no_grad()
def by_equations(network: nn.Sequential, x: Tensor, y: Tensor) -> list[Tensor]:
    """The gradients of both layers' weights and biases, by BP1 to BP4."""
    first, _, second, _ = network
    a1 = torch.sigmoid(x @ first.weight.T + first.bias)
    a2 = torch.sigmoid(a1 @ second.weight.T + second.bias)
    error2 = (a2 - y) * a2 * (1 - a2)  # BP1
    error1 = (error2 @ second.weight) * a1 * (1 - a1)  # BP2
    return [error1.T @ x, error1.sum(0), error2.T @ a1, error2.sum(0)]  # BP4 and BP3, twice


def equal(ours: list[Tensor], theirs: list[Tensor | None]) -> bool:
    """Whether they are equal but for the last digits."""
    return all(
        theirs_one is not None and torch.allclose(one, theirs_one, rtol=1e-12, atol=1e-12)
        for one, theirs_one in zip(ours, theirs, strict=True)
    )


def table(ledger: fr.Ledger) -> pd.DataFrame:
    """Backward's rows of the layers, by equation."""
    rows = []
    for row in ledger.rows:
        keys = [(row.autograd, row.op, row.phase)[:length] for length in (3, 2)]
        which = next((WHICH[key] for key in keys if key in WHICH), "")
        if which:
            rows.append(
                {
                    "part": "the four equations",
                    "layer": row.layer,
                    "equation": which,
                    "node": row.autograd,
                    "operator": row.op,
                    "shape": shape_of(row.bytes_written, row.layer, row.op),
                    "products": int(row.flops > 0),
                    "flops": row.flops,
                    "elementwise": row.elementwise,
                }
            )
    return pd.DataFrame(rows)


def shape_of(nbytes: int, layer: str, op: str) -> str:
    """The shape of what a backward operator of the network wrote, found by its size."""
    inputs, outputs = SIZES[int(layer) // 2 :][:2]
    shapes = [(outputs,), (outputs, inputs), (BATCH, inputs), (BATCH, outputs)]
    for shape in shapes:
        if nbytes == 8 * torch.Size(shape).numel():
            return "x".join(map(str, shape))
    raise ValueError(f"{op} of layer {layer} wrote {nbytes} bytes: none of {shapes}")


def product_by_hand() -> tuple[bool, pd.DataFrame, bool]:
    """y = X W of X[B, H, D] with the loss Σ y²: by hand, by autograd's nodes, by differences."""
    x = torch.rand(2, 3, 4, dtype=torch.float64, requires_grad=True)
    w = torch.rand(4, 5, dtype=torch.float64, requires_grad=True)
    ledger = profiled(lambda: (x @ w).square().sum().backward())
    with torch.no_grad():
        d_y = 2 * (x @ w)
        by_hand = [d_y @ w.T, torch.einsum("bhd,bho->do", x, d_y)]
    checked = gradcheck(lambda x, w: (x @ w).square().sum(), (x, w))
    return equal(by_hand, [x.grad, w.grad]), nodes_of(ledger, "nodes of y = X W"), checked


def nodes_of(ledger: fr.Ledger, part: str) -> pd.DataFrame:
    """What runs under each of autograd's nodes."""
    rows = [
        {
            "part": part,
            "node": row.autograd,
            "products": int(row.flops > 0),
            "flops": row.flops,
            "elementwise": row.elementwise,
        }
        for row in ledger.rows
        if row.autograd
    ]
    return pd.DataFrame(rows).groupby(["part", "node"], sort=False).sum().reset_index()


def hook_sees_gradient() -> bool:
    linear, seen = nn.Linear(4, 3), []
    linear.weight.register_hook(seen.append)
    linear(torch.rand(2, 4)).sum().backward()
    return len(seen) == 1 and torch.equal(seen[0], linear.weight.grad)


def ratios() -> list[tuple[str, int, int]]:
    """Forward and backward FLOP of four equal layers, run in several ways."""
    network = nn.Sequential(*(nn.Linear(32, 32) for _ in range(4)))
    *first, last = network
    x = torch.rand(8, 32)

    def run(detached: bool = False) -> Tensor:
        before = nn.Sequential(*first)(x)
        return last(before.detach() if detached else before).square().sum()

    def twice() -> None:
        loss = run()
        loss.backward(retain_graph=True)
        loss.backward()

    def frozen() -> None:
        for layer in first:
            layer.requires_grad_(False)
        run().backward()
        network.requires_grad_(True)

    def without_graph(context: Any) -> Callable[[], None]:
        def step() -> None:
            with context:
                run()

        return step

    def of_a_gradient() -> None:
        layer = network[0]
        loss = layer(x).tanh().square().sum()
        (gradient,) = torch.autograd.grad(loss, layer.weight, create_graph=True)
        gradient.square().sum().backward()

    ways: dict[str, Callable[[], Any]] = {
        "plain": lambda: run().backward(),
        "no_grad": without_graph(torch.no_grad()),
        "inference_mode": without_graph(torch.inference_mode()),
        "detach": lambda: run(detached=True).backward(),
        "all but the last frozen": frozen,
        "backward twice": twice,
        "create_graph, one layer": of_a_gradient,
    }
    totals = [(name, profiled(step, network).totals) for name, step in ways.items()]
    return [(name, total.forward, total.backward) for name, total in totals]


def last_layer_alone() -> float:
    frozen = fr.count("mlp", 8, depth=3, freeze="[fh]*")
    output = next(layer for layer in frozen.layers() if layer.name == "output")
    return frozen.totals.backward / output.forward


def accumulates() -> bool:
    """Whether two backward passes sum, and what the second costs more is additions alone."""
    linear, x = nn.Linear(4, 3), torch.rand(2, 4)
    first, second = (profiled(lambda: linear(x).sum().backward(), linear) for _ in range(2))
    doubled = torch.allclose(linear.weight.grad, 2 * x.sum(0).expand(3, 4))
    added = sum(row.elementwise for row in second.rows if row.autograd == "AccumulateGrad")
    same = first.totals.backward == second.totals.backward
    return doubled and same and added == second.totals.parameters


def bars(axes: Any, values: pd.Series, title: str) -> None:
    axes.barh(values.index[::-1], values[::-1])
    axes.set_title(title)
    axes.grid(visible=False, axis="y")
