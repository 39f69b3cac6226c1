"""What masks, structured pruning, 2:4 and CSR weights and frozen layers do to each column of the
ledger: an MLP's step with SGD, each way of being half empty."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

import flopratio as fr
from experiments.claims import Claim, conclude, panels
from flopratio.report.figures.style import PHASE_COLOURS

HAN = "Han et al. 2015, arXiv:1506.02626, Learning both Weights and Connections"
LI = "Li et al. 2017, arXiv:1608.08710, Pruning Filters for Efficient ConvNets"
MISHRA = "Mishra et al. 2021, arXiv:2104.08378: 2:4 doubles the throughput"
RIGL = "Evci et al. 2020 (RigL), arXiv:1911.11134"
COMPUTE = "Amodei & Hernandez 2018, AI and Compute: 3 for forward and backward pass"
FREEZE = "Brock et al. 2017 (FreezeOut), arXiv:1706.04983: excluded from the backward pass"

BATCH, WIDTH, LAYERS = 32, 256, 4
COLUMNS = ["forward", "grad_input", "grad_weight", "recompute", "update"]
COLUMNS += ["elementwise_forward", "elementwise_backward", "parameters", "saved_bytes"]


class SparseLinear(nn.Module):
    """y = x Wᵀ, of whose W the non-zeros alone are stored."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.detach().to_sparse_csr())

    def forward(self, x: Tensor) -> Tensor:
        return (self.weight @ x.T).T


def main() -> None:
    ledgers = {
        "dense": stepped(network()),
        "half masked": stepped(masked(network(), 1)),
        "2:4, masked": stepped(masked(network(), 4)),
        "half of the units": stepped(network(WIDTH // 2)),
        "CSR, half stored": stepped(stored_sparsely(network())),
        "first half frozen": stepped(frozen(network(), range(LAYERS // 2))),
        "second layer frozen": stepped(frozen(network(), [1])),
    }
    rows = [
        {"weights": name, **{column: getattr(ledger.totals, column) for column in COLUMNS}}
        | {"forward_of_non_zeros": ledger.nonzero.get("forward", ledger.totals.forward)}
        for name, ledger in ledgers.items()
    ]
    frame = pd.DataFrame(rows)
    at = frame.set_index("weights")
    dense, csr = at.loc["dense"], at.loc["CSR, half stored"]
    executed = csr[["forward", "grad_input", "grad_weight", "recompute"]].sum()
    inner = layer_of(ledgers["half of the units"], 1) / layer_of(ledgers["dense"], 1)

    def draw(axes: Any) -> None:
        left = pd.Series(0, at.index)
        for phase in COLUMNS[:5]:
            axes.barh(
                at.index,
                at[phase] / 1e6,
                left=left / 1e6,
                label=phase,
                color=PHASE_COLOURS[phase],
                edgecolor="black",
                linewidth=0.4,
            )
            left += at[phase]
        axes.invert_yaxis()
        axes.set_xlabel("MFLOP")
        axes.legend(fontsize=7, loc=(0.8, 0.38))
        axes.grid(visible=False, axis="y")

    dense_kernels = (
        "masks are multiplied in, and dense kernels multiply by the zeros: executed is all"
    )
    conclude(
        "sparsity",
        frame,
        panels("Half empty, in several ways", draw, width=6),
        [
            Claim(
                "half of the weights gone is half of the FLOP: masked, as executed",
                HAN,
                None,
                2 * at.loc["half masked", "forward"] == dense["forward"],
                dense_kernels,
            ),
            Claim(
                "of the non-zeros alone",
                HAN,
                None,
                2 * at.loc["half masked", "forward_of_non_zeros"] == dense["forward"],
            ),
            Claim(
                "bytes that backward keeps, over those without: the masks and the masked weights",
                "PyTorch documentation, torch.nn.utils.prune",
                None,
                at.loc["half masked", "saved_bytes"] / dense["saved_bytes"],
            ),
            Claim(
                "2:4 halves the FLOP of forward: the non-zeros",
                MISHRA,
                None,
                2 * at.loc["2:4, masked", "forward_of_non_zeros"] == dense["forward"],
            ),
            Claim(
                "units pruned save in their layer and in the next: half of both, a quarter is left",
                LI,
                None,
                inner == 1 / 4,
            ),
            Claim(
                "a CSR weight multiplies its non-zeros alone",
                RIGL,
                None,
                2 * csr["forward"] == dense["forward"],
            ),
            Claim(
                "a step of sparse weights is 3 times their forward",
                COMPUTE,
                "3",
                executed / csr["forward"],
                "the first layer has no gradient of its input; and the weights' gradients are "
                "computed in full, of which the stored entries are kept",
            ),
            Claim(
                "frozen first layers take no part in backward",
                FREEZE,
                None,
                all(layer_of(ledgers["first half frozen"], n, "backward") == 0 for n in (0, 1)),
            ),
            Claim(
                "nor does a frozen layer after one that trains",
                FREEZE,
                None,
                layer_of(ledgers["second layer frozen"], 1, "backward") == 0,
                "it passes the gradient of its input on: half of its backward stays",
            ),
            Claim(
                "what is frozen has no update: half of it, with half of the layers",
                FREEZE,
                None,
                2 * at.loc["first half frozen", "update"] == dense["update"],
            ),
        ],
    )


def network(width: int = WIDTH) -> nn.Sequential:
    """Equal layers without bias; the first reads and the last gives WIDTH numbers."""
    widths = [WIDTH, *[width] * (LAYERS - 1), WIDTH]
    linear = [nn.Linear(*pair, bias=False) for pair in pairwise(widths)]
    return nn.Sequential(*linear)


def half(weight: Tensor) -> Tensor:
    """A mask of every second element."""
    mask = torch.zeros_like(weight)
    mask[:, ::2] = 1
    return mask


def masked(model: nn.Sequential, group: int) -> nn.Sequential:
    """Half of each weight is masked; two of each four neighbours, if the group is 4."""
    for layer in model:
        mask = half(layer.weight)
        if group == 4:
            mask = mask[:, : mask.shape[1] // 2].repeat_interleave(2, 1)
        prune.custom_from_mask(layer, "weight", mask)
    return model


def stored_sparsely(model: nn.Sequential) -> nn.Sequential:
    with quiet():
        return nn.Sequential(*(SparseLinear(layer.weight * half(layer.weight)) for layer in model))


def frozen(model: nn.Sequential, which: Any) -> nn.Sequential:
    for number in which:
        model[number].requires_grad_(False)
    return model


def stepped(model: nn.Sequential) -> fr.Ledger:
    """A step with SGD; of sparse weights, without its update, which torch has not for CSR."""
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    x = torch.rand(BATCH, WIDTH)
    with fr.Profiler(model) as profiler, quiet():
        model(x).sum().backward()
        if all(weight.layout is torch.strided for weight in trained):
            torch.optim.SGD(trained, lr=0.1).step()
    assert profiler.ledger.uncounted_ops == {}
    return profiler.ledger


@contextmanager
def quiet() -> Iterator[None]:
    """Torch warns that its CSR tensors are a beta."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def layer_of(ledger: fr.Ledger, number: int, column: str = "forward") -> int:
    (layer,) = (layer for layer in ledger.layers() if layer.name == str(number))
    value: int = getattr(layer, column)
    return value
