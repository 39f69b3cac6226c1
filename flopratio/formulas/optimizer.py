"""Optimizers: the arithmetic of one step, and the bytes of their state.

What is counted is what torch executes for one parameter tensor from the second step on (the first
one creates the state), as the single-tensor implementation does it (``foreach=False``, the default
on the CPU); the ``foreach`` and ``fused`` ones do the same arithmetic in fewer kernels. P is the
number of parameters in the tensor, w one of them, g its gradient. Numbers that are the same for the
whole tensor (1 - beta ** step) are computed in Python and cost nothing; the tensor that counts the
steps is one addition.

Weight decay, where it is not 0, is 2 P more (``coupled``), AdamW's P (``decoupled``), and no state.

The update rules are those on the pages of ``torch.optim``, docs.pytorch.org/docs/stable/optim.html.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from flopratio.formulas.formula import (
    EXAMPLES,
    Call,
    Cost,
    Example,
    Size,
    Tensor,
    operator,
)

ADAM_FLOPS_OF_THE_ARTICLE = 3 + 4 + 3 + 3 + 5
"""Adam by the count of Hobbhahn and Sevilla 2021 (appendix B): 18 a parameter, against 13 executed.

Line by line, theirs and torch's:

1. m = beta1 m + (1 - beta1) g: 3; ``lerp_``, 3.
2. v = beta2 v + (1 - beta2) g g: 4; ``mul_`` and ``addcmul_``, 1 + 3.
3. m' = m / (1 - beta1 ** t): 3, a power, a subtraction and a division for each parameter; torch
   divides the learning rate by it, once for all parameters, 0.
4. v' = v / (1 - beta2 ** t): 3; torch divides sqrt(v) by the root of the same number: the power
   and the subtraction once for all parameters, the division for each, 1.
5. w = w - lr m' / (sqrt(v') + eps): 5; ``sqrt``, ``add_`` and ``addcdiv_``, 1 + 1 + 3.

So 18 - 13 = 3 + 2, the bias corrections, which need not be done for each parameter.
"""

STEP_BYTES = 4
"""A step counter is one fp32 number, for each parameter tensor."""


@dataclass(frozen=True, slots=True)
class Update:
    """One step of an optimizer on one parameter tensor.

    Args:
        calls: the operators that it executes, in order.
        state: the tensors that it keeps from step to step, by their names in ``optimizer.state``.
    """

    calls: tuple[Call, ...] = ()
    state: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def elementwise(self) -> Size:
        """FLOP of the step."""
        return sum(call.cost.elementwise for call in self.calls)

    @property
    def state_bytes(self) -> Size:
        return sum(tensor.nbytes for tensor in self.state.values())


Rule = Callable[[Tensor], Update]
"""The step of an optimizer on a parameter tensor whose weights do not decay."""


class OptimizerFormula(Protocol):
    """``formula(parameter, weight_decay)``: the step of an optimizer on a parameter tensor; None is
    the optimizer's own decay."""

    def __call__(self, parameter: Tensor, weight_decay: float | None = None) -> Update: ...


OPTIMIZERS: dict[str, OptimizerFormula] = {}
"""Optimizer (``adam``) -> its step."""


def coupled(parameter: Tensor) -> Call:
    """g = g + lambda w: the gradient of a penalty on the weights, in a tensor of its own. A
    multiplication and an addition, 2 P."""
    gradient = parameter.new(*parameter.shape)
    operands = {"self": gradient, "other": parameter, "alpha": WEIGHT_DECAY}
    return Call("aten.add", operands, parameter.new(*parameter.shape))


def decoupled(parameter: Tensor) -> Call:
    """w = (1 - lr lambda) w: whatever the gradient is. The factor is one number, so P."""
    return in_place("mul", parameter, other=1 - LEARNING_RATE * WEIGHT_DECAY)


def optimizer(
    name: str, decay: Callable[[Tensor], Call] = coupled, own_decay: float = 0.0
) -> Callable[[Rule], Rule]:
    """Register the step of an optimizer.

    Args:
        decay: how its weights decay: right after the step is counted, before all else.
        own_decay: what its decay is unless it is told.
    """

    def register(rule: Rule) -> Rule:
        def formula(parameter: Tensor, weight_decay: float | None = None) -> Update:
            update = rule(parameter)
            decays = (own_decay if weight_decay is None else weight_decay) != 0
            if not (decays and update.calls):
                return update
            counted = int("step" in update.state)
            calls = (*update.calls[:counted], decay(parameter), *update.calls[counted:])
            return Update(calls, update.state)

        OPTIMIZERS[name] = formula
        return rule

    return register


def in_place(op: str, self: Tensor, **operands: Any) -> Call:
    """An operator that writes its result over its first operand."""
    return Call(f"aten.{op}_", {"self": self, **operands}, self)


def step_counter() -> Tensor:
    return Tensor((), STEP_BYTES)


LEARNING_RATE = 0.01
WEIGHT_DECAY = 0.01
BETA = 0.9
EPSILON = 1e-8
"""Any values but 1: what they are makes no difference to the count."""


@optimizer("none")
def none(parameter: Tensor) -> Update:
    """No update."""
    return Update()


@optimizer("sgd")
def sgd(parameter: Tensor) -> Update:
    """w = w - lr g: ``add_`` with a factor, 2 P."""
    gradient = parameter.new(*parameter.shape)
    return Update((in_place("add", parameter, other=gradient, alpha=-LEARNING_RATE),))


@optimizer("momentum")
def momentum(parameter: Tensor) -> Update:
    """1. b = mu b: P. 2. b = b + g: P. 3. w = w - lr b: 2 P. Together 4 P."""
    gradient, buffer = parameter.new(*parameter.shape), parameter.new(*parameter.shape)
    calls = (
        in_place("mul", buffer, other=BETA),
        in_place("add", buffer, other=gradient),
        in_place("add", parameter, other=buffer, alpha=-LEARNING_RATE),
    )
    return Update(calls, {"momentum_buffer": buffer})


@optimizer("nesterov")
def nesterov(parameter: Tensor) -> Update:
    """1. b = mu b: P. 2. b = b + g: P. 3. g = g + mu b: 2 P. 4. w = w - lr g: 2 P. Together 6 P."""
    gradient, buffer = parameter.new(*parameter.shape), parameter.new(*parameter.shape)
    ahead = parameter.new(*parameter.shape)
    calls = (
        in_place("mul", buffer, other=BETA),
        in_place("add", buffer, other=gradient),
        Call("aten.add", {"self": gradient, "other": buffer, "alpha": BETA}, ahead),
        in_place("add", parameter, other=ahead, alpha=-LEARNING_RATE),
    )
    return Update(calls, {"momentum_buffer": buffer})


def divided_by_root(
    parameter: Tensor, numerator: Tensor, squares: Tensor, *, corrected: bool = False
) -> tuple[Call, ...]:
    """w = w - lr * numerator / (sqrt(squares) + eps): a root, an addition, and ``addcdiv_`` with a
    factor, 5 P; with the root divided by a number first, 6 P."""
    root = parameter.new(*parameter.shape)
    calls = [Call("aten.sqrt", {"self": squares}, root)]
    if corrected:
        divided = parameter.new(*parameter.shape)
        calls.append(Call("aten.div", {"self": root, "other": BETA}, divided))
        root = divided
    calls.append(in_place("add", root, other=EPSILON))
    calls.append(
        in_place("addcdiv", parameter, tensor1=numerator, tensor2=root, value=-LEARNING_RATE)
    )
    return tuple(calls)


@optimizer("adagrad")
def adagrad(parameter: Tensor) -> Update:
    """1. s = s + g g: 2 P. 2. w = w - lr g / (sqrt(s) + eps): 5 P. Together 7 P, and 1 step
    counted."""
    gradient, total = parameter.new(*parameter.shape), parameter.new(*parameter.shape)
    step = step_counter()
    calls = (
        in_place("add", step, other=1),
        in_place("addcmul", total, tensor1=gradient, tensor2=gradient, value=1),
        *divided_by_root(parameter, gradient, total),
    )
    return Update(calls, {"step": step, "sum": total})


@optimizer("rmsprop")
def rmsprop(parameter: Tensor) -> Update:
    """1. v = alpha v: P. 2. v = v + (1 - alpha) g g: 3 P. 3. w = w - lr g / (sqrt(v) + eps): 5 P.
    Together 9 P, and 1 step counted."""
    gradient, average = parameter.new(*parameter.shape), parameter.new(*parameter.shape)
    step = step_counter()
    calls = (
        in_place("add", step, other=1),
        in_place("mul", average, other=BETA),
        in_place("addcmul", average, tensor1=gradient, tensor2=gradient, value=1 - BETA),
        *divided_by_root(parameter, gradient, average),
    )
    return Update(calls, {"step": step, "square_avg": average})


@optimizer("adam")
def adam(parameter: Tensor) -> Update:
    """1. m = m + (1 - beta1) (g - m): ``lerp_``, 3 P.
    2. v = beta2 v: P. 3. v = v + (1 - beta2) g g: 3 P.
    4. r = sqrt(v) / sqrt(1 - beta2 ** t): 2 P. 5. r = r + eps: P.
    6. w = w - (lr / (1 - beta1 ** t)) m / r: 3 P.

    Together 13 P, and 1 step counted. The article counts 18 P: ``ADAM_FLOPS_OF_THE_ARTICLE``.
    """
    gradient, average = parameter.new(*parameter.shape), parameter.new(*parameter.shape)
    squares, step = parameter.new(*parameter.shape), step_counter()
    calls = (
        in_place("add", step, other=1),
        in_place("lerp", average, end=gradient, weight=1 - BETA),
        in_place("mul", squares, other=BETA),
        in_place("addcmul", squares, tensor1=gradient, tensor2=gradient, value=1 - BETA),
        *divided_by_root(parameter, average, squares, corrected=True),
    )
    return Update(calls, {"step": step, "exp_avg": average, "exp_avg_sq": squares})


@optimizer("adamw", decay=decoupled, own_decay=0.01)
def adamw(parameter: Tensor) -> Update:
    """``adam``, after w = (1 - lr lambda) w, P, which is on unless it is turned off: 14 P, and 1
    step counted."""
    return adam(parameter)


# The fused ones: one kernel for all parameter tensors --------------------------------------------


def elements(tensors: Sequence[Tensor]) -> Size:
    return sum(tensor.numel for tensor in tensors)


def gradient_flops(
    maximize: bool, grad_scale: Tensor | None, weight_decay: float, *, decoupled: bool = False
) -> int:
    """Before the update itself, for each parameter: g / scale, -g, g + lambda w (2), or with the
    decay decoupled from the gradient w - lr lambda w, one multiplication by 1 - lr lambda."""
    decay = 0 if weight_decay == 0 else 1 if decoupled else 2
    return (grad_scale is not None) + bool(maximize) + decay


def fused_adam_cost(self: Sequence[Tensor], options: Mapping[str, Any], decoupled: bool) -> Cost:
    """``adam``, 13 P; with ``amsgrad`` the largest v so far, a comparison more."""
    before = gradient_flops(
        options["maximize"], options.get("grad_scale"), options["weight_decay"], decoupled=decoupled
    )
    return Cost(elementwise=(13 + bool(options["amsgrad"]) + before) * elements(self))


@operator("aten._fused_adam", "aten._fused_adam_")
def fused_adam(self: Sequence[Tensor], *states: Any, out: Any, **options: Any) -> Cost:
    return fused_adam_cost(self, options, decoupled=False)


@operator("aten._fused_adamw", "aten._fused_adamw_")
def fused_adamw(self: Sequence[Tensor], *states: Any, out: Any, **options: Any) -> Cost:
    return fused_adam_cost(self, options, decoupled=True)


@operator("aten._fused_sgd", "aten._fused_sgd_")
def fused_sgd(
    self: Sequence[Tensor],
    *states: Any,
    weight_decay: float,
    momentum: float,
    dampening: float,
    nesterov: bool,
    maximize: bool,
    is_first_step: bool,
    grad_scale: Tensor | None = None,
    out: Any,
    **options: Any,
) -> Cost:
    """w = w - lr g: 2 P. With momentum first b = mu b + (1 - dampening) g: 2 P, or 3 P if damped,
    nothing in the first step (b = g). With Nesterov's g + mu b: 2 P."""
    work = 2 + gradient_flops(maximize, grad_scale, weight_decay)
    if momentum != 0:
        average = 2 if dampening == 0 else 3
        work += (0 if is_first_step else average) + (2 if nesterov else 0)
    return Cost(elementwise=work * elements(self))


@operator("aten._fused_adagrad", "aten._fused_adagrad_")
def fused_adagrad(
    self: Sequence[Tensor],
    *states: Any,
    weight_decay: float,
    maximize: bool,
    grad_scale: Tensor | None = None,
    out: Any,
    **options: Any,
) -> Cost:
    """``adagrad``, 7 P."""
    before = gradient_flops(maximize, grad_scale, weight_decay)
    return Cost(elementwise=(7 + before) * elements(self))


EXAMPLES += [
    Example(
        "aten._fused_adam_",
        {
            "self": (Tensor((10,)), Tensor((2, 5))),
            "weight_decay": 0.0,
            "amsgrad": False,
            "maximize": False,
            "out": None,
        },
        {"flops": 0, "elementwise": 260},
        "13 for each of 20 parameters",
    ),
]
