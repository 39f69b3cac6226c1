"""Which forward operators stand behind a node: views that are written to, transforms of
torch.func."""

from __future__ import annotations

import torch
from torch import nn

from tests.trace.steps import by_name, reconciled, split

F = 2 * 2 * 4 * 8
"""A product of 2 rows and 4 columns with 4 by 8: 2 * 2 * 4 * 8 = 128."""


class Two(nn.Module):
    """4 -> 6 -> 6."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 6), nn.Linear(6, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(torch.relu(self.first(x)))


class TestWritingToViews:
    def test_a_product_into_a_slice(self) -> None:
        class IntoSlice(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.w = nn.Parameter(torch.randn(4, 8))

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                buffer = torch.zeros(2, 16)
                buffer[:, :8].addmm_(x, self.w)
                return buffer

        model, x = IntoSlice(), torch.randn(2, 4, requires_grad=True)
        ledger = reconciled(model, lambda: model(x).sum().backward())
        assert split(ledger) == (F, F, F, 0)
        assert by_name(ledger)[""].grad_weight == F

    def test_one_after_the_other(self) -> None:
        x, w = torch.randn(2, 4, requires_grad=True), nn.Parameter(torch.randn(4, 8))

        def step() -> None:
            buffer = torch.zeros(2, 16)
            buffer[:, 8:] = x @ w
            view = buffer[:, :8]
            view.addmm_(x, w, alpha=2).mul_(3)
            buffer.view(4, 8)[1:3].addmm_(x, w.detach())
            buffer.sum().backward()

        assert split(reconciled(None, step)) == (3 * F, 3 * F, 2 * F, 0)

    def test_read_by_a_product(self) -> None:
        """The product's node is older than those that the views get anew when it reads them."""
        x = torch.randn(1, 2, 4, 8, requires_grad=True)

        def step() -> None:
            query, key = (x * 2).transpose(1, 2), (x * 3).transpose(1, 2)
            query[:, :1] = query[:, :1] * 2
            key[:, :1] = key[:, :1] * 2
            torch.bmm(query[0], key[0].mT).sum().backward()
            left, right = (x[0, 0] * 2)[:, :4], (x[0, 1] * 3)[:, :4]
            left[:1], right[:1] = left[:1] * 2, right[:1] * 2
            torch.mm(left, right.detach()).sum().backward()

        bmm, mm = 2 * 4 * 2 * 8 * 2, 2 * 4 * 4 * 4
        assert split(reconciled(None, step)) == (bmm + mm, 0, 2 * bmm + mm, 0)

    def test_only_what_is_asked_for(self) -> None:
        x, w = torch.randn(2, 4, requires_grad=True), nn.Parameter(torch.randn(4, 8))

        def step() -> None:
            buffer = torch.zeros(2, 16)
            buffer[:, :8].addmm_(x, w)
            torch.autograd.grad(buffer.sum(), x)

        assert split(reconciled(None, step)) == (F, F, 0, 0)


class TestTransforms:
    """2 rows through 4 -> 6 -> 6: 2 * 2 * 4 * 6 = 96 and 2 * 2 * 6 * 6 = 144."""

    FIRST, SECOND = 96, 144

    def expected(self, ledger: object) -> None:
        figures = by_name(ledger)  # type: ignore[arg-type]
        first, second = figures["first"], figures["second"]
        assert (first.forward, first.grad_input, first.grad_weight) == (96, 0, 96)
        assert (second.forward, second.grad_input, second.grad_weight) == (144, 144, 144)

    def test_gradients_of_a_functional_call(self) -> None:
        model, x = Two(), torch.randn(2, 4)
        parameters = dict(model.named_parameters())

        def loss(parameters: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
            return torch.func.functional_call(model, parameters, (x,)).sum()

        self.expected(reconciled(model, lambda: torch.func.grad(loss)(parameters, x)))
        self.expected(reconciled(model, lambda: torch.func.grad_and_value(loss)(parameters, x)))

    def test_gradients_of_detached_parameters(self) -> None:
        model, x = Two(), torch.randn(2, 4)
        parameters = {name: each.detach() for name, each in model.named_parameters()}

        def loss(parameters: dict[str, torch.Tensor]) -> torch.Tensor:
            return torch.func.functional_call(model, parameters, (x,)).sum()

        self.expected(reconciled(model, lambda: torch.func.grad(loss)(parameters)))

    def test_gradients_of_each_example(self) -> None:
        model, x = Two(), torch.randn(2, 4)
        parameters = dict(model.named_parameters())

        def loss(parameters: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
            return torch.func.functional_call(model, parameters, (x,)).sum()

        each = torch.func.vmap(torch.func.grad(loss), (None, 0))
        self.expected(reconciled(model, lambda: each(parameters, x)))

    def test_a_gradient_of_data_alone(self) -> None:
        model, x = Two(), torch.randn(2, 4)
        ledger = reconciled(model, lambda: torch.func.grad(lambda x: model(x).sum())(x))
        assert split(ledger) == (240, 240, 0, 0)

    def test_a_branch_that_the_result_does_not_depend_on(self) -> None:
        model, x = Two(), torch.randn(2, 4)

        def loss(x: torch.Tensor) -> torch.Tensor:
            hidden = model.first(x)
            model.second(hidden)
            return hidden.sum()

        assert split(reconciled(model, lambda: torch.func.grad(loss)(x))) == (240, 96, 0, 0)

    def test_a_gradient_of_a_gradient(self) -> None:
        """The inner gradient takes one product, for x. The outer one, for w, goes through the
        forward product (w) and through the inner one (w, and what comes from the tanh, which
        depends on w in its turn)."""
        x, w = torch.randn(2, 4), torch.nn.Parameter(torch.randn(4, 8))

        def penalty(w: torch.Tensor) -> torch.Tensor:
            return torch.func.grad(lambda x: torch.tanh(x @ w).sum())(x).pow(2).sum()

        ledger = reconciled(None, lambda: torch.func.grad(penalty)(w))
        assert split(ledger) == (F, 2 * F, 2 * F, 0)

    def test_a_vector_product(self) -> None:
        x, w = torch.randn(2, 4), nn.Parameter(torch.randn(4, 8))

        def step() -> None:
            y, pull_back = torch.func.vjp(lambda x: torch.tanh(x @ w), x)
            pull_back(torch.ones_like(y))

        assert split(reconciled(None, step)) == (F, F, 0, 0)
