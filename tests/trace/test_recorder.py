"""The recorder's short ways give what the long ones give."""

from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.checkpoint import checkpoint

import flopratio as fr
from flopratio import torch_private
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
    ledger_of(name)  # some operators of fake tensors run otherwise for the first time
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
