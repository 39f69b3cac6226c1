"""Counts that share nothing with the trace: their arithmetic, and a network or two of each."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

import flopratio as fr
from experiments.arbiters import joint_graph
from experiments.arbiters.zoo import MODELS, cross_entropy

needs_jax = pytest.mark.skipif(
    find_spec("jax") is None, reason="this arbiter is JAX: pip install '.[arbiters]'"
)


@needs_jax
@pytest.mark.parametrize(
    ("model", "settings"),
    [
        ("mlp", {"depth": 3, "width": 16, "input": 5, "classes": 3, "batch": 4}),
        ("cnn", {"depth": 1, "image": 12, "batch": 1, "scan": True}),
    ],
)
def test_a_network_written_in_jax_has_the_contractions_of_the_ledger(
    model: str, settings: dict[str, Any]
) -> None:
    from experiments.arbiters_jax import compare

    row = compare(model, settings)
    assert row["figures"] == row["figures_equal"] > 0
    assert row["jaxpr_grad_weight"] == row["ledger_forward"]
    assert row["xla"] == row["explained"] != row["contractions"]


@needs_jax
def test_a_frozen_layer_has_no_gradient_of_its_weight_in_jax_either() -> None:
    from experiments.arbiters import jaxpr
    from experiments.arbiters.jax_networks import mlp

    network = mlp(batch=2, depth=2, width=8, input=4, classes=3)
    counts = jaxpr.count(network, freeze="first*")
    assert counts["first.linear", "forward"] == 2 * 2 * 4 * 8
    assert {phase for layer, phase in counts if layer == "first.linear"} == {"forward"}
    assert counts["output", "grad_weight"] == 2 * 2 * 8 * 3


@needs_jax
@pytest.mark.parametrize(
    ("sizes", "found"),
    [
        # Three taps on four entries with padding 1: the first and the last position miss one each.
        ((4, 3, 4, 1, 1, 1, 1), 3 * 4 - 2),
        # Of every second position, the first alone misses one.
        ((4, 3, 2, 2, 1, 1, 1), 3 * 2 - 1),
        # Three entries with holes between them, seen by three taps from seven positions: each entry
        # is met three times, the outermost ones too, as there is padding.
        ((3, 3, 7, 1, 2, 2, 1), 9),
        # Two taps with a hole between them, on four entries.
        ((4, 2, 2, 1, 0, 1, 2), 4),
    ],
)
def test_taps_on_data(sizes: tuple[int, ...], found: int) -> None:
    from experiments.arbiters.jaxpr import Axis

    assert Axis(*sizes).on_data == found


class Small(nn.Module):
    """Grouped and transposed convolutions, attention, and a layer that is frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(4, 8, 3, stride=2, groups=2)
        self.up = nn.ConvTranspose2d(8, 6, 2, stride=2)
        self.frozen = nn.Linear(6, 6).requires_grad_(False)
        self.head = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.up(self.down(x)).flatten(2).transpose(1, 2)
        y = self.frozen(x)[:, None]
        y = functional.scaled_dot_product_attention(y, y, y, is_causal=True)
        return self.head(y[:, 0].mean(1))


def joint_and_law(model: nn.Module, batch: torch.Tensor) -> tuple[list[int], list[int]]:
    counted = joint_graph.count(joint_graph.joint_graph(model, batch, cross_entropy))
    ledger = fr.count(model, batch, loss=cross_entropy)
    law = ledger.analytic
    return (
        [counted.forward, counted.backward],
        [law["forward"], law["grad_input"] + law["grad_weight"]],
    )


def test_a_joint_graph_of_all_kinds_of_products() -> None:
    joint, law = joint_and_law(Small(), torch.zeros(2, 4, 9, 9))
    down = 2 * (8 * 2 * 3 * 3) * 2 * 4 * 4
    up = 2 * (8 * 6 * 2 * 2) * 2 * 4 * 4
    frozen, attention, head = 2 * 2 * 64 * 6 * 6, 2 * 2 * 2 * 64 * 64 * 6, 2 * 2 * 6 * 3
    assert joint[0] == down + up + frozen + attention + head
    assert joint[1] == down + 2 * up + frozen + 2 * attention + 2 * head
    assert joint == law


def test_a_joint_graph_of_the_zoo() -> None:
    model, batch = MODELS["torchvision:squeezenet1_1"]()
    joint, law = joint_and_law(model, batch)
    assert joint == law
    assert joint[0] > 0


def test_an_operator_that_may_be_a_contraction_is_not_passed_over() -> None:
    class Distance(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(3, 4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cdist(x, self.weight)

    graph = joint_graph.joint_graph(Distance(), torch.zeros(2, 4), lambda y: y.sum())
    with pytest.raises(NotImplementedError, match=r"is .*dist.* a contraction\?"):
        joint_graph.count(graph)
