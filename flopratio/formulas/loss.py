"""Losses: how far a prediction is from its target, element by element, then summed or averaged; the
L2 penalty.

In the formulas N is the number of elements of the prediction, x one of them and t its target; R is
the number of targets of a classification (rows), g the gradient of the loss. A layer takes the
prediction and makes its own target: a tensor of the same shape, or 8-byte class indices.

Where a loss has two branches (smooth L1, Huber), both are computed and one is selected, as vector
units do it. A constant of the loss (2 / N, 1 / beta) is one number, multiplied with once.
"""

from __future__ import annotations

from typing import Any

from flopratio.formulas.activation import sigmoid
from flopratio.formulas.formula import (
    EXAMPLES,
    Call,
    Cost,
    Example,
    Gradient,
    LayerCost,
    Size,
    Tensor,
    layer,
    operator,
    prod,
)
from flopratio.formulas.pointwise import chain_gradients

NONE, MEAN, SUM = 0, 1, 2
REDUCTIONS = {"none": NONE, "mean": MEAN, "sum": SUM}
"""The ``reduction`` of a loss in ``torch.nn`` -> that of its operator."""

INDEX_BYTES = 8


def reduction_flops(elements: Size, reduction: int) -> Size:
    """Summing is one addition an element into a zeroed accumulator; the mean divides the sum."""
    return {NONE: 0, MEAN: elements + 1, SUM: elements}[reduction]


def averaged(elements: Size, reduction: int) -> Size:
    """Backward of the mean: each element's gradient is divided by N."""
    return elements if reduction == MEAN else 0


# Regression --------------------------------------------------------------------------------------


def regression_cost(
    name: str, self: Tensor, target: Tensor, forward: Size, backward: Size, reduction: int
) -> Cost:
    """A loss of x - t, whose gradients for x and t are one operator, called with either first."""
    op = f"aten.{name}_backward"
    return Cost(
        elementwise=forward + reduction_flops(self.numel, reduction),
        gradients=(
            Gradient("self", op, elementwise=backward, saves=(self, target)),
            Gradient("target", op, elementwise=backward, saves=(self, target)),
        ),
    )


@operator("aten.mse_loss")
def mse_loss(self: Tensor, target: Tensor, reduction: int = MEAN, *, out: Tensor) -> Cost:
    """(x - t)^2: a subtraction and a multiplication, 2 N."""
    n = self.numel
    return regression_cost("mse_loss", self, target, 2 * n, 3 * n, reduction)


@operator("aten.mse_loss_backward")
def mse_loss_backward(
    grad_output: Tensor, self: Tensor, target: Tensor, reduction: int, *, out: Tensor
) -> Cost:
    """grad_x = (x - t) * (2 / N) * g: 3 N (2 in place of 2 / N if the loss is no mean)."""
    return Cost(elementwise=3 * self.numel)


@operator("aten.smooth_l1_loss")
def smooth_l1_loss(
    self: Tensor, target: Tensor, reduction: int = MEAN, beta: float = 1.0, *, out: Tensor
) -> Cost:
    """(x - t)^2 / (2 beta) if abs(x - t) < beta, else abs(x - t) - beta / 2.

    1. d = x - t; a = abs(d): 2. 2. (1 / (2 beta)) d d: 2. 3. a - beta / 2: 1.
    4. a < beta selects: 1. Together 6 N.
    """
    n = self.numel
    return regression_cost("smooth_l1_loss", self, target, 6 * n, 5 * n, reduction)


@operator("aten.smooth_l1_loss_backward")
def smooth_l1_loss_backward(
    grad_output: Tensor,
    self: Tensor,
    target: Tensor,
    reduction: int,
    beta: float,
    *,
    out: Tensor,
) -> Cost:
    """grad_x = clamp(x - t, -beta, beta) * (1 / (beta N)) * g: a subtraction, two comparisons, two
    multiplications, 5 N (1 / beta if the loss is no mean)."""
    return Cost(elementwise=5 * self.numel)


def huber_backward_flops(elements: Size, reduction: int) -> Size:
    return 4 * elements + averaged(elements, reduction)


@operator("aten.huber_loss")
def huber_loss(
    self: Tensor, target: Tensor, reduction: int = MEAN, delta: float = 1.0, *, out: Tensor
) -> Cost:
    """(x - t)^2 / 2 if abs(x - t) < delta, else delta * (abs(x - t) - delta / 2).

    1. d = x - t; a = abs(d): 2. 2. (1 / 2) d d: 2. 3. delta * (a - delta / 2): 2.
    4. a < delta selects: 1. Together 7 N.
    """
    n = self.numel
    backward = huber_backward_flops(n, reduction)
    return regression_cost("huber_loss", self, target, 7 * n, backward, reduction)


@operator("aten.huber_loss_backward")
def huber_loss_backward(
    grad_output: Tensor,
    self: Tensor,
    target: Tensor,
    reduction: int,
    delta: float,
    *,
    out: Tensor,
) -> Cost:
    """grad_x = clamp(x - t, -delta, delta) * g: a subtraction, two comparisons, a multiplication,
    4 N; of the mean, times 1 / N, 5 N."""
    return Cost(elementwise=huber_backward_flops(self.numel, reduction))


@operator("aten.soft_margin_loss")
def soft_margin_loss(self: Tensor, target: Tensor, reduction: int = MEAN, *, out: Tensor) -> Cost:
    """log(1 + exp(-t x)), t being 1 or -1: a sign, a multiplication, exp, log1p, 4 N.

    grad_x = -t z / (1 + z) * (1 / N) * g with z = exp(-t x): z takes 3, then 5 more, 8 N (1 in
    place of 1 / N if the loss is no mean).
    """
    n = self.numel
    backward = Gradient(
        "self", "aten.soft_margin_loss_backward", elementwise=8 * n, saves=(self, target)
    )
    return Cost(elementwise=4 * n + reduction_flops(n, reduction), gradients=(backward,))


@operator("aten.soft_margin_loss_backward")
def soft_margin_loss_backward(
    grad_output: Tensor, self: Tensor, target: Tensor, reduction: int, *, out: Tensor
) -> Cost:
    return Cost(elementwise=8 * self.numel)


def margin_flops(self: Tensor, p: object, weight: Tensor | None) -> tuple[Size, Size]:
    """The FLOP of each wrong class, and how many classes are wrong: of R rows of C classes, all but
    one a row."""
    classes = self.shape[-1] if self.shape else 1
    rows = self.shape[0] if len(self.shape) == 2 else 1
    return 4 + (p != 1) + (weight is not None), rows * (classes - 1)


@operator("aten.multi_margin_loss")
def multi_margin_loss(
    self: Tensor,
    target: Tensor,
    p: object = 1,
    margin: object = 1,
    weight: Tensor | None = None,
    reduction: int = MEAN,
    *,
    out: Tensor,
) -> Cost:
    """sum over the wrong classes c of max(0, margin - x_t + x_c)^p / C in each of R rows.

    1. Of each wrong class a subtraction, an addition, a comparison with 0 and an addition to the
       sum: 4; a square for p = 2 and a class weight are a multiplication each.
    2. The division by C: 1 a row. Then the rows are summed or averaged.

    The gradient has as many: the same distance again, 3; (2 / C) times it and the weight; what goes
    to x_t is summed, 1; everything times g, 1.
    """
    each, wrong = margin_flops(self, p, weight)
    rows = self.shape[0] if len(self.shape) == 2 else 1
    backward = Gradient(
        "self",
        "aten.multi_margin_loss_backward",
        elementwise=each * wrong + self.numel,
        saves=tuple(kept for kept in (self, target, weight) if kept is not None),
    )
    return Cost(
        elementwise=each * wrong + rows + reduction_flops(rows, reduction), gradients=(backward,)
    )


@operator("aten.multi_margin_loss_backward")
def multi_margin_loss_backward(
    grad_output: Tensor,
    self: Tensor,
    target: Tensor,
    p: object,
    margin: object,
    weight: Tensor | None = None,
    reduction: int = MEAN,
    *,
    out: Tensor,
) -> Cost:
    each, wrong = margin_flops(self, p, weight)
    return Cost(elementwise=each * wrong + self.numel)


LABELS = "how many labels a row has is in its values"


@operator("aten.multilabel_margin_loss_forward")
def multilabel_margin_loss(
    self: Tensor, target: Tensor, reduction: int, *, out: tuple[Tensor, Tensor]
) -> Cost:
    """sum over the labels t and all classes c that are none of max(0, 1 - x_t + x_c) / C in each
    row: 4 FLOP for each such pair, of which sizes do not tell how many there are."""
    _, is_target = out
    gradient = Gradient(
        "self", "aten.multilabel_margin_loss_backward", saves=(self, target, is_target)
    )
    return Cost(gradients=(gradient,), unknown=LABELS)


@operator("aten.multilabel_margin_loss_backward")
def multilabel_margin_loss_backward(
    grad_output: Tensor,
    self: Tensor,
    target: Tensor,
    reduction: int,
    is_target: Tensor,
    *,
    out: Tensor,
) -> Cost:
    return Cost(unknown=LABELS)


# Binary classification ---------------------------------------------------------------------------


def binary_cross_entropy_backward_flops(
    elements: Size, weight: Tensor | None, reduction: int
) -> Size:
    return (6 + (weight is not None)) * elements + averaged(elements, reduction)


@operator("aten.binary_cross_entropy")
def binary_cross_entropy(
    self: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    reduction: int = MEAN,
    *,
    out: Tensor,
) -> Cost:
    """-(t log(x) + (1 - t) log(1 - x)) = (t - 1) log(1 - x) - t log(x), logarithms held above -100.

    1. t - 1; 1 - x: 2. 2. The two logarithms: 2. 3. Each compared with -100: 2.
    4. The two products and their difference: 3. Together 9 N; times a weight, 10 N.
    """
    n = self.numel
    kept = (self, target) if weight is None else (self, target, weight)
    backward = binary_cross_entropy_backward_flops(n, weight, reduction)
    return Cost(
        elementwise=(9 + (weight is not None)) * n + reduction_flops(n, reduction),
        gradients=(
            Gradient(
                "self", "aten.binary_cross_entropy_backward", elementwise=backward, saves=kept
            ),
        ),
    )


@operator("aten.binary_cross_entropy_backward")
def binary_cross_entropy_backward(
    grad_output: Tensor,
    self: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    reduction: int = MEAN,
    *,
    out: Tensor,
) -> Cost:
    """grad_x = g (x - t) / max(x (1 - x), eps): x - t; 1 - x; the product; the comparison; the
    division; times g: 6 N; times a weight, and by 1 / N for a mean, N each."""
    return Cost(elementwise=binary_cross_entropy_backward_flops(self.numel, weight, reduction))


@operator("aten.binary_cross_entropy_with_logits")
def binary_cross_entropy_with_logits(
    self: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    pos_weight: Tensor | None = None,
    reduction: int = MEAN,
    *,
    out: Tensor,
) -> Cost:
    """-(t log(sigmoid(x)) + (1 - t) log(1 - sigmoid(x))) = (1 - t) x - log(sigmoid(x)).

    1. log(sigmoid(x)) = min(x, 0) - log(1 + exp(-abs(x))), as in ``LogSigmoid``: a comparison, a
       sign dropped and one set, exp, an addition, log, a subtraction, 7.
    2. 1 - t, times x, minus 1.: 3. Together 10 N.
    3. With a weight p of the positive class, 1. is multiplied by (p - 1) t + 1: 3 N, and p - 1 once
       for each of its elements.
    4. Times a weight: N.

    grad_x = (sigmoid(x) - t) * g, and / N for a mean; with p, (r sigmoid(x) - p t) * g, where
    r = p t + 1 - t.
    """
    n = self.numel
    work = (10 + (weight is not None)) * n
    chain = [("sigmoid", sigmoid(self, out=self).elementwise), ("sub", n), ("mul", n)]
    if pos_weight is not None:
        work = work + 3 * n + pos_weight.numel
        chain = [("mul", n), ("add", n), ("sub", n), chain[0], ("mul", n), ("sub", n), ("mul", n)]
    if weight is not None:
        chain.append(("mul", n))
    if reduction == MEAN:
        chain.append(("div_", n))
    kept = (tensor for tensor in (self, target, weight, pos_weight) if tensor is not None)
    return Cost(
        elementwise=work + reduction_flops(n, reduction),
        gradients=chain_gradients("self", chain, tuple(kept)),
    )


# Classification ----------------------------------------------------------------------------------


def nll_backward_flops(rows: Size, weight: Tensor | None, reduction: int) -> Size:
    return (1 + (weight is not None)) * rows + (1 if reduction == MEAN else 0)


@operator("aten.nll_loss_forward", "aten.nll_loss2d_forward")
def nll_loss(
    self: Tensor,
    target: Tensor,
    weight: Tensor | None,
    reduction: int,
    ignore_index: int,
    *,
    out: tuple[Tensor, Tensor],
) -> Cost:
    """-log_p[target], one number a row; out = (loss, total weight).

    1. The negation: R; times the weight of the target's class, R more.
    2. The sum: R additions.
    3. The mean divides by the total weight: 1; with weights their sum, R additions.

    What is picked by index and what is ignored costs no FLOP.
    """
    rows = target.numel
    two_dimensional = len(target.shape) == 3
    op = "aten.nll_loss2d_backward" if two_dimensional else "aten.nll_loss_backward"
    weighted = 0 if weight is None else rows
    summed_weights = weighted if reduction == MEAN else 0
    kept = (self, target, out[1]) if weight is None else (self, target, out[1], weight)
    return Cost(
        elementwise=rows + weighted + reduction_flops(rows, reduction) + summed_weights,
        gradients=(
            Gradient(
                "self",
                op,
                elementwise=nll_backward_flops(rows, weight, reduction),
                saves=kept,
            ),
        ),
    )


@operator("aten.nll_loss_backward", "aten.nll_loss2d_backward")
def nll_loss_backward(
    grad_output: Tensor,
    self: Tensor,
    target: Tensor,
    weight: Tensor | None,
    reduction: int,
    ignore_index: int,
    total_weight: Tensor,
    *,
    out: Tensor,
) -> Cost:
    """grad[target] = -g, one number a row: R; times the class's weight, R more; for the mean g is
    first divided by the total weight: 1. All other entries are 0."""
    return Cost(elementwise=nll_backward_flops(target.numel, weight, reduction))


# Alignment of sequences --------------------------------------------------------------------------


def alignment_states(log_alpha: Tensor) -> Size:
    """States past the first time step: N (T - 1) (2 S + 1) of log_alpha[N, T, 2 S + 1]."""
    batch, steps, states = log_alpha.shape
    return batch * (steps - 1) * states


@operator("aten._ctc_loss")
def ctc_loss(
    log_probs: Tensor,
    targets: Tensor,
    input_lengths: Any,
    target_lengths: Any,
    blank: int = 0,
    zero_infinity: bool = False,
    *,
    out: tuple[Tensor, Tensor],
) -> Cost:
    """Connectionist temporal classification (Graves et al., 2006): minus the logarithm of the
    probability of all alignments of T frames with S labels, from log_probs[T, N, C]; out = (loss,
    log_alpha[N, T, 2 S + 1]).

    A state is a label or one of the blanks around them, 2 S + 1. Sequences shorter than the longest
    are counted like it, and each state as one with three predecessors, as a kernel over the whole
    table has it.

    1. The first step copies.
    2. A state of a later one is log(exp(a - m) + exp(b - m) + exp(c - m)) + m + log_p, of its
       predecessors a, b, c with the largest, m: 2 comparisons, 3 subtractions, 3 exp, 2 additions,
       log, 2 additions, 13.
    3. The loss is -(log(exp(a - m) + exp(b - m)) + m) of the last two states: a comparison, 2
       subtractions, 2 exp, an addition, log, an addition, a sign, 9 N.
    """
    loss, log_alpha = out
    kept = (log_probs, targets, input_lengths, target_lengths, loss, log_alpha)
    return Cost(
        elementwise=13 * alignment_states(log_alpha) + 9 * log_alpha.shape[0],
        gradients=(
            Gradient(
                "log_probs",
                "aten._ctc_loss_backward",
                elementwise=ctc_backward_flops(log_probs, log_alpha, zero_infinity),
                saves=tuple(tensor for tensor in kept if isinstance(tensor, Tensor)),
            ),
        ),
    )


def ctc_backward_flops(log_probs: Tensor, log_alpha: Tensor, zero_infinity: bool) -> Size:
    """FLOP of grad[t, c] = (exp(log_p) - exp(sum - log_p + loss)) * g, where sum is the logarithm
    of the added up exp(alpha + beta) of all states of the class c.

    1. log_beta, from the last step to the first, as log_alpha: 13 a state but those of the first
       that is done, of which 2 are copied.
    2. alpha + beta, added up: 1, and m, two subtractions, two exp, an addition, log, an addition,
       8, a state; of the two copied ones the addition only: 2 N.
    3. The gradient: exp, an addition, a subtraction, exp, a subtraction, a multiplication, 6 T N C.
    4. With ``zero_infinity`` the loss is compared with infinity: N.
    """
    batch = log_alpha.shape[0]
    states = 22 * alignment_states(log_alpha) + 2 * batch
    return states + 6 * log_probs.numel + batch * zero_infinity


@operator("aten._ctc_loss_backward")
def ctc_loss_backward(
    grad: Tensor,
    log_probs: Tensor,
    targets: Tensor,
    input_lengths: Any,
    target_lengths: Any,
    neg_log_likelihood: Tensor,
    log_alpha: Tensor,
    blank: int,
    zero_infinity: bool = False,
    *,
    out: Tensor,
) -> Cost:
    """See ``ctc_backward_flops``."""
    return Cost(elementwise=ctc_backward_flops(log_probs, log_alpha, zero_infinity))


# The layers --------------------------------------------------------------------------------------


def loss_tensor(x: Tensor, shape: tuple[Size, ...], reduction: str) -> Tensor:
    """A number, or without reduction one for each entry of ``shape``."""
    return x.new(*(shape if reduction == "none" else ()))


def elementwise_loss(x: Tensor, op: str, reduction: str, **constants: float) -> LayerCost:
    """One operator on the prediction and a target of its shape."""
    target = x.new(*x.shape)
    operands = {"self": x, "target": target, "reduction": REDUCTIONS[reduction], **constants}
    loss = loss_tensor(x, x.shape, reduction)
    return LayerCost(loss, (Call(op, operands, loss),))


@layer("MSELoss")
def mse_loss_layer(x: Tensor, *, reduction: str = "mean") -> LayerCost:
    return elementwise_loss(x, "aten.mse_loss", reduction)


@layer("SmoothL1Loss")
def smooth_l1_loss_layer(x: Tensor, *, reduction: str = "mean", beta: float = 1.0) -> LayerCost:
    return elementwise_loss(x, "aten.smooth_l1_loss", reduction, beta=beta)


@layer("HuberLoss")
def huber_loss_layer(x: Tensor, *, reduction: str = "mean", delta: float = 1.0) -> LayerCost:
    return elementwise_loss(x, "aten.huber_loss", reduction, delta=delta)


@layer("BCELoss")
def binary_cross_entropy_layer(x: Tensor, *, reduction: str = "mean") -> LayerCost:
    return elementwise_loss(x, "aten.binary_cross_entropy", reduction)


@layer("BCEWithLogitsLoss")
def binary_cross_entropy_with_logits_layer(x: Tensor, *, reduction: str = "mean") -> LayerCost:
    return elementwise_loss(x, "aten.binary_cross_entropy_with_logits", reduction)


@layer("L1Loss")
def l1_loss_layer(x: Tensor, *, reduction: str = "mean") -> LayerCost:
    """abs(x - t): torch runs it as ``sub, abs`` and the reduction."""
    target, difference, distance = x.new(*x.shape), x.new(*x.shape), x.new(*x.shape)
    calls = [
        Call("aten.sub", {"self": x, "other": target}, difference),
        Call("aten.abs", {"self": difference}, distance),
    ]
    if reduction == "none":
        return LayerCost(distance, tuple(calls))
    loss = x.new()
    calls.append(Call(f"aten.{reduction}", {"self": distance}, loss))
    return LayerCost(loss, tuple(calls))


@layer("NLLLoss")
def nll_loss_layer(x: Tensor, *, ignore_index: int = -100, reduction: str = "mean") -> LayerCost:
    """-x[target] of x[C], x[B, C] or x[B, C, *]; with other than two dimensions after the channels,
    torch sees them as [B, C, 1, positions]."""
    shape = x.shape[:1] * (len(x.shape) > 1) + x.shape[2:]
    target = Tensor(shape, INDEX_BYTES)
    op = "aten.nll_loss_forward"
    log_probabilities, classes, seen_shape = x, target, shape
    if len(x.shape) > 2:
        op = "aten.nll_loss2d_forward"
        if len(x.shape) != 4:
            seen_shape = (shape[0], 1, prod(shape[1:]))
            log_probabilities = x.view(*x.shape[:2], *seen_shape[1:])
            classes = target.view(*seen_shape)
    loss = loss_tensor(x, shape, reduction)
    operands = {
        "self": log_probabilities,
        "target": classes,
        "weight": None,
        "reduction": REDUCTIONS[reduction],
        "ignore_index": ignore_index,
    }
    seen = loss.view(*seen_shape) if reduction == "none" else loss
    return LayerCost(loss, (Call(op, operands, (seen, x.new())),))


@layer("CrossEntropyLoss")
def cross_entropy_loss_layer(
    x: Tensor, *, ignore_index: int = -100, reduction: str = "mean"
) -> LayerCost:
    """-log(softmax(x))[target] of x[C], x[B, C] or x[B, C, *]: the log-softmax over C, then
    ``NLLLoss``."""
    log_probabilities = x.new(*x.shape)
    softmax = Call(
        "aten._log_softmax",
        {"self": x, "dim": min(1, len(x.shape) - 1), "half_to_float": False},
        log_probabilities,
    )
    nll = nll_loss_layer(log_probabilities, ignore_index=ignore_index, reduction=reduction)
    return LayerCost(nll.out, (softmax, *nll.calls))


# The L2 penalty ----------------------------------------------------------------------------------


def l2_penalty(*weights: Tensor) -> Cost:
    """(lambda / 2) ||W||^2 over all weights, W their number.

    Forward: 1. w w: W. 2. Added into one accumulator: W. 3. Times lambda / 2: 1. Together 2 W + 1.

    Gradient: 1. lambda w: W. 2. Added to the gradient of the loss, for every weight has one: W.
    Together 2 W: ``grad.add(weight, alpha=lambda)``, which is how the optimizers of torch carry out
    their ``weight_decay`` (all but AdamW), without ever computing the penalty itself.
    """
    count = sum(weight.numel for weight in weights)
    return Cost(
        elementwise=2 * count + 1,
        gradients=(Gradient("weights", "aten.add", elementwise=2 * count, saves=weights),),
    )


@layer("SumLoss")
def sum_loss_layer(x: Tensor) -> LayerCost:
    """loss = sum(x): one addition an element; the gradient of each is the loss's own, repeated."""
    loss = x.new()
    return LayerCost(loss, (Call("aten.sum", {"self": x}, loss),))


@layer("L2Penalty")
def l2_penalty_layer(x: Tensor, *, weight_decay: float = 0.01) -> LayerCost:
    """The penalty of one weight, a term of the loss: ``weight.pow(2).sum() * (lambda / 2)``.

    Forward as in ``l2_penalty``. Backward, torch does more than need be: g * (2 w), 2 W, and lambda
    / 2 once; the addition to the weight's other gradient, W, is autograd's.
    """
    squares, total, penalty = x.new(*x.shape), x.new(), x.new()
    calls = (
        Call("aten.pow", {"self": x, "exponent": 2}, squares),
        Call("aten.sum", {"self": squares}, total),
        Call("aten.mul", {"self": total, "other": weight_decay / 2}, penalty),
    )
    return LayerCost(penalty, calls, {"weight": x})


EXAMPLES += [
    Example(
        "MSELoss",
        {"x": Tensor((8, 10))},
        {"flops": 0, "elementwise": 241, "parameters": 0},
        "x - t, squared, summed: 3 * 80; / N: 1",
    ),
    Example(
        "aten.mse_loss_backward",
        {
            "grad_output": Tensor(()),
            "self": Tensor((8, 10)),
            "target": Tensor((8, 10)),
            "reduction": 1,
            "out": Tensor((8, 10)),
        },
        {"elementwise": 240},
        "(x - t) * (2 / N) * g: 3 * 80",
    ),
    Example(
        "aten.soft_margin_loss",
        {"self": Tensor((8, 10)), "target": Tensor((8, 10)), "out": Tensor(())},
        {"flops": 0, "elementwise": 401},
        "-t x, exp, log1p: 4 * 80; their mean: 81",
    ),
    Example(
        "aten.multi_margin_loss",
        {"self": Tensor((4, 5)), "target": Tensor((4,), 8), "out": Tensor(())},
        {"flops": 0, "elementwise": 73},
        "4 rows of 4 wrong classes, 4 each: 64; / 5 in each row: 4; the mean of the rows: 5",
    ),
    Example(
        "aten._ctc_loss",
        {
            "log_probs": Tensor((5, 2, 4)),
            "targets": Tensor((2, 3), 8),
            "input_lengths": (5, 5),
            "target_lengths": (3, 3),
            "out": (Tensor((2,)), Tensor((2, 5, 7))),
        },
        {"flops": 0, "elementwise": 746},
        "2 * (5 - 1) steps of 2 * 3 + 1 states: 56 * 13 = 728; 2 losses of 9: 18",
    ),
    Example(
        "NLLLoss", {"x": Tensor((8, 10))}, {"elementwise": 17}, "8 negations, 8 additions, / 8"
    ),
    Example(
        "BCEWithLogitsLoss",
        {"x": Tensor((8, 10)), "reduction": "sum"},
        {"elementwise": 880},
        "10 for the loss and 1 addition for each of 80 elements",
    ),
    Example("L1Loss", {"x": Tensor((8, 10))}, {"elementwise": 241}, "-, abs, +: 3 * 80; / N: 1"),
    Example(
        "L2Penalty",
        {"x": Tensor((8, 10))},
        {"elementwise": 161, "parameters": 80},
        "squared and summed: 2 * 80; times lambda / 2: 1",
    ),
]
