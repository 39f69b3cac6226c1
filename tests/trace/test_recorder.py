"""The recorder's short ways give what the long ones give."""

import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any, ClassVar

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.checkpoint import checkpoint

import flopratio as fr
from flopratio import torch_private
from flopratio.measure.memory import record_allocations
from flopratio.trace import recorder
from flopratio.trace.recorder import Recorder
from flopratio.trace.recording import Recording


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(16)
        self.project = nn.Linear(16, 48)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key, value = self.project(self.norm(x)).view(2, 6, 3, 4, 4).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        return x + mixed.transpose(1, 2).reshape(2, 6, 16)


class Checkpointed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(16, 16)
        self.second = nn.Sequential(nn.Linear(16, 16), nn.GELU(), nn.Dropout())

    def forward(self, x: torch.Tensor) -> Any:
        return checkpoint(self.second, self.first(x), use_reentrant=False)


MODELS = {
    "attention": (Attention, (2, 6, 16)),
    "checkpoint": (Checkpointed, (4, 16)),
    "lstm": (lambda: nn.LSTM(16, 8), (5, 2, 16)),
    "convolution": (lambda: nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(True)),
                    (2, 3, 9, 9)),
}  # fmt: skip


def ledger_of(name: str) -> fr.Ledger:
    make, shape = MODELS[name]
    with FakeTensorMode():
        model, x = make(), torch.empty(shape)
        optimizer = torch.optim.AdamW(model.parameters())
        with fr.Profiler(model) as profiler:
            output = model(x)
            output = output[0] if isinstance(output, tuple) else output
            output.square().sum().backward()
            optimizer.step()
    return profiler.ledger


@pytest.mark.parametrize("name", MODELS)
def test_the_whole_ledger_is_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    short = ledger_of(name)
    monkeypatch.setattr(recorder, "CAN_CALL_DIRECTLY", False)
    monkeypatch.setattr(recorder, "CAN_DETACH_DIRECTLY", False)
    long = ledger_of(name)
    assert short.rows == long.rows
    assert short.memory == long.memory
    assert short.saved_mismatches == long.saved_mismatches == []


def test_they_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """On every torch that is tested, that is: they would be missed by nobody else."""
    assert torch_private.CAN_CALL_DIRECTLY
    assert torch_private.CAN_DETACH_DIRECTLY
    taken = []
    make = torch_private._make_subclass
    monkeypatch.setattr(
        torch_private, "_make_subclass", lambda *a, **k: taken.append(1) or make(*a, **k)
    )
    ledger_of("convolution")
    assert taken


@pytest.mark.parametrize("inside", [True, False])
def test_a_detached_fake_tensor_is_a_fresh_one(inside: bool) -> None:
    mode = FakeTensorMode()
    with mode:
        x = torch.empty(4, 6, requires_grad=True)
        base = (x * 2).t()[1:]
        plain = base.detach()
    detached = []
    for _ in range(2):  # of the first the attributes are learnt
        with Recorder(Recording()):
            if inside:
                with mode:
                    detached.append(base.detach())
            else:
                detached.append(base.detach())
    for tensor in detached:
        assert type(tensor) is type(plain)
        assert vars(tensor).keys() == vars(plain).keys()
        assert tensor.fake_mode is mode
        assert tensor.untyped_storage()._cdata == base.untyped_storage()._cdata
        assert tensor._version == base._version
        for name in ("shape", "dtype", "device", "layout", "requires_grad", "is_leaf"):
            assert getattr(tensor, name) == getattr(plain, name)
        assert (tensor.stride(), tensor.storage_offset()) == (
            plain.stride(),
            plain.storage_offset(),
        )


def test_the_fake_mode_stays_where_it_was_after_an_error() -> None:
    mode = FakeTensorMode()
    with mode, Recorder(Recording()):
        with pytest.raises(RuntimeError):
            torch.empty(2, 3) @ torch.empty(2, 3)
        assert type(torch.empty(2)).__name__ == "FakeTensor"


@pytest.fixture
def no_garbage_collection() -> Iterator[None]:
    """So that a cycle would stay."""
    gc.disable()
    yield
    gc.enable()


def is_let_go(make: Callable[[], torch.Tensor]) -> bool:
    """Whether the memory of a tensor goes with it."""
    tensor = make()
    storage = weakref.ref(tensor.untyped_storage())
    del tensor
    return storage() is None


class Doubled(torch.autograd.Function):
    """Keeps an operand, nothing, its result and a parameter; ``found`` is what backward gets."""

    found: ClassVar[list[Any]] = []

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
        y = x * 2
        ctx.save_for_backward(x, None, y, parameter)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        Doubled.found[:] = ctx.saved_tensors
        return gradients[0] * 2, None


def leaf() -> torch.Tensor:
    return torch.randn(6, 4, requires_grad=True)


def exponential() -> torch.Tensor:
    """Keeps its result."""
    return leaf().exp()


def in_place() -> torch.Tensor:
    return (leaf() * 1).exp_()


def in_place_on_a_view() -> torch.Tensor:
    buffer = leaf() * 1
    buffer[:, :2].exp_()
    return buffer


def of_a_function() -> torch.Tensor:
    return Doubled.apply(leaf(), leaf())


def of_a_gradient() -> torch.Tensor:
    """The graph of a differentiable backward."""
    x = leaf()
    (gradient,) = torch.autograd.grad(x.exp().tanh().sum(), x, create_graph=True)
    return gradient.sigmoid()


RESULTS = (exponential, in_place, in_place_on_a_view, of_a_function, of_a_gradient)


@pytest.mark.usefixtures("no_garbage_collection")
class TestWhatAutogradKeeps:
    """It is watched, and nothing is otherwise for that."""

    @pytest.mark.parametrize("make", RESULTS)
    def test_a_graph_without_a_backward_goes(self, make: Callable[[], torch.Tensor]) -> None:
        assert is_let_go(make)
        with fr.Profiler():
            assert is_let_go(make)

    @pytest.mark.parametrize("make", RESULTS)
    def test_also_on_fake_tensors(self, make: Callable[[], torch.Tensor]) -> None:
        with FakeTensorMode(), fr.Profiler():
            assert is_let_go(make)

    def test_no_memory_is_left(self) -> None:
        x = torch.randn(100, 100, requires_grad=True)

        def step() -> None:
            y = x.exp().sin()
            del y

        def watched() -> None:
            with fr.Profiler():
                step()

        watched()  # what is tried out once a process
        for run in (step, watched):
            assert sum(allocation.nbytes for allocation in record_allocations(run)) == 0

    @pytest.mark.parametrize("function", [torch.exp, torch.sin])
    @pytest.mark.parametrize("watches", [False, True])
    def test_a_write_to_it_is_an_error(
        self, function: Callable[[torch.Tensor], torch.Tensor], watches: bool
    ) -> None:
        """To a result, and to an operand."""
        with fr.Profiler() if watches else nullcontext():
            x = leaf() * 1
            y = function(x)
            (y if function is torch.exp else x).mul_(2)
            with pytest.raises(
                RuntimeError,
                match=r"modified by an inplace operation: \[torch.FloatTensor \[6, 4\]\].* is at "
                "version 1; expected version 0 instead",
            ):
                y.sum().backward()

    def test_a_write_where_it_was_written_before(self) -> None:
        with fr.Profiler():
            x = leaf() * 1
            x.mul_(2)
            y = x.sin()
            y.sum().backward()  # nothing after it was kept

    def test_derivatives_through_kept_results(self) -> None:
        def third(x: torch.Tensor) -> torch.Tensor:
            y = x.exp().tanh().sigmoid()
            for _ in range(2):
                (y,) = torch.autograd.grad(y, x, create_graph=True)
            return torch.autograd.grad(y, x)[0]

        x = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
        expected = third(x)
        with fr.Profiler():
            assert torch.equal(third(x), expected)

    @pytest.mark.parametrize("watches", [False, True])
    def test_a_function_finds_the_very_tensors(self, watches: bool) -> None:
        x, parameter = leaf() * 1, nn.Parameter(torch.randn(6, 4))
        parameter.main_grad = torch.zeros(6, 4)  # as Megatron attaches it
        with fr.Profiler() if watches else nullcontext():
            y = Doubled.apply(x, parameter)
            y.sum().backward()
        found = list(Doubled.found)
        Doubled.found.clear()
        assert found[0] is x
        assert found[1] is None
        assert torch.equal(found[2], y)
        assert found[2].grad_fn is y.grad_fn
        assert found[3] is parameter

    def test_a_function_s_under_hooks_of_its_own(self) -> None:
        x, parameter = leaf(), leaf()
        with (
            fr.Profiler(),
            torch.autograd.graph.saved_tensors_hooks(lambda kept: kept + 0, lambda kept: kept),
        ):
            Doubled.apply(x, parameter).sum().backward()
        assert torch.equal(Doubled.found[0], x)
        assert Doubled.found[0] is not x
        Doubled.found.clear()

    def test_a_backward_after_the_block(self) -> None:
        x = leaf()
        with fr.Profiler() as profiler:
            y = x.exp().sin()
        ledger = profiler.ledger
        y.sum().backward()
        assert torch.equal(x.grad, x.exp().cos() * x.exp())
        assert profiler.ledger is ledger


def test_the_results_of_a_fake_operator_are_apart() -> None:
    """The shape function of an LSTM's backward gives one tensor as the gradients of both biases;
    from torch's cache, and from oneDNN, they come apart."""
    assert torch_private.results_apart((None, None)) == (None, None)
    FakeTensorMode.cache_clear()
    first, second = ledger_of("lstm"), ledger_of("lstm")
    assert first.rows == second.rows
    assert first.memory == second.memory
    sizes = [b.nbytes for b in second.memory.blocks if b.category == "gradients"]
    assert sizes.count(4 * 8 * 4) == 2  # one of each bias
