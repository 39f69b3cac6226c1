"""A step's memory as viewers read it."""

import json
import pickle
from itertools import pairwise

import pytest
import torch
from torch.cuda import _memory_viz

import flopratio as fr
from flopratio.memory import Memory
from flopratio.report.memory_trace import chrome_trace, snapshot, write_memory_trace


@pytest.fixture(scope="module")
def memory() -> Memory:
    """W 96, b 24, x 128 bytes before; y 192, the loss 4, its gradient 4, and those of W and b."""
    model, x = torch.nn.Linear(4, 6), torch.randn(8, 4)
    with fr.Profiler(model) as profiler:
        model(x).sum().backward()
    return profiler.ledger.memory


def test_counters_of_perfetto_follow_the_timeline(memory: Memory) -> None:
    events = chrome_trace(memory)["traceEvents"]
    counters = [event for event in events if event["ph"] == "C"]
    totals = [sum(counter["args"].values()) for counter in counters]
    assert totals[0] == 96 + 24 + 128  # the transpose of W makes nothing
    assert max(totals) == memory.peak == 444
    assert all(one["args"] != next_["args"] for one, next_ in pairwise(counters))
    (peak,) = (event for event in events if event["ph"] == "i")
    assert peak["name"] == "peak: 444 bytes"
    assert peak["ts"] in [counter["ts"] for counter in counters]


def test_every_operator_is_a_slice_under_its_layer_and_phase(memory: Memory) -> None:
    slices = [event for event in chrome_trace(memory)["traceEvents"] if event["ph"] == "X"]
    phases, layers, operators = (
        [event for event in slices if event["tid"] == thread] for thread in range(3)
    )
    assert [(event["name"], event["ts"]) for event in phases] == [
        ("forward", 0),
        ("backward", phases[0]["dur"]),
    ]
    assert [event["name"] for event in operators] == [row.op for row in memory.operators]
    for track in (phases, layers, operators):
        assert sum(event["dur"] for event in track) == len(memory.operators)


def test_snapshot_is_what_the_visualiser_reads(memory: Memory) -> None:
    trace = snapshot(memory)["device_traces"][0]
    assert [(entry["action"], entry["size"]) for entry in trace] == [
        ("alloc", 96),
        ("alloc", 24),
        ("alloc", 128),
        ("alloc", 192),
        ("alloc", 4),
        ("free_completed", 192),
        ("alloc", 4),
        ("alloc", 96),
        ("alloc", 24),
    ]
    assert trace[5]["addr"] == trace[3]["addr"]
    names = [[frame["name"] for frame in entry["frames"]] for entry in trace]
    assert names[3] == ["aten.addmm", "(model)", "temporaries"]
    assert names[0] == ["(before the step)", "(model)", "parameters"]
    assert "9 entries" in _memory_viz.trace(snapshot(memory))


def test_files(memory: Memory, tmp_path) -> None:
    write_memory_trace(memory, tmp_path / "step.json")
    write_memory_trace(memory, tmp_path / "step.pickle")
    assert json.loads((tmp_path / "step.json").read_text()) == chrome_trace(memory)
    assert pickle.loads((tmp_path / "step.pickle").read_bytes()) == snapshot(memory)
