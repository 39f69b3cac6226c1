"""What training keeps in memory, as three papers have it.

Korthikanti et al., Reducing Activation Recomputation in Large Transformer Models, 2022: the
activations of a layer in 16 bits, component by component. Rajbhandari et al., ZeRO, 2020, table 1:
parameters, gradients and optimizer state in mixed precision. Chen et al., Training Deep Nets with
Sublinear Memory Cost, 2016, in the tests of cybertronai/gradient-checkpointing: chains.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import flopratio as fr
from experiments.literature.gpt import Block, Sizes
from experiments.literature.reference import evaluate, rows
from flopratio.memory import Memory, MemoryBlock

# -- activations of a transformer's layer ----------------------------------------------------------

COMPONENTS = {
    row["component"]: row["bytes_formula"].replace("s^2", "ss")
    for row in rows("korthikanti_act_mem_components")
}

SIZES = [
    {"s": 16, "b": 2, "h": 8, "a": 2},
    {"s": 24, "b": 3, "h": 40, "a": 4},
    # The layers of their models, table 3. A batch or a head alone needs fewer copies.
    {"s": 2048, "b": 4, "h": 6144, "a": 64},
    {"s": 2048, "b": 2, "h": 12288, "a": 96},
    {"s": 2048, "b": 2, "h": 20480, "a": 128},
    {"s": 2048, "b": 2, "h": 25600, "a": 160},
]


@pytest.fixture(params=SIZES, ids=lambda sizes: "-".join(map(str, sizes.values())))
def sizes(request: pytest.FixtureRequest) -> dict[str, int]:
    found: dict[str, int] = request.param
    return found


def layer(sizes: dict[str, int], *, recompute: bool = False) -> Memory:
    """The memory of a layer of the inside of a network: its input asks for a gradient."""
    s, b, h, a = (sizes[name] for name in "sbha")
    with torch.device("meta"):
        block = Block(Sizes(1, h, a, vocabulary=0, context=s, dropout=0.1)).bfloat16()
        x = torch.empty(b, s, h, dtype=torch.bfloat16, requires_grad=True)
    with fr.Profiler(block) as profiler:
        run = checkpoint(block, x, use_reentrant=False) if recompute else block(x)
        run.sum().backward()
    return profiler.ledger.memory


def components(memory: Memory) -> dict[str, int]:
    """The bytes of each of the paper's components, found by who made them. The two norms' means and
    inverse deviations, 2 fp32 numbers a token, are none."""
    kept = [block for block in memory.blocks if block.category == "saved_activations"]

    def made(layer: str, op: str) -> list[MemoryBlock]:
        return [block for block in kept if (block.layer, block.op) == (layer, op)]

    def total(blocks: Iterable[MemoryBlock]) -> int:
        return sum(block.nbytes for block in blocks)

    query, key, value, out = made("attention", "aten.clone")
    dropped, dropped_mask = made("attention.dropout", "aten.native_dropout")
    attention_mask, feed_forward_mask = made("dropout", "aten.native_dropout")
    between = made("", "aten.add")
    return {
        "attn: out-proj input": out.nbytes,
        "attn: out dropout mask": attention_mask.nbytes,
        "attn: QKV shared input": made("attention_norm", "aten.native_layer_norm")[0].nbytes,
        "attn: Q and K": query.nbytes + key.nbytes,
        "attn: softmax output": total(made("attention", "aten._softmax")),
        "attn: softmax dropout mask": dropped_mask.nbytes,
        "attn: dropout output": dropped.nbytes,
        "attn: V": value.nbytes,
        "mlp: linear1 input": made("feed_forward_norm", "aten.native_layer_norm")[0].nbytes,
        "mlp: GeLU input": total(made("feed_forward.first", "aten.addmm")),
        "mlp: linear2 input": total(made("feed_forward", "aten.gelu")),
        "mlp: dropout mask": feed_forward_mask.nbytes,
        "2 layernorm inputs": memory.inputs + total(between),
    }


def test_every_component_of_a_layer(sizes: dict[str, int]) -> None:
    found = components(layer(sizes))
    printed = {name: evaluate(formula, **sizes) for name, formula in COMPONENTS.items()}
    assert found | {"TOTAL": sum(found.values())} == printed


def test_nothing_else_is_kept(sizes: dict[str, int]) -> None:
    """34 + 5 a s / h bytes for each of s b h elements, and the norms' statistics."""
    statistics = 2 * 2 * 4 * sizes["s"] * sizes["b"]
    total = evaluate(COMPONENTS["TOTAL"], **sizes)
    assert layer(sizes).saved_activations - statistics == total


def test_full_recompute_keeps_the_input_alone(sizes: dict[str, int]) -> None:
    kept = layer(sizes, recompute=True).saved_activations
    assert kept == evaluate("2sbh", **sizes)


# -- parameters, gradients, optimizer state --------------------------------------------------------


class MixedPrecisionAdam(torch.optim.Optimizer):
    """Of 16-bit parameters: a copy of them and both moments in 32 bits."""

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        super().__init__(parameters, {})

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        with torch.no_grad():
            for parameter in self.param_groups[0]["params"]:
                state, gradient = self.state[parameter], parameter.grad
                if not state:
                    state["copy"] = parameter.float()
                    state["mean"] = torch.zeros_like(state["copy"])
                    state["square"] = torch.zeros_like(state["copy"])
                state["mean"].lerp_(gradient.float(), 0.1)
                state["square"].lerp_(gradient.float().square(), 0.001)
                state["copy"].addcdiv_(state["mean"], state["square"].sqrt().add_(1e-8), value=-1)
                parameter.copy_(state["copy"])


@pytest.fixture(scope="module")
def bytes_per_parameter() -> tuple[int, int, int]:
    """Of the parameters, of their gradients and of the optimizer's state."""
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(64, 256), nn.GELU(), nn.Linear(256, 64)).bfloat16()
        x = torch.empty(2, 64, dtype=torch.bfloat16)
    optimizer = MixedPrecisionAdam(model.parameters())
    with fr.Profiler(model) as profiler:
        model(x).sum().backward()
        optimizer.step()
    memory = profiler.ledger.memory
    number = sum(parameter.numel() for parameter in model.parameters())
    sizes = (memory.parameters, memory.gradients, memory.optimizer_state)
    assert all(size % number == 0 for size in sizes)
    return (sizes[0] // number, sizes[1] // number, sizes[2] // number)


@pytest.mark.parametrize(
    "row",
    rows("zero_table1_model_state_GB"),
    ids=lambda row: f"{row['params_B']}B on {row['dp']}",
)
def test_model_state(row: dict[str, str], bytes_per_parameter: tuple[int, int, int]) -> None:
    """What each device holds, if state, gradients and parameters are divided among them. The paper
    rounds some figures and cuts others."""
    parameters, gradients, state = bytes_per_parameter
    assert parameters + gradients + state == 16
    number, devices = float(row["params_B"]), int(row["dp"])
    found = {
        "P_os_GB": parameters + gradients + state / devices,
        "P_os_g_GB": parameters + (gradients + state) / devices,
        "P_os_g_p_GB": (parameters + gradients + state) / devices,
    }
    for column, size in found.items():
        digits = len(row[column].partition(".")[2])
        assert number * size == pytest.approx(float(row[column]), abs=10**-digits), column


# -- chains ----------------------------------------------------------------------------------------

UNIT = 1 << 20
"""Bytes of a node."""

CHAINS = {row["item"]: row["value"] for row in rows("checkpointing_reference")}


def printed(item: str) -> int:
    """The nodes' worth of memory in a row of the table, of 1 MB each."""
    (row,) = (value for name, value in CHAINS.items() if name.startswith(item))
    match = re.match(r"(\d+) MB", row)
    assert match is not None
    return int(match[1])


def chain_peak(nodes: int, kept: Iterable[int] = ()) -> float:
    """The peak of the gradient of a chain of ``tanh``s by its first node, in nodes.

    Args:
        nodes: a0, a1 = tanh(a0), and so on.
        kept: the nodes at which a segment ends; what lies between is computed again.
    """
    kept = list(kept)
    ends = [*kept, nodes - 1] if kept else []

    def run(x: Tensor, length: int) -> Tensor:
        for _ in range(length):
            x = x.tanh()
        return x

    x = torch.empty(UNIT // 4, device="meta", requires_grad=True)
    with fr.Profiler() as profiler:
        y, start = x, 0
        for end in ends:
            y = checkpoint(run, y, end - start, use_reentrant=False, preserve_rng_state=False)
            start = end
        loss = run(y, nodes - 1 - start).sum()
        del y  # nobody asks for the last node
        loss.backward()
    return float(profiler.ledger.memory.peak / UNIT)


def divided(nodes: int, segments: int) -> list[int]:
    return [round(nodes * part / segments) - 1 for part in range(1, segments)]


def test_plain_chains() -> None:
    assert chain_peak(5) == pytest.approx(printed("chain n=5 (1MB nodes) plain"), abs=1.01)
    assert chain_peak(100) == pytest.approx(100, abs=1.1)


def test_a_hundred_nodes_take_twenty() -> None:
    assert chain_peak(100, divided(100, 10)) == pytest.approx(
        printed("chain n=100 auto memory mode"), abs=1.1
    )


@pytest.mark.parametrize("nodes", [16, 36, 64, 100, 144])
def test_the_best_division_is_into_root_n_segments(nodes: int) -> None:
    """n / k nodes of a segment beside k ends of segments: least, 2 root n, where both are equal."""
    root = math.isqrt(nodes)
    peaks = {k: chain_peak(nodes, divided(nodes, k)) for k in range(2, nodes) if nodes % k == 0}
    assert min(peaks, key=lambda k: peaks[k]) == root
    assert peaks[root] == pytest.approx(2 * root, abs=1.1)
