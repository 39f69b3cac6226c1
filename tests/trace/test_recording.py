"""A recording is plain data: it can be kept, sent and worked out elsewhere."""

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import flopratio as fr
from flopratio.trace.reconcile import reconcile
from flopratio.trace.recording import Operator, Recording


@pytest.fixture
def recording() -> Recording:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
    optimizer = torch.optim.AdamW(model.parameters())
    with fr.Profiler(model) as profiler:
        model(torch.randn(2, 3, 8, 8)).square().sum().backward()
        optimizer.step()
    return profiler.recording


def test_a_pickled_one_gives_the_same_ledger(recording: Recording) -> None:
    again = pickle.loads(pickle.dumps(recording))
    assert reconcile(again) == reconcile(recording)
    assert reconcile(again).memory == reconcile(recording).memory


def test_another_process_gives_the_same_ledger(recording: Recording, tmp_path: Path) -> None:
    (tmp_path / "recording").write_bytes(pickle.dumps(recording))
    code = """
import pickle, sys
from flopratio.trace.reconcile import reconcile
print(reconcile(pickle.load(open(sys.argv[1], "rb"))).to_json())
"""
    command = [sys.executable, "-c", code, str(tmp_path / "recording")]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert fr.Ledger.from_json(printed).rows == reconcile(recording).rows


def test_equal_operators_are_one_object(recording: Recording) -> None:
    again = pickle.loads(pickle.dumps(recording))
    for ours, theirs in zip(recording.records, again.records, strict=True):
        assert isinstance(ours.op, Operator)
        assert ours.op is theirs.op


def test_what_is_no_plain_value_is_noted_by_its_name() -> None:
    """A process group can neither be pickled nor compared."""
    dist = pytest.importorskip("torch.distributed")
    store = pytest.importorskip("torch.testing._internal.distributed.fake_pg").FakeStore()
    if dist.is_initialized():
        dist.destroy_process_group()
    dist.init_process_group("fake", store=store, rank=0, world_size=2)
    try:
        with fr.Profiler() as profiler:
            for _ in range(2):
                dist.all_reduce(torch.ones(3))
                torch.rand(3, generator=torch.Generator(), layout=torch.strided)
    finally:
        dist.destroy_process_group()
    reduced = [each for each in profiler.recording.records if each.op.name == "c10d.allreduce_"]
    assert len(reduced) == 2
    assert reduced[0].arguments == reduced[1].arguments
    again = pickle.loads(pickle.dumps(profiler.recording))
    assert again.records == profiler.recording.records


def test_it_refers_to_no_tensor_and_no_module(recording: Recording) -> None:
    seen: set[int] = set()

    def look(value: Any) -> None:
        assert not isinstance(value, torch.Tensor | nn.Module)
        assert not callable(value) or isinstance(value, type)
        if id(value) in seen:
            return
        seen.add(id(value))
        if isinstance(value, dict):
            look(list(value.items()))
        elif isinstance(value, list | tuple | set):
            for item in value:
                look(item)
        else:
            look(dict(getattr(value, "__dict__", {})))

    for value in vars(recording).values():
        look(value)
