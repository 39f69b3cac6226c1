"""Modules that somebody has built: copied whatever they hold, and left as they were."""

from __future__ import annotations

import copy
import threading
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

import flopratio as fr
from flopratio.models import ModelError
from flopratio.models.built import example_of


def test_parameters_and_buffers_are_fake_and_the_module_is_as_it_was() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    state = copy.deepcopy(model.state_dict())
    example = example_of(model, torch.randn(2, 3))
    tensors = [*example.module.parameters(), *example.module.buffers(), *example.args]
    assert all(isinstance(tensor, FakeTensor) for tensor in tensors)
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())


# -- tensors with a graph --------------------------------------------------------------------------


class Remembers(nn.Linear):
    """Holds its last outputs, as a cached loss is held."""

    def forward(self, x: Tensor) -> Tensor:
        output = super().forward(x)
        self.last, self.several, self.named = output, [output.sum()], {"loss": output.mean()}
        return output


@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated:FutureWarning")
@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.utils.weight_norm(nn.Linear(4, 4)),
        lambda: nn.utils.spectral_norm(nn.Linear(4, 4)),
        lambda: nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)),
        lambda: Remembers(4, 4),
    ],
    ids=["weight_norm", "spectral_norm", "parametrized", "remembers"],
)
def test_a_step_counts_the_same_before_and_after_a_real_one(make: Any) -> None:
    x = torch.randn(2, 4)
    fresh, used = (nn.Sequential(make(), nn.Linear(4, 2)) for _ in range(2))
    used(x)
    held = dict(vars(used[0]))
    counted = fr.count(used, x, optimizer="sgd")
    assert counted.rows == fr.count(fresh, x, optimizer="sgd").rows
    assert counted.reconciled
    assert dict(vars(used[0])) == held


class ComputedBefore(nn.Linear):
    def __init__(self, *, used: bool) -> None:
        super().__init__(4, 4)
        self.scaled, self.used = self.weight * 2, used

    def forward(self, x: Tensor) -> Tensor:
        output = super().forward(x)
        return output @ self.scaled if self.used else output


def test_a_loss_that_depends_on_what_was_computed_before_is_a_sentence() -> None:
    """What lies behind such a tensor is not copied, and would be missing in the count."""
    x = torch.randn(2, 4)
    assert fr.count(ComputedBefore(used=False), x).totals.forward == 2 * 2 * 4 * 4
    with pytest.raises(ModelError, match=r"holds 'scaled', computed before the step.*in forward"):
        fr.count(ComputedBefore(used=True), x)


def test_leaves_that_are_no_parameters_get_their_gradients() -> None:
    class Leaf(nn.Linear):
        def __init__(self) -> None:
            super().__init__(4, 4)
            self.other = torch.randn(4, 4, requires_grad=True)

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) @ self.other

    model = Leaf()
    ledger = fr.count(model, torch.randn(2, 4))
    # Two weights and the output between them, of 64 FLOP each.
    assert (ledger.totals.forward, ledger.totals.backward) == (2 * 64, 3 * 64)
    assert model.other.grad is None


def test_another_thread_copies_as_ever() -> None:
    """While a module is copied here, a tensor is copied there."""
    copies: list[Tensor] = []

    class Waits:
        def __deepcopy__(self, memo: Any) -> Waits:
            leaf = torch.ones(2, requires_grad=True)
            thread = threading.Thread(target=lambda: copies.append(copy.deepcopy(leaf)))
            thread.start()
            thread.join()
            return self

    model: Any = nn.Linear(2, 2)
    model.other = Waits()
    original = Tensor.__deepcopy__
    example_of(model, torch.randn(2, 2))
    assert copies[0].tolist() == [1.0, 1.0]
    assert Tensor.__deepcopy__ is original


# -- lazy layers -----------------------------------------------------------------------------------


def a_lazy_model() -> nn.Module:
    return nn.Sequential(
        nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3)
    )


def test_lazy_layers_take_their_sizes_from_the_batch() -> None:
    lazy = a_lazy_model()
    built = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)
    )
    x = torch.randn(2, 3, 8, 8)
    counted, expected = (fr.count(model, x, optimizer="adam") for model in (lazy, built))
    assert counted.rows == expected.rows
    assert counted.memory == expected.memory
    assert isinstance(lazy[4].weight, nn.UninitializedParameter)


def test_a_lazy_layer_without_parameters_takes_its_sizes_too() -> None:
    """Its statistics are lazy buffers, and there is nothing else."""
    lazy = nn.Sequential(nn.LazyBatchNorm2d(affine=False))
    built = nn.Sequential(nn.BatchNorm2d(3, affine=False))
    x = torch.randn(2, 3, 8, 8)
    counted, expected = (fr.count(model, x, input_grad=True) for model in (lazy, built))
    assert counted.rows == expected.rows
    assert counted.memory == expected.memory
    assert isinstance(lazy[0].running_mean, nn.UninitializedBuffer)


def test_a_lazy_model_whose_sizes_need_values_is_a_sentence() -> None:
    class Chooses(nn.Sequential):
        def forward(self, x: Tensor) -> Any:
            return super().forward(x if x.sum() > 0 else -x)

    with pytest.raises(ModelError, match=r"has lazy layers.*run it once on real inputs before"):
        fr.count(Chooses(nn.LazyLinear(3)), torch.randn(2, 4))


# -- classes that say themselves what their parameters are -----------------------------------------


class TrainsItsHead(nn.Sequential):
    def parameters(self) -> Any:
        return self[1].parameters()


class Groups(nn.Sequential):
    def parameters(self) -> Any:
        return [{"params": [self[0].weight], "lr": 0.1}, {"params": self[1].parameters()}]


class Names(nn.Sequential):
    def named_parameters(self) -> Any:
        return [("weight", self[0].weight)]

    def named_buffers(self) -> Any:
        return []


class Texts(nn.Sequential):
    def parameters(self) -> Any:
        return ["weight"]


@pytest.mark.parametrize(
    ("kind", "trained"), [(TrainsItsHead, 10), (Groups, 16 + 10), (Names, 30), (nn.Sequential, 30)]
)
def test_an_optimizer_gets_what_parameters_gives_and_all_else_counts(
    kind: type[nn.Sequential], trained: int
) -> None:
    model = kind(nn.Linear(4, 4), nn.Linear(4, 2))
    ledger = fr.count(model, torch.randn(2, 4), loss="sum", optimizer="sgd")
    assert ledger.totals.update == 2 * trained
    assert ledger.memory["parameters"] == 4 * 30
    assert (ledger.totals.forward, ledger.totals.backward) == (96, 64 + 2 * 32)
    frozen = fr.count(model, torch.randn(2, 4), loss="sum", freeze="0.*")
    assert frozen.totals.backward == 32
    with fr.Profiler(model) as profiler:
        model(torch.randn(2, 4)).sum().backward()
    assert profiler.ledger.memory["parameters"] == 4 * 30


def test_parameters_that_are_no_tensors_are_a_sentence() -> None:
    model = Texts(nn.Linear(4, 4))
    assert fr.count(model, torch.randn(2, 4)).totals.forward == 64
    with pytest.raises(fr.UsageError, match=r"Texts.parameters\(\).*should give tensors or groups"):
        fr.count(model, torch.randn(2, 4), optimizer="sgd")
