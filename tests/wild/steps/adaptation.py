"""Fine-tuning: what is frozen, what is added, what is reparametrised."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrize, prune

from tests.wild.models import CLASSES, FIRST, HIDDEN, LAST, ONE_STEP, ROWS, WIDTH, batch, mlp
from tests.wild.step import WildStep, wild

RANK = 2
DOWN, UP = 2 * ROWS * WIDTH * RANK, 2 * ROWS * RANK * HIDDEN
"""FLOP of an adapter of the first layer."""


class LoRALinear(nn.Module):
    """A frozen layer and a low-rank branch beside it, as peft has it."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base_layer = base.requires_grad_(False)
        self.lora_dropout = nn.ModuleDict({"default": nn.Dropout(0.1)})
        self.lora_A = nn.ModuleDict({"default": nn.Linear(base.in_features, RANK, bias=False)})
        self.lora_B = nn.ModuleDict({"default": nn.Linear(RANK, base.out_features, bias=False)})
        self.scaling = {"default": 2.0}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result = self.base_layer(x)
        for name in self.lora_A:
            branch = self.lora_B[name](self.lora_A[name](self.lora_dropout[name](x)))
            result = result + branch * self.scaling[name]
        return result


@wild
def low_rank_adapters() -> WildStep:
    """LoRA in both layers: the frozen weights pass gradients on, and get none."""
    model = mlp()
    model[0], model[2] = LoRALinear(model[0]), LoRALinear(model[2])
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
    x, y = batch()

    def run() -> torch.Tensor:
        loss = functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    down, up = 2 * ROWS * HIDDEN * RANK, 2 * ROWS * RANK * CLASSES
    by_hand = {
        "forward": FIRST + DOWN + UP + LAST + down + up,
        "grad_input": UP + LAST + down + up,
        "grad_weight": DOWN + UP + down + up,
    }
    return WildStep(run, model, [optimizer], by_hand=by_hand)


class Merged(nn.Module):
    """W + B A, as a parametrisation of W."""

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.randn(RANK, columns) / math.sqrt(columns))
        self.b = nn.Parameter(torch.randn(rows, RANK))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight + self.b @ self.a


@wild
def adapter_merged_by_parametrisation() -> WildStep:
    """``register_parametrization``: the weight is computed whenever it is read."""
    model = mlp()
    parametrize.register_parametrization(model[0], "weight", Merged(HIDDEN, WIDTH))
    model[0].parametrizations.weight.original.requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = batch()

    def run() -> torch.Tensor:
        loss = functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    merge = 2 * HIDDEN * RANK * WIDTH
    by_hand = {
        "forward": merge + FIRST + LAST,
        "grad_input": LAST,
        "grad_weight": 2 * merge + FIRST + LAST,
    }
    return WildStep(run, model, [optimizer], by_hand=by_hand)


@wild
def weight_decomposed_adapter() -> WildStep:
    """DoRA: magnitude and direction apart; the norm is detached."""
    frozen = nn.Linear(WIDTH, HIDDEN).requires_grad_(False)
    down, up = nn.Linear(WIDTH, RANK, bias=False), nn.Linear(RANK, HIDDEN, bias=False)
    model = nn.ModuleDict({"frozen": frozen, "down": down, "up": up})
    magnitude = nn.Parameter(frozen.weight.norm(dim=1))
    model.register_parameter("magnitude", magnitude)
    optimizer = torch.optim.AdamW([magnitude, *down.parameters(), *up.parameters()])
    x = torch.randn(ROWS, WIDTH)

    def run() -> torch.Tensor:
        weight = frozen.weight + up.weight @ down.weight
        scale = magnitude / weight.norm(dim=1).detach()
        out = functional.linear(x, weight) * scale + frozen.bias
        loss = out.square().mean()
        loss.backward()
        optimizer.step()
        return loss

    merge = 2 * HIDDEN * RANK * WIDTH
    by_hand = {"forward": merge + FIRST, "grad_input": 0, "grad_weight": 2 * merge + FIRST}
    return WildStep(run, model, [optimizer], by_hand=by_hand)


@wild
def linear_probe() -> WildStep:
    """A frozen backbone in evaluation mode; only the head trains, so backward costs its weight."""
    backbone = nn.Sequential(nn.Linear(WIDTH, HIDDEN), nn.BatchNorm1d(HIDDEN), nn.ReLU())
    backbone.eval().requires_grad_(False)
    head = nn.Linear(HIDDEN, CLASSES)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1)
    x, y = batch()

    def run() -> torch.Tensor:
        loss = functional.cross_entropy(head(backbone(x)), y)
        loss.backward()
        optimizer.step()
        return loss

    by_hand = {"forward": FIRST + LAST, "grad_input": 0, "grad_weight": LAST}
    return WildStep(run, nn.Sequential(backbone, head), [optimizer], by_hand=by_hand)


@wild
def biases_only() -> WildStep:
    """BitFit: no weight trains, yet gradients go through all but the first."""
    model = mlp()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.endswith("bias"))
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    x, y = batch()

    def run() -> torch.Tensor:
        loss = functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    by_hand = {"forward": FIRST + LAST, "grad_input": LAST, "grad_weight": 0}
    return WildStep(run, model, [optimizer], by_hand=by_hand)


@wild
def soft_prompt() -> WildStep:
    """Learned vectors in front of a frozen model: all of backward is for the input."""
    model = mlp().requires_grad_(False)
    prompt = nn.Parameter(torch.randn(2, WIDTH))
    optimizer = torch.optim.Adam([prompt])
    x, _ = batch()

    def run() -> torch.Tensor:
        loss = model(torch.cat([prompt, x])).logsumexp(1).mean()
        loss.backward()
        optimizer.step()
        return loss

    rows = 2 + ROWS
    both = 2 * rows * WIDTH * HIDDEN + 2 * rows * HIDDEN * CLASSES
    by_hand = {"forward": both, "grad_input": both, "grad_weight": 0}
    return WildStep(run, model, [optimizer, prompt], by_hand=by_hand)


@wild
def gradual_unfreezing() -> WildStep:
    """``requires_grad`` changes between two steps of one loop."""
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = batch()

    def run() -> tuple[torch.Tensor, ...]:
        losses = []
        for trainable in (False, True):
            model[0].requires_grad_(trainable)
            optimizer.zero_grad(set_to_none=True)
            loss = functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        return tuple(losses)

    by_hand = {
        "forward": 2 * (FIRST + LAST),
        "grad_input": LAST,  # the frozen first layer asks for none
        "grad_weight": LAST + FIRST + LAST,
    }
    return WildStep(run, model, [optimizer], by_hand=by_hand)


@wild
def residual_adapters_by_hooks() -> WildStep:
    """A forward hook changes the output of a frozen layer."""
    model = mlp()
    model[0].requires_grad_(False)
    adapter = nn.Sequential(nn.Linear(HIDDEN, RANK), nn.GELU(), nn.Linear(RANK, HIDDEN))
    model[0].register_forward_hook(lambda module, inputs, output: output + adapter(output))
    optimizer = torch.optim.Adam([*adapter.parameters(), *model[2].parameters()])
    x, y = batch()

    def run() -> torch.Tensor:
        loss = functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    half = 2 * ROWS * HIDDEN * RANK
    by_hand = {
        "forward": FIRST + 2 * half + LAST,
        "grad_input": half + LAST,
        "grad_weight": 2 * half + LAST,
    }
    return WildStep(run, model, [optimizer, adapter], by_hand=by_hand)


@wild
def old_weight_norm() -> WildStep:
    """The weight is a product that a pre-forward hook makes."""
    model = mlp()
    nn.utils.weight_norm(model[0])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = batch()

    def run() -> torch.Tensor:
        loss = functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return WildStep(run, model, [optimizer], by_hand=ONE_STEP)


@wild
def pruned_with_masks() -> WildStep:
    """``torch.nn.utils.prune``: a mask a weight, multiplied in by a hook; products stay dense."""
    model = mlp()
    prune.l1_unstructured(model[0], "weight", amount=0.5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = batch()

    def run() -> torch.Tensor:
        loss = functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return WildStep(run, model, [optimizer], by_hand=ONE_STEP)


@wild
def lottery_ticket_gradient_masks() -> WildStep:
    """Masks applied to gradients by hooks on tensors."""
    model = mlp()
    masks = {p: torch.rand_like(p) > 0.5 for p in model.parameters()}
    for parameter, mask in masks.items():
        parameter.register_hook(lambda gradient, mask=mask: gradient * mask)
    optimizer = torch.optim.Adam(model.parameters())
    x, y = batch()

    def run() -> torch.Tensor:
        loss = functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return WildStep(run, model, [optimizer], by_hand=ONE_STEP)


class GradientProjection(torch.optim.Optimizer):
    """GaLore: the gradient is projected to a low rank, the update back."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, {"lr": 0.1})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                if p.ndim != 2:
                    p.add_(p.grad, alpha=-group["lr"])
                    continue
                state = self.state[p]
                if "basis" not in state:
                    u, _, _ = torch.linalg.svd(p.grad, full_matrices=False)
                    state["basis"] = u[:, :RANK].clone()
                    state["square"] = torch.zeros(RANK, p.shape[1])
                low = state["basis"].T @ p.grad
                state["square"].mul_(0.9).addcmul_(low, low, value=0.1)
                p.add_(state["basis"] @ (low / (state["square"].sqrt() + 1e-8)), alpha=-0.1)


@wild
def low_rank_gradients() -> WildStep:
    model = mlp()
    optimizer = GradientProjection(model.parameters())
    x, y = batch()

    def run() -> torch.Tensor:
        loss = functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    update = 2 * 2 * RANK * (WIDTH * HIDDEN + HIDDEN * CLASSES)
    return WildStep(run, model, [optimizer], by_hand={**ONE_STEP, "update": update})
