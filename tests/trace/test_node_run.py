"""What a node of backward executes: gradients, what it does again, and what nobody asked for."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

import flopratio as fr
from flopratio.formulas import OPERATORS
from tests.trace.steps import Product, by_name, profiled, reconciled, split

F = 2 * 8 * 6 * 6
"""A product of 8 rows and 6 columns with 6 by 6: 2 * 8 * 6 * 6 = 576."""


def rows(*, gradient: bool = False) -> torch.Tensor:
    return torch.randn(8, 6, requires_grad=gradient)


def square() -> nn.Parameter:
    return nn.Parameter(torch.randn(6, 6))


class Multiply(nn.Module):
    """The user's function as a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.w = square()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return Product.apply(x, self.w)


class Block(torch.autograd.Function):
    """relu(x @ a) @ b, whose backward computes x @ a and the ReLU again, with gradients off."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x, a, b)
        return torch.relu(x @ a) @ b

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        x, a, b = ctx.saved_tensors
        hidden = torch.relu(x @ a)
        grad_hidden = (grad @ b.t()) * (hidden > 0)
        return grad_hidden @ a.t(), x.t() @ grad_hidden, hidden.t() @ grad


class FunctionBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = square(), square()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return Block.apply(x, self.a, self.b)


class TestWhatNobodyAskedFor:
    """The surplus of a user's function is recompute, whoever counts."""

    def test_a_gradient_of_data(self) -> None:
        x, model = rows(), Multiply()
        profiler = reconciled(model, lambda: model(x).sum().backward())
        counted = fr.count(model, x, loss="sum")
        assert split(profiler) == split(counted) == (F, 0, F, F)
        assert counted.reconciled is True

    def test_a_gradient_that_this_backward_does_not_ask_for(self) -> None:
        x, w = rows(gradient=True), square()
        ledger = reconciled(None, lambda: torch.autograd.grad(Product.apply(x, w).sum(), w))
        assert split(ledger) == (F, 0, F, F)

    def test_a_gradient_by_a_fused_operator(self) -> None:
        class Convolution(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
                ctx.save_for_backward(x, w)
                return functional.conv2d(x, w)

            @staticmethod
            def backward(ctx: Any, grad: torch.Tensor) -> Any:
                x, w = ctx.saved_tensors
                gradient = torch.nn.grad
                of_x = gradient.conv2d_input(x.shape, w, grad)
                return of_x, gradient.conv2d_weight(x, w.shape, grad)

        x, w = torch.randn(2, 3, 8, 8), nn.Parameter(torch.randn(4, 3, 3, 3))
        product = 2 * 2 * 4 * 6 * 6 * 3 * 3 * 3  # 15,552
        ledger = reconciled(None, lambda: Convolution.apply(x, w).sum().backward())
        assert split(ledger) == (product, 0, product, product)

    def test_a_product_where_forward_had_none(self) -> None:
        class Rotated(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, x: torch.Tensor, by: torch.Tensor) -> torch.Tensor:
                ctx.save_for_backward(by)
                return x.view_as(x)

            @staticmethod
            def backward(ctx: Any, grad: torch.Tensor) -> Any:
                return grad @ ctx.saved_tensors[0], None

        x, by = rows(gradient=True), torch.eye(6)
        assert split(reconciled(None, lambda: Rotated.apply(x, by).sum().backward())) == (
            0,
            0,
            0,
            F,
        )

    def test_too_few_are_a_mismatch(self) -> None:
        class Zeros(Product):
            @staticmethod
            def backward(ctx: Any, grad: torch.Tensor) -> Any:
                _, w = ctx.saved_tensors
                return grad @ w.t(), torch.zeros_like(w)

        w = square()
        ledger = profiled(None, lambda: Zeros.apply(rows(gradient=True), w).sum().backward())
        assert split(ledger) == (F, F, 0, 0)
        assert ledger.reconciled is False
        (mismatch,) = ledger.mismatches
        assert (mismatch.phase, mismatch.analytic, mismatch.traced) == ("grad_weight", F, 0)

    def test_the_needless_one_does_not_stand_in_for_the_missing_one(self) -> None:
        class OfDataAlone(Product):
            @staticmethod
            def backward(ctx: Any, grad: torch.Tensor) -> Any:
                _, w = ctx.saved_tensors
                return grad @ w.t(), torch.zeros_like(w)

        w = square()
        ledger = profiled(None, lambda: OfDataAlone.apply(rows(), w).sum().backward())
        assert split(ledger) == (F, 0, 0, F)
        assert ledger.reconciled is False

    def test_others_are_a_mismatch(self) -> None:
        class Doubled(Product):
            @staticmethod
            def backward(ctx: Any, grad: torch.Tensor) -> Any:
                x, w = ctx.saved_tensors
                both = torch.cat([x, x]).t() @ torch.cat([grad, grad])
                return grad @ w.t(), both / 2

        w = square()
        ledger = profiled(None, lambda: Doubled.apply(rows(gradient=True), w).sum().backward())
        assert split(ledger) == (F, F, 0, 2 * F)
        assert ledger.reconciled is False

    def test_one_in_pieces_is_one(self) -> None:
        class Pieces(Product):
            @staticmethod
            def backward(ctx: Any, grad: torch.Tensor) -> Any:
                x, w = ctx.saved_tensors
                pieces = zip(x.chunk(4), grad.chunk(4), strict=True)
                return grad @ w.t(), sum(a.t() @ b for a, b in pieces)

        w = square()
        ledger = reconciled(None, lambda: Pieces.apply(rows(gradient=True), w).sum().backward())
        assert split(ledger) == (F, F, F, 0)

    def test_surplus_of_a_backward_within(self) -> None:
        """Its forward again, differentiated for the input too, which has no gradient."""

        class Again(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
                ctx.save_for_backward(x, w)
                return x @ w

            @staticmethod
            def backward(ctx: Any, grad: torch.Tensor) -> Any:
                x, w = (tensor.detach().requires_grad_() for tensor in ctx.saved_tensors)
                with torch.enable_grad():
                    y = x @ w
                return torch.autograd.grad(y, (x, w), grad)

        w = square()
        ledger = reconciled(None, lambda: Again.apply(rows(), w).sum().backward())
        assert split(ledger) == (F, 0, F, 2 * F)


class TestWhatRunsAgain:
    """Recompute is told by where it runs, not by whether gradients are on."""

    def test_within_a_users_backward(self) -> None:
        model, x = FunctionBlock(), rows(gradient=True)
        ledger = reconciled(model, lambda: model(x).sum().backward())
        assert split(ledger) == (2 * F, 2 * F, 2 * F, F)
        again = [row for row in ledger.rows if row.phase == "recompute" and row.elementwise]
        assert [(row.op, row.elementwise) for row in again] == [("aten.relu", 8 * 6)]

    def test_a_users_function_in_a_checkpoint(self) -> None:
        """Linear, the block's two products, Linear: forward 4 F; the first has no input gradient:
        7 F backward, whether or not the block is computed again."""
        model = nn.Sequential(nn.Linear(6, 6), FunctionBlock(), nn.Linear(6, 6))
        plain = fr.count(model, rows(), loss="sum")
        checkpointed = fr.count(model, rows(), loss="sum", checkpoint="1")
        assert split(plain) == (4 * F, 3 * F, 4 * F, F)
        assert split(checkpointed) == (4 * F, 3 * F, 4 * F, 3 * F)
        assert plain.ratio.backward_to_forward == 7 / 4
        assert checkpointed.ratio.backward_to_forward == 7 / 4
        assert checkpointed.reconciled is True

    @pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
    @pytest.mark.parametrize("outer", [True, False])
    @pytest.mark.parametrize("inner", [True, False])
    def test_a_checkpoint_within_a_checkpoint(self, outer: bool, inner: bool) -> None:
        """Both layers again for the outer one, the second again for the inner one."""
        model = nn.ModuleList([nn.Linear(6, 6), nn.Linear(6, 6)])

        def second(x: torch.Tensor) -> torch.Tensor:
            return torch.relu(model[1](x))

        def both(x: torch.Tensor) -> torch.Tensor:
            hidden = torch.relu(model[0](x))
            return torch.relu(2 * checkpoint(second, hidden, use_reentrant=inner))

        x = rows(gradient=True)
        ledger = reconciled(
            model, lambda: checkpoint(both, x, use_reentrant=outer).sum().backward()
        )
        assert split(ledger) == (2 * F, 2 * F, 2 * F, 3 * F)
        assert (by_name(ledger)["0"].recompute, by_name(ledger)["1"].recompute) == (F, 2 * F)

    @pytest.mark.parametrize("reentrant", [True, False])
    @pytest.mark.parametrize("module", [True, False])
    def test_a_teacher_without_gradients(self, reentrant: bool, module: bool) -> None:
        w, teacher = square(), nn.Linear(6, 6, bias=False)

        def student(x: torch.Tensor) -> torch.Tensor:
            hidden = torch.relu(x @ w)
            with torch.no_grad():
                target = teacher(x) if module else x @ teacher.weight
            return torch.relu(hidden * target)

        x = rows(gradient=True)
        ledger = reconciled(
            None, lambda: checkpoint(student, x, use_reentrant=reentrant).sum().backward()
        )
        assert split(ledger) == (2 * F, F, F, 2 * F)

    def test_a_teacher_that_a_hook_calls(self) -> None:
        model, teacher = nn.Linear(6, 6), nn.Linear(6, 6)
        x = rows()

        def step() -> None:
            y = model(x)
            y.register_hook(lambda grad: grad + teacher(x).detach())
            y.sum().backward()

        assert split(reconciled(model, step)) == (F, 0, F, F)

    def test_a_reversible_block(self) -> None:
        """Its backward runs f and g again, once to differentiate them; what enters them is
        differentiated for, whether or not the block's input needs it."""
        f, g = nn.Linear(6, 6), nn.Linear(6, 6)
        model = nn.ModuleList([f, g])

        class Reversible(torch.autograd.Function):
            @staticmethod
            def forward(
                ctx: Any, x1: torch.Tensor, x2: torch.Tensor, *_: torch.Tensor
            ) -> tuple[torch.Tensor, torch.Tensor]:
                y1 = x1 + f(x2)
                y2 = x2 + g(y1)
                ctx.save_for_backward(y1, y2)
                return y1, y2

            @staticmethod
            def backward(ctx: Any, grad1: torch.Tensor, grad2: torch.Tensor) -> Any:
                y1, y2 = (tensor.detach() for tensor in ctx.saved_tensors)
                y1.requires_grad_()
                with torch.enable_grad():
                    of_y1 = g(y1)
                torch.autograd.backward(of_y1, grad2)
                grad1 = grad1 + y1.grad
                x2 = (y2 - of_y1).detach().requires_grad_()
                with torch.enable_grad():
                    of_x2 = f(x2)
                torch.autograd.backward(of_x2, grad1)
                return (grad1, grad2 + x2.grad, *(None for _ in model.parameters()))

        def step(x: torch.Tensor) -> None:
            y1, y2 = Reversible.apply(x, x.clone(), *model.parameters())
            (y1.sum() + y2.sum()).backward()

        inner = reconciled(model, lambda: step(rows(gradient=True)))
        assert split(inner) == (2 * F, 2 * F, 2 * F, 2 * F)
        first = reconciled(model, lambda: step(rows()))
        assert split(first) == (2 * F, F, 2 * F, 3 * F)

    def test_nothing_runs_again_in_a_function_that_calls_functions(self) -> None:
        """A convolution that can be differentiated twice is written so: its backward applies
        functions, whose products are the gradients."""

        class OfWeight(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, x: torch.Tensor, grad: torch.Tensor) -> torch.Tensor:
                ctx.save_for_backward(x, grad)
                return x.t() @ grad

            @staticmethod
            def backward(ctx: Any, upper: torch.Tensor) -> Any:
                x, grad = ctx.saved_tensors
                return grad @ upper.t(), x @ upper

        class Twice(Product):
            @staticmethod
            def backward(ctx: Any, grad: torch.Tensor) -> Any:
                x, w = ctx.saved_tensors
                return Twice.apply(grad, w.t()), OfWeight.apply(x, grad)

        x, w = rows(gradient=True), square()
        once = reconciled(None, lambda: Twice.apply(x, w).sum().backward())
        assert split(once) == (F, F, F, 0)

        def penalty() -> None:
            y = Twice.apply(x, w)
            (grad,) = torch.autograd.grad(y.pow(2).sum(), x, create_graph=True)
            (y.sum() + grad.pow(2).sum()).backward()

        # The first backward: grad_x, and grad_w for nothing. The second: x and w of the product,
        # and both operands of the product that was grad_x.
        assert split(reconciled(None, penalty)) == (F, 3 * F, 2 * F, F)


class TestSeveralRunsOfANode:
    def test_three_gradients_of_one_graph(self) -> None:
        """A product of 2 * 4 * 8 * 8 = 512, differentiated three times for both operands."""
        x, w = torch.randn(4, 8, requires_grad=True), nn.Parameter(torch.randn(8, 8))

        def step() -> None:
            y = x @ w
            for _ in range(3):
                torch.autograd.grad(y, (x, w), torch.ones_like(y), retain_graph=True)

        assert split(reconciled(None, step)) == (512, 1536, 1536, 0)

    def test_each_asks_for_its_own(self) -> None:
        x, w = torch.randn(4, 8, requires_grad=True), nn.Parameter(torch.randn(8, 8))

        def step() -> None:
            y = x @ w
            torch.autograd.grad(y, x, torch.ones_like(y), retain_graph=True)
            torch.autograd.grad(y, w, torch.ones_like(y), retain_graph=True)
            torch.autograd.grad(y, (w, x), torch.ones_like(y), retain_graph=True)
            y.sum().backward()

        assert split(reconciled(None, step)) == (512, 3 * 512, 3 * 512, 0)

    def test_of_a_users_function(self) -> None:
        x, w = rows(gradient=True), square()

        def step() -> None:
            y = Product.apply(x, w)
            for _ in range(3):
                torch.autograd.grad(y, (x, w), torch.ones_like(y), retain_graph=True)

        assert split(reconciled(None, step)) == (F, 3 * F, 3 * F, 0)


class Quantized(torch.autograd.Function):
    """x @ w of whole numbers, each factor in steps of its scale; w may be whole numbers already.
    Gradients of what is to be had, as though nothing had been rounded."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x, w)
        scale = x.abs().max() / 127
        whole = (w if w.dtype is torch.int8 else (w * 127).round().to(torch.int8)).contiguous()
        return torch._int_mm((x / scale).round().to(torch.int8), whole) * (scale / 127)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        x, w = ctx.saved_tensors
        of_x = grad @ w.to(grad.dtype).t()
        return of_x, x.t() @ grad if ctx.needs_input_grad[1] else None


class TestProductsThatAutogradDoesNotKnow:
    """In a user's function each costs F for each operand that requires a gradient, as any does."""

    P = 2 * 32 * 16 * 16

    def test_of_whole_numbers(self) -> None:
        x, w = torch.randn(32, 16, requires_grad=True), nn.Parameter(torch.randn(16, 16))
        ledger = reconciled(None, lambda: Quantized.apply(x, w).sum().backward())
        assert split(ledger) == (self.P, self.P, self.P, 0)

    def test_of_frozen_whole_numbers(self) -> None:
        x, w = torch.randn(32, 16, requires_grad=True), torch.ones(16, 16, dtype=torch.int8)
        ledger = reconciled(nn.Identity(), lambda: Quantized.apply(x, w).sum().backward())
        assert split(ledger) == (self.P, self.P, 0, 0)

    def test_a_choice_by_a_product_has_no_gradient(self) -> None:
        class Chosen(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
                at = (x @ w).argmax(1)
                ctx.save_for_backward(at)
                return x.gather(1, at[:, None]).squeeze(1)

            @staticmethod
            def backward(ctx: Any, grad: torch.Tensor) -> Any:
                (at,) = ctx.saved_tensors
                return torch.zeros(8, 6).scatter(1, at[:, None], grad[:, None]), None

        x, w = rows(gradient=True), square()
        ledger = reconciled(None, lambda: Chosen.apply(x, w).sum().backward())
        assert split(ledger) == (F, 0, 0, 0)

    def test_nor_has_a_choice_among_the_factors_of_another(self) -> None:
        class ChosenFactor(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
                at = (x @ w).argmax(1).sort().values
                chosen = x.index_select(0, at)
                ctx.save_for_backward(at, chosen, w)
                return chosen @ w

            @staticmethod
            def backward(ctx: Any, grad: torch.Tensor) -> Any:
                at, chosen, w = ctx.saved_tensors
                return torch.zeros(8, 6).index_add(0, at, grad @ w.t()), chosen.t() @ grad

        x, w = rows(gradient=True), square()
        ledger = reconciled(None, lambda: ChosenFactor.apply(x, w).sum().backward())
        assert split(ledger) == (2 * F, F, F, 0)

    def test_eight_bit_numbers(self) -> None:
        if not hasattr(torch.ops.aten, "_scaled_mm"):
            pytest.skip("this torch has no _scaled_mm")

        class Scaled(Product):
            @staticmethod
            def forward(ctx: Any, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
                ctx.save_for_backward(x, w)
                a, b = x.to(torch.float8_e4m3fn), w.t().to(torch.float8_e4m3fn).contiguous()
                one = torch.ones(())
                return torch._scaled_mm(a, b.t(), one, one, out_dtype=torch.float32)

        x, w = torch.randn(32, 16, requires_grad=True), nn.Parameter(torch.randn(16, 16))
        ledger = reconciled(None, lambda: Scaled.apply(x, w).sum().backward())
        assert split(ledger) == (self.P, self.P, self.P, 0)
        frozen = reconciled(None, lambda: Scaled.apply(x.detach(), w).sum().backward())
        assert split(frozen) == (self.P, 0, self.P, self.P)

    def test_without_gradients_in_its_formula_is_not_compared(self) -> None:
        name = "flopratio_tests::product_of_a_user"

        @torch.library.custom_op(name, mutates_args=())
        def product(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
            return x @ w

        class Wrapped(Product):
            @staticmethod
            def forward(ctx: Any, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
                ctx.save_for_backward(x, w)
                return product(x, w)

        class StraightThrough(Wrapped):
            @staticmethod
            def backward(ctx: Any, grad: torch.Tensor) -> Any:
                return grad, None

        fr.register(name, lambda x, w, *, out: fr.Cost(flops=2 * out.numel * w.shape[0]))
        try:
            x, w = rows(gradient=True), square()
            ledger = profiled(None, lambda: Wrapped.apply(x, w).sum().backward())
            assert split(ledger)[0] == F
            assert ledger.reconciled is None
            assert ledger.why_not_compared == (
                "there is no formula for the gradients of flopratio_tests.product_of_a_user"
            )
            through = profiled(None, lambda: StraightThrough.apply(x, w).sum().backward())
            assert split(through) == (F, 0, 0, 0)
            assert through.reconciled is True
        finally:
            del OPERATORS["flopratio_tests.product_of_a_user"]
