"""Teachers, students and averages of weights."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn import functional

from tests.wild.models import CLASSES, FIRST, HIDDEN, LAST, ONE_STEP, ROWS, WIDTH, batch, mlp, times
from tests.wild.step import WildStep, wild

BOTH = FIRST + LAST
PARAMETERS = WIDTH * HIDDEN + HIDDEN + HIDDEN * CLASSES + CLASSES


@wild
def teacher_and_student() -> WildStep:
    """A frozen teacher under ``no_grad``; softened targets beside the labels."""
    teacher, student = mlp().eval().requires_grad_(False), mlp()
    optimizer = torch.optim.AdamW(student.parameters())
    x, y = batch()

    def run() -> torch.Tensor:
        with torch.no_grad():
            soft = (teacher(x) / 2).softmax(-1)
        logits = student(x)
        loss = 4 * functional.kl_div((logits / 2).log_softmax(-1), soft, reduction="batchmean")
        loss = loss + functional.cross_entropy(logits, y)
        loss.backward()
        optimizer.step()
        return loss

    by_hand = {**ONE_STEP, "forward": 2 * BOTH}
    model = nn.ModuleDict({"teacher": teacher, "student": student})
    return WildStep(run, model, [optimizer], by_hand=by_hand)


@wild
def teacher_in_inference_mode() -> WildStep:
    """The teacher is no part of the profiled model, and runs in inference mode."""
    teacher, student = mlp(), mlp()
    optimizer = torch.optim.AdamW(student.parameters())
    x, _ = batch()

    def run() -> torch.Tensor:
        with torch.inference_mode():
            target = teacher(x)
        loss = functional.mse_loss(student(x), target.clone())
        loss.backward()
        optimizer.step()
        return loss

    return WildStep(run, student, [optimizer, teacher], by_hand={**ONE_STEP, "forward": 2 * BOTH})


@wild
def features_by_forward_hooks() -> WildStep:
    """Hidden features are caught by forward hooks of both networks, and matched."""
    teacher, student = mlp().requires_grad_(False), mlp()
    caught: dict[str, torch.Tensor] = {}

    def catch(name: str) -> object:
        return lambda module, inputs, output: caught.__setitem__(name, output)

    teacher[1].register_forward_hook(catch("teacher"))
    student[1].register_forward_hook(catch("student"))
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    x, y = batch()

    def run() -> torch.Tensor:
        teacher(x)
        loss = functional.cross_entropy(student(x), y)
        loss = loss + functional.mse_loss(caught["student"], caught["teacher"])
        loss.backward()
        optimizer.step()
        caught.clear()
        return loss

    model = nn.ModuleDict({"teacher": teacher, "student": student})
    return WildStep(run, model, [optimizer], by_hand={**ONE_STEP, "forward": 2 * BOTH})


@wild
def mean_teacher() -> WildStep:
    """The teacher is a moving average of the student, updated parameter by parameter."""
    student = mlp()
    teacher = copy.deepcopy(student).requires_grad_(False)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    x, _ = batch()

    def run() -> torch.Tensor:
        noisy = student(x + 0.1 * torch.randn_like(x))
        with torch.no_grad():
            target = teacher(x)
        loss = functional.mse_loss(noisy.softmax(1), target.softmax(1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for mine, theirs in zip(teacher.parameters(), student.parameters(), strict=True):
                mine.mul_(0.99).add_(theirs, alpha=0.01)
        return loss

    # SGD 2 a parameter; the average a multiplication, then a multiplication and an addition.
    by_hand = {**ONE_STEP, "forward": 2 * BOTH, "elementwise_update": (2 + 3) * PARAMETERS}
    model = nn.ModuleDict({"teacher": teacher, "student": student})
    return WildStep(run, model, [optimizer], by_hand=by_hand)


@wild
def averaged_model() -> WildStep:
    """``AveragedModel`` with torch's own moving average over lists of tensors."""
    model = mlp()
    averaged = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9)
    )
    optimizer = torch.optim.Adam(model.parameters())
    x, y = batch()

    def run() -> torch.Tensor:
        for _ in range(2):
            loss = functional.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            averaged.update_parameters(model)
        return loss

    return WildStep(run, model, [optimizer, averaged], by_hand=times(2, ONE_STEP))


@wild
def bootstrap_your_own_latent() -> WildStep:
    """BYOL: a predictor behind one of two twins; the other only averages."""
    online = nn.Sequential(mlp(classes=HIDDEN), nn.Linear(HIDDEN, HIDDEN))
    target = copy.deepcopy(online[0]).requires_grad_(False)
    optimizer = torch.optim.SGD(online.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    x, _ = batch()

    def run() -> torch.Tensor:
        one, two = x + 0.1 * torch.randn_like(x), x + 0.1 * torch.randn_like(x)
        with torch.no_grad():
            goals = target(two), target(one)
        loss = sum(
            2 - 2 * functional.cosine_similarity(online(view), goal.detach()).mean()
            for view, goal in zip((one, two), goals, strict=True)
        )
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(list(target.parameters()), list(online[0].parameters()), 0.01)
        return loss

    inner = 2 * ROWS * HIDDEN * HIDDEN
    by_hand = {
        "forward": 4 * (FIRST + inner) + 2 * inner,
        "grad_input": 2 * (2 * inner),
        "grad_weight": 2 * (FIRST + 2 * inner),
    }
    model = nn.ModuleDict({"online": online, "target": target})
    return WildStep(run, model, [optimizer], by_hand=by_hand)


@wild
def self_distillation_with_centre() -> WildStep:
    """DINO: sharpened and centred targets; the centre is a buffer that moves each step."""
    student = mlp()
    teacher = copy.deepcopy(student).requires_grad_(False)
    student.register_buffer("centre", torch.zeros(1, CLASSES))
    optimizer = torch.optim.AdamW(student.parameters())
    x, _ = batch()

    def run() -> torch.Tensor:
        with torch.no_grad():
            output = teacher(x)
            goal = ((output - student.centre) / 0.04).softmax(-1)
            student.centre.mul_(0.9).add_(output.mean(0, keepdim=True), alpha=0.1)
        loss = -(goal * (student(x) / 0.1).log_softmax(-1)).sum(-1).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_value_(student.parameters(), 0.3)
        optimizer.step()
        return loss

    return WildStep(run, student, [optimizer, teacher], by_hand={**ONE_STEP, "forward": 2 * BOTH})
