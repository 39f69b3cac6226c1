"""Operators of the user's own: listed by name until they have a formula."""

from collections.abc import Iterator

import pytest
import torch

import flopratio as fr
from flopratio.errors import FormulaError
from flopratio.formulas import OPERATORS

NAME = "flopratio_tests::scaled_product"


@torch.library.custom_op(NAME, mutates_args=())
def scaled_product(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return 2 * (x @ weight)


@scaled_product.register_fake
def _(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return x.new_empty(x.shape[0], weight.shape[1])


@pytest.fixture
def forgotten() -> Iterator[None]:
    yield
    OPERATORS.pop("flopratio_tests.scaled_product", None)


def profile() -> fr.Ledger:
    with fr.Profiler() as profiler:
        scaled_product(torch.randn(8, 4), torch.randn(4, 6))
    return profiler.ledger


def test_without_a_formula_it_is_listed() -> None:
    ledger = profile()
    assert ledger.totals.forward == 0
    assert ledger.uncounted_ops == {"flopratio_tests.scaled_product": 1}


@pytest.mark.usefixtures("forgotten")
def test_with_one_it_counts() -> None:
    @fr.register(NAME)
    def formula(x, weight, *, out):  # type: ignore[no-untyped-def]
        return fr.Cost(flops=2 * x.numel * weight.shape[1], elementwise=out.numel)

    ledger = profile()
    assert (ledger.totals.forward, ledger.totals.elementwise_forward) == (2 * 8 * 4 * 6, 48)
    assert ledger.uncounted_ops == {}


@pytest.mark.usefixtures("forgotten")
def test_a_formula_that_fails_is_told() -> None:
    fr.register(NAME, lambda x, weight, *, out: fr.Cost(flops=1 // (len(x.shape) - 2)))
    (name,) = profile().uncounted_ops
    assert name.startswith("flopratio_tests.scaled_product (ZeroDivisionError")


@pytest.mark.usefixtures("forgotten")
def test_a_formula_of_another_operator_is_an_error() -> None:
    fr.register(NAME, lambda nothing_like_it: fr.Cost())
    with pytest.raises(fr.UsageError, match=r"is to be called with \(x, weight, \*, out\)"):
        profile()


def test_a_second_formula_needs_to_be_asked_for() -> None:
    with pytest.raises(ValueError, match="has a formula already"):
        fr.register("aten::mm", lambda *_: fr.Cost())


@pytest.mark.usefixtures("forgotten")
def test_a_formula_that_does_not_fit_is_told_once() -> None:
    fr.register(NAME, lambda y, weight, *, out: fr.Cost(flops=1))

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.empty(4, 6))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return scaled_product(x, self.weight)

    with pytest.raises(FormulaError, match="takes 'y', which is no argument of it") as caught:
        fr.count(Net(), torch.empty(8, 4), inference=True)
    assert caught.value.__context__ is None
