"""Steps that play against themselves: GANs, perturbed inputs, reversed gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from tests.wild.models import CLASSES, FIRST, HIDDEN, LAST, ONE_STEP, ROWS, WIDTH, batch, mlp, times
from tests.wild.step import WildStep, wild

NOISE = 5


def gan() -> tuple[nn.Sequential, nn.Sequential]:
    """A generator NOISE -> WIDTH and a critic WIDTH -> 1."""
    generator = nn.Sequential(
        nn.Linear(NOISE, HIDDEN), nn.BatchNorm1d(HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, WIDTH)
    )
    critic = nn.Sequential(nn.Linear(WIDTH, HIDDEN), nn.LeakyReLU(0.2), nn.Linear(HIDDEN, 1))
    return generator, critic


GENERATOR = (2 * ROWS * NOISE * HIDDEN, 2 * ROWS * HIDDEN * WIDTH)
"""FLOP of the generator's two layers."""
CRITIC = (2 * ROWS * WIDTH * HIDDEN, 2 * ROWS * HIDDEN)
"""FLOP of the critic's two layers."""


@wild
def gan_two_optimizers() -> WildStep:
    """The critic on real and detached fake samples; then the generator through the critic."""
    generator, critic = gan()
    of_generator = torch.optim.Adam(generator.parameters(), betas=(0.5, 0.999))
    of_critic = torch.optim.Adam(critic.parameters(), betas=(0.5, 0.999))
    real = torch.randn(ROWS, WIDTH)
    ones, zeros = torch.ones(ROWS, 1), torch.zeros(ROWS, 1)
    loss = functional.binary_cross_entropy_with_logits

    def run() -> tuple[torch.Tensor, ...]:
        fake = generator(torch.randn(ROWS, NOISE))
        of_critic.zero_grad()
        critic_loss = loss(critic(real), ones) + loss(critic(fake.detach()), zeros)
        critic_loss.backward()
        of_critic.step()
        of_generator.zero_grad()
        generator_loss = loss(critic(fake), ones)
        generator_loss.backward()
        of_generator.step()
        return critic_loss.detach(), generator_loss.detach()

    made, judged = sum(GENERATOR), sum(CRITIC)
    by_hand = {
        "forward": made + 3 * judged,
        # The critic's last layer each time, its first only for the generator's sake.
        "grad_input": 3 * CRITIC[1] + CRITIC[0] + GENERATOR[1],
        # The generator's backward fills the critic's gradients as well.
        "grad_weight": 3 * judged + made,
    }
    model = nn.ModuleDict({"generator": generator, "critic": critic})
    return WildStep(run, model, [of_generator, of_critic], by_hand=by_hand)


@wild
def gan_gradient_penalty() -> WildStep:
    """WGAN-GP: the norm of the critic's gradient is part of its loss."""
    generator, critic = gan()
    optimizer = torch.optim.Adam(critic.parameters())
    real = torch.randn(ROWS, WIDTH)

    def run() -> torch.Tensor:
        with torch.no_grad():
            fake = generator(torch.randn(ROWS, NOISE))
        mix = torch.rand(ROWS, 1)
        between = (mix * real + (1 - mix) * fake).requires_grad_()
        scores = critic(between)
        (gradient,) = torch.autograd.grad(scores.sum(), between, create_graph=True)
        penalty = ((gradient.norm(dim=1) - 1) ** 2).mean()
        loss = critic(fake).mean() - critic(real).mean() + 10 * penalty
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    by_hand = {"forward": sum(GENERATOR) + 3 * sum(CRITIC)}
    model = nn.ModuleDict({"generator": generator, "critic": critic})
    return WildStep(run, model, [optimizer], by_hand=by_hand)


@wild
def gan_spectral_norm() -> WildStep:
    """Power iteration in each forward, on buffers, under ``no_grad``."""
    critic = nn.Sequential(
        nn.utils.parametrizations.spectral_norm(nn.Linear(WIDTH, HIDDEN)),
        nn.ReLU(),
        nn.utils.parametrizations.spectral_norm(nn.Linear(HIDDEN, 1)),
    )
    optimizer = torch.optim.Adam(critic.parameters())
    real, fake = torch.randn(ROWS, WIDTH), torch.randn(ROWS, WIDTH)

    def run() -> torch.Tensor:
        loss = functional.relu(1 - critic(real)).mean() + functional.relu(1 + critic(fake)).mean()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return WildStep(run, critic, [optimizer])


@wild
def gan_old_spectral_norm_and_r1() -> WildStep:
    """The hook-based spectral norm, and a penalty on real samples with ``only_inputs``."""
    critic = nn.Sequential(
        nn.utils.spectral_norm(nn.Linear(WIDTH, HIDDEN)), nn.Softplus(), nn.Linear(HIDDEN, 1)
    )
    optimizer = torch.optim.RMSprop(critic.parameters())
    real = torch.randn(ROWS, WIDTH)

    def run() -> torch.Tensor:
        real.requires_grad_()
        scores = critic(real)
        loss = functional.softplus(-scores).mean()
        (gradient,) = torch.autograd.grad(
            outputs=scores.sum(), inputs=real, create_graph=True, retain_graph=True
        )
        loss = loss + gradient.square().sum(1).mean()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return WildStep(run, critic, [optimizer, real])


@wild
def fast_gradient_sign() -> WildStep:
    """FGSM: the input's gradient only, then a step on the perturbed batch."""
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = batch()

    def run() -> torch.Tensor:
        perturbed = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(
            functional.cross_entropy(model(perturbed), y), [perturbed]
        )
        attacked = (x + 0.1 * gradient.sign()).clamp(-2, 2)
        loss = functional.cross_entropy(model(attacked), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    both = FIRST + LAST
    by_hand = {"forward": 2 * both, "grad_input": both + LAST, "grad_weight": both}
    return WildStep(run, model, [optimizer, x], by_hand=by_hand)


@wild
def projected_gradient_attack() -> WildStep:
    """PGD in evaluation mode, with ``.backward()`` into an input, then a step in training mode."""
    model = nn.Sequential(
        nn.Linear(WIDTH, HIDDEN), nn.BatchNorm1d(HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, CLASSES)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = batch()

    def run() -> torch.Tensor:
        model.eval()
        delta = torch.zeros_like(x, requires_grad=True)
        for _ in range(2):
            functional.cross_entropy(model(x + delta), y).backward()
            with torch.no_grad():
                delta += 0.1 * delta.grad.sign()
                delta.clamp_(-0.2, 0.2)
                delta.grad.zero_()
        model.train()
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(x + delta.detach()), y)
        loss.backward()
        optimizer.step()
        return loss

    both = FIRST + LAST
    by_hand = {"forward": 3 * both, "grad_input": 2 * both + LAST, "grad_weight": 3 * both}
    return WildStep(run, model, [optimizer], by_hand=by_hand)


@wild
def free_adversarial_training() -> WildStep:
    """One backward for both: the input's gradient is read off a leaf, the weights' are used."""
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = batch()
    delta = torch.zeros_like(x, requires_grad=True)

    def run() -> tuple[torch.Tensor, ...]:
        losses = []
        for _ in range(2):
            loss = functional.cross_entropy(model(x + delta), y)
            optimizer.zero_grad()
            loss.backward()
            delta.data = (delta.data + 0.1 * delta.grad.sign()).clamp(-0.2, 0.2)
            delta.grad = None
            optimizer.step()
            losses.append(loss)
        return tuple(losses)

    figures = {**ONE_STEP, "grad_input": FIRST + LAST}
    return WildStep(run, model, [optimizer, delta], by_hand=times(2, figures))


class Reverse(torch.autograd.Function):
    """The identity, whose gradient has the other sign."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, scale: float) -> torch.Tensor:
        ctx.scale = scale
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradient.neg() * ctx.scale, None


@wild
def domain_adversarial() -> WildStep:
    """A shared trunk, a label head, and a domain head behind a reversed gradient."""
    trunk = nn.Sequential(nn.Linear(WIDTH, HIDDEN), nn.ReLU())
    label, domain = nn.Linear(HIDDEN, CLASSES), nn.Linear(HIDDEN, 2)
    model = nn.ModuleList([trunk, label, domain])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    x, y = batch()
    which = torch.randint(2, (ROWS,))

    def run() -> torch.Tensor:
        features = trunk(x)
        loss = functional.cross_entropy(label(features), y)
        loss = loss + functional.cross_entropy(domain(Reverse.apply(features, 0.5)), which)
        loss.backward()
        optimizer.step()
        return loss

    heads = LAST + 2 * ROWS * HIDDEN * 2
    by_hand = {"forward": FIRST + heads, "grad_input": heads, "grad_weight": FIRST + heads}
    return WildStep(run, model, [optimizer], by_hand=by_hand)


@wild
def virtual_adversarial() -> WildStep:
    """VAT: a power iteration over the divergence's gradient, hooks off the parameters."""
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters())
    x, _ = batch()

    def run() -> torch.Tensor:
        with torch.no_grad():
            target = model(x).softmax(1)
        direction = functional.normalize(torch.randn_like(x), dim=1).requires_grad_()
        divergence = functional.kl_div(
            model(x + 0.1 * direction).log_softmax(1), target, reduction="batchmean"
        )
        (gradient,) = torch.autograd.grad(divergence, direction)
        worst = functional.normalize(gradient, dim=1)
        loss = functional.kl_div(model(x + worst).log_softmax(1), target, reduction="batchmean")
        loss.backward()
        optimizer.step()
        return loss

    both = FIRST + LAST
    by_hand = {"forward": 3 * both, "grad_input": both + LAST, "grad_weight": both}
    return WildStep(run, model, [optimizer], by_hand=by_hand)
