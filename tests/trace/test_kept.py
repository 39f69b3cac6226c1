"""What autograd keeps for a backward, and how long: by hand for tiny steps, and as really
allocated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import flopratio as fr
from flopratio.ledger import SAVED
from flopratio.measure.memory import record_allocations

FP32 = 4


def watched(model: nn.Module | None, step: Callable[[], Any]) -> fr.Ledger:
    """The ledger of a step, whose sources all agree on what is kept."""
    with fr.Profiler(model) as profiler:
        result = step()
    del result  # alive until here
    ledger = profiler.ledger
    assert ledger.saved_mismatches == []
    assert ledger.totals.saved_bytes == ledger.memory.saved_activations
    return ledger


def saved_of(ledger: fr.Ledger) -> dict[str, int]:
    return {layer.name: layer.saved_bytes for layer in ledger.layers() if layer.saved_bytes}


def two_layers() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2))


X, HIDDEN = 7 * 3 * FP32, 7 * 5 * FP32
"""Bytes of 7 rows of 3, and of the 5 between the layers."""


class TestOneGraphAtATime:
    def test_of_several_micro_batches_one_is_kept(self) -> None:
        model = two_layers()

        def step() -> None:
            for _ in range(4):
                model(torch.randn(7, 3)).sum().backward()

        ledger = watched(model, step)
        assert saved_of(ledger) == {"0": X, "1": HIDDEN}
        assert ledger.analytic[SAVED] == X + HIDDEN

    def test_of_unlike_ones_the_largest(self) -> None:
        model = two_layers()

        def step() -> None:
            for rows in (2, 7, 3):
                model(torch.randn(rows, 3)).sum().backward()

        assert saved_of(watched(model, step)) == {"0": X, "1": HIDDEN}

    def test_those_whose_backward_comes_later_add_up(self) -> None:
        model = two_layers()

        def step() -> None:
            losses = [model(torch.randn(7, 3)).sum() for _ in range(4)]
            torch.stack(losses).sum().backward()

        assert saved_of(watched(model, step)) == {"0": 4 * X, "1": 4 * HIDDEN}

    def test_accumulation_keeps_what_one_batch_does(self) -> None:
        settings: dict[str, Any] = {"batch": 2, "seq": 16, "n_layer": 1, "n_embd": 32, "n_head": 2}
        once = fr.count("hf:gpt2", **settings)
        four = fr.count("hf:gpt2", **settings, accumulate=4)
        assert four.totals.forward == 4 * once.totals.forward
        assert four.totals.saved_bytes == once.totals.saved_bytes == once.memory.saved_activations
        assert four.analytic[SAVED] == once.analytic[SAVED] == once.totals.saved_bytes
        assert four.saved_mismatches == []


class TestWhatIsLetGo:
    def test_before_a_detach(self) -> None:
        """The graph of the first layer goes when nothing refers to its result: x and the output of
        tanh, which the second layer then keeps as its input."""
        model = two_layers()

        def step() -> None:
            hidden = model[1](model[0](torch.randn(7, 3))).detach()
            model[2](torch.cat([hidden, hidden])).sum().backward()

        # Of 14 rows of 5, after the first graph has gone: more than X + HIDDEN before.
        assert saved_of(watched(model, step)) == {"2": 2 * HIDDEN}

    def test_an_output_that_nobody_uses(self) -> None:
        model = two_layers()

        def step() -> None:
            model[1](model[0](torch.randn(2, 3)))
            model(torch.randn(7, 3)).sum().backward()

        assert saved_of(watched(model, step)) == {"0": X, "1": HIDDEN}

    def test_of_a_gan_the_two_graphs_follow_each_other(self) -> None:
        """The generator's graph lives through the first backward, which frees the critic's; then
        comes the critic's second one. All results of ReLU are held by variables until the end."""
        generator = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 3))
        critic = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 1))
        model = nn.ModuleDict({"generator": generator, "critic": critic})
        rows, held = 16, []

        def criticised(x: torch.Tensor) -> torch.Tensor:
            hidden = critic[1](critic[0](x))
            held.append(hidden)
            return critic[2](hidden).mean()

        def step() -> None:
            fake = generator(torch.randn(rows, 2))
            (criticised(torch.randn(rows, 3)) - criticised(fake.detach())).backward()
            (-criticised(fake)).backward()

        ledger = watched(model, step)
        of_generator = rows * (2 + 4) * FP32
        # Both inputs of the critic, and both results of its ReLU.
        assert ledger.memory.saved_activations == of_generator + 2 * rows * (3 + 8) * FP32
        assert len(held) == 3

    def test_twice_through_a_graph_that_is_retained(self) -> None:
        model = two_layers()

        def step() -> None:
            loss = model(torch.randn(7, 3)).sum()
            loss.backward(retain_graph=True)
            loss.backward()

        assert saved_of(watched(model, step)) == {"0": X, "1": HIDDEN}


def first_of(x: torch.Tensor, *functions: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """The gradient of a chain of functions, with a graph of its own."""
    y = x
    for function in functions:
        y = function(y)
    (gradient,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    return gradient


CHAINS: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], ...]] = {
    "results": (torch.exp, torch.tanh, torch.sigmoid),
    "operands": (torch.sin, torch.cos),
    "product": (lambda x: x @ WEIGHT, torch.tanh, lambda x: x @ WEIGHT),
}
WEIGHT = torch.randn(8, 8)


class TestDifferentiableBackward:
    """What a backward with ``create_graph`` keeps, beside what forward kept."""

    @pytest.mark.parametrize("name", CHAINS)
    def test_as_really_allocated(self, name: str) -> None:
        x = torch.randn(16, 8, requires_grad=True)
        result: list[torch.Tensor] = []

        def step() -> None:
            result[:] = [first_of(x, *CHAINS[name]).sum()]

        # What is alive when all but the result is out of reach.
        alive = sum(allocation.nbytes for allocation in record_allocations(step))
        there = WEIGHT.nbytes if name == "product" else 0
        result.clear()
        ledger = watched(None, step)
        assert ledger.memory.saved_activations == alive - FP32 + there

    def test_stands_in_the_rows_of_backward(self) -> None:
        x = torch.randn(16, 8, requires_grad=True)
        ledger = watched(None, lambda: first_of(x, torch.exp, torch.sin).sum().backward())
        saved = {row.phase: row.saved_bytes for row in ledger.rows if row.saved_bytes}
        assert set(saved) == {"forward", "grad_weight"}

    def test_is_no_temporary(self) -> None:
        x = torch.randn(16, 8, requires_grad=True)
        memory = watched(None, lambda: first_of(x, torch.sin, torch.exp).sum()).memory
        kept = {b.op for b in memory.blocks if b.category == "saved_activations"}
        # exp's result; its product with the gradient that comes in; the cosine that this meets.
        assert {"aten.exp", "aten.mul", "aten.cos"} <= kept


def test_an_empty_step_keeps_nothing() -> None:
    assert watched(None, lambda: None).memory.saved_activations == 0


def test_what_the_last_operator_keeps_counts() -> None:
    """After it, no record follows."""
    x = torch.randn(16, 8, requires_grad=True)
    assert watched(None, lambda: x.exp()).memory.saved_activations == 16 * 8 * FP32


def test_a_graph_that_outlives_the_block() -> None:
    """When it goes then, the ledger does not depend on."""
    x = torch.randn(16, 8, requires_grad=True)
    with fr.Profiler() as profiler:
        y = x.sin().exp()
    before = profiler.ledger.memory
    y.sum().backward()
    del y
    with fr.Profiler() as again:
        x.sin().exp()
    assert before.saved_activations == again.ledger.memory.saved_activations == 2 * 16 * 8 * FP32
