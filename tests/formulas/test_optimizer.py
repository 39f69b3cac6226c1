"""Optimizers: their rules in loops, against torch; what torch executes; what their state weighs."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import optim

from flopratio.formulas import OPERATORS, Tensor
from flopratio.formulas.optimizer import ADAM_FLOPS_OF_THE_ARTICLE, OPTIMIZERS
from tests.formulas.counting import Counted, counted, reset, tensor, values
from tests.formulas.executed import agrees_on_arrays_and_symbols, only_moves
from tests.formulas.test_foreach import flops

SHAPE = (3, 4)

Make = Callable[..., optim.Optimizer]

MADE: dict[str, Make] = {
    "sgd": lambda p, **how: optim.SGD(p, lr=0.1, **how),
    "momentum": lambda p, **how: optim.SGD(p, lr=0.1, momentum=0.9, **how),
    "nesterov": lambda p, **how: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, **how),
    "adagrad": lambda p, **how: optim.Adagrad(p, lr=0.1, **how),
    "rmsprop": lambda p, **how: optim.RMSprop(p, lr=0.1, **how),
    "adam": lambda p, **how: optim.Adam(p, lr=0.1, **how),
    "adamw": lambda p, **how: optim.AdamW(p, lr=0.1, **how),
}

PER_PARAMETER = {
    "none": 0, "sgd": 2, "momentum": 4, "nesterov": 6, "adagrad": 7, "rmsprop": 9, "adam": 13,
    "adamw": 14,
}  # fmt: skip
STATE_TENSORS = {
    "none": 0, "sgd": 0, "momentum": 1, "nesterov": 1, "adagrad": 1, "rmsprop": 1, "adam": 2,
    "adamw": 2,
}  # fmt: skip
WITH_STEPS = ("adagrad", "rmsprop", "adam", "adamw")


def second_step(make: Make, *shapes: tuple[int, ...], **how: Any) -> tuple[Any, Any]:
    """What the second step dispatches, and the optimizer after it."""
    parameters = [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]
    optimizer = make(parameters, **how)
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    step = type(optimizer).step.__wrapped__  # without the profiler's mark around it
    return flops(lambda: step(optimizer)), optimizer


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_flops_and_bytes_per_parameter(name: str) -> None:
    update = OPTIMIZERS[name](Tensor((10, 100)))
    counter = name in WITH_STEPS
    assert update.elementwise == PER_PARAMETER[name] * 1000 + counter
    assert update.state_bytes == STATE_TENSORS[name] * 4000 + 4 * counter


@pytest.mark.parametrize("decay", [None, 0.0, 0.1])
@pytest.mark.parametrize("name", MADE)
def test_steps_are_what_torch_executes(name: str, decay: float | None) -> None:
    told = {} if decay is None else {"weight_decay": decay}
    found, optimizer = second_step(MADE[name], SHAPE, foreach=False, **told)
    update = OPTIMIZERS[name](Tensor(SHAPE), decay)
    expected = [(call.op, call.cost.elementwise) for call in update.calls]
    assert [(op, count) for op, count in found if not only_moves(op)] == expected
    state = next(iter(optimizer.state.values()), {})
    assert {key: (tensor.shape, tensor.nbytes) for key, tensor in update.state.items()} == {
        key: (tuple(tensor.shape), tensor.nbytes) for key, tensor in state.items()
    }


@pytest.mark.parametrize(("name", "flops"), {**dict.fromkeys(MADE, 2), "adamw": 1}.items())
def test_weight_decay_is_a_multiplication_and_an_addition_or_one_factor(
    name: str, flops: int
) -> None:
    """g + lambda w, 2 a parameter; AdamW's w (1 - lr lambda), 1, which it has by default."""
    decaying, plain = (OPTIMIZERS[name](Tensor((10, 100)), decay) for decay in (0.1, 0.0))
    assert decaying.elementwise == plain.elementwise + flops * 1000
    assert decaying.state == plain.state
    own = decaying if name == "adamw" else plain
    assert OPTIMIZERS[name](Tensor((10, 100))).elementwise == own.elementwise
    assert OPTIMIZERS["none"](Tensor((10, 100)), 0.1).elementwise == 0


@pytest.mark.parametrize("decay", [None, 0.1])
@pytest.mark.parametrize("how", ["foreach", "fused"])
@pytest.mark.parametrize("name", MADE)
def test_other_implementations_do_the_same_arithmetic(
    name: str, how: str, decay: float | None
) -> None:
    if how == "fused" and name == "rmsprop":
        pytest.skip("torch has no fused RMSprop")
    shapes = ((3, 4), (5,))
    told = {} if decay is None else {"weight_decay": decay}
    found, _ = second_step(MADE[name], *shapes, **{how: True}, **told)
    expected = sum(OPTIMIZERS[name](Tensor(shape), decay).elementwise for shape in shapes)
    assert sum(count for _, count in found) == expected


@pytest.mark.parametrize(
    "make",
    [
        lambda p, **how: optim.SGD(
            p, lr=0.1, momentum=0.9, dampening=0.1, weight_decay=0.1, maximize=True, **how
        ),
        lambda p, **how: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1, **how),
        lambda p, **how: optim.Adam(p, weight_decay=0.1, amsgrad=True, **how),
        lambda p, **how: optim.AdamW(p, weight_decay=0, maximize=True, **how),
        lambda p, **how: optim.Adagrad(p, weight_decay=0.1, **how),
    ],
)
def test_fused_options_do_the_arithmetic_of_the_plain_ones(make: Make) -> None:
    plain, _ = second_step(make, SHAPE, foreach=False)
    fused, _ = second_step(make, SHAPE, fused=True)
    assert sum(count for _, count in fused) == sum(count for _, count in plain)


def test_the_first_fused_step_with_momentum_copies_the_gradient() -> None:
    options: dict[str, Any] = {
        "weight_decay": 0, "momentum": 0.9, "dampening": 0, "nesterov": False, "maximize": False,
        "out": None,
    }  # fmt: skip
    first, later = (
        OPERATORS["aten._fused_sgd_"]((Tensor((10,)),), is_first_step=is_first, **options)
        for is_first in (True, False)
    )
    assert (first.elementwise, later.elementwise) == (20, 40)


def test_gradient_scaling_divides_each_gradient_once() -> None:
    options: dict[str, Any] = {
        "weight_decay": 0.0, "amsgrad": False, "maximize": False, "out": None
    }  # fmt: skip
    formula = OPERATORS["aten._fused_adam_"]
    scaled = formula((Tensor((10,)),), grad_scale=Tensor(()), **options)
    assert scaled.elementwise == formula((Tensor((10,)),), **options).elementwise + 10


# The rules in loops: w, g and the state of one parameter ------------------------------------------

LR, MU, ALPHA, BETA1, BETA2, EPS, STEPS = 0.1, 0.9, 0.99, 0.9, 0.999, 1e-8, 2

Number = Counted
State = dict[str, Number]


def root(x: Number) -> Number:
    return x.sqrt()


def sgd(w: Number, g: Number, state: State) -> Number:
    return w - LR * g


def momentum(w: Number, g: Number, state: State) -> Number:
    state["momentum_buffer"] = MU * state["momentum_buffer"] + g
    return w - LR * state["momentum_buffer"]


def nesterov(w: Number, g: Number, state: State) -> Number:
    state["momentum_buffer"] = MU * state["momentum_buffer"] + g
    return w - LR * (g + MU * state["momentum_buffer"])


def adagrad(w: Number, g: Number, state: State) -> Number:
    state["sum"] = state["sum"] + g * g
    return w - LR * g / (root(state["sum"]) + 1e-10)


def rmsprop(w: Number, g: Number, state: State) -> Number:
    state["square_avg"] = ALPHA * state["square_avg"] + (1 - ALPHA) * (g * g)
    return w - LR * g / (root(state["square_avg"]) + EPS)


def adam(w: Number, g: Number, state: State) -> Number:
    state["exp_avg"] = state["exp_avg"] + (1 - BETA1) * (g - state["exp_avg"])
    state["exp_avg_sq"] = BETA2 * state["exp_avg_sq"] + (1 - BETA2) * (g * g)
    denominator = root(state["exp_avg_sq"]) / (1 - BETA2**STEPS) ** 0.5 + EPS
    return w - LR / (1 - BETA1**STEPS) * state["exp_avg"] / denominator


RULES = {
    "sgd": sgd, "momentum": momentum, "nesterov": nesterov, "adagrad": adagrad,
    "rmsprop": rmsprop, "adam": adam, "adamw": adam,
}  # fmt: skip


def decayed(name: str, w: Number, g: Number, decay: float) -> tuple[Number, Number]:
    """AdamW decays the weight itself, the others by way of the gradient."""
    if not decay:
        return w, g
    return ((1 - LR * decay) * w, g) if name == "adamw" else (w, g + decay * w)


@pytest.mark.oracle
@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("name", RULES)
def test_rules_in_loops(name: str, decay: float) -> None:
    w, first, second = (tensor(SHAPE, seed) for seed in range(3))
    parameter = torch.nn.Parameter(torch.tensor(values(w)))
    optimizer = MADE[name]([parameter], foreach=False, weight_decay=decay)
    parameter.grad = torch.tensor(values(first))
    optimizer.step()
    state = {
        key: np.vectorize(Counted, otypes=[object])(kept.numpy())
        for key, kept in optimizer.state[parameter].items()
        if key != "step"
    }
    w = np.vectorize(Counted, otypes=[object])(parameter.detach().numpy())

    reset()
    for place in np.ndindex(*SHAPE):
        own = {key: kept[place] for key, kept in state.items()}
        w[place] = RULES[name](*decayed(name, w[place], second[place], decay), own)
        for key, kept in state.items():
            kept[place] = own[key]
    count = counted()

    parameter.grad = torch.tensor(values(second))
    optimizer.step()
    np.testing.assert_allclose(parameter.detach().numpy(), values(w), rtol=1e-6)
    for key, kept in state.items():
        np.testing.assert_allclose(optimizer.state[parameter][key].numpy(), values(kept))
    counter = name in WITH_STEPS
    assert OPTIMIZERS[name](Tensor(SHAPE), decay).elementwise - counter == count


def adam_of_the_article(w: Number, g: Number, state: State) -> Number:
    """As printed, all of it done for each parameter; t and the betas are numbers that count."""
    t, beta1, beta2 = Counted(STEPS), Counted(BETA1), Counted(BETA2)
    state["exp_avg"] = beta1 * state["exp_avg"] + (1 - BETA1) * g
    state["exp_avg_sq"] = beta2 * state["exp_avg_sq"] + (1 - BETA2) * (g * g)
    first = state["exp_avg"] / (1 - beta1._did(beta1.value**t.value))
    second = state["exp_avg_sq"] / (1 - beta2._did(beta2.value**t.value))
    return w - LR * first / (root(second) + EPS)


def test_adam_of_the_article_is_the_same_update_in_18() -> None:
    start = {"exp_avg": Counted(0.3), "exp_avg_sq": Counted(0.2)}
    w, g = Counted(1.5), Counted(-0.7)
    reset()
    printed = adam_of_the_article(w, g, dict(start))
    assert counted() == ADAM_FLOPS_OF_THE_ARTICLE == 18
    reset()
    executed = adam(w, g, dict(start))
    assert counted() == PER_PARAMETER["adam"]
    assert printed.value == pytest.approx(executed.value, rel=1e-12)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_arrays_and_symbols(name: str) -> None:
    def figures(rows: Any, columns: Any) -> dict[str, Any]:
        update = OPTIMIZERS[name](Tensor((rows, columns)))
        return {"elementwise": update.elementwise, "state_bytes": update.state_bytes}

    agrees_on_arrays_and_symbols(figures, {"rows": 2, "columns": 3}, {"rows": 5, "columns": 7})
