"""What a call of backward asks for: some of the gradients, of places in the graph, several at
once."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.autograd.graph import get_gradient_edge
from torch.nn import functional

from tests.trace.steps import reconciled, split

F = 2 * 2 * 4 * 8
"""A product of 2 rows and 4 columns with 4 by 8: 2 * 2 * 4 * 8 = 128."""


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(2, 4, requires_grad=True)


@pytest.fixture
def w() -> nn.Parameter:
    return nn.Parameter(torch.randn(4, 8))


class TestSomeOfTheGradients:
    def test_an_input_that_is_not_used(self, x: torch.Tensor, w: nn.Parameter) -> None:
        unused = torch.randn(3, requires_grad=True)
        nothing = reconciled(
            None, lambda: torch.autograd.grad((x @ w).sum(), unused, allow_unused=True)
        )
        assert split(nothing) == (F, 0, 0, 0)
        one = reconciled(
            None, lambda: torch.autograd.grad((x @ w).sum(), (unused, w), allow_unused=True)
        )
        assert split(one) == (F, 0, F, 0)

    @pytest.mark.parametrize(
        ("asked", "granted"),
        [("q", 2), ("k", 2), ("v", 1), ("qk", 3), ("qv", 3), ("qkv", 4)],
    )
    def test_fused_attention(self, asked: str, granted: int) -> None:
        """16 queries meet 16 keys of 8 entries in 2 heads: a product of 2 * 2 * 16 * 16 * 8 =
        8,192, two of them forward. That of the scores' gradient is needed for query and key alike.
        The kernel computes all four, and Q @ K.T again."""
        tensors = {name: torch.randn(1, 2, 16, 8, requires_grad=True) for name in "qkv"}

        def step() -> None:
            y = functional.scaled_dot_product_attention(*tensors.values())
            torch.autograd.grad(y.sum(), [tensors[name] for name in asked])

        product = 8_192
        ledger = reconciled(None, step)
        assert split(ledger) == (2 * product, 0, granted * product, (5 - granted) * product)

    @pytest.mark.parametrize("bias", [True, False])
    def test_convolution(self, bias: bool) -> None:
        layer = nn.Conv2d(3, 4, 3, bias=bias)
        x = torch.randn(2, 3, 8, 8, requires_grad=True)
        product = 2 * 2 * 4 * 6 * 6 * 3 * 3 * 3
        of_x = reconciled(layer, lambda: torch.autograd.grad(layer(x).sum(), x))
        assert split(of_x) == (product, product, 0, 0)
        of_w = reconciled(layer, lambda: torch.autograd.grad(layer(x).sum(), layer.weight))
        assert split(of_w) == (product, 0, product, 0)

    def test_inputs_of_backward(self, x: torch.Tensor, w: nn.Parameter) -> None:
        ledger = reconciled(None, lambda: (x @ w).sum().backward(inputs=[w]))
        assert split(ledger) == (F, 0, F, 0)


class TestGradientEdges:
    def test_as_roots_and_inputs(self, x: torch.Tensor, w: nn.Parameter) -> None:
        def step() -> None:
            y = (x @ w).sum()
            torch.autograd.backward(get_gradient_edge(y), retain_graph=True)
            torch.autograd.grad((get_gradient_edge(y),), (get_gradient_edge(x),))

        assert split(reconciled(None, step)) == (F, 2 * F, F, 0)

    def test_of_a_value_in_the_middle(self, x: torch.Tensor, w: nn.Parameter) -> None:
        """One backward down to the hidden value, another from there."""
        second = nn.Parameter(torch.randn(8, 8))

        def step() -> None:
            hidden = x @ w
            edge = get_gradient_edge(hidden)
            y = hidden @ second
            (grad,) = torch.autograd.grad(y, (edge,), torch.ones_like(y))
            torch.autograd.backward((edge,), (grad,))

        other = 2 * 2 * 8 * 8
        assert split(reconciled(None, step)) == (F + other, other + F, F, 0)


class TestSeveralGradientsAtOnce:
    """B gradients of each root cost B times the law."""

    def test_is_grads_batched(self, x: torch.Tensor, w: nn.Parameter) -> None:
        gradients = torch.randn(5, 2, 8)
        ledger = reconciled(
            None, lambda: torch.autograd.grad(x @ w, (x, w), gradients, is_grads_batched=True)
        )
        assert split(ledger) == (F, 5 * F, 5 * F, 0)
        one = reconciled(
            None, lambda: torch.autograd.grad(x @ w, w, gradients, is_grads_batched=True)
        )
        assert split(one) == (F, 0, 5 * F, 0)

    def test_of_fused_operators(self) -> None:
        layer = nn.Conv2d(3, 4, 3)
        x = torch.randn(2, 3, 8, 8, requires_grad=True)
        product = 2 * 2 * 4 * 6 * 6 * 3 * 3 * 3
        ledger = reconciled(
            layer,
            lambda: torch.autograd.grad(
                layer(x), (x, layer.weight), torch.randn(5, 2, 4, 6, 6), is_grads_batched=True
            ),
        )
        assert split(ledger) == (product, 5 * product, 5 * product, 0)

    @pytest.mark.parametrize("vectorize", [True, False])
    def test_a_jacobian(self, vectorize: bool, w: nn.Parameter) -> None:
        """Of 16 results, at once or one by one."""
        x = torch.randn(2, 4)
        ledger = reconciled(
            None,
            lambda: torch.autograd.functional.jacobian(
                lambda x: torch.tanh(x @ w), x, vectorize=vectorize
            ),
        )
        assert split(ledger) == (F, 16 * F, 0, 0)

    def test_a_jacobian_by_transform(self, w: nn.Parameter) -> None:
        x = torch.randn(2, 4)
        ledger = reconciled(None, lambda: torch.func.jacrev(lambda x: torch.tanh(x @ w))(x))
        assert split(ledger) == (F, 16 * F, 0, 0)

    def test_jacobians_of_examples(self, w: nn.Parameter) -> None:
        """Of each of 2 rows: the 8 results of its own alone."""
        x = torch.randn(2, 4)
        jacobian = torch.func.vmap(torch.func.jacrev(lambda x: torch.tanh(x @ w)))
        assert split(reconciled(None, lambda: jacobian(x))) == (F, 8 * F, 0, 0)

    @pytest.mark.parametrize("vectorize", [True, False])
    def test_a_hessian(self, vectorize: bool, w: nn.Parameter) -> None:
        """Of 8 inputs: a gradient, and its own gradient 8 times: through the one product that the
        gradient took, and through the forward one."""
        x = torch.randn(2, 4)
        ledger = reconciled(
            None,
            lambda: torch.autograd.functional.hessian(
                lambda x: torch.tanh(x @ w).sum(), x, vectorize=vectorize
            ),
        )
        assert split(ledger) == (F, F + 8 * 2 * F, 0, 0)


class TestTheEngineStaysInItsThread:
    """Nodes are numbered by thread; those that a thread of the device makes would have the numbers
    of others."""

    def test_meanwhile_and_not_after(self, x: torch.Tensor, w: nn.Parameter) -> None:
        enabled = torch._C._is_multithreading_enabled
        seen = []

        def step() -> None:
            y = x @ w
            y.register_hook(lambda _: seen.append(enabled()))
            y.sum().backward()
            seen.append(enabled())

        reconciled(None, step)
        assert seen == [False, True]
