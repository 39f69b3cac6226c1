"""Models that make something: diffusion, flows, variational autoencoders, vector quantisation."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from tests.wild.models import HIDDEN, ROWS, WIDTH
from tests.wild.step import WildStep, wild

CHANNELS, SIDE = 4, 8


class SmallUNet(nn.Module):
    """Down, attention over positions, up with a skip connection; the time step is added."""

    def __init__(self) -> None:
        super().__init__()
        self.time = nn.Sequential(nn.Linear(CHANNELS, CHANNELS), nn.SiLU())
        self.stem = nn.Conv2d(1, CHANNELS, 3, padding=1)
        self.norm = nn.GroupNorm(2, CHANNELS)
        self.down = nn.Conv2d(CHANNELS, CHANNELS, 3, stride=2, padding=1)
        self.qkv = nn.Conv1d(CHANNELS, 3 * CHANNELS, 1, bias=False)
        self.up = nn.ConvTranspose2d(CHANNELS, CHANNELS, 2, stride=2)
        self.head = nn.Conv2d(2 * CHANNELS, 1, 3, padding=1)

    def forward(self, x: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
        angles = steps[:, None] * torch.arange(1, CHANNELS // 2 + 1)
        time = self.time(torch.cat([angles.sin(), angles.cos()], dim=1))
        first = functional.silu(self.norm(self.stem(x)))
        hidden = self.down(first) + time[:, :, None, None]
        query, key, value = self.qkv(hidden.flatten(2)).chunk(3, dim=1)
        scores = torch.einsum("bct,bcs->bts", query * CHANNELS**-0.5, key).softmax(dim=-1)
        hidden = hidden + torch.einsum("bts,bcs->bct", scores, value).view_as(hidden)
        return self.head(torch.cat([self.up(hidden), first], dim=1))


@wild
def denoising_diffusion() -> WildStep:
    """DDPM with a moving average of the weights."""
    model = SmallUNet()
    average = copy.deepcopy(model).requires_grad_(False)
    optimizer = torch.optim.AdamW(model.parameters())
    noise_levels = torch.linspace(0.99, 0.01, 10)
    images = torch.randn(2, 1, SIDE, SIDE)

    def run() -> torch.Tensor:
        steps = torch.randint(10, (2,))
        noise, kept = torch.randn_like(images), noise_levels[steps].view(-1, 1, 1, 1)
        noisy = kept.sqrt() * images + (1 - kept).sqrt() * noise
        loss = functional.mse_loss(model(noisy, steps.float()), noise)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for slow, fast in zip(average.parameters(), model.parameters(), strict=True):
                slow.lerp_(fast, 0.01)
        return loss

    full, half = SIDE * SIDE, SIDE * SIDE // 4
    positions = half  # of the attention
    products = {
        "time": CHANNELS * CHANNELS,
        "stem": full * CHANNELS * 9,
        "down": half * CHANNELS * CHANNELS * 9,
        "qkv": half * CHANNELS * 3 * CHANNELS,
        "up": half * CHANNELS * CHANNELS * 4,
        "head": full * 2 * CHANNELS * 9,
    }
    flops = {name: 2 * 2 * product for name, product in products.items()}  # of 2 images
    attention = 2 * 2 * 2 * positions * positions * CHANNELS
    weights, firsts = sum(flops.values()), flops["time"] + flops["stem"]
    by_hand = {
        "forward": weights + attention,
        "grad_input": weights - firsts + 2 * attention,
        "grad_weight": weights,
    }
    return WildStep(run, model, [optimizer, average], by_hand=by_hand)


@wild
def score_matching_by_slices() -> WildStep:
    """Hyvärinen's objective with random projections: a gradient of a gradient inside the loss."""
    energy = nn.Sequential(nn.Linear(WIDTH, HIDDEN), nn.Softplus(), nn.Linear(HIDDEN, 1))
    optimizer = torch.optim.Adam(energy.parameters())
    x = torch.randn(ROWS, WIDTH)

    def run() -> torch.Tensor:
        points = x.clone().requires_grad_()
        direction = torch.randn_like(points)
        (score,) = torch.autograd.grad(-energy(points).sum(), points, create_graph=True)
        projected = (score * direction).sum()
        (curvature,) = torch.autograd.grad(projected, points, create_graph=True)
        loss = ((curvature * direction).sum(1) + 0.5 * score.square().sum(1)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    by_hand = {"forward": 2 * ROWS * WIDTH * HIDDEN + 2 * ROWS * HIDDEN}
    return WildStep(run, energy, [optimizer], by_hand=by_hand)


@wild
def variational_autoencoder() -> WildStep:
    """The reparametrised sample, and a divergence by ``torch.distributions``."""
    encoder, decoder = nn.Linear(WIDTH, 2 * 3), nn.Linear(3, WIDTH)
    model = nn.ModuleDict({"encoder": encoder, "decoder": decoder})
    optimizer = torch.optim.Adam(model.parameters(), amsgrad=True)
    x = torch.rand(ROWS, WIDTH)

    def run() -> torch.Tensor:
        mean, deviation = encoder(x).chunk(2, dim=1)
        posterior = torch.distributions.Normal(mean, deviation.exp(), validate_args=False)
        prior = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
        out = decoder(posterior.rsample())
        reconstruction = functional.binary_cross_entropy_with_logits(out, x, reduction="sum")
        loss = reconstruction + torch.distributions.kl_divergence(posterior, prior).sum()
        loss.backward()
        optimizer.step()
        return loss

    down, up = 2 * ROWS * WIDTH * 6, 2 * ROWS * 3 * WIDTH
    by_hand = {"forward": down + up, "grad_input": up, "grad_weight": down + up}
    return WildStep(run, model, [optimizer], by_hand=by_hand)


@wild
def vector_quantised_autoencoder() -> WildStep:
    """A straight-through estimate, and a codebook that follows by moving averages."""
    encoder, decoder = nn.Linear(WIDTH, 3), nn.Linear(3, WIDTH)
    model = nn.ModuleDict({"encoder": encoder, "decoder": decoder})
    model.register_buffer("codes", torch.randn(5, 3))
    model.register_buffer("sizes", torch.ones(5))
    optimizer = torch.optim.Adam(model.parameters())
    x = torch.randn(ROWS, WIDTH)

    def run() -> torch.Tensor:
        hidden = encoder(x)
        with torch.no_grad():
            nearest = (hidden[:, None] - model.codes).square().sum(-1).argmin(1)
            chosen = functional.one_hot(nearest, 5).float()
            model.sizes.lerp_(chosen.sum(0), 0.1)
            model.codes.lerp_((chosen.T @ hidden) / model.sizes[:, None], 0.1)
        quantised = functional.embedding(nearest, model.codes)
        loss = functional.mse_loss(hidden, quantised)
        loss = loss + functional.mse_loss(decoder(hidden + (quantised - hidden).detach()), x)
        loss.backward()
        optimizer.step()
        return loss

    layer, sums = 2 * ROWS * WIDTH * 3, 2 * 5 * ROWS * 3
    by_hand = {"forward": 2 * layer + sums, "grad_input": layer, "grad_weight": 2 * layer}
    return WildStep(run, model, [optimizer], by_hand=by_hand)


class Coupling(nn.Module):
    """RealNVP: half of the coordinates scales and moves the other half."""

    def __init__(self, flip: bool) -> None:
        super().__init__()
        self.flip = flip
        self.net = nn.Sequential(nn.Linear(3, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, 6))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        kept, changed = x.flip(1).chunk(2, 1) if self.flip else x.chunk(2, 1)
        scale, move = self.net(kept).chunk(2, 1)
        return torch.cat([kept, changed * scale.tanh().exp() + move], 1), scale.tanh().sum(1)


@wild
def normalising_flow() -> WildStep:
    """Couplings and an invertible linear layer, whose determinant is in the loss."""
    model = nn.ModuleList([Coupling(False), Coupling(True)])
    mixing = nn.Parameter(torch.eye(WIDTH) + 0.1 * torch.randn(WIDTH, WIDTH))
    model.register_parameter("mixing", mixing)
    optimizer = torch.optim.Adamax(model.parameters())
    x = torch.randn(ROWS, WIDTH)

    def run() -> torch.Tensor:
        hidden, total = x, torch.zeros(ROWS)
        for coupling in model:
            hidden, logarithm = coupling(hidden)
            total = total + logarithm
        hidden = hidden @ mixing
        total = total + torch.linalg.slogdet(mixing).logabsdet
        loss = (0.5 * hidden.square().sum(1) - total).mean()
        loss.backward()
        optimizer.step()
        return loss

    inner = 2 * ROWS * (3 * HIDDEN + HIDDEN * 6)
    by_hand = {"forward": 2 * inner + 2 * ROWS * WIDTH * WIDTH}
    return WildStep(run, model, [optimizer], by_hand=by_hand)


@wild
def neural_style() -> WildStep:
    """Gatys: the image is what is optimised, through a frozen network, on Gram matrices."""
    network = nn.Sequential(nn.Conv2d(3, CHANNELS, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2))
    network.requires_grad_(False)
    image = nn.Parameter(torch.rand(1, 3, SIDE, SIDE))
    optimizer = torch.optim.Adam([image], lr=0.1)
    goal = torch.randn(CHANNELS, CHANNELS)

    def run() -> torch.Tensor:
        features = network(image).flatten(2)[0]
        loss = functional.mse_loss(features @ features.T, goal)
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            image.clamp_(0, 1)
        return loss

    convolution = 2 * SIDE * SIDE * CHANNELS * 3 * 9
    gram = 2 * CHANNELS * CHANNELS * (SIDE // 2) ** 2
    by_hand = {"forward": convolution + gram, "backward": convolution + 2 * gram}
    return WildStep(run, network, [optimizer, image], by_hand=by_hand)


class Rendering(torch.autograd.Function):
    """Alpha compositing with a backward of its own, which needs its own output."""

    @staticmethod
    def forward(ctx: Any, opacity: torch.Tensor, colour: torch.Tensor) -> torch.Tensor:
        left = torch.cumprod(1 - opacity + 1e-6, dim=1)
        weights = opacity * torch.cat([torch.ones_like(left[:, :1]), left[:, :-1]], dim=1)
        image = torch.einsum("rs,rsc->rc", weights, colour)
        ctx.save_for_backward(weights, colour, image)
        return image

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        weights, colour, image = ctx.saved_tensors
        of_weights = torch.einsum("rc,rsc->rs", gradient, colour - image[:, None])
        return of_weights * weights, weights[..., None] * gradient[:, None]


@wild
def radiance_field() -> WildStep:
    """NeRF: encoded positions, a network a sample, composited along rays."""
    rays, samples, size = 3, 4, 2 * 3 * 2
    field = nn.Sequential(nn.Linear(size, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 4))
    optimizer = torch.optim.Adam(field.parameters())
    positions, goal = torch.rand(rays, samples, 3), torch.rand(rays, 3)

    def run() -> torch.Tensor:
        angles = positions[..., None] * math.pi * torch.tensor([1.0, 2.0])
        encoded = torch.cat([angles.sin(), angles.cos()], -1).flatten(2)
        out = field(encoded)
        image = Rendering.apply(out[..., 0].sigmoid(), out[..., 1:].sigmoid())
        loss = functional.mse_loss(image, goal)
        loss.backward()
        optimizer.step()
        return loss

    first, last = 2 * rays * samples * size * HIDDEN, 2 * rays * samples * HIDDEN * 4
    by_hand = {"forward": first + last + 2 * rays * samples * 3}
    return WildStep(
        run, field, [optimizer], by_hand=by_hand, differs="the colours' gradient is no product"
    )
