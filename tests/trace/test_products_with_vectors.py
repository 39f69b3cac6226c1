"""The gradient of a weight that meets one vector is an outer product: a product with one term."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

import flopratio as fr


def step(run: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> fr.Ledger:
    with fr.Profiler() as profiler:
        run(x).sum().backward()
    return profiler.ledger


W, V = nn.Parameter(torch.randn(64, 784)), nn.Parameter(torch.randn(10, 64))


def test_two_layers_on_one_vector_are_those_on_a_batch_of_one() -> None:
    one = step(lambda x: V @ torch.relu(W @ x), torch.randn(784))
    batch = step(lambda x: torch.relu(x @ W.T) @ V.T, torch.randn(1, 784))
    for ledger in (one, batch):
        totals = ledger.totals
        assert (totals.forward, totals.grad_weight, totals.grad_input) == (101_632, 101_632, 1_280)
        assert round(totals.backward / totals.forward, 4) == 1.0126
        assert ledger.mismatches == []
        assert ledger.saved_mismatches == []


@pytest.mark.parametrize("bias", [True, False])
def test_a_linear_layer_on_one_vector(bias: bool) -> None:
    model = nn.Linear(784, 64, bias=bias)
    with fr.Profiler(model) as profiler:
        model(torch.randn(784, requires_grad=True)).sum().backward()
    ledger = profiler.ledger
    product = 2 * 784 * 64
    (layer,) = (each for each in ledger.layers() if each.name == "")
    assert (layer.forward, layer.grad_input, layer.grad_weight) == (product,) * 3
    assert ledger.mismatches == []
    counted = fr.count(model, torch.randn(784), loss="sum")
    assert counted.totals.grad_weight == product
    assert counted.reconciled


def v(n: int) -> torch.Tensor:
    return torch.randn(n, requires_grad=True)


FORMS: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], int]] = {
    "addmv": (lambda x: torch.addmv(v(64), W, x, beta=2, alpha=3), 2 * 784 * 64),
    "vector @ matrix": (lambda x: x @ W.T, 2 * 784 * 64),
    "dot": (lambda x: torch.dot(v(784), x), 2 * 784),
    "vdot": (lambda x: torch.vdot(v(784), x), 2 * 784),
    "addr": (lambda x: torch.addr(W, v(64), x), 2 * 784 * 64),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_of_it(name: str) -> None:
    run, product = FORMS[name]
    ledger = step(run, v(784))
    assert ledger.totals.forward == product
    assert ledger.totals.backward == 2 * product
    assert ledger.mismatches == []
    assert ledger.saved_mismatches == []


def test_multiplications_that_merely_broadcast_stay_elementwise() -> None:
    """GIVEN an outer product by hand, THEN it is what torch sees: a multiplication."""
    a, b = v(5), v(7)
    with fr.Profiler() as profiler:
        (a[:, None] * b).sum().backward()
    totals = profiler.ledger.totals
    assert (totals.forward, totals.backward) == (0, 0)
    assert totals.elementwise_forward == 35 + 35


class Product(torch.autograd.Function):
    """A user's product with a vector."""

    @staticmethod
    def forward(ctx: object, weight: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(weight, x)  # type: ignore[attr-defined]
        return weight @ x

    @staticmethod
    def backward(ctx: object, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        weight, x = ctx.saved_tensors  # type: ignore[attr-defined]
        return torch.outer(grad, x), weight.T @ grad


def test_in_a_function_of_the_user() -> None:
    ledger = step(lambda x: Product.apply(V, x), v(64))
    totals = ledger.totals
    assert (totals.forward, totals.grad_weight, totals.grad_input) == (1_280,) * 3
    assert ledger.mismatches == []
