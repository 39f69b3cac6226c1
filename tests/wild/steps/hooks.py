"""Steps that reach into their model, or into the process: hooks, threads, errors, other modes."""

from __future__ import annotations

import random
import threading
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from tests.wild.models import CLASSES, FIRST, HIDDEN, LAST, ONE_STEP, ROWS, WIDTH, batch, mlp, times
from tests.wild.step import WildStep, wild


@wild
def curvature_by_hooks() -> WildStep:
    """K-FAC: statistics of inputs in forward hooks, of gradients in backward hooks."""
    model = mlp()
    linears = [model[0], model[2]]
    statistics: dict[nn.Module, dict[str, torch.Tensor]] = {layer: {} for layer in linears}

    def inputs(layer: nn.Module, args: Any) -> None:
        rows = args[0].detach()
        statistics[layer]["inputs"] = rows.T @ rows / len(rows)

    def gradients(layer: nn.Module, of_inputs: Any, of_outputs: Any) -> None:
        rows = of_outputs[0]
        statistics[layer]["gradients"] = rows.T @ rows / len(rows)

    for layer in linears:
        layer.register_forward_pre_hook(inputs)
        layer.register_full_backward_hook(gradients)
    x, y = batch()

    def run() -> torch.Tensor:
        loss = functional.cross_entropy(model(x), y)
        loss.backward()
        with torch.no_grad():
            for layer in linears:
                inverses = [
                    torch.linalg.inv(matrix + 0.1 * torch.eye(len(matrix)))
                    for matrix in statistics[layer].values()
                ]
                layer.weight -= 0.1 * inverses[1] @ layer.weight.grad @ inverses[0]
        return loss.detach()

    def square(size: int) -> int:
        return 2 * ROWS * size * size

    def applied(rows: int, columns: int) -> int:
        return 2 * rows * rows * columns + 2 * rows * columns * columns

    by_hand = {
        # Statistics of inputs run in forward; the preconditioned step is update.
        "forward": FIRST + LAST + square(WIDTH) + square(HIDDEN),
        "grad_input": LAST,
        "grad_weight": FIRST + LAST,
        # What hooks compute in backward is none of the law's.
        "recompute": square(HIDDEN) + square(CLASSES),
        "update": applied(HIDDEN, WIDTH) + applied(CLASSES, HIDDEN),
    }
    return WildStep(run, model, by_hand=by_hand, own_update=True)


@wild
def attention_map_by_retained_gradient() -> WildStep:
    """Grad-CAM as a regulariser: ``retain_grad`` on a hidden map, read after backward."""
    trunk, head = nn.Conv2d(1, 3, 3, padding=1), nn.Linear(3, 2)
    model = nn.ModuleList([trunk, head])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    image, y = torch.randn(2, 1, 6, 6), torch.tensor([0, 1])

    def run() -> tuple[torch.Tensor, ...]:
        features = trunk(image).relu()
        features.retain_grad()
        loss = functional.cross_entropy(head(features.mean((2, 3))), y)
        loss.backward()
        importance = features.grad.mean((2, 3), keepdim=True)
        map = (importance * features).sum(1).relu().detach()
        optimizer.step()
        return loss.detach(), map

    first, last = 2 * 2 * 36 * 3 * 9, 2 * 2 * 3 * 2
    by_hand = {"forward": first + last, "grad_input": last, "grad_weight": first + last}
    return WildStep(run, model, [optimizer], by_hand=by_hand)


@wild
def anomaly_detection() -> WildStep:
    """Under ``detect_anomaly``, with named ranges for a profiler."""
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = batch()

    def run() -> torch.Tensor:
        with torch.autograd.detect_anomaly(check_nan=True):
            with torch.profiler.record_function("forward"):
                loss = functional.cross_entropy(model(x), y)
            with torch.profiler.record_function("backward"):
                loss.backward()
        optimizer.step()
        return loss

    return WildStep(run, model, [optimizer], by_hand=ONE_STEP)


@wild
def batch_skipped_after_an_error() -> WildStep:
    """Out of memory in the middle of a forward, caught by the loop, which goes on."""
    model = mlp()
    failing = iter([True, False])

    def run_out(module: nn.Module, args: Any) -> None:
        if next(failing):
            raise torch.OutOfMemoryError("CUDA out of memory")

    model[2].register_forward_pre_hook(run_out)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batches = [batch(), batch()]

    def run() -> torch.Tensor:
        for x, y in batches:
            try:
                loss = functional.cross_entropy(model(x), y)
                loss.backward()
            except torch.OutOfMemoryError:
                optimizer.zero_grad()
                continue
            optimizer.step()
        return loss

    # The first batch got as far as the last layer.
    by_hand = {**ONE_STEP, "forward": 2 * FIRST + LAST, "2: grad_weight": LAST}
    return WildStep(run, model, [optimizer], by_hand=by_hand)


@wild
def error_in_backward_is_caught() -> WildStep:
    """A hook stops backward half-way; the next backward is a whole one."""
    model = mlp()
    x, y = batch()

    def stop(gradient: torch.Tensor) -> None:
        raise RuntimeError("not finite")

    def run() -> torch.Tensor:
        hidden = model[1](model[0](x))
        hidden.register_hook(stop)
        try:
            functional.cross_entropy(model[2](hidden), y).backward()
        except RuntimeError:
            model.zero_grad()
        loss = functional.cross_entropy(model(x), y)
        loss.backward()
        return loss

    return WildStep(
        run,
        model,
        by_hand={"forward": 2 * (FIRST + LAST)},
        not_compared="a backward did not end",
    )


@wild
def forward_in_a_thread() -> WildStep:
    """Two replicas of the head run in threads of their own, as DataParallel does it."""
    trunk, heads = nn.Linear(WIDTH, HIDDEN), nn.ModuleList([nn.Linear(HIDDEN, 3) for _ in "ab"])
    model = nn.ModuleDict({"trunk": trunk, "heads": heads})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = batch()

    def run() -> torch.Tensor:
        features = trunk(x)
        results: dict[int, torch.Tensor] = {}

        def work(index: int) -> None:
            results[index] = heads[index](features)

        threads = [threading.Thread(target=work, args=(index,)) for index in range(2)]
        for thread in threads:
            thread.start()
            thread.join()
        loss = functional.cross_entropy(results[0] + results[1], y)
        loss.backward()
        optimizer.step()
        return loss

    by_hand = {
        "forward": FIRST + 2 * LAST,
        "grad_input": 2 * LAST,
        "grad_weight": FIRST + 2 * LAST,
    }
    unseen = "Linear ran unseen, in another thread; a backward reached what another thread had made"
    return WildStep(run, model, [optimizer], by_hand=by_hand, unseen=unseen)


@wild
def layers_dropped_at_random() -> WildStep:
    """LayerDrop by Python's random numbers, and mixup's by NumPy's."""
    import numpy as np

    model = nn.ModuleList([nn.Linear(WIDTH, WIDTH) for _ in range(4)])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x = torch.randn(ROWS, WIDTH)

    def run() -> torch.Tensor:
        share = float(np.random.beta(0.4, 0.4))
        hidden = share * x + (1 - share) * x[torch.randperm(ROWS)]
        for layer in model:
            if random.random() > 0.5:
                hidden = hidden + layer(hidden).relu()
        hidden = model[0](hidden)
        loss = hidden.square().mean()
        loss.backward()
        optimizer.step()
        return loss

    return WildStep(run, model, [optimizer])


@wild
def backward_hooks_that_change_gradients() -> WildStep:
    """Full backward hooks scale what passes; a pre-hook on backward clips it."""
    model = mlp()
    model[0].register_full_backward_hook(lambda layer, inputs, outputs: None)
    model[2].register_full_backward_hook(
        lambda layer, inputs, outputs: tuple(0.5 * gradient for gradient in inputs)
    )
    model[2].register_full_backward_pre_hook(
        lambda layer, outputs: tuple(gradient.clamp(-1, 1) for gradient in outputs)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = batch()

    def run() -> torch.Tensor:
        loss = functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return WildStep(run, model, [optimizer], by_hand=ONE_STEP)


@wild
def patched_forward() -> WildStep:
    """A layer's ``forward`` is replaced on the instance, as memory savers do it."""
    model = mlp()
    original = model[0].forward
    model[0].forward = lambda x: torch.cat([original(half) for half in x.chunk(2)])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = batch()

    def run() -> torch.Tensor:
        loss = functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return WildStep(run, model, [optimizer], by_hand={**ONE_STEP, "0: grad_weight": FIRST})


@wild
def adapter_merged_in_place() -> WildStep:
    """Weights are merged under ``no_grad`` for a look, and restored before the step goes on."""
    model = mlp()
    down, up = torch.randn(2, WIDTH), torch.randn(HIDDEN, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = batch()

    def run() -> tuple[torch.Tensor, ...]:
        before = model[0].weight.detach().clone()
        with torch.no_grad():
            model[0].weight += up @ down
            seen = functional.cross_entropy(model(x), y)
            model[0].weight.copy_(before)
        loss = functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return seen, loss

    merge = 2 * HIDDEN * 2 * WIDTH
    by_hand = {**ONE_STEP, "forward": merge + 2 * (FIRST + LAST)}
    return WildStep(run, model, [optimizer], by_hand=by_hand)


@wild
def leaves_instead_of_parameters() -> WildStep:
    """From scratch: weights are plain tensors that require a gradient, no module anywhere."""
    first = torch.randn(WIDTH, HIDDEN, requires_grad=True)
    last = torch.randn(HIDDEN, CLASSES, requires_grad=True)
    x, y = batch()

    def run() -> torch.Tensor:
        loss = functional.cross_entropy((x @ first).relu() @ last, y)
        loss.backward()
        with torch.no_grad():
            for weight in (first, last):
                weight -= 0.1 * weight.grad
                weight.grad = None
        return loss

    return WildStep(run, None, [first, last], {"parameters": [first, last]}, by_hand=ONE_STEP)


@wild
def lazy_modules_in_their_first_step() -> WildStep:
    """Shapes are found, and parameters made, in the forward that is profiled."""
    model = nn.Sequential(nn.LazyLinear(HIDDEN), nn.ReLU(), nn.LazyLinear(CLASSES))
    x, y = batch()

    def run() -> torch.Tensor:
        out = model(x)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        loss = functional.cross_entropy(out, y)
        loss.backward()
        optimizer.step()
        return loss

    return WildStep(run, model, by_hand=ONE_STEP)


@wild
def forward_thrice_in_one_optimizer_step() -> WildStep:
    """A weight-averaged evaluation in the middle, modes switched forth and back."""
    model = nn.Sequential(nn.Linear(WIDTH, HIDDEN), nn.Dropout(0.5), nn.Linear(HIDDEN, CLASSES))
    optimizer = torch.optim.Adam(model.parameters())
    x, y = batch()

    def run() -> tuple[torch.Tensor, ...]:
        losses = []
        for train in (True, False, True):
            model.train(train)
            with torch.set_grad_enabled(train):
                loss = functional.cross_entropy(model(x), y)
            if train:
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            losses.append(loss.detach())
        return tuple(losses)

    by_hand = {**times(2, ONE_STEP), "forward": 3 * (FIRST + LAST)}
    return WildStep(run, model, [optimizer], by_hand=by_hand)
