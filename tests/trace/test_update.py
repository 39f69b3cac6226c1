"""The update of a step, as optimizers run it and as people write it out: each figure beside its
arithmetic. What is forward and backward stays so, wherever it is called from."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

import flopratio as fr

ROWS = 8
FIRST = 2 * ROWS * 4 * 6
SECOND = 2 * ROWS * 6 * 6
PARAMETERS = 4 * 6 + 6 + 6 * 6 + 6
"""Of both layers: 72."""


class Two(nn.Module):
    """Two linear layers, 4 -> 6 -> 6, with a functional ReLU between them."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 6)
        self.second = nn.Linear(6, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(functional.relu(self.first(x)))


@pytest.fixture
def model() -> Two:
    return Two()


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(ROWS, 4)


def profiled(model: nn.Module | None, step: Callable[[], Any], **options: Any) -> fr.Ledger:
    with fr.Profiler(model, **options) as profiler:
        step()
    ledger = profiler.ledger
    assert ledger.mismatches == []
    assert ledger.uncounted_ops == {}
    return ledger


def products(ledger: fr.Ledger) -> tuple[int, int, int]:
    total = ledger.totals
    return total.forward, total.grad_input, total.grad_weight


ONE_PASS = (FIRST + SECOND, SECOND, FIRST + SECOND)
"""Forward, gradients of inputs and of weights of one forward and backward."""
FORWARD_ELEMENTWISE = 6 * ROWS + 6 * ROWS + 6 * ROWS + 6 * ROWS
"""Two biases, the ReLU and the sum."""


def times(factor: int) -> tuple[int, int, int]:
    forward, grad_input, grad_weight = ONE_PASS
    return factor * forward, factor * grad_input, factor * grad_weight


class TestClosures:
    """Forward and backward inside of ``optimizer.step(closure)`` are what they are."""

    def closure(
        self, model: nn.Module, x: torch.Tensor, optimizer: torch.optim.Optimizer
    ) -> Callable[[], torch.Tensor]:
        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            loss = model(x).sum()
            loss.backward()
            return loss

        return closure

    def test_as_lightning_calls_it(self, model: Two, x: torch.Tensor) -> None:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, foreach=False)
        closure = self.closure(model, x, optimizer)
        ledger = profiled(model, lambda: optimizer.step(closure=closure))
        assert products(ledger) == ONE_PASS
        assert ledger.totals.update == 2 * PARAMETERS
        assert ledger.totals.elementwise_forward == FORWARD_ELEMENTWISE
        layers = {layer.name: layer for layer in ledger.layers()}
        assert (layers["first"].ratio, layers["second"].ratio) == (1.0, 2.0)
        assert layers["second"].update == 2 * (36 + 6)

    @pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad")
    def test_lbfgs_calls_it_several_times(self, model: Two, x: torch.Tensor) -> None:
        calls = []
        optimizer = torch.optim.LBFGS(model.parameters(), max_iter=3, tolerance_change=0)
        closure = self.closure(model, x, optimizer)

        def counted() -> torch.Tensor:
            calls.append(1)
            return closure()

        ledger = profiled(model, lambda: optimizer.step(counted))
        assert len(calls) == 3
        assert products(ledger) == times(3)
        assert ledger.totals.elementwise_forward == 3 * FORWARD_ELEMENTWISE
        assert ledger.totals.update > 0

    def test_a_scheduler_of_the_learning_rate(self, model: Two, x: torch.Tensor) -> None:
        """It replaces the optimizer's ``step`` by one of its own."""
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, foreach=False)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
        closure = self.closure(model, x, optimizer)

        def step() -> None:
            optimizer.step(closure)
            scheduler.step()
            model(x)

        ledger = profiled(model, step)
        assert products(ledger) == (2 * ONE_PASS[0], *ONE_PASS[1:])
        assert ledger.totals.update == 2 * PARAMETERS

    def test_an_optimizer_that_keeps_the_closure(self, model: Two, x: torch.Tensor) -> None:
        class Keeps(torch.optim.SGD):
            kept: Callable[[], torch.Tensor]

            @torch.no_grad()
            def step(self, closure: Any = None) -> None:
                with torch.enable_grad():
                    self.kept()
                super().step()

        optimizer = Keeps(model.parameters(), lr=0.1, foreach=False)
        optimizer.kept = self.closure(model, x, optimizer)
        ledger = profiled(model, optimizer.step)
        assert products(ledger) == ONE_PASS
        assert ledger.totals.update == 2 * PARAMETERS
        assert ledger.totals.elementwise_forward == FORWARD_ELEMENTWISE

    def test_a_sharpness_aware_step(self, model: Two, x: torch.Tensor) -> None:
        """Up the gradient, forward and backward there, back again and down."""
        optimizer = SharpnessAware(model.parameters(), lr=0.1)
        closure = self.closure(model, x, optimizer)

        def step() -> None:
            closure()
            optimizer.step(closure)

        ledger = profiled(model, step)
        assert products(ledger) == times(2)
        assert ledger.totals.update == SHARPNESS_AWARE

    def test_a_sharpness_aware_step_by_its_two_halves(self, model: Two, x: torch.Tensor) -> None:
        optimizer = SharpnessAware(model.parameters(), lr=0.1)
        closure = self.closure(model, x, optimizer)

        def step() -> None:
            closure()
            optimizer.first_step()
            closure()
            optimizer.second_step()

        ledger = profiled(model, step)
        assert products(ledger) == times(2)
        assert ledger.totals.update == SHARPNESS_AWARE

    def test_a_step_that_raises_leaves_no_trace(self, model: Two, x: torch.Tensor) -> None:
        class Raises(torch.optim.SGD):
            def step(self, closure: Any = None) -> None:
                super().step()
                raise ZeroDivisionError

        optimizer = Raises(model.parameters(), lr=0.1, foreach=False)

        def step() -> None:
            with pytest.raises(ZeroDivisionError) as kept:
                optimizer.step()
            model(x).sum().backward()
            assert kept.value is not None  # nor does it matter that the error lives on

        ledger = profiled(model, step)
        assert products(ledger) == ONE_PASS
        assert ledger.totals.update == 0  # there was no gradient yet

    def test_a_closure_that_raises_leaves_no_trace(self, model: Two, x: torch.Tensor) -> None:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, foreach=False)

        def closure() -> torch.Tensor:
            model(x).sum().backward()
            raise ZeroDivisionError

        def step() -> None:
            with pytest.raises(ZeroDivisionError):
                optimizer.step(closure)
            (model(x) * 2).sum().backward()
            optimizer.step()

        ledger = profiled(model, step)
        assert products(ledger) == times(2)
        assert ledger.totals.update == 2 * PARAMETERS
        assert ledger.totals.elementwise_forward == 2 * FORWARD_ELEMENTWISE + 6 * ROWS

    def test_a_step_in_the_backward(self, model: Two, x: torch.Tensor) -> None:
        """Hooks that update a parameter as soon as its gradient is there."""
        for parameter in model.parameters():
            optimizer = torch.optim.SGD([parameter], lr=0.1, foreach=False)
            parameter.register_post_accumulate_grad_hook(
                lambda _, optimizer=optimizer: optimizer.step()
            )
        ledger = profiled(model, lambda: model(x).sum().backward())
        assert products(ledger) == ONE_PASS
        assert ledger.totals.update == 2 * PARAMETERS

    def test_a_model_s_forward_is_no_update(self, model: Two, x: torch.Tensor) -> None:
        """An optimizer that looks at the loss itself."""

        class Looks(torch.optim.SGD):
            @torch.no_grad()
            def step(self, closure: Any = None) -> None:
                super().step()
                model(x)

        optimizer = Looks(model.parameters(), lr=0.1, foreach=False)

        def step() -> None:
            model(x).sum().backward()
            optimizer.step()

        ledger = profiled(model, step)
        assert products(ledger) == (2 * ONE_PASS[0], *ONE_PASS[1:])
        assert ledger.totals.update == 2 * PARAMETERS


SHARPNESS_AWARE = 7 * PARAMETERS + 4 + (2 * 4 + 1) + 3
"""Of each gradient its square and an addition for the norm, times the scale, p + e, p - e, and
SGD's 2; 4 roots; the norm of the 4 norms; + 1e-12, a reciprocal and its product with 0.05."""


class SharpnessAware(torch.optim.SGD):
    """After Foret et al., 2021."""

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float) -> None:
        super().__init__(parameters, lr=lr, foreach=False)

    def parameters(self) -> list[nn.Parameter]:
        return [p for group in self.param_groups for p in group["params"]]

    @torch.no_grad()
    def first_step(self) -> None:
        norm = torch.norm(torch.stack([p.grad.norm() for p in self.parameters()]))
        scale = 0.05 / (norm + 1e-12)
        for p in self.parameters():
            self.state[p]["uphill"] = p.grad * scale
            p.add_(self.state[p]["uphill"])

    @torch.no_grad()
    def second_step(self) -> None:
        for p in self.parameters():
            p.sub_(self.state[p]["uphill"])
        super().step()

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        closure = torch.enable_grad()(closure)
        self.first_step()
        closure()
        self.second_step()


def written_out(model: nn.Module, x: torch.Tensor, update: Callable[[], Any]) -> fr.Ledger:
    """The ledger of forward, backward and an update that is written out."""

    def step() -> None:
        model(x).sum().backward()
        update()

    ledger = profiled(model, step)
    assert products(ledger) == ONE_PASS
    assert ledger.totals.elementwise_forward == FORWARD_ELEMENTWISE
    return ledger


class TestWrittenOut:
    """Updates without an optimizer, and beside one."""

    def test_in_place_under_no_grad(self, model: Two, x: torch.Tensor) -> None:
        @torch.no_grad()
        def update() -> None:
            for p in model.parameters():
                p -= 0.1 * p.grad

        ledger = written_out(model, x, update)
        assert ledger.totals.update == 2 * PARAMETERS
        assert {layer.name: layer.update for layer in ledger.layers() if layer.update} == {
            "first": 2 * (24 + 6),
            "second": 2 * (36 + 6),
        }

    def test_on_data(self, model: Two, x: torch.Tensor) -> None:
        def update() -> None:
            for p in model.parameters():
                p.data.add_(p.grad, alpha=-0.1)

        assert written_out(model, x, update).totals.update == 2 * PARAMETERS

    def test_copied_into(self, model: Two, x: torch.Tensor) -> None:
        @torch.no_grad()
        def update() -> None:
            for p in model.parameters():
                p.copy_(p - 0.1 * p.grad)

        assert written_out(model, x, update).totals.update == 2 * PARAMETERS

    def test_other_data_in_its_place(self, model: Two, x: torch.Tensor) -> None:
        """The parameter has another storage from then on, and is a parameter still."""

        def step() -> None:
            for _ in range(2):
                model(x).sum().backward()
                for p in model.parameters():
                    p.data = p.data - 0.1 * p.grad
                    p.grad = None

        ledger = profiled(model, step)
        assert products(ledger) == times(2)
        assert ledger.totals.update == 2 * 2 * PARAMETERS
        assert ledger.totals.parameters == PARAMETERS
        # All of them, and the largest for a second time while it is replaced.
        assert ledger.memory.parameters == 4 * (PARAMETERS + 36)
        assert ledger.memory.gradients == 4 * PARAMETERS
        # x and first's output after the ReLU, of one pass; no weight.
        assert ledger.memory.saved_activations == 4 * ROWS * (4 + 6)

    def test_a_leaf_made_anew(self, x: torch.Tensor) -> None:
        weight = torch.randn(4, 6, requires_grad=True)

        def step() -> None:
            nonlocal weight
            for _ in range(3):
                (x @ weight).sum().backward()
                assert weight.grad is not None
                weight = (weight - 0.1 * weight.grad).detach().requires_grad_()

        ledger = profiled(None, step)
        assert products(ledger) == (3 * FIRST, 0, 3 * FIRST)
        assert ledger.totals.update == 3 * 2 * 24
        assert ledger.totals.elementwise_forward == 3 * 6 * ROWS
        assert ledger.totals.parameters == 24

    def test_momentum_that_was_there_before(self, model: Two, x: torch.Tensor) -> None:
        momenta = [torch.zeros_like(p) for p in model.parameters()]

        @torch.no_grad()
        def update() -> None:
            for p, m in zip(model.parameters(), momenta, strict=True):
                m.mul_(0.9)
                m.add_(p.grad)
                p.add_(m, alpha=-0.1)

        ledger = written_out(model, x, update)
        # As fr.count's momentum: mu b, + g, and 2 for the step.
        assert ledger.totals.update == 4 * PARAMETERS
        assert {layer.name: layer.update for layer in ledger.layers() if layer.update} == {
            "first": 4 * (24 + 6),
            "second": 4 * (36 + 6),
        }

    def test_adam_with_a_counter_and_a_rate_in_tensors(self, model: Two, x: torch.Tensor) -> None:
        states = [(torch.zeros_like(p), torch.zeros_like(p)) for p in model.parameters()]
        steps = torch.zeros(())

        @torch.no_grad()
        def update() -> None:
            steps.add_(1)
            correction = 1 - 0.9**steps
            for p, (m, v) in zip(model.parameters(), states, strict=True):
                m.lerp_(p.grad, 0.1)
                v.mul_(0.99).addcmul_(p.grad, p.grad, value=0.01)
                p.sub_(0.1 * (m / correction) / (v.sqrt() + 1e-8))

        # A step, a power and a difference; 3 for m, 4 for v, a quotient, a product, a root, an
        # addition, a quotient and a difference.
        assert written_out(model, x, update).totals.update == 3 + 13 * PARAMETERS

    def test_an_optimizer_of_no_class_of_torch(self, model: Two, x: torch.Tensor) -> None:
        class Plain:
            def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
                self.parameters = list(parameters)

            def step(self, closure: Callable[[], torch.Tensor]) -> None:
                closure()
                for p in self.parameters:
                    assert p.grad is not None
                    p.data = torch.add(p.data, p.grad.data, alpha=-0.1)

            def zero_grad(self) -> None:
                for p in self.parameters:
                    if p.grad is not None:
                        p.grad.detach_().zero_()

        optimizer = Plain(model.parameters())

        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            loss = model(x).sum()
            loss.backward()
            return loss

        ledger = profiled(model, lambda: optimizer.step(closure))
        assert products(ledger) == ONE_PASS
        assert ledger.totals.update == 2 * PARAMETERS

    def test_one_that_wraps_another(self, model: Two, x: torch.Tensor) -> None:
        """Zhang et al., 2019: slow weights look ahead every so many steps."""

        class Lookahead:
            def __init__(self, fast: torch.optim.Optimizer) -> None:
                self.fast = fast
                self.slow = [p.detach().clone() for p in model.parameters()]

            def step(self) -> None:
                self.fast.step()
                for slow, p in zip(self.slow, model.parameters(), strict=True):
                    slow.add_(0.5 * (p.data - slow))
                    p.data.copy_(slow)

        optimizer = Lookahead(torch.optim.SGD(model.parameters(), lr=0.1, foreach=False))
        assert written_out(model, x, optimizer.step).totals.update == (2 + 3) * PARAMETERS

    def test_gradients_that_were_there_before(self, model: Two, x: torch.Tensor) -> None:
        model(x).sum().backward()

        @torch.no_grad()
        def update() -> None:
            for p in model.parameters():
                p -= 0.1 * p.grad
                p.grad = None

        ledger = profiled(model, update)
        assert products(ledger) == (0, 0, 0)
        assert (ledger.totals.update, ledger.totals.elementwise_forward) == (2 * PARAMETERS, 0)

    def test_as_soon_as_the_gradient_is_there(self, model: Two, x: torch.Tensor) -> None:
        """A hook that steps and forgets the gradient (Lv et al., 2023)."""

        @torch.no_grad()
        def hook(p: torch.Tensor) -> None:
            p -= 0.1 * p.grad
            p.grad = None

        for p in model.parameters():
            p.register_post_accumulate_grad_hook(hook)
        ledger = profiled(model, lambda: model(x).sum().backward())
        assert products(ledger) == ONE_PASS
        assert ledger.totals.update == 2 * PARAMETERS
        # Those of the second layer at once, and not 0.1 times them.
        assert ledger.memory.gradients == 4 * (36 + 6)

    @pytest.mark.parametrize("foreach", [True, False])
    def test_clipping_by_the_norm(self, foreach: bool, model: Two, x: torch.Tensor) -> None:
        def update() -> None:
            nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=foreach)

        ledger = written_out(model, x, update)
        # A square and an addition, and the scaling; the roots of 4 norms, the norm of these, then
        # + 1e-6, a reciprocal, its product with 1.0, and a clamp.
        assert ledger.totals.update == 3 * PARAMETERS + 4 + (2 * 4 + 1) + 4

    def test_clipping_by_value_and_by_hand(self, model: Two, x: torch.Tensor) -> None:
        def update() -> None:
            nn.utils.clip_grad_value_(model.parameters(), 1.0, foreach=False)
            for p in model.parameters():
                p.grad.clamp_(-0.5, 0.5)
                p.grad /= 4  # micro-batches
                p.grad.zero_()

        by_value = 2  # a clamp on each side
        assert written_out(model, x, update).totals.update == (by_value + 2 + 1) * PARAMETERS

    def test_an_average_of_the_weights(self, model: Two, x: torch.Tensor) -> None:
        average = copy.deepcopy(model)

        @torch.no_grad()
        def update() -> None:
            for mine, p in zip(average.parameters(), model.parameters(), strict=True):
                mine.mul_(0.99).add_(p, alpha=0.01)

        assert written_out(model, x, update).totals.update == 3 * PARAMETERS

    def test_an_average_on_data(self, model: Two, x: torch.Tensor) -> None:
        """Of another model that does not run."""
        average = copy.deepcopy(model)

        def update() -> None:
            for mine, p in zip(average.parameters(), model.parameters(), strict=True):
                mine.data.mul_(0.99).add_(p.data, alpha=0.01)

        assert written_out(model, x, update).totals.update == 3 * PARAMETERS

    def test_an_average_in_tensors_of_its_own(self, model: Two, x: torch.Tensor) -> None:
        shadow = {name: p.detach().clone() for name, p in model.named_parameters()}

        def update() -> None:
            for name, p in model.named_parameters():
                shadow[name] = 0.99 * shadow[name] + 0.01 * p.data

        ledger = written_out(model, x, update)
        assert ledger.totals.update == 3 * PARAMETERS

    def test_an_average_of_a_target_that_runs(self, model: Two, x: torch.Tensor) -> None:
        target = copy.deepcopy(model)

        def update() -> None:
            for mine, p in zip(target.parameters(), model.parameters(), strict=True):
                mine.data = 0.99 * mine.data + 0.01 * p.data

        def step() -> None:
            for _ in range(2):
                with torch.no_grad():
                    target(x)
                model(x).sum().backward()
                update()

        ledger = profiled(model, step)
        assert products(ledger) == (2 * 2 * ONE_PASS[0], *times(2)[1:])
        assert ledger.totals.update == 2 * 3 * PARAMETERS

    def test_an_average_alone(self, model: Two, x: torch.Tensor) -> None:
        average = copy.deepcopy(model)

        @torch.no_grad()
        def update() -> None:
            for mine, p in zip(average.parameters(), model.parameters(), strict=True):
                mine.lerp_(p, 0.01)

        ledger = profiled(model, update)
        assert (ledger.totals.update, ledger.totals.elementwise_forward) == (3 * PARAMETERS, 0)

    def test_an_average_made_anew(self, model: Two, x: torch.Tensor) -> None:
        average = copy.deepcopy(model)

        @torch.no_grad()
        def update() -> None:
            for mine, p in zip(average.parameters(), model.parameters(), strict=True):
                mine.copy_(0.99 * mine + 0.01 * p)

        assert written_out(model, x, update).totals.update == 3 * PARAMETERS

    def test_an_average_of_torch(self, model: Two, x: torch.Tensor) -> None:
        average = torch.optim.swa_utils.AveragedModel(
            model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.99)
        )
        average.update_parameters(model)  # the first one copies

        def step() -> None:
            model(x).sum().backward()
            average.update_parameters(model)

        ledger = profiled(model, step)
        assert products(ledger) == ONE_PASS
        assert ledger.totals.update == 3 * PARAMETERS
        # Its counter: a number that nothing ties to the weights is looked at, in older versions for
        # each of the four, and counts one more.
        assert 0 < ledger.totals.elementwise_forward - FORWARD_ELEMENTWISE <= 6

    def test_a_scaler_of_gradients(self, model: Two, x: torch.Tensor) -> None:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, foreach=False)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
        scaler.scale(torch.ones(()))  # makes its tensors

        def step() -> None:
            scaler.scale(model(x).sum()).backward()
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_value_(model.parameters(), 1.0, foreach=False)
            scaler.step(optimizer)

        ledger = profiled(model, step)
        assert products(ledger) == ONE_PASS
        assert ledger.totals.elementwise_forward == FORWARD_ELEMENTWISE + 1
        # 2 to unscale, 2 to clip, 2 of SGD; the reciprocal of the scale.
        assert ledger.totals.update == 6 * PARAMETERS + 1

    def test_weights_are_clipped(self, model: Two, x: torch.Tensor) -> None:
        def update() -> None:
            for p in model.parameters():
                p.data.clamp_(-0.01, 0.01)

        assert written_out(model, x, update).totals.update == 2 * PARAMETERS


class TestWhatIsForward:
    """Outside of modules and without a graph, but not for the update."""

    def test_an_evaluation_by_hand(self, x: torch.Tensor) -> None:
        weight = torch.randn(4, 6, requires_grad=True)

        def step() -> None:
            (x @ weight).sum().backward()
            with torch.no_grad():
                weight.sub_(0.1 * weight.grad)
                (x @ weight).relu().mean()

        ledger = profiled(None, step)
        assert products(ledger) == (2 * FIRST, 0, FIRST)
        assert ledger.totals.update == 2 * 24
        # The sum of the loss; the ReLU and the mean.
        assert ledger.totals.elementwise_forward == 6 * ROWS + 6 * ROWS + 6 * ROWS + 1

    def test_a_forward_with_merged_weights(self, x: torch.Tensor) -> None:
        """A product of weights that the forward reads; adapters are merged so."""
        weight, down, up = (nn.Parameter(torch.randn(*s)) for s in ((4, 6), (4, 2), (2, 6)))

        @torch.no_grad()
        def step() -> None:
            x @ (weight + down @ up)

        ledger = profiled(None, step)
        assert products(ledger) == (2 * 4 * 2 * 6 + FIRST, 0, 0)
        assert (ledger.totals.update, ledger.totals.elementwise_forward) == (0, 24)

    def test_weights_that_are_merged_for_a_look(self, model: Two, x: torch.Tensor) -> None:
        down, up = torch.randn(2, 4), torch.randn(6, 2)

        def step() -> None:
            before = model.first.weight.detach().clone()
            with torch.no_grad():
                model.first.weight += up @ down
                model(x)
                model.first.weight.copy_(before)
            model(x).sum().backward()

        ledger = profiled(model, step)
        assert products(ledger) == (2 * 6 * 2 * 4 + 2 * ONE_PASS[0], *ONE_PASS[1:])
        assert ledger.totals.update == 0

    def test_a_teacher_and_what_is_logged(self, model: Two, x: torch.Tensor) -> None:
        teacher, total = copy.deepcopy(model), torch.zeros(())

        def step() -> None:
            with torch.no_grad():
                wanted = teacher(x) / 2
            loss = (model(x) - wanted).sum()
            loss.backward()
            total.add_(loss.detach())
            (wanted > 0).float().mean()
            with torch.no_grad():
                for p in model.parameters():
                    p -= 0.1 * p.grad

        ledger = profiled(model, step)
        assert products(ledger) == (2 * ONE_PASS[0], *ONE_PASS[1:])
        assert ledger.totals.update == 2 * PARAMETERS

    def test_a_penalty_on_the_weights(self, model: Two, x: torch.Tensor) -> None:
        def step() -> None:
            loss = model(x).sum()
            for p in model.parameters():
                loss = loss + p.pow(2).sum()
            loss.backward()

        ledger = profiled(model, step)
        assert products(ledger) == ONE_PASS
        assert ledger.totals.update == 0
        assert ledger.totals.elementwise_forward == FORWARD_ELEMENTWISE + 2 * PARAMETERS + 4

    def test_weights_that_are_made_in_the_block(self, x: torch.Tensor) -> None:
        def step() -> None:
            model = Two()
            with torch.no_grad():
                nn.init.xavier_uniform_(model.first.weight).mul_(2)
            model(x).sum().backward()

        assert profiled(None, step).totals.update == 0

    def test_a_step_taken_inside_of_the_graph(self, model: Two, x: torch.Tensor) -> None:
        """The inner step of MAML is differentiated, and so forward."""
        weight = nn.Parameter(torch.randn(4, 6))

        def step() -> None:
            (grad,) = torch.autograd.grad((x @ weight).pow(2).sum(), weight, create_graph=True)
            (x @ (weight - 0.1 * grad)).sum().backward()

        with fr.Profiler() as profiler:
            step()
        assert profiler.ledger.totals.update == 0


class TestOperators:
    """What an optimizer may call."""

    def step_of(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, ids: torch.Tensor
    ) -> fr.Ledger:
        def step() -> None:
            model(ids).sum().backward()
            optimizer.step()

        with fr.Profiler(model) as profiler:
            step()
        assert profiler.ledger.mismatches == []
        return profiler.ledger

    @pytest.mark.filterwarnings("ignore:Sparse invariant")
    @pytest.mark.parametrize("kind", [torch.optim.SparseAdam, torch.optim.Adagrad, torch.optim.SGD])
    def test_on_sparse_gradients(self, kind: Any) -> None:
        model = nn.Embedding(10, 4, sparse=True)
        optimizer = kind(model.parameters(), lr=0.1)
        ledger = self.step_of(model, optimizer, torch.tensor([1, 3, 3]))
        assert {row.phase for row in ledger.rows if row.op == "aten._coalesce"} <= {"update"}
        assert ledger.totals.update > 0
        assert ledger.totals.elementwise_forward == 3 * 4  # the sum

    @pytest.mark.parametrize(
        "make", [lambda: torch.eye(3), lambda: torch.arange(3), lambda: torch.full((3,), 1.0)]
    )
    def test_tensors_made_from_numbers(
        self, make: Callable[[], torch.Tensor], model: Two, x: torch.Tensor
    ) -> None:
        class Makes(torch.optim.SGD):
            def step(self, closure: Any = None) -> None:
                make()
                closure()
                super().step()

        optimizer = Makes(model.parameters(), lr=0.1, foreach=False)

        def closure() -> torch.Tensor:
            make()
            loss = model(x).sum()
            loss.backward()
            return loss

        ledger = profiled(model, lambda: optimizer.step(closure))
        assert products(ledger) == ONE_PASS
        assert ledger.totals.update == 2 * PARAMETERS

    def test_a_preconditioner(self, model: Two, x: torch.Tensor) -> None:
        """Products in an update (Gupta et al., 2018) are no backward."""

        class Preconditioned(torch.optim.SGD):
            @torch.no_grad()
            def step(self, closure: Any = None) -> None:
                for p in self.param_groups[0]["params"]:
                    if p.grad.dim() == 2:
                        left = torch.eye(len(p)) + p.grad @ p.grad.t()
                        p.grad.copy_(left @ p.grad)
                super().step()

        optimizer = Preconditioned(model.parameters(), lr=0.1, foreach=False)
        ledger = written_out(model, x, optimizer.step)
        first, second = 2 * (2 * 6 * 4 * 6) + 36, 2 * (2 * 6 * 6 * 6) + 36
        assert ledger.totals.update == first + second + 2 * PARAMETERS

    @pytest.mark.parametrize("foreach", [True, False])
    def test_bytes_written(self, foreach: bool, model: Two, x: torch.Tensor) -> None:
        """An in-place operator on lists returns nothing; what it writes are the parameters."""
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, foreach=foreach)
        ledger = written_out(model, x, optimizer.step)
        rows = [row for row in ledger.rows if row.phase == "update"]
        assert sum(row.bytes_read for row in rows) == 2 * 4 * PARAMETERS
        assert sum(row.bytes_written for row in rows) == 4 * PARAMETERS
        assert {row.layer for row in rows} == {"first", "second"}

    def test_bytes_written_by_a_fused_update(self, model: Two, x: torch.Tensor) -> None:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, fused=True)
        ledger = written_out(model, x, optimizer.step)
        rows = [row for row in ledger.rows if row.phase == "update"]
        # By its schema it writes to the gradients too: a scaler's factor goes out of them.
        assert sum(row.bytes_written for row in rows) == 2 * 4 * PARAMETERS


def test_what_a_backward_ends_with_is_no_update() -> None:
    """Gradients are divided when all nodes have run, as a sharded model's are summed over ranks
    then; clipping by hand after it is the update's."""
    model = nn.Linear(4, 3)
    x = torch.randn(2, 4, requires_grad=True)

    class DividedAtTheEnd(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            return x.view_as(x)

        @staticmethod
        def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
            def divide() -> None:
                model.weight.grad.div_(2)

            torch.autograd.Variable._execution_engine.queue_callback(divide)
            return grad

    with fr.Profiler(model) as profiler:
        model(DividedAtTheEnd.apply(x)).sum().backward()
        with torch.no_grad():
            model.weight -= 0.1 * model.weight.grad
    ledger = profiler.ledger
    (row,) = [row for row in ledger.rows if row.op == "aten.div_"]
    assert (row.phase, row.layer, row.elementwise) == ("grad_weight", "", 12)
    assert ledger.totals.update == 12 + 12
    assert ledger.reconciled is True
