"""``torch.func`` and forward-mode automatic differentiation."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.autograd import forward_ad
from torch.func import (
    functional_call,
    grad,
    grad_and_value,
    hessian,
    jacrev,
    jvp,
    stack_module_state,
    vjp,
    vmap,
)
from torch.nn import functional

from tests.wild.models import CLASSES, FIRST, HIDDEN, LAST, ONE_STEP, ROWS, WIDTH, batch, mlp
from tests.wild.step import WildStep, wild

NO_HOOKS = "torch.func does not run under hooks on saved tensors"
TANGENTS = "a backward computed directional derivatives besides"


@wild
def vmapped_ensemble() -> WildStep:
    """Three models in one call: stacked weights, an ordinary backward."""
    models = [mlp() for _ in range(3)]
    weights, _ = stack_module_state(models)
    base = copy.deepcopy(models[0]).to("meta")
    optimizer = torch.optim.Adam(list(weights.values()))
    x, y = batch()

    def one(weights: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        return functional_call(base, weights, (x,))

    def run() -> torch.Tensor:
        logits = vmap(one, in_dims=(0, None))(weights, x)
        loss = functional.cross_entropy(logits.flatten(0, 1), y.repeat(3))
        loss.backward()
        optimizer.step()
        return loss

    both = 3 * (FIRST + LAST)
    by_hand = {"forward": both, "backward": both + 3 * LAST}
    return WildStep(run, None, [optimizer, weights], by_hand=by_hand)


@wild
def functional_gradient() -> WildStep:
    """``grad_and_value`` of a ``functional_call``, and an update of a dictionary of weights."""
    model = mlp()
    x, y = batch()

    def loss_of(weights: dict[str, torch.Tensor]) -> torch.Tensor:
        return functional.cross_entropy(functional_call(model, weights, (x,)), y)

    def run() -> torch.Tensor:
        weights = {name: p.detach() for name, p in model.named_parameters()}
        gradients, loss = grad_and_value(loss_of)(weights)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter -= 0.1 * gradients[name]
        return loss

    by_hand = {**ONE_STEP, "0: grad_weight": FIRST, "2: grad_weight": LAST, "2: grad_input": LAST}
    return WildStep(run, model, by_hand=by_hand, saved_unseen=NO_HOOKS)


@wild
def gradients_of_each_example() -> WildStep:
    """Differential privacy: vmap over grad, clip each example's gradient, add noise."""
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = batch()

    def loss_of(weights: dict[str, torch.Tensor], x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        logits = functional_call(model, weights, (x.unsqueeze(0),))
        return functional.cross_entropy(logits, y.unsqueeze(0))

    def run() -> torch.Tensor:
        weights = {name: p.detach() for name, p in model.named_parameters()}
        each = vmap(grad(loss_of), in_dims=(None, 0, 0))(weights, x, y)
        norms = torch.stack([part.flatten(1).norm(dim=1) for part in each.values()]).norm(dim=0)
        scale = (1.0 / norms).clamp(max=1.0)
        for name, parameter in model.named_parameters():
            clipped = torch.einsum("i,i...->...", scale, each[name])
            parameter.grad = (clipped + 0.1 * torch.randn_like(clipped)) / ROWS
        optimizer.step()
        return norms

    # The weighted sum over examples is a product too: work on gradients, so of the update.
    by_hand = {"forward": FIRST + LAST, "grad_input": LAST, "grad_weight": FIRST + LAST}
    return WildStep(
        run, model, [optimizer], by_hand=by_hand, own_update=True, saved_unseen=NO_HOOKS
    )


@wild
def jacobian_penalty() -> WildStep:
    """The norm of the Jacobian with ``jacrev``, differentiated by an ordinary backward."""
    model = nn.Sequential(nn.Linear(WIDTH, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, CLASSES))
    optimizer = torch.optim.Adam(model.parameters())
    x, y = batch()

    def run() -> torch.Tensor:
        loss = functional.cross_entropy(model(x), y)
        loss = loss + vmap(jacrev(model))(x).square().mean()
        loss.backward()
        optimizer.step()
        return loss

    return WildStep(run, model, [optimizer], saved_unseen=NO_HOOKS)


@wild
def hessian_of_a_small_model() -> WildStep:
    """``hessian`` (forward over reverse) of the loss in the last layer's bias; a Newton step."""
    model = mlp()
    x, y = batch()

    def run() -> torch.Tensor:
        with torch.no_grad():
            features = model[1](model[0](x))

        def loss_of(bias: torch.Tensor) -> torch.Tensor:
            logits = functional.linear(features, model[2].weight.detach(), bias)
            return functional.cross_entropy(logits, y)

        bias = model[2].bias.detach()
        curvature, slope = hessian(loss_of)(bias), grad(loss_of)(bias)
        step = torch.linalg.solve(curvature + torch.eye(CLASSES), slope)
        with torch.no_grad():
            model[2].bias -= step
        return loss_of(bias)

    return WildStep(run, model, saved_unseen=NO_HOOKS, not_compared=TANGENTS)


@wild
def forward_gradient() -> WildStep:
    """No backward: a directional derivative by forward mode, times the direction."""
    model = mlp()
    x, y = batch()

    def run() -> torch.Tensor:
        weights = {name: p.detach() for name, p in model.named_parameters()}
        direction = {name: torch.randn_like(p) for name, p in weights.items()}

        def loss_of(weights: dict[str, torch.Tensor]) -> torch.Tensor:
            return functional.cross_entropy(functional_call(model, weights, (x,)), y)

        loss, slope = jvp(loss_of, (weights,), (direction,))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter -= 0.1 * slope * direction[name]
        return loss

    # Of each layer: itself, and with the tangents of weight and input (the first one's are zeros).
    by_hand = {"forward": 3 * (FIRST + LAST), "backward": 0}
    return WildStep(
        run, model, by_hand=by_hand, saved_unseen=NO_HOOKS, not_compared="nothing ran backward"
    )


@wild
def dual_tensors_in_training() -> WildStep:
    """A penalty on a directional derivative: dual tensors in forward, backward through both."""
    model = nn.Sequential(nn.Linear(WIDTH, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, direction = torch.randn(ROWS, WIDTH), torch.randn(ROWS, WIDTH)

    def run() -> torch.Tensor:
        with forward_ad.dual_level():
            out, tangent = forward_ad.unpack_dual(model(forward_ad.make_dual(x, direction)))
            loss = (out.square() + tangent.square()).mean()
        loss.backward()
        optimizer.step()
        return loss

    first, last = 2 * ROWS * WIDTH * HIDDEN, 2 * ROWS * HIDDEN
    # Of each layer: itself, with its input's tangent, and with its weight's, which torch fills with
    # zeros, and which asks for the input's gradient but not for a weight's.
    by_hand = {
        "forward": 3 * (first + last),
        "grad_input": 3 * last,
        "grad_weight": 2 * (first + last),
    }
    return WildStep(run, model, [optimizer], by_hand=by_hand)


@wild
def vector_jacobian_product_called_twice() -> WildStep:
    """``vjp`` gives a function that runs backward each time it is called."""
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, _ = batch()

    def run() -> torch.Tensor:
        weights = {name: p.detach() for name, p in model.named_parameters()}
        logits, pull = vjp(lambda w: functional_call(model, w, (x,)), weights)
        (first,), (second,) = pull(torch.ones_like(logits)), pull(logits)
        for name, parameter in model.named_parameters():
            parameter.grad = first[name] + second[name]
        optimizer.step()
        return logits.sum()

    by_hand = {
        "forward": FIRST + LAST,
        "grad_input": 2 * LAST,
        "grad_weight": 2 * (FIRST + LAST),
    }
    return WildStep(run, model, [optimizer], by_hand=by_hand, saved_unseen=NO_HOOKS)


@wild
def batched_gradients() -> WildStep:
    """``is_grads_batched``: one backward for a whole basis."""
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, _ = batch()

    def run() -> torch.Tensor:
        logits = model(x).mean(0)
        rows = torch.autograd.grad(
            logits, list(model.parameters()), torch.eye(CLASSES), is_grads_batched=True
        )
        for parameter, gradient in zip(model.parameters(), rows, strict=True):
            parameter.grad = gradient.square().sum(0)
        optimizer.step()
        return logits.detach()

    by_hand = {
        "forward": FIRST + LAST,
        "grad_input": CLASSES * LAST,
        "grad_weight": CLASSES * (FIRST + LAST),
    }
    return WildStep(run, model, [optimizer], by_hand=by_hand)


@wild
def partial_gradients() -> WildStep:
    """``grad`` for some parameters only, one of them unused; then for a hidden activation."""
    model = mlp()
    unused = nn.Parameter(torch.randn(3))
    optimizer = torch.optim.SGD([model[2].weight], lr=0.1)
    x, y = batch()

    def run() -> torch.Tensor:
        hidden = model[1](model[0](x))
        loss = functional.cross_entropy(model[2](hidden), y)
        weight, nothing = torch.autograd.grad(
            loss, [model[2].weight, unused], allow_unused=True, retain_graph=True
        )
        assert nothing is None
        (of_hidden,) = torch.autograd.grad(loss, hidden)
        model[2].weight.grad = weight
        optimizer.step()
        return of_hidden.sum()

    by_hand = {"forward": FIRST + LAST, "grad_input": LAST, "grad_weight": LAST}
    return WildStep(run, model, [optimizer], by_hand=by_hand)


@wild
def gradient_edges_as_roots() -> WildStep:
    """Backward from edges of the graph, as pipeline schedules split it."""
    first, second = nn.Linear(WIDTH, HIDDEN), nn.Linear(HIDDEN, CLASSES)
    model = nn.Sequential(first, second)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = batch()

    def run() -> torch.Tensor:
        hidden = first(x)
        edge = torch.autograd.graph.get_gradient_edge(hidden)
        loss = functional.cross_entropy(second(hidden), y)
        # First what the previous stage waits for, then the weights.
        (of_hidden,) = torch.autograd.grad(loss, edge, retain_graph=True)
        weights = torch.autograd.grad(loss, list(second.parameters()))
        torch.autograd.backward(edge, of_hidden)
        for parameter, gradient in zip(second.parameters(), weights, strict=True):
            parameter.grad = gradient
        optimizer.step()
        return loss.detach()

    return WildStep(run, model, [optimizer], by_hand=ONE_STEP)


@wild
def three_gradients_of_one_graph() -> WildStep:
    """``retain_graph``: three backwards through the same nodes."""
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, _ = batch()

    def run() -> torch.Tensor:
        logits = model(x)
        for column in range(CLASSES):
            logits[:, column].sum().backward(retain_graph=column < CLASSES - 1)
        optimizer.step()
        return logits.detach()

    by_hand = {
        "forward": FIRST + LAST,
        "grad_input": CLASSES * LAST,
        "grad_weight": CLASSES * (FIRST + LAST),
    }
    return WildStep(run, model, [optimizer], by_hand=by_hand)
