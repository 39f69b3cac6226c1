"""Learning to learn: gradients through gradients, parameters that are not the model's own."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional

from tests.wild.models import FIRST, HIDDEN, LAST, ONE_STEP, ROWS, WIDTH, batch, mlp, times
from tests.wild.step import WildStep, wild


@wild
def maml() -> WildStep:
    """The outer loss through one inner step, by ``functional_call`` on the updated weights."""
    model = nn.Sequential(nn.Linear(WIDTH, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, 1))
    optimizer = torch.optim.Adam(model.parameters())
    support, query = torch.randn(ROWS, WIDTH), torch.randn(ROWS, WIDTH)
    target = torch.randn(ROWS, 1)

    def run() -> torch.Tensor:
        weights = dict(model.named_parameters())
        inner = functional.mse_loss(functional_call(model, weights, (support,)), target)
        gradients = torch.autograd.grad(inner, list(weights.values()), create_graph=True)
        adapted = {
            name: weight - 0.1 * gradient
            for (name, weight), gradient in zip(weights.items(), gradients, strict=True)
        }
        outer = functional.mse_loss(functional_call(model, adapted, (query,)), target)
        optimizer.zero_grad()
        outer.backward()
        optimizer.step()
        return outer

    both = 2 * ROWS * WIDTH * HIDDEN + 2 * ROWS * HIDDEN
    return WildStep(run, model, [optimizer], by_hand={"forward": 2 * both})


@wild
def first_order_maml() -> WildStep:
    """A copy takes the inner steps; its gradients are given to the original."""
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = batch()

    def run() -> torch.Tensor:
        learner = copy.deepcopy(model)
        inner = torch.optim.SGD(learner.parameters(), lr=0.05)
        functional.cross_entropy(learner(x), y).backward()
        inner.step()
        inner.zero_grad()
        loss = functional.cross_entropy(learner(x.flip(1)), y)
        loss.backward()
        for mine, theirs in zip(model.parameters(), learner.parameters(), strict=True):
            mine.grad = theirs.grad.clone()
        optimizer.step()
        return loss

    return WildStep(run, model, [optimizer], by_hand=times(2, ONE_STEP))


@wild
def reptile() -> WildStep:
    """Inner steps on the model itself, then half-way back to where it was."""
    model = mlp()
    x, y = batch()

    def run() -> torch.Tensor:
        before = copy.deepcopy(model.state_dict())
        inner = torch.optim.SGD(model.parameters(), lr=0.05)
        for _ in range(2):
            inner.zero_grad()
            loss = functional.cross_entropy(model(x), y)
            loss.backward()
            inner.step()
        after = model.state_dict()
        model.load_state_dict({k: before[k] + 0.5 * (after[k] - before[k]) for k in before})
        return loss

    return WildStep(run, model, by_hand=times(2, ONE_STEP))


@wild
def implicit_differentiation() -> WildStep:
    """iMAML: a Hessian-vector product by two ``grad`` calls, iterated by conjugate gradients."""
    model = nn.Linear(WIDTH, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = torch.randn(ROWS, WIDTH), torch.randn(ROWS, 1)

    def run() -> torch.Tensor:
        parameters = list(model.parameters())
        loss = functional.mse_loss(model(x), y)
        gradients = torch.autograd.grad(loss, parameters, create_graph=True)
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        target = flat.detach()
        solution, residual = torch.zeros_like(target), target.clone()
        direction = residual.clone()
        for _ in range(2):
            product = torch.autograd.grad(flat @ direction, parameters, retain_graph=True)
            curved = torch.cat([part.reshape(-1) for part in product]) + direction
            length = (residual @ residual) / (direction @ curved)
            solution = solution + length * direction
            following = residual - length * curved
            direction = following + direction * (following @ following) / (residual @ residual)
            residual = following
        torch.nn.utils.vector_to_parameters(
            torch.nn.utils.parameters_to_vector(parameters).detach() - 0.1 * solution, parameters
        )
        return loss.detach()

    # What is done with gradients outside of any module is work of the update.
    return WildStep(run, model, [optimizer], own_update=True)


@wild
def learned_loss_weights() -> WildStep:
    """Hyper-gradients: weights of examples learned through one virtual step of the model."""
    model = nn.Linear(WIDTH, 2)
    weighting = nn.Sequential(nn.Linear(1, 4), nn.ReLU(), nn.Linear(4, 1), nn.Sigmoid())
    optimizer = torch.optim.Adam(weighting.parameters())
    x, y = batch(classes=2)
    clean, labels = batch(classes=2)

    def run() -> torch.Tensor:
        losses = functional.cross_entropy(model(x), y, reduction="none")
        weighted = (weighting(losses.detach().unsqueeze(1)).squeeze(1) * losses).mean()
        gradients = torch.autograd.grad(weighted, list(model.parameters()), create_graph=True)
        weight, bias = (p - 0.1 * g for p, g in zip(model.parameters(), gradients, strict=True))
        outer = functional.cross_entropy(functional.linear(clean, weight, bias), labels)
        optimizer.zero_grad()
        outer.backward()
        optimizer.step()
        return outer

    by_hand = {"forward": 2 * (2 * ROWS * WIDTH * 2) + 2 * (2 * ROWS * 4)}
    return WildStep(run, nn.ModuleDict({"m": model, "w": weighting}), [optimizer], by_hand=by_hand)


@wild
def hypernetwork() -> WildStep:
    """One network makes the weights of another: their gradient goes on into it."""
    hyper = nn.Linear(3, WIDTH * HIDDEN, bias=False)
    optimizer = torch.optim.Adam(hyper.parameters())
    task, x = torch.randn(1, 3), torch.randn(ROWS, WIDTH)

    def run() -> torch.Tensor:
        weight = hyper(task).view(HIDDEN, WIDTH)
        loss = functional.linear(x, weight).square().mean()
        loss.backward()
        optimizer.step()
        return loss

    making, using = 2 * 3 * WIDTH * HIDDEN, FIRST
    by_hand = {"forward": making + using, "backward": making + using}
    return WildStep(run, hyper, [optimizer], by_hand=by_hand)


@wild
def prototypical_network() -> WildStep:
    """Few shots: class means of embedded examples, distances to them, no head."""
    model = mlp(classes=5)
    optimizer = torch.optim.Adam(model.parameters())
    support, query = torch.randn(6, WIDTH), torch.randn(ROWS, WIDTH)
    labels = torch.randint(2, (ROWS,))

    def run() -> torch.Tensor:
        embedded = model(torch.cat([support, query]))
        prototypes = embedded[:6].view(2, 3, -1).mean(1)
        loss = functional.cross_entropy(-torch.cdist(embedded[6:], prototypes).square(), labels)
        loss.backward()
        optimizer.step()
        return loss

    rows = 6 + ROWS
    first, last = 2 * rows * WIDTH * HIDDEN, 2 * rows * HIDDEN * 5
    by_hand = {"forward": first + last, "grad_input": last, "grad_weight": first + last}
    return WildStep(run, model, [optimizer], by_hand=by_hand)


@wild
def gradients_of_tasks_in_conflict() -> WildStep:
    """PCGrad: a gradient a task from one graph, each projected off the other."""
    trunk = nn.Sequential(nn.Linear(WIDTH, HIDDEN), nn.ReLU())
    heads = nn.ModuleList([nn.Linear(HIDDEN, 3), nn.Linear(HIDDEN, 3)])
    optimizer = torch.optim.SGD([*trunk.parameters(), *heads.parameters()], lr=0.1)
    x, y = batch()

    def run() -> torch.Tensor:
        features = trunk(x)
        losses = [functional.cross_entropy(head(features), y) for head in heads]
        shared = list(trunk.parameters())
        flat = []
        for loss in losses:
            gradients = torch.autograd.grad(loss, shared, retain_graph=True)
            flat.append(torch.cat([gradient.reshape(-1) for gradient in gradients]))
        one, other = flat
        conflict = (one @ other).clamp(max=0) / (other @ other)
        merged, start = one - conflict * other + other, 0
        for parameter in shared:
            length = parameter.numel()
            parameter.grad = merged[start : start + length].view_as(parameter)
            start += length
        optimizer.step()
        return torch.stack(losses).detach()

    # Each head hands its input's gradient on, the trunk's weight is asked for twice. The two inner
    # products of gradients are work of the update.
    by_hand = {
        "forward": FIRST + 2 * LAST,
        "update": 2 * 2 * (WIDTH * HIDDEN + HIDDEN),
        "grad_input": 2 * LAST,
        "grad_weight": 2 * FIRST,
    }
    model = nn.ModuleDict({"trunk": trunk, "heads": heads})
    return WildStep(run, model, [optimizer], by_hand=by_hand, own_update=True)
