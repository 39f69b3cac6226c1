"""Optimizers and their protocols: closures, two-step updates, products in the update."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from tests.wild.models import CLASSES, FIRST, HIDDEN, LAST, ONE_STEP, ROWS, WIDTH, batch, mlp, times
from tests.wild.step import WildStep, wild


@wild
def adamw_with_clipping_and_schedule() -> WildStep:
    """The plainest loop there is: clip, step, schedule, zero."""
    model = mlp()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=10)
    x, y = batch()

    def run() -> torch.Tensor:
        loss = functional.cross_entropy(model(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        return loss.detach()

    return WildStep(run, model, [optimizer], by_hand=ONE_STEP)


@wild
def lbfgs_closure() -> WildStep:
    """LBFGS calls forward and backward itself; its own inner products are update."""
    model = mlp()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=3)
    x, y = batch()

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(x), y)
        loss.backward()
        return loss

    def run() -> torch.Tensor:
        return optimizer.step(closure)

    # One evaluation before the first iteration and one after each of the first two.
    return WildStep(run, model, [optimizer], by_hand=times(3, ONE_STEP))


@wild
def lbfgs_strong_wolfe() -> WildStep:
    """The line search evaluates the closure in between as well."""
    model = nn.Linear(WIDTH, 1)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=2, line_search_fn="strong_wolfe")
    x, y = torch.randn(ROWS, WIDTH), torch.randn(ROWS, 1)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = functional.mse_loss(model(x), y)
        loss.backward()
        return loss

    # Both gradients' cost is forward's: the input asks for none.
    return WildStep(lambda: optimizer.step(closure), model, [optimizer], by_hand={"ratio": 1.0})


class SAM(torch.optim.Optimizer):
    """Sharpness-aware minimisation: climb, look again, descend from where one was."""

    def __init__(self, parameters: Any, base: type[torch.optim.Optimizer], **defaults: Any) -> None:
        super().__init__(parameters, {"rho": 0.05, **defaults})
        self.base_optimizer = base(self.param_groups, **defaults)
        self.param_groups = self.base_optimizer.param_groups

    @torch.no_grad()
    def first_step(self) -> None:
        gradients = [p.grad.norm() for group in self.param_groups for p in group["params"]]
        norm = torch.stack(gradients).norm()
        for group in self.param_groups:
            for p in group["params"]:
                climb = p.grad * (0.05 / (norm + 1e-12))
                p.add_(climb)
                self.state[p]["climb"] = climb
        self.zero_grad()

    @torch.no_grad()
    def second_step(self) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                p.sub_(self.state[p]["climb"])
        self.base_optimizer.step()
        self.zero_grad()

    @torch.no_grad()
    def step(self, closure: Callable[[], torch.Tensor]) -> None:  # type: ignore[override]
        self.first_step()
        with torch.enable_grad():
            closure()
        self.second_step()


@wild
def sharpness_aware_closure() -> WildStep:
    """SAM in one call: the second look at the loss runs inside of ``step``."""
    model = mlp()
    optimizer = SAM(model.parameters(), torch.optim.SGD, lr=0.1)
    x, y = batch()

    def loss_and_backward() -> torch.Tensor:
        loss = functional.cross_entropy(model(x), y)
        loss.backward()
        return loss

    def run() -> torch.Tensor:
        loss = loss_and_backward()
        optimizer.step(loss_and_backward)
        return loss

    return WildStep(run, model, [optimizer], by_hand=times(2, ONE_STEP))


@wild
def sharpness_aware_two_steps() -> WildStep:
    """SAM in two calls, neither of which is called ``step``."""
    model = mlp()
    optimizer = SAM(model.parameters(), torch.optim.SGD, lr=0.1)
    x, y = batch()

    def run() -> tuple[torch.Tensor, ...]:
        first = functional.cross_entropy(model(x), y)
        first.backward()
        optimizer.first_step()
        second = functional.cross_entropy(model(x), y)
        second.backward()
        optimizer.second_step()
        return first, second

    return WildStep(run, model, [optimizer], by_hand=times(2, ONE_STEP))


class Muon(torch.optim.Optimizer):
    """Momentum made orthogonal by Newton and Schulz's iteration: products in the update."""

    ITERATIONS = 2

    def __init__(self, parameters: Any, lr: float = 0.02) -> None:
        super().__init__(parameters, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(p)
                state["momentum"].lerp_(p.grad, 0.05)
                if p.ndim == 2:
                    p.add_(self.orthogonal(state["momentum"]), alpha=-group["lr"])
                else:
                    p.add_(state["momentum"], alpha=-group["lr"])

    def orthogonal(self, x: torch.Tensor) -> torch.Tensor:
        x = x / (x.norm() + 1e-7)
        if x.shape[0] > x.shape[1]:
            return self.orthogonal(x.T).T
        for _ in range(self.ITERATIONS):
            a = x @ x.T
            x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
        return x


@wild
def muon() -> WildStep:
    model = mlp()
    optimizer = Muon(model.parameters())
    x, y = batch()

    def run() -> torch.Tensor:
        loss = functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    def iteration(m: int, n: int) -> int:
        """x x.T and (...) x, 2 m m n each, and a a, 2 m m m; m is the smaller side."""
        return 2 * (2 * m * m * n) + 2 * m**3

    update = Muon.ITERATIONS * (iteration(WIDTH, HIDDEN) + iteration(CLASSES, HIDDEN))
    return WildStep(run, model, [optimizer], by_hand={**ONE_STEP, "update": update})


class Shampoo(torch.optim.Optimizer):
    """A preconditioner a side, each an inverse root by eigenvalues."""

    def __init__(self, parameters: Any, lr: float = 0.1) -> None:
        super().__init__(parameters, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                gradient = p.grad
                if gradient.ndim != 2:
                    p.add_(gradient, alpha=-group["lr"])
                    continue
                state = self.state[p]
                if not state:
                    state["left"] = 1e-4 * torch.eye(p.shape[0])
                    state["right"] = 1e-4 * torch.eye(p.shape[1])
                state["left"].addmm_(gradient, gradient.T)
                state["right"].addmm_(gradient.T, gradient)
                gradient = self.root(state["left"]) @ gradient @ self.root(state["right"])
                p.add_(gradient, alpha=-group["lr"])

    @staticmethod
    def root(matrix: torch.Tensor) -> torch.Tensor:
        values, vectors = torch.linalg.eigh(matrix)
        return vectors @ torch.diag(values.clamp_min(1e-6).pow(-0.25)) @ vectors.T


@wild
def shampoo() -> WildStep:
    """``torch.eye`` and eigenvalues inside of an optimizer's step."""
    model = mlp()
    optimizer = Shampoo(model.parameters())
    x, y = batch()

    def run() -> torch.Tensor:
        loss = functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    def preconditioned(m: int, n: int) -> int:
        """Statistics 2 m m n and 2 n n m; roots 2 * 2 m^3 and 2 * 2 n^3; applied as statistics."""
        return 2 * (2 * m * m * n + 2 * n * n * m) + 4 * m**3 + 4 * n**3

    update = preconditioned(HIDDEN, WIDTH) + preconditioned(CLASSES, HIDDEN)
    return WildStep(run, model, [optimizer], by_hand={**ONE_STEP, "update": update})


@wild
def sgd_written_out() -> WildStep:
    """``p -= lr * p.grad`` under ``no_grad``, as in every first lesson."""
    model = mlp()
    x, y = batch()

    def run() -> torch.Tensor:
        loss = functional.cross_entropy(model(x), y)
        loss.backward()
        with torch.no_grad():
            for p in model.parameters():
                p -= 0.1 * p.grad
                p.grad.zero_()
        return loss

    # A multiplication and a subtraction for each parameter.
    parameters = WIDTH * HIDDEN + HIDDEN + HIDDEN * CLASSES + CLASSES
    return WildStep(run, model, by_hand={**ONE_STEP, "elementwise_update": 2 * parameters})


@wild
def sparse_adam_embedding() -> WildStep:
    """Sparse gradients, and an optimizer that calls operators whose first argument is a number."""
    table = nn.Embedding(20, WIDTH, sparse=True)
    head = nn.Linear(WIDTH, CLASSES)
    model = nn.Sequential(table, head)
    sparse = torch.optim.SparseAdam(table.parameters(), lr=0.1)
    dense = torch.optim.Adam(head.parameters(), lr=0.1)
    ids, y = torch.tensor([1, 3, 3, 7]), batch()[1]

    def run() -> torch.Tensor:
        loss = functional.cross_entropy(model(ids), y)
        loss.backward()
        sparse.step()
        dense.step()
        return loss

    product = 2 * ROWS * WIDTH * CLASSES
    by_hand = {"forward": product, "grad_input": product, "grad_weight": product}
    return WildStep(run, model, [sparse, dense], by_hand=by_hand)


@wild
def optimizer_in_backward() -> WildStep:
    """Each parameter is updated as soon as its gradient is there; no gradient outlives backward."""
    model = mlp()
    optimizers = {p: torch.optim.SGD([p], lr=0.1, momentum=0.9) for p in model.parameters()}

    def update(parameter: torch.Tensor) -> None:
        optimizers[parameter].step()
        optimizers[parameter].zero_grad()

    for parameter in model.parameters():
        parameter.register_post_accumulate_grad_hook(update)
    x, y = batch()

    def run() -> torch.Tensor:
        loss = functional.cross_entropy(model(x), y)
        loss.backward()
        return loss

    return WildStep(run, model, list(optimizers.values()), by_hand=ONE_STEP)


@wild
def adahessian() -> WildStep:
    """Hutchinson's estimate of the Hessian's diagonal: backward through backward."""
    model = nn.Sequential(nn.Linear(WIDTH, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, CLASSES))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = batch()

    def run() -> torch.Tensor:
        parameters = list(model.parameters())
        loss = functional.cross_entropy(model(x), y)
        gradients = torch.autograd.grad(loss, parameters, create_graph=True)
        signs = [torch.randint_like(p, 2) * 2 - 1 for p in parameters]
        products = torch.autograd.grad(gradients, parameters, grad_outputs=signs)
        for p, gradient, sign, product in zip(parameters, gradients, signs, products, strict=True):
            p.grad = gradient.detach() / ((sign * product).abs() + 1e-4)
        optimizer.step()
        return loss.detach()

    return WildStep(run, model, [optimizer], by_hand={"forward": FIRST + LAST})


@wild
def evolution_strategy() -> WildStep:
    """No backward at all: perturb, look, step along what helped."""
    model = mlp().requires_grad_(False)
    x, y = batch()

    def run() -> torch.Tensor:
        parameters = list(model.parameters())
        noise = [[torch.randn_like(p) for p in parameters] for _ in range(3)]
        scores = []
        with torch.no_grad():
            for direction in noise:
                torch._foreach_add_(parameters, direction)
                scores.append(-functional.cross_entropy(model(x), y))
                torch._foreach_sub_(parameters, direction)
            for score, direction in zip(scores, noise, strict=True):
                torch._foreach_add_(parameters, torch._foreach_mul(direction, float(0.01 * score)))
        return torch.stack(scores)

    by_hand = {"forward": 3 * (FIRST + LAST), "backward": 0}
    return WildStep(run, model, by_hand=by_hand, not_compared="nothing ran backward")
