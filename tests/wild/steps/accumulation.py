"""Micro-batches, and the closures of training loops that own the loop."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from tests.wild.models import ONE_STEP, ROWS, WIDTH, batch, mlp, times
from tests.wild.step import WildStep, wild


@wild
def accumulation_with_clipping() -> WildStep:
    """Four micro-batches, each freed before the next; clipped once."""
    model = mlp()
    optimizer = torch.optim.AdamW(model.parameters())
    batches = [batch() for _ in range(4)]

    def run() -> torch.Tensor:
        total = torch.zeros(())
        for x, y in batches:
            loss = functional.cross_entropy(model(x), y) / len(batches)
            loss.backward()
            total += loss.detach()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return total

    return WildStep(run, model, [optimizer], by_hand=times(4, ONE_STEP))


@wild
def losses_added_before_one_backward() -> WildStep:
    """Four graphs alive at once."""
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batches = [batch() for _ in range(4)]

    def run() -> torch.Tensor:
        loss = sum(functional.cross_entropy(model(x), y) for x, y in batches)
        loss.backward()
        optimizer.step()
        return loss

    return WildStep(run, model, [optimizer], by_hand=times(4, ONE_STEP))


@wild
def lightning_closure() -> WildStep:
    """Lightning's automatic optimisation: zero, forward and backward inside of the closure."""

    class LightningLike(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = mlp()

        def training_step(self, batch: Any, batch_index: int) -> torch.Tensor:
            x, y = batch
            return functional.cross_entropy(self.net(x), y)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters())

        def optimizer_step(self, optimizer: Any, closure: Callable[[], Any]) -> None:
            optimizer.step(closure=closure)

    model = LightningLike()
    optimizer = model.configure_optimizers()
    examples = batch()

    def run() -> torch.Tensor:
        kept = []

        def closure() -> torch.Tensor:
            loss = model.training_step(examples, 0)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            kept.append(loss.detach())
            return loss

        model.optimizer_step(optimizer, closure)
        return kept[0]

    return WildStep(run, model, [optimizer], by_hand=ONE_STEP)


@wild
def lightning_toggled_optimizers() -> WildStep:
    """Manual optimisation with two optimizers: parameters of the other one are switched off."""
    first, second = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
    model = nn.Sequential(first, second)
    optimizers = [torch.optim.SGD(part.parameters(), lr=0.1) for part in model]
    x = torch.randn(ROWS, WIDTH)

    @contextmanager
    def toggled(part: nn.Module) -> Any:
        model.requires_grad_(False)
        part.requires_grad_(True)
        yield
        model.requires_grad_(True)

    def run() -> tuple[torch.Tensor, ...]:
        losses = []
        for part, optimizer in zip(model, optimizers, strict=True):
            with toggled(part):
                loss = model(x).square().mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(loss.detach())
        return tuple(losses)

    one = 2 * ROWS * WIDTH * WIDTH
    by_hand = {"forward": 4 * one, "grad_input": one, "grad_weight": 2 * one}
    return WildStep(run, model, optimizers, by_hand=by_hand)


class Accelerated(torch.optim.Optimizer):
    """As accelerate wraps one: never initialised itself, hands on to another."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer
        self.synchronises = False

    @property
    def param_groups(self) -> Any:
        return self.optimizer.param_groups

    @property
    def state(self) -> Any:
        return self.optimizer.state

    def zero_grad(self, set_to_none: bool = True) -> None:
        if self.synchronises:
            self.optimizer.zero_grad(set_to_none)

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        if self.synchronises:
            self.optimizer.step(closure)


@wild
def accelerate_wrapped_optimizer() -> WildStep:
    """``with accelerator.accumulate(model)``: step and zero_grad do nothing until the last."""
    model = mlp()
    inner = torch.optim.AdamW(model.parameters())
    optimizer = Accelerated(inner)
    batches = [batch() for _ in range(2)]

    def run() -> torch.Tensor:
        for index, (x, y) in enumerate(batches):
            optimizer.synchronises = index == len(batches) - 1
            loss = functional.cross_entropy(model(x), y) / len(batches)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        return loss

    return WildStep(run, model, [inner], by_hand=times(2, ONE_STEP))


@wild
def truncated_backpropagation() -> WildStep:
    """A recurrent cell over a long sequence, cut and updated every two steps."""
    cell, head = nn.GRUCell(WIDTH, WIDTH), nn.Linear(WIDTH, 1)
    model = nn.ModuleList([cell, head])
    optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3, momentum=0.9, centered=True)
    sequence = torch.randn(4, ROWS, WIDTH)

    def run() -> tuple[torch.Tensor, ...]:
        hidden, losses = torch.zeros(ROWS, WIDTH), []
        for chunk in sequence.split(2):
            hidden = hidden.detach()
            for x in chunk:
                hidden = cell(x, hidden)
            loss = head(hidden).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        return tuple(losses)

    gates, out = 2 * ROWS * WIDTH * 3 * WIDTH, 2 * ROWS * WIDTH
    by_hand = {
        "forward": 4 * 2 * gates + 2 * out,
        # Of each chunk: the second cell's hidden state, and the head's input.
        "grad_input": 2 * (gates + out),
        "grad_weight": 4 * 2 * gates + 2 * out,
    }
    return WildStep(run, model, [optimizer], by_hand=by_hand)


@wild
def gradients_cached_for_large_batches() -> WildStep:
    """GradCache: representations first without a graph, their gradients, then again with one."""
    model = mlp(classes=4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    chunks = [torch.randn(ROWS, WIDTH) for _ in range(2)]

    def run() -> torch.Tensor:
        with torch.no_grad():
            kept = [model(chunk) for chunk in chunks]
        leaves = [part.requires_grad_() for part in kept]
        similarity = leaves[0] @ leaves[1].T
        loss = functional.cross_entropy(similarity, torch.arange(ROWS))
        loss.backward()
        for chunk, leaf in zip(chunks, leaves, strict=True):
            (model(chunk) * leaf.grad).sum().backward()
        optimizer.step()
        return loss.detach()

    first, last = 2 * ROWS * WIDTH * 8, 2 * ROWS * 8 * 4
    pairs = 2 * ROWS * 4 * ROWS
    by_hand = {
        "forward": 4 * (first + last) + pairs,
        "grad_input": 2 * last + 2 * pairs,
        "grad_weight": 2 * (first + last),
    }
    return WildStep(run, model, [optimizer], by_hand=by_hand)


@wild
def skipped_when_not_finite() -> WildStep:
    """A loop that looks at its gradients, and takes no step when they overflow."""
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters())
    batches = [batch(), batch()]
    batches[0][0][0, 0] = float("inf")

    def run() -> tuple[torch.Tensor, ...]:
        losses = []
        for x, y in batches:
            loss = functional.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            if torch.isfinite(norm).item():
                optimizer.step()
            losses.append(loss.detach())
        return tuple(losses)

    return WildStep(run, model, [optimizer], by_hand=times(2, ONE_STEP))
