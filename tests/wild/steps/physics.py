"""Differential equations: in the loss, as layers, with adjoints; complex numbers."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from tests.wild.models import HIDDEN, ROWS, WIDTH
from tests.wild.step import WildStep, wild


@wild
def physics_informed() -> WildStep:
    """Burgers' equation at collocation points: first and second derivatives in the loss."""
    model = nn.Sequential(nn.Linear(2, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, 1))
    optimizer = torch.optim.Adam(model.parameters())
    time, place = torch.rand(ROWS, 1), torch.rand(ROWS, 1)

    def derivative(of: torch.Tensor, by: torch.Tensor) -> torch.Tensor:
        return torch.autograd.grad(of, by, torch.ones_like(of), create_graph=True)[0]

    def run() -> torch.Tensor:
        t, x = time.clone().requires_grad_(), place.clone().requires_grad_()
        u = model(torch.cat([t, x], 1))
        along = derivative(u, x)
        residual = derivative(u, t) + u * along - 0.01 * derivative(along, x)
        loss = residual.square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    by_hand = {"forward": 2 * ROWS * 2 * HIDDEN + 2 * ROWS * HIDDEN}
    return WildStep(run, model, [optimizer], by_hand=by_hand)


@wild
def physics_informed_lbfgs() -> WildStep:
    """The same kind of loss inside of a closure: gradients of gradients within ``step``."""
    model = nn.Sequential(nn.Linear(1, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, 1))
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=2, history_size=3)
    place = torch.rand(ROWS, 1)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        x = place.clone().requires_grad_()
        u = model(x)
        (slope,) = torch.autograd.grad(u.sum(), x, create_graph=True)
        loss = (slope + u).square().mean()
        loss.backward()
        return loss

    by_hand = {"forward": 2 * (2 * ROWS * HIDDEN + 2 * ROWS * HIDDEN)}
    return WildStep(lambda: optimizer.step(closure), model, [optimizer], by_hand=by_hand)


@wild
def hamiltonian_network() -> WildStep:
    """The gradient of a learned energy is the prediction."""
    model = nn.Sequential(nn.Linear(2, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, 1, bias=False))
    optimizer = torch.optim.Adam(model.parameters())
    states, goal = torch.randn(ROWS, 2, requires_grad=True), torch.randn(ROWS, 2)

    def run() -> torch.Tensor:
        (slope,) = torch.autograd.grad(model(states).sum(), states, create_graph=True)
        loss = functional.mse_loss(torch.stack([slope[:, 1], -slope[:, 0]], 1), goal)
        loss.backward()
        optimizer.step()
        return loss.detach()

    by_hand = {"forward": 2 * ROWS * 2 * HIDDEN + 2 * ROWS * HIDDEN}
    return WildStep(run, model, [optimizer, states], by_hand=by_hand)


@wild
def neural_ode_unrolled() -> WildStep:
    """Runge and Kutta's method, differentiated as it stands."""
    model = nn.Sequential(nn.Linear(WIDTH, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, WIDTH))
    optimizer = torch.optim.Adam(model.parameters())
    x, goal = torch.randn(ROWS, WIDTH), torch.randn(ROWS, WIDTH)

    def run() -> torch.Tensor:
        y, h = x, 0.5
        for _ in range(2):
            k1 = model(y)
            k2 = model(y + h / 2 * k1)
            k3 = model(y + h / 2 * k2)
            k4 = model(y + h * k3)
            y = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        loss = functional.mse_loss(y, goal)
        loss.backward()
        optimizer.step()
        return loss

    layer = 2 * ROWS * WIDTH * HIDDEN
    by_hand = {
        "forward": 8 * 2 * layer,
        "grad_input": (8 * 2 - 1) * layer,
        "grad_weight": 8 * 2 * layer,
    }
    return WildStep(run, model, [optimizer], by_hand=by_hand)


class Adjoint(torch.autograd.Function):
    """torchdiffeq's adjoint: forward keeps only the end, backward integrates back."""

    STEPS, H = 2, 0.5

    @staticmethod
    def forward(ctx: Any, field: nn.Module, y: torch.Tensor, *parameters: Any) -> torch.Tensor:
        ctx.field = field
        with torch.no_grad():
            for _ in range(Adjoint.STEPS):
                y = y + Adjoint.H * field(y)
        ctx.save_for_backward(y, *parameters)
        return y

    @staticmethod
    def backward(ctx: Any, adjoint: torch.Tensor) -> tuple[Any, ...]:
        y, *parameters = ctx.saved_tensors
        sums = [torch.zeros_like(parameter) for parameter in parameters]
        for _ in range(Adjoint.STEPS):
            with torch.enable_grad():
                y = y.detach().requires_grad_()
                slope = ctx.field(y)
                of_y, *of_parameters = torch.autograd.grad(slope, [y, *parameters], adjoint)
            with torch.no_grad():
                y = y - Adjoint.H * slope
                adjoint = adjoint + Adjoint.H * of_y
                torch._foreach_add_(sums, of_parameters, alpha=Adjoint.H)
        return None, adjoint, *sums


@wild
def neural_ode_adjoint() -> WildStep:
    """Backward runs the field again, and its gradients inside of one node."""
    stem = nn.Linear(WIDTH, WIDTH)
    field = nn.Sequential(nn.Linear(WIDTH, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, WIDTH))
    model = nn.ModuleDict({"stem": stem, "field": field})
    optimizer = torch.optim.Adam(model.parameters())
    x, goal = torch.randn(ROWS, WIDTH), torch.randn(ROWS, WIDTH)

    def run() -> torch.Tensor:
        y = Adjoint.apply(field, stem(x), *field.parameters())
        loss = functional.mse_loss(y, goal)
        loss.backward()
        optimizer.step()
        return loss

    first, layer = 2 * ROWS * WIDTH * WIDTH, 2 * ROWS * WIDTH * HIDDEN
    by_hand = {
        "forward": first + 2 * 2 * layer,
        "grad_input": 2 * 2 * layer,
        "grad_weight": first + 2 * 2 * layer,
        "recompute": 2 * 2 * layer,
    }
    return WildStep(
        run,
        model,
        [optimizer],
        by_hand=by_hand,
        saved_unseen="kept again in the field's second run",
    )


class FixedPoint(nn.Module):
    """A deep equilibrium: iterate without gradients, then one step with, and a hook that solves."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(WIDTH, WIDTH)
        with torch.no_grad():
            self.layer.weight.mul_(0.3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            z = torch.zeros_like(x)
            for _ in range(3):
                z = torch.tanh(self.layer(z) + x)
        z = torch.tanh(self.layer(z) + x)
        start = z.detach().requires_grad_()
        again = torch.tanh(self.layer(start) + x)

        def solve(gradient: torch.Tensor) -> torch.Tensor:
            solution = gradient
            for _ in range(2):
                (pulled,) = torch.autograd.grad(again, start, solution, retain_graph=True)
                solution = pulled + gradient
            return solution

        z.register_hook(solve)
        return z


@wild
def deep_equilibrium() -> WildStep:
    """A tensor's hook runs backward again and again, inside of backward."""
    model = FixedPoint()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x = torch.randn(ROWS, WIDTH)

    def run() -> torch.Tensor:
        loss = model(x).square().mean()
        loss.backward()
        optimizer.step()
        return loss

    layer = 2 * ROWS * WIDTH * WIDTH
    by_hand = {"forward": 5 * layer, "grad_input": 2 * layer, "grad_weight": layer}
    return WildStep(run, model, [optimizer], by_hand=by_hand)


class SpectralConvolution(nn.Module):
    """A Fourier neural operator's layer: a complex product for each kept frequency."""

    def __init__(self, channels: int, modes: int) -> None:
        super().__init__()
        self.modes = modes
        self.weight = nn.Parameter(torch.randn(channels, channels, modes, dtype=torch.cfloat))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        spectrum = torch.fft.rfft(x)
        out = torch.zeros_like(spectrum)
        out[:, :, : self.modes] = torch.einsum(
            "bim,iom->bom", spectrum[:, :, : self.modes], self.weight
        )
        return torch.fft.irfft(out, n=x.shape[-1])


@wild
def fourier_neural_operator() -> WildStep:
    """Complex weights: each multiply-add is four multiplications and four additions."""
    lift, spectral = nn.Conv1d(1, 3, 1), SpectralConvolution(3, 2)
    model = nn.Sequential(lift, spectral, nn.GELU(), nn.Conv1d(3, 1, 1))
    optimizer = torch.optim.Adam(model.parameters())
    x, goal = torch.randn(2, 1, 8), torch.randn(2, 1, 8)

    def run() -> torch.Tensor:
        loss = functional.mse_loss(model(x), goal)
        loss.backward()
        optimizer.step()
        return loss

    point = 2 * 2 * 8 * 3  # a convolution of one channel to three, or back
    complex_product = 8 * 2 * 3 * 3 * 2
    by_hand = {
        "forward": 2 * point + complex_product,
        "grad_input": point + complex_product,
        "grad_weight": 2 * point + complex_product,
    }
    return WildStep(run, model, [optimizer], by_hand=by_hand)


@wild
def quantum_circuit() -> WildStep:
    """Complex state vectors through rotations made of real parameters."""
    angles = nn.Parameter(torch.rand(3))
    optimizer = torch.optim.Adam([angles])
    state = torch.zeros(2, dtype=torch.cdouble)
    state[0] = 1

    def run() -> torch.Tensor:
        psi = state
        for angle in angles.double():
            c, s = (angle / 2).cos(), (angle / 2).sin()
            rows = [torch.stack([c + 0j, -1j * s]), torch.stack([-1j * s, c + 0j])]
            psi = torch.stack(rows) @ psi
        loss = 1 - psi[1].abs().square()
        loss.backward()
        optimizer.step()
        return loss

    by_hand = {"forward": 3 * 8 * 2 * 2}
    return WildStep(run, None, [optimizer, angles], by_hand=by_hand)
