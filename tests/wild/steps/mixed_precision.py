"""Autocast, scaled gradients, low-precision weights."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn import functional

from tests.wild.models import ONE_STEP, WIDTH, batch, mlp, times
from tests.wild.step import WildStep, needs, wild


@wild
def autocast_bfloat16() -> WildStep:
    """Casts of weights and activations; the loss in full precision."""
    model = nn.Sequential(nn.Linear(WIDTH, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 3))
    optimizer = torch.optim.AdamW(model.parameters())
    x, y = batch()

    def run() -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return WildStep(run, model, [optimizer], by_hand=ONE_STEP)


@wild
def grad_scaler_accumulation_clipping() -> WildStep:
    """The whole of it: autocast, scale, accumulate, unscale, clip, step, update."""
    model = mlp()
    optimizer = torch.optim.AdamW(model.parameters())
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0, growth_interval=1)
    batches = [batch(), batch()]

    def run() -> torch.Tensor:
        for x, y in batches:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = functional.cross_entropy(model(x), y) / len(batches)
            scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        return loss.detach()

    return WildStep(run, model, [optimizer], by_hand=times(2, ONE_STEP))


@wild
def grad_scaler_overflow() -> WildStep:
    """A scale that overflows: the step is left out and the scale goes down."""
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=3e38)
    x, y = batch()

    def run() -> tuple[torch.Tensor, float]:
        loss = functional.cross_entropy(model(100 * x), y)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        return loss.detach(), scaler.get_scale()

    return WildStep(run, model, [optimizer], by_hand=ONE_STEP)


@wild
def master_weights() -> WildStep:
    """A bfloat16 model beside float32 weights, which the optimizer updates and hands back."""
    model = mlp().bfloat16()
    masters = [p.detach().clone().float() for p in model.parameters()]
    optimizer = torch.optim.Adam(masters)
    x, y = batch()

    def run() -> torch.Tensor:
        loss = functional.cross_entropy(model(x.bfloat16()).float(), y)
        model.zero_grad()
        loss.backward()
        for master, parameter in zip(masters, model.parameters(), strict=True):
            master.grad = parameter.grad.float()
        optimizer.step()
        with torch.no_grad():
            torch._foreach_copy_(list(model.parameters()), masters)
        return loss

    return WildStep(run, model, [optimizer], by_hand=ONE_STEP)


@wild
def autocast_with_custom_function() -> WildStep:
    """``custom_fwd`` and ``custom_bwd`` around a user's product."""

    class Product(torch.autograd.Function):
        @staticmethod
        @torch.amp.custom_fwd(device_type="cpu")
        def forward(ctx, x, weight):  # type: ignore[no-untyped-def]
            ctx.save_for_backward(x, weight)
            return x @ weight.T

        @staticmethod
        @torch.amp.custom_bwd(device_type="cpu")
        def backward(ctx, gradient):  # type: ignore[no-untyped-def]
            x, weight = ctx.saved_tensors
            return gradient @ weight.to(gradient.dtype), gradient.T @ x.to(gradient.dtype)

    inner, outer = nn.Linear(WIDTH, 8), nn.Linear(8, 3, bias=False)
    model = nn.ModuleList([inner, outer])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = batch()

    def run() -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = Product.apply(inner(x), outer.weight)
        loss = functional.cross_entropy(logits.float(), y)
        loss.backward()
        optimizer.step()
        return loss

    return WildStep(run, model, [optimizer], by_hand=ONE_STEP)


@wild
def fused_adamw_float64() -> WildStep:
    """The fused update on the CPU, in double precision."""
    model = mlp().double()
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    x, y = batch()

    def run() -> torch.Tensor:
        loss = functional.cross_entropy(model(x.double()), y)
        loss.backward()
        optimizer.step()
        return loss

    return WildStep(run, model, [optimizer], by_hand=ONE_STEP)


@wild
def foreach_sgd_with_stochastic_rounding() -> WildStep:
    """Weights in bfloat16, updated in float32 and rounded at random."""
    model = mlp().bfloat16()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, foreach=True, momentum=0.9)
    shadow = copy.deepcopy(model)
    x, y = batch()

    def run() -> torch.Tensor:
        loss = functional.cross_entropy(model(x.bfloat16()), y)
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for rounded, exact in zip(shadow.parameters(), model.parameters(), strict=True):
                bits = exact.float().view(torch.int32)
                bits += torch.randint_like(bits, 1 << 16)
                rounded.copy_((bits & -65536).view(torch.float32))
        return loss

    return WildStep(run, model, [optimizer, shadow], by_hand=ONE_STEP)


@wild
def scaled_float8_product() -> WildStep:
    """A float8 linear layer: weights and activations are quantised each time, gradients are not."""
    needs("ops.aten._scaled_mm", "float8_e4m3fn")

    class Float8Product(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, weight):  # type: ignore[no-untyped-def]
            ctx.save_for_backward(x, weight)
            scales = [part.abs().max() / 448 for part in (x, weight)]
            a, b = (
                (part / scale).to(torch.float8_e4m3fn)
                for part, scale in zip((x, weight), scales, strict=True)
            )
            return torch._scaled_mm(
                a, b.T, scale_a=scales[0], scale_b=scales[1], out_dtype=torch.float32
            )

        @staticmethod
        def backward(ctx, gradient):  # type: ignore[no-untyped-def]
            x, weight = ctx.saved_tensors
            return gradient @ weight, gradient.T @ x

    layer = nn.Linear(16, 16, bias=False)
    head = nn.Linear(16, 16, bias=False)
    model = nn.ModuleList([layer, head])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x = torch.randn(16, 16)

    def run() -> torch.Tensor:
        loss = Float8Product.apply(layer(x), head.weight).square().mean()
        loss.backward()
        optimizer.step()
        return loss

    one = 2 * 16**3
    by_hand = {"forward": 2 * one, "grad_input": one, "grad_weight": 2 * one}
    return WildStep(run, model, [optimizer], by_hand=by_hand)
