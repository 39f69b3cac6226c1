"""Losses, against plain loops and against torch."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from flopratio.formulas import LAYERS, OPERATORS, Tensor
from flopratio.formulas.loss import REDUCTIONS, l2_penalty
from tests.formulas.counting import Counted, counted, reset, tensor, values, zeros
from tests.formulas.executed import (
    Work,
    agrees_on_arrays_and_symbols,
    agrees_with_autograd,
    agrees_with_torch,
    analytic,
    executed,
    merge,
)

sizes = st.integers(1, 4)
reductions = st.sampled_from(["mean", "sum", "none"])

Losses = np.ndarray | Counted


def reduced(losses: np.ndarray, reduction: str) -> Losses:
    if reduction == "none":
        return losses
    accumulator = Counted(0)
    for loss in losses.flat:
        accumulator = accumulator + loss
    return accumulator / losses.size if reduction == "mean" else accumulator


def smaller(x: Counted, bound: float) -> Counted:
    return Counted(bound) if x > bound else x


def larger(x: Counted, bound: float) -> Counted:
    return x if x > bound else Counted(bound)


def one_minus(x: Counted) -> Counted:
    return 1 - x


def logarithm(x: Counted) -> Counted:
    return larger(x.apply("log"), -100)


def smooth_l1(x: Counted, t: Counted, beta: float) -> Counted:
    d = x - t
    a = abs(d)
    quadratic, linear = d * d * (0.5 / beta), a - 0.5 * beta
    return linear if a > beta else quadratic


def huber(x: Counted, t: Counted, delta: float) -> Counted:
    d = x - t
    a = abs(d)
    quadratic, linear = d * d * 0.5, (a - 0.5 * delta) * delta
    return linear if a > delta else quadratic


def cross_entropy_of_probability(x: Counted, t: Counted) -> Counted:
    return (t - 1) * logarithm(one_minus(x)) - t * logarithm(x)


def smooth_l1_backward(
    x: Counted, t: Counted, g: Counted, beta: float, share: float | None
) -> Counted:
    return larger(smaller(x - t, beta), -beta) * ((share or 1) / beta) * g


def huber_backward(
    x: Counted, t: Counted, g: Counted, delta: float, share: float | None
) -> Counted:
    gradient = larger(smaller(x - t, delta), -delta) * g
    return gradient if share is None else gradient * share


def probability_backward(x: Counted, t: Counted, g: Counted, share: float | None) -> Counted:
    gradient = g * (x - t) / larger(x * one_minus(x), 1e-12)
    return gradient if share is None else gradient * share


Loop = Callable[..., Counted]

ELEMENTWISE: dict[str, tuple[str, dict[str, float], Loop, Loop]] = {
    "MSELoss": (
        "mse_loss",
        {},
        lambda x, t: (lambda d: d * d)(x - t),
        lambda x, t, g, share: (x - t) * (2 * (share or 1)) * g,
    ),
    "SmoothL1Loss": ("smooth_l1_loss", {"beta": 0.7}, smooth_l1, smooth_l1_backward),
    "HuberLoss": ("huber_loss", {"delta": 0.7}, huber, huber_backward),
    "BCELoss": (
        "binary_cross_entropy",
        {},
        cross_entropy_of_probability,
        probability_backward,
    ),
}
"""Layer -> operator, constants, the loss of one element, its gradient (g: that of the loss; share:
1 / N of a mean, else None)."""


@pytest.mark.oracle
@pytest.mark.parametrize("layer", ELEMENTWISE)
@settings(max_examples=20, deadline=None)
@given(rows=sizes, columns=sizes, reduction=reductions)
def test_loss_and_gradient_in_loops(layer: str, rows: int, columns: int, reduction: str) -> None:
    op, constants, loop, backward_loop = ELEMENTWISE[layer]
    shape = (rows, columns)
    x, t, g = tensor(shape, 1), tensor(shape, 2), tensor(shape, 3)
    if layer == "BCELoss":
        squash = np.vectorize(lambda v: Counted(1 / (1 + math.exp(-v.value))), otypes=[object])
        x, t = squash(x), squash(t)
    share = 1 / (rows * columns) if reduction == "mean" else None
    reset()
    losses = np.empty(shape, dtype=object)
    for place in np.ndindex(*shape):
        losses[place] = loop(x[place], t[place], *constants.values())
    loss = reduced(losses, reduction)
    forward = counted()
    reset()
    grad = np.empty(shape, dtype=object)
    for place in np.ndindex(*shape):
        of_loss = g[place] if reduction == "none" else g.flat[0]
        grad[place] = backward_loop(x[place], t[place], of_loss, *constants.values(), share)
    backward = counted()

    real = torch.tensor(values(x), requires_grad=True)
    out = getattr(nn, layer)(reduction=reduction, **constants)(real, torch.tensor(values(t)))
    np.testing.assert_allclose(out.detach().numpy(), values(np.asarray(loss)), rtol=1e-6)
    of_losses = torch.tensor(values(g))
    out.backward(of_losses if reduction == "none" else of_losses.flatten()[0])
    np.testing.assert_allclose(real.grad.numpy(), values(grad), rtol=1e-6, atol=1e-12)

    cost = LAYERS[layer](Tensor(shape), reduction=reduction, **constants).calls[0].cost
    assert cost.elementwise == forward
    assert cost.gradients[0].elementwise == backward
    keywords = {"target": Tensor(shape), "reduction": REDUCTIONS[reduction], **constants}
    executed_backward = OPERATORS[f"aten.{op}_backward"](
        Tensor(()), Tensor(shape), **keywords, out=Tensor(shape)
    )
    assert executed_backward.elementwise == backward


@pytest.mark.oracle
@settings(max_examples=20, deadline=None)
@given(
    rows=sizes, columns=sizes, reduction=reductions, weighted=st.booleans(), positive=st.booleans()
)
def test_binary_cross_entropy_with_logits_in_loops(
    rows: int, columns: int, reduction: str, weighted: bool, positive: bool
) -> None:
    shape = (rows, columns)
    x, t, weight = tensor(shape, 1), tensor(shape, 2), tensor(shape, 3)
    positive_weight = tensor((columns,), 4)
    reset()
    losses = np.empty(shape, dtype=object)
    less_one = [p - 1 for p in positive_weight] if positive else []
    for row, column in np.ndindex(*shape):
        one, target = x[row, column], t[row, column]
        log_sigmoid = smaller(one, 0) - (1 + (-abs(one)).apply("exp")).apply("log")
        if positive:
            log_sigmoid = log_sigmoid * (less_one[column] * target + 1)
        loss = one_minus(target) * one - log_sigmoid
        losses[row, column] = loss * weight[row, column] if weighted else loss
    loss = reduced(losses, reduction)
    count = counted()

    options = {
        "weight": torch.tensor(values(weight)) if weighted else None,
        "pos_weight": torch.tensor(values(positive_weight)) if positive else None,
        "reduction": reduction,
    }
    real = torch.tensor(values(x), requires_grad=True)
    target = torch.tensor(values(t))
    out = nn.functional.binary_cross_entropy_with_logits(real, target, **options)
    np.testing.assert_allclose(out.detach().numpy(), values(np.asarray(loss)), rtol=1e-6)
    step = executed(
        lambda y: nn.functional.binary_cross_entropy_with_logits(y, target, **options), real
    )
    assert step.forward == [Work("aten.binary_cross_entropy_with_logits", 0, count)]
    tensors = {
        "weight": Tensor(shape, 8) if weighted else None,
        "pos_weight": Tensor((columns,), 8) if positive else None,
    }
    cost = OPERATORS["aten.binary_cross_entropy_with_logits"](
        Tensor(shape, 8),
        Tensor(shape, 8),
        **tensors,
        reduction=REDUCTIONS[reduction],
        out=Tensor(()),
    )
    backward = [Work(g.op, 0, g.elementwise) for g in cost.gradients]
    assert step.backward == merge(backward)
    assert step.saved_bytes == sum(kept.nbytes for kept in cost.gradients[0].saves)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_weighted_binary_cross_entropy_is_what_torch_executes(reduction: str) -> None:
    target, weight = torch.rand(6, 4), torch.rand(6, 4)
    run = lambda x: nn.functional.binary_cross_entropy(  # noqa: E731
        x, target, weight, reduction=reduction
    )
    step = agrees_with_autograd(run, torch.rand(6, 4) * 0.8 + 0.1)
    unweighted = LAYERS["BCELoss"](Tensor((6, 4)), reduction=reduction).calls[0].cost
    assert step.forward[0].elementwise == unweighted.elementwise + 24
    assert step.backward[0].elementwise == unweighted.gradients[0].elementwise + 24


@pytest.mark.oracle
@settings(max_examples=25, deadline=None)
@given(rows=sizes, classes=sizes, reduction=reductions, weighted=st.booleans())
def test_negative_log_likelihood_in_loops(
    rows: int, classes: int, reduction: str, weighted: bool
) -> None:
    x, weight, g = tensor((rows, classes), 1), tensor((classes,), 2), tensor((rows,), 3)
    target = np.random.default_rng(rows).integers(0, classes, rows)
    reset()
    losses = np.empty((rows,), dtype=object)
    for row in range(rows):
        losses[row] = -x[row, target[row]]
        if weighted:
            losses[row] = losses[row] * weight[target[row]]
    loss: Any = losses
    total_weight: Any = rows
    if reduction != "none":
        loss = reduced(losses, "sum")
    if reduction == "mean":
        if weighted:
            total_weight = reduced(weight[target], "sum")
        loss = loss / total_weight
    forward = counted()

    reset()
    grad = zeros((rows, classes))
    of_loss = g[0]
    if reduction == "mean":
        of_loss = g[0] / total_weight
    for row in range(rows):
        own = -(g[row] if reduction == "none" else of_loss)
        grad[row, target[row]] = own * weight[target[row]] if weighted else own
    backward = counted()

    real = torch.tensor(values(x), requires_grad=True)
    weights = torch.tensor(values(weight)) if weighted else None
    out = nn.functional.nll_loss(real, torch.tensor(target), weights, reduction=reduction)
    np.testing.assert_allclose(out.detach().numpy(), values(np.asarray(loss)), rtol=1e-6)
    of_losses = torch.tensor(values(g))
    out.backward(of_losses if reduction == "none" else of_losses[0])
    np.testing.assert_allclose(real.grad.numpy(), values(grad), rtol=1e-6)

    own_weight = Tensor((classes,)) if weighted else None
    arguments = (own_weight, REDUCTIONS[reduction], -100)
    cost = OPERATORS["aten.nll_loss_forward"](
        Tensor((rows, classes)), Tensor((rows,), 8), *arguments, out=(Tensor(()), Tensor(()))
    )
    assert cost.elementwise == forward
    assert cost.gradients[0].elementwise == backward
    executed_backward = OPERATORS["aten.nll_loss_backward"](
        Tensor(()),
        Tensor((rows, classes)),
        Tensor((rows,), 8),
        *arguments,
        Tensor(()),
        out=Tensor((rows, classes)),
    )
    assert executed_backward.elementwise == backward


IMPOSSIBLE = -1e30
"""The logarithm of the probability of a state that can't be reached."""


def log_sum(*terms: Counted) -> Counted:
    """log(exp(a) + exp(b) + ...), beside the largest of them."""
    largest, *rest = terms
    for term in rest:
        largest = term if term > largest else largest
    first, *others = [(term - largest).apply("exp") for term in terms]
    total = first
    for other in others:
        total = total + other
    return total.apply("log") + largest


def reached(before: list[Counted], state: int, labels: list[int], step: int) -> Counted:
    """What a state gets from itself and from the two before it (behind it for ``step`` -1)."""
    places = [state, state - step, state - 2 * step]
    others = [before[p] if 0 <= p < len(labels) else Counted(IMPOSSIBLE) for p in places]
    skips = 0 <= places[2] < len(labels) and labels[state] != labels[places[2]]
    return log_sum(*others[:2], others[2] if skips else Counted(IMPOSSIBLE))


@pytest.mark.oracle
@settings(max_examples=15, deadline=None)
@given(
    steps=st.integers(5, 7),
    examples=st.integers(1, 3),
    length=st.integers(1, 3),
    classes=st.integers(2, 4),
    zero_infinity=st.booleans(),
)
def test_connectionist_temporal_classification_in_loops(
    steps: int, examples: int, length: int, classes: int, zero_infinity: bool
) -> None:
    """GIVEN log-probabilities of T frames and S labels (no more than T allow, with a blank between
    equal ones), WHEN the probabilities of all alignments are added up in loops, THEN loss and
    gradient are torch's, and so many operations are what the formulas say."""
    drawn = tensor((steps, examples, classes), 1)
    log_p = torch.tensor(values(drawn)).log_softmax(-1)
    x = np.vectorize(Counted, otypes=[object])(log_p.numpy())
    target = np.random.default_rng(length).integers(1, classes, (examples, length))
    g = [Counted(0.5 + example) for example in range(examples)]

    reset()
    losses, tables, extended = [], [], []
    for example in range(examples):
        labels = [0]
        for label in target[example]:
            labels += [int(label), 0]
        alpha = [Counted(IMPOSSIBLE) for _ in labels]
        alpha[0], alpha[1] = x[0, example, 0], x[0, example, labels[1]]
        table = [alpha]
        for t in range(1, steps):
            alpha = [
                reached(alpha, state, labels, 1) + x[t, example, label]
                for state, label in enumerate(labels)
            ]
            table.append(alpha)
        losses.append(-log_sum(alpha[-1], alpha[-2]))
        tables.append(table)
        extended.append(labels)
    forward = counted()

    reset()
    grad = np.empty(x.shape, dtype=object)
    for example, (labels, table) in enumerate(zip(extended, tables, strict=True)):
        if zero_infinity:
            assert not losses[example] > math.inf
        beta = [Counted(IMPOSSIBLE) for _ in labels]
        for t in reversed(range(steps)):
            sums = [Counted(IMPOSSIBLE) for _ in range(classes)]
            if t == steps - 1:
                for state in (-1, -2):
                    beta[state] = x[t, example, labels[state]]
                    sums[labels[state]] = table[t][state] + beta[state]
            else:
                beta = [
                    reached(beta, state, labels, -1) + x[t, example, label]
                    for state, label in enumerate(labels)
                ]
                for state, label in enumerate(labels):
                    sums[label] = log_sum(sums[label], table[t][state] + beta[state])
            for c in range(classes):
                own = x[t, example, c]
                shared = (sums[c] + losses[example] - own).apply("exp")
                grad[t, example, c] = (own.apply("exp") - shared) * g[example]
    backward = counted()

    real = log_p.clone().requires_grad_()
    lengths = [steps] * examples, [length] * examples
    options = {"reduction": "none", "zero_infinity": zero_infinity}
    out = nn.functional.ctc_loss(real, torch.tensor(target), *lengths, **options)
    np.testing.assert_allclose(out.detach().numpy(), [loss.value for loss in losses], rtol=1e-6)
    out.backward(torch.tensor([each.value for each in g], dtype=torch.float64))
    np.testing.assert_allclose(real.grad.numpy(), values(grad), rtol=1e-6, atol=1e-9)

    log_probs, labels_of_all = Tensor(x.shape), Tensor((examples, length), 8)
    log_alpha = Tensor((examples, steps, 2 * length + 1))
    results = Tensor((examples,)), log_alpha
    cost = OPERATORS["aten._ctc_loss"](
        log_probs, labels_of_all, *lengths, 0, zero_infinity, out=results
    )
    assert cost.elementwise == forward
    assert cost.gradients[0].elementwise == backward
    executed_backward = OPERATORS["aten._ctc_loss_backward"](
        Tensor((examples,)),
        log_probs,
        labels_of_all,
        *lengths,
        *results,
        0,
        zero_infinity,
        out=log_probs,
    )
    assert executed_backward.elementwise == backward


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("zero_infinity", [False, True])
@pytest.mark.parametrize("as_tensors", [False, True])
def test_connectionist_temporal_classification_is_what_torch_executes(
    reduction: str, zero_infinity: bool, as_tensors: bool
) -> None:
    target = torch.tensor([[1, 2, 1], [3, 3, 2]])
    lengths: Any = (torch.tensor([5, 5]), torch.tensor([3, 3])) if as_tensors else ((5, 5), (3, 3))
    agrees_with_autograd(
        lambda x: nn.functional.ctc_loss(
            x, target, *lengths, reduction=reduction, zero_infinity=zero_infinity
        ),
        torch.randn(5, 2, 4).log_softmax(-1),
    )


class WithTarget(nn.Module):
    """A loss of the prediction alone."""

    def __init__(self, loss: nn.Module, target: torch.Tensor) -> None:
        super().__init__()
        self.loss = loss
        self.target = target

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.loss(x, self.target)
        return found


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(
    "layer",
    ["MSELoss", "L1Loss", "SmoothL1Loss", "HuberLoss", "BCELoss", "BCEWithLogitsLoss"],
)
def test_elementwise_losses_are_what_torch_executes(layer: str, reduction: str) -> None:
    module = WithTarget(getattr(nn, layer)(reduction=reduction), torch.rand(6, 4))
    agrees_with_torch(LAYERS[layer], module, torch.rand(6, 4), reduction=reduction)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("shape", [(4,), (6, 4), (2, 4, 3), (2, 4, 3, 5), (2, 4, 3, 2, 2)])
@pytest.mark.parametrize("layer", ["CrossEntropyLoss", "NLLLoss"])
def test_classification_losses_are_what_torch_executes(
    layer: str, shape: tuple[int, ...], reduction: str
) -> None:
    positions = shape[:1] * (len(shape) > 1) + shape[2:]
    module = WithTarget(getattr(nn, layer)(reduction=reduction), torch.randint(4, positions))
    agrees_with_torch(LAYERS[layer], module, torch.randn(shape), reduction=reduction)


@pytest.mark.oracle
@settings(max_examples=20, deadline=None)
@given(rows=sizes, columns=sizes)
def test_l2_penalty_in_loops(rows: int, columns: int) -> None:
    weight, of_loss, half = tensor((rows, columns), 1), tensor((rows, columns), 2), 0.05
    reset()
    accumulator = Counted(0)
    for w in weight.flat:
        accumulator = accumulator + w * w
    penalty = accumulator * half
    forward = counted()
    reset()
    gradient = [g + w * (2 * half) for g, w in zip(of_loss.flat, weight.flat, strict=True)]
    backward = counted()

    real = torch.tensor(values(weight), requires_grad=True)
    out = real.square().sum() * half
    np.testing.assert_allclose(out.item(), penalty.value)
    (out + (real * torch.tensor(values(of_loss))).sum()).backward()
    np.testing.assert_allclose(real.grad.flatten().numpy(), [g.value for g in gradient])

    cost = l2_penalty(Tensor((rows, columns)))
    assert cost.elementwise == forward
    assert sum(g.elementwise for g in cost.gradients) == backward
    layer = LAYERS["L2Penalty"](Tensor((rows, columns)))
    assert sum(call.cost.elementwise for call in layer.calls) == forward


def test_l2_penalty_is_what_torch_executes() -> None:
    weight, x = torch.randn(3, 4, requires_grad=True), Tensor((3, 4))
    layer = LAYERS["L2Penalty"](x)
    expected = analytic(layer, x)
    found = executed(lambda w: w.pow(2).sum() * 0.005, weight)
    assert (found.forward, found.backward) == (expected.forward, expected.backward)
    assert expected.saved_bytes == 0


def test_weight_decay_of_an_optimizer_is_the_gradient_of_the_penalty() -> None:
    gradient, weight = Tensor((3, 4)), Tensor((3, 4))
    decay = OPERATORS["aten.add"](gradient, weight, alpha=0.1, out=gradient)
    assert decay.elementwise == l2_penalty(weight).gradients[0].elementwise


@pytest.mark.parametrize("layer", ["MSELoss", "L1Loss", "BCEWithLogitsLoss", "CrossEntropyLoss"])
def test_arrays_and_symbols(layer: str) -> None:
    def figures(rows: Any, classes: Any) -> dict[str, Any]:
        x = Tensor((rows, classes))
        return analytic(LAYERS[layer](x), x).figures

    agrees_on_arrays_and_symbols(figures, {"rows": 2, "classes": 3}, {"rows": 5, "classes": 7})
