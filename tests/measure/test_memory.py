"""The CPU's memory, measured: by hand for moves that are given, and of a step that runs."""

import pytest
import torch

import flopratio as fr
from flopratio.measure.memory import (
    Allocation,
    MeasuredMemory,
    _measured_on_cuda,
    measure_peak,
    measured_memory,
    peak_of,
    record_allocations,
)
from flopratio.step.options import StepOptions
from flopratio.step.run import Step


@pytest.mark.parametrize("optimizer", ["none", "sgd", "momentum"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_measured_peak_of_a_step_is_the_predicted_one(optimizer, accumulate) -> None:
    module = torch.nn.Sequential(
        torch.nn.Linear(64, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10)
    )
    x = torch.randn(32, 64)
    options = {"loss": "sum", "optimizer": optimizer, "accumulate": accumulate, "target": "cpu"}
    before = [parameter.clone() for parameter in module.parameters()]
    measured = measured_memory(Step.of_module(module, (x,), StepOptions(**options)))
    predicted = fr.count(module, (x,), **options).memory
    assert (measured.device, measured.peak) == ("cpu", predicted.peak)
    assert measured.peak_allocated == measured.peak + sum(measured.kernels.values())
    assert (measured.peak_reserved, measured.others) == (None, 0)
    assert all(map(torch.equal, before, module.parameters()))
    assert all(parameter.grad is None for parameter in module.parameters())


def test_the_memory_of_cuda_is_what_its_allocator_counts(monkeypatch) -> None:
    stats = {
        "requested_bytes.all.current": 1300,
        "requested_bytes.all.peak": 5000,
        "allocated_bytes.all.peak": 5120,
        "reserved_bytes.all.peak": 2**21,
    }
    calls: list[str] = []
    monkeypatch.setattr(torch.cuda, "memory_stats", lambda device: stats)
    for name in ("synchronize", "reset_peak_memory_stats"):
        monkeypatch.setattr(torch.cuda, name, lambda device, name=name: calls.append(name))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: calls.append("empty_cache"))
    there = [torch.empty(100), [torch.empty(200)]]  # 1200 bytes
    measured = _measured_on_cuda(lambda: calls.append("step"), there, torch.device("cuda"))
    assert measured == MeasuredMemory("cuda", 5000, 5120, 2**21, others=100)
    order = ["empty_cache", "reset_peak_memory_stats", "step", "synchronize"]
    assert calls == ["synchronize", *order]


def test_peak_is_the_most_alive() -> None:
    peak = peak_of(100, [Allocation(50, "a"), Allocation(-50, ""), Allocation(30, "b")])
    assert (peak.nbytes, peak.outside_kernels, peak.kernels) == (150, 150, {})


def test_what_kernels_hold_for_themselves_is_named() -> None:
    moves = [
        Allocation(50, "a"),
        Allocation(40, "b", in_kernel=True),
        Allocation(20, "b"),
        Allocation(-40, "b", in_kernel=True),
        Allocation(10, "c"),
    ]
    peak = peak_of(0, moves)
    assert (peak.nbytes, peak.outside_kernels) == (110, 80)
    assert peak.kernels == {"b": 40}


def test_nothing_happens() -> None:
    assert peak_of(7, []).nbytes == 7


def test_operators_are_those_that_a_trace_sees() -> None:
    weight, x = torch.randn(6, 4), torch.randn(8, 4)
    moves = record_allocations(lambda: torch.nn.functional.linear(x, weight))
    # linear is made up of a transpose and a product; the product's 8 * 6 * 4 bytes go at the end.
    assert [(move.nbytes, move.operator) for move in moves[:1]] == [(192, "aten::mm")]
    assert sum(move.nbytes for move in moves) == 0


def test_a_kernels_own_memory_is_told_apart() -> None:
    # An expanded operand has to be copied, 8 * 8 * 4 bytes, before it can be multiplied.
    x, expanded = torch.randn(8, 8), torch.randn(1).expand(8, 8)
    moves = record_allocations(lambda: x.mm(expanded))
    assert (256, "aten::mm", True) in moves
    assert (256, "aten::mm", False) in moves


def test_what_is_there_counts_once() -> None:
    x = torch.randn(8, 4)
    peak = measure_peak(lambda: x.exp(), [x, {"view": x.t()}, 3])
    assert peak.nbytes == 128 + 128
