"""Activations that are not kept: computed again, inverted, or kept elsewhere."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import (
    CheckpointPolicy,
    checkpoint,
    checkpoint_sequential,
    create_selective_checkpoint_contexts,
)

from tests.wild.models import CLASSES, HIDDEN, LAST, ONE_STEP, ROWS, WIDTH, batch, mlp
from tests.wild.step import WildStep, wild

SQUARE = 2 * ROWS * WIDTH * WIDTH
"""FLOP of a layer of a :func:`block`."""

CHECKPOINTED = "what is computed again is kept by the checkpoint's own hooks"


def block() -> nn.Sequential:
    return nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.GELU(), nn.Linear(WIDTH, WIDTH))


def blocks(depth: int = 3) -> nn.Sequential:
    return nn.Sequential(*[block() for _ in range(depth)])


@wild
def checkpoint_blocks() -> WildStep:
    """Each block but the last, without reentry: a block's last layer is not run again."""
    model = blocks()
    optimizer = torch.optim.AdamW(model.parameters())
    x = torch.randn(ROWS, WIDTH)

    def run() -> torch.Tensor:
        hidden = x
        for index, part in enumerate(model):
            last = index == len(model) - 1
            hidden = part(hidden) if last else checkpoint(part, hidden, use_reentrant=False)
        loss = hidden.square().mean()
        loss.backward()
        optimizer.step()
        return loss

    by_hand = {
        "forward": 6 * SQUARE,
        "grad_input": 5 * SQUARE,
        "grad_weight": 6 * SQUARE,
        "recompute": 2 * SQUARE,
    }
    return WildStep(run, model, [optimizer], by_hand=by_hand, saved_unseen=CHECKPOINTED)


@wild
def checkpoint_reentrant_with_dropout() -> WildStep:
    """With reentry, all of a block again, with the random state of the first time."""
    parts = nn.ModuleList([block(), nn.Sequential(nn.Dropout(0.5), block())])
    optimizer = torch.optim.SGD(parts.parameters(), lr=0.1)
    x = torch.randn(ROWS, WIDTH)

    def run() -> torch.Tensor:
        hidden = parts[0](x)
        hidden = checkpoint(parts[1], hidden, use_reentrant=True)
        loss = hidden.square().mean()
        loss.backward()
        optimizer.step()
        return loss

    by_hand = {
        "forward": 4 * SQUARE,
        "grad_input": 3 * SQUARE,
        "grad_weight": 4 * SQUARE,
        "recompute": 2 * SQUARE,
    }
    return WildStep(run, parts, [optimizer], by_hand=by_hand, saved_unseen=CHECKPOINTED)


@wild
def checkpoint_in_checkpoint() -> WildStep:
    """A checkpoint in a checkpoint, both with reentry: the inner layers run three times."""
    inner, outer = block(), nn.Linear(WIDTH, WIDTH)
    model = nn.ModuleList([inner, outer])
    x = torch.randn(ROWS, WIDTH)

    def nested(hidden: torch.Tensor) -> torch.Tensor:
        return checkpoint(inner, outer(hidden), use_reentrant=True)

    def run() -> torch.Tensor:
        loss = checkpoint(nested, x.clone().requires_grad_(), use_reentrant=True).square().mean()
        loss.backward()
        return loss

    by_hand = {
        "forward": 3 * SQUARE,
        "grad_input": 3 * SQUARE,
        "grad_weight": 3 * SQUARE,
        # The outer layer once more; the inner block twice more, once of it without gradients.
        "recompute": SQUARE + 2 * 2 * SQUARE,
    }
    return WildStep(run, model, by_hand=by_hand, saved_unseen=CHECKPOINTED)


@wild
def checkpoint_sequential_segments() -> WildStep:
    model = blocks(4)
    optimizer = torch.optim.Adam(model.parameters())
    x = torch.randn(ROWS, WIDTH)

    def run() -> torch.Tensor:
        loss = checkpoint_sequential(model, 2, x, use_reentrant=False).square().mean()
        loss.backward()
        optimizer.step()
        return loss

    by_hand = {
        "forward": 8 * SQUARE,
        "grad_input": 7 * SQUARE,
        "grad_weight": 8 * SQUARE,
        "recompute": 3 * SQUARE,  # of the first segment all but its last layer
    }
    return WildStep(run, model, [optimizer], by_hand=by_hand, saved_unseen=CHECKPOINTED)


@wild
def selective_checkpoint() -> WildStep:
    """Products are kept, all else is computed again: no product in the recomputation."""
    model = blocks(2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x = torch.randn(ROWS, WIDTH)

    def policy(context: Any, op: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
        if op == torch.ops.aten.addmm.default:
            return CheckpointPolicy.MUST_SAVE
        return CheckpointPolicy.PREFER_RECOMPUTE

    def run() -> torch.Tensor:
        hidden = x
        for part in model:
            hidden = checkpoint(
                part,
                hidden,
                use_reentrant=False,
                context_fn=lambda: create_selective_checkpoint_contexts(policy),
            )
        loss = hidden.square().mean()
        loss.backward()
        optimizer.step()
        return loss

    by_hand = {
        "forward": 4 * SQUARE,
        "grad_input": 3 * SQUARE,
        "grad_weight": 4 * SQUARE,
        "recompute": 0,
    }
    return WildStep(run, model, [optimizer], by_hand=by_hand, saved_unseen=CHECKPOINTED)


class CheckpointedFunction(torch.autograd.Function):
    """A checkpoint written by hand, as in many repositories: run without gradients, then again."""

    @staticmethod
    def forward(ctx: Any, run: Any, length: int, *args: torch.Tensor) -> torch.Tensor:
        ctx.run, ctx.length = run, length
        ctx.save_for_backward(*args)
        with torch.no_grad():
            return run(*args[:length])

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[Any, ...]:
        inputs = [part.detach().requires_grad_() for part in ctx.saved_tensors[: ctx.length]]
        parameters = list(ctx.saved_tensors[ctx.length :])
        with torch.enable_grad():
            output = ctx.run(*[part.view_as(part) for part in inputs])
        gradients = torch.autograd.grad(output, inputs + parameters, gradient, allow_unused=True)
        return None, None, *gradients


@wild
def checkpoint_of_a_diffusion_repository() -> WildStep:
    """guided-diffusion's own checkpoint, parameters handed over one by one."""
    model = blocks(2)
    optimizer = torch.optim.AdamW(model.parameters())
    x = torch.randn(ROWS, WIDTH)

    def run() -> torch.Tensor:
        hidden = model[0](x)
        hidden = CheckpointedFunction.apply(model[1], 1, hidden, *model[1].parameters())
        loss = hidden.square().mean()
        loss.backward()
        optimizer.step()
        return loss

    by_hand = {
        "forward": 4 * SQUARE,
        "grad_input": 3 * SQUARE,
        "grad_weight": 4 * SQUARE,
        "recompute": 2 * SQUARE,
    }
    return WildStep(run, model, [optimizer], by_hand=by_hand, saved_unseen=CHECKPOINTED)


class ReversibleFunction(torch.autograd.Function):
    """y1 = x1 + f(x2), y2 = x2 + g(y1): backward inverts, and keeps nothing but the output."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, layers: Any) -> torch.Tensor:
        ctx.layers = layers
        for layer in layers:
            x = layer.run(x)
        ctx.y = x.detach()
        return x

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        y = ctx.y
        del ctx.y
        for layer in reversed(ctx.layers):
            y, gradient = layer.back(y, gradient)
        return gradient, None


class ReversibleBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.f, self.g = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def run(self, x: torch.Tensor) -> torch.Tensor:
        x1, x2 = x.chunk(2, dim=1)
        with torch.no_grad():
            y1 = x1 + self.f(x2).tanh()
            y2 = x2 + self.g(y1).tanh()
        return torch.cat([y1, y2], dim=1)

    def back(self, y: torch.Tensor, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y1, y2 = y.chunk(2, dim=1)
        d1, d2 = gradient.chunk(2, dim=1)
        with torch.enable_grad():
            y1 = y1.detach().requires_grad_()
            of_y1 = self.g(y1).tanh()
            torch.autograd.backward(of_y1, d2)
        with torch.no_grad():
            x2 = y2 - of_y1
            d1 = d1 + y1.grad
        with torch.enable_grad():
            x2 = x2.detach().requires_grad_()
            of_x2 = self.f(x2).tanh()
            torch.autograd.backward(of_x2, d1)
        with torch.no_grad():
            x1 = y1 - of_x2
            d2 = d2 + x2.grad
        return torch.cat([x1, x2.detach()], 1).detach(), torch.cat([d1, d2], dim=1)


@wild
def reversible_blocks() -> WildStep:
    """Reformer's reversible sequence: backward computes its inputs from its outputs."""
    layers = nn.ModuleList([ReversibleBlock() for _ in range(2)])
    model = nn.ModuleDict({"stem": nn.Linear(WIDTH, 2 * WIDTH), "layers": layers})
    optimizer = torch.optim.Adam(model.parameters())
    x = torch.randn(ROWS, WIDTH)

    def run() -> torch.Tensor:
        loss = ReversibleFunction.apply(model["stem"](x), layers).square().mean()
        loss.backward()
        optimizer.step()
        return loss

    stem, inner = 2 * ROWS * WIDTH * 2 * WIDTH, 4 * SQUARE
    by_hand = {
        "forward": stem + inner,
        "grad_input": inner,
        "grad_weight": stem + inner,
        "recompute": inner,
    }
    return WildStep(run, model, [optimizer], by_hand=by_hand, saved_unseen=CHECKPOINTED)


@wild
def offloaded_activations() -> WildStep:
    """``save_on_cpu``: what is saved is copied away by torch's own hooks."""
    model = blocks(2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x = torch.randn(ROWS, WIDTH)

    def run() -> torch.Tensor:
        with torch.autograd.graph.save_on_cpu():
            loss = model(x).square().mean()
        loss.backward()
        optimizer.step()
        return loss

    by_hand = {"forward": 4 * SQUARE, "grad_input": 3 * SQUARE, "grad_weight": 4 * SQUARE}
    return WildStep(
        run, model, [optimizer], by_hand=by_hand, saved_unseen="kept by the hooks of save_on_cpu"
    )


@wild
def compressed_activations() -> WildStep:
    """A user's hooks on saved tensors: kept in half precision, restored in backward."""
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = batch()

    def pack(tensor: torch.Tensor) -> tuple[torch.Tensor, torch.dtype]:
        if tensor.is_floating_point() and not isinstance(tensor, nn.Parameter):
            return tensor.detach().bfloat16(), tensor.dtype
        return tensor, tensor.dtype

    def unpack(packed: tuple[torch.Tensor, torch.dtype]) -> torch.Tensor:
        return packed[0].to(packed[1])

    def run() -> torch.Tensor:
        with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
            loss = functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return WildStep(
        run, model, [optimizer], by_hand=ONE_STEP, saved_unseen="kept by the step's own hooks"
    )


@wild
def chunked_loss() -> WildStep:
    """The head and the loss chunk by chunk, with gradients computed in forward (Liger's)."""

    class ChunkedCrossEntropy(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, y: Any) -> Any:
            of_hidden, of_weight = torch.empty_like(hidden), torch.zeros_like(weight)
            total = hidden.new_zeros(())
            for rows in torch.arange(ROWS).chunk(2):
                logits = hidden[rows] @ weight.T
                probabilities = logits.softmax(1)
                total += functional.cross_entropy(logits, y[rows], reduction="sum")
                probabilities[torch.arange(len(rows)), y[rows]] -= 1
                of_hidden[rows] = probabilities @ weight
                of_weight += probabilities.T @ hidden[rows]
            ctx.save_for_backward(of_hidden, of_weight)
            return total

        @staticmethod
        def backward(ctx: Any, gradient: torch.Tensor) -> tuple[Any, ...]:
            of_hidden, of_weight = ctx.saved_tensors
            return gradient * of_hidden, gradient * of_weight, None

    trunk, head = nn.Linear(WIDTH, HIDDEN), nn.Linear(HIDDEN, CLASSES, bias=False)
    model = nn.ModuleDict({"trunk": trunk, "head": head})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = batch()

    def run() -> torch.Tensor:
        loss = ChunkedCrossEntropy.apply(trunk(x), head.weight, y)
        loss.backward()
        optimizer.step()
        return loss

    first = 2 * ROWS * WIDTH * HIDDEN
    # The head's gradients run in forward, where they are executed.
    by_hand = {"forward": first + 3 * LAST, "grad_input": 0, "grad_weight": first}
    return WildStep(run, model, [optimizer], by_hand=by_hand, differs="gradients in forward")
