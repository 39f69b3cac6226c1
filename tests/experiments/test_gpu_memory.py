"""The allocator's history of a step: read from a snapshot, and held against a prediction."""

from __future__ import annotations

from inspect import signature
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from experiments.gpu.cases import Case
from experiments.gpu.history import (
    Change,
    Parting,
    Taken,
    changes,
    first_parting,
    history,
    predicted,
)
from experiments.gpu.memory import COLUMNS, FIGURES, _on_cuda, compared, laid_out_afresh
from experiments.gpu.rows import Run
from flopratio.allocator import Workspace
from flopratio.torch_private import parameters
from flopratio.trace.attribution import attribute
from flopratio.trace.memory import known_workspaces
from flopratio.verbs.traced import trace_step

CPU = torch.device("cpu")


def entry(action: str, address: int, size: int) -> dict[str, Any]:
    return {"action": action, "addr": address, "size": size, "stream": 0, "frames": []}


# What a snapshot's device_traces hold of: something older that goes, a result, a kernel's own
# memory, a segment that is asked for on the way, and memory at an address used before.
TRACE = [
    entry("free_requested", 9, 100),
    entry("free_completed", 9, 100),
    entry("segment_alloc", 0, 2_097_152),
    entry("alloc", 1, 1000),
    entry("alloc", 2, 300),
    entry("free_requested", 2, 300),
    entry("free_completed", 2, 300),
    entry("alloc", 2, 8),
    entry("free_requested", 2, 8),
    entry("free_completed", 2, 8),
    entry("alloc", 2, 500),
    entry("free_requested", 1, 1000),
    entry("free_completed", 1, 1000),
    {"action": "snapshot", "addr": 0, "size": 0, "stream": 0, "frames": []},
]
SEEN = [
    Change(9, -512, "", 0),
    Change(1, 1024, "aten.mm", 1),
    Change(2, 512, "aten.convolution", 2),
    Change(2, -512, "aten.convolution", 2),
    Change(2, 512, "", 0),
    Change(2, -512, "", 0),
    Change(2, 512, "aten.relu", 3),
    Change(1, -1024, "", 0),
]


def test_a_snapshot_is_read() -> None:
    found = history(TRACE, SEEN)
    assert found.taken == [
        Taken(1000, "aten.mm", -100),
        Taken(300, "aten.convolution", 900, in_kernel=True),
        Taken(8, "", 900, in_kernel=True),
        Taken(500, "aten.relu", 900),
    ]
    assert (found.peak, found.peak_operator, found.workspaces) == (1400, "aten.relu", {})


def test_what_a_kernel_holds_at_the_peak_is_named() -> None:
    found = history([*TRACE[:5]], SEEN[:3])
    assert found.peak == 1200  # it was never given back: no more is known of it
    longer = [*TRACE[:7], entry("free_completed", 1, 1000)]
    found = history(longer, SEEN)
    assert (found.peak, found.workspaces) == (1200, {"aten.convolution": 300})
    assert found.peak_operator == "aten.convolution"


def test_a_history_that_the_profiler_saw_nothing_of_has_sizes_still() -> None:
    found = history(TRACE, [])
    assert [one.nbytes for one in found.taken] == [1000, 300, 8, 500]
    assert {one.operator for one in found.taken} == {""}


def test_where_two_steps_part_ways() -> None:
    measured = history(TRACE, SEEN).taken
    expected = [Taken(1000, "aten.mm", -100), Taken(500, "aten.relu", 900)]
    assert first_parting(expected, measured) is None
    smaller = [expected[0], Taken(400, "aten.relu", 900)]
    assert first_parting(smaller, measured) == Parting(1, smaller[1], measured[3])
    # Of the same size, while something is alive that is not expected to be.
    sooner = [expected[0], Taken(500, "aten.relu", 0)]
    assert first_parting(sooner, measured) == Parting(1, sooner[1], measured[3])
    assert first_parting(expected[:1], measured) == Parting(1, None, measured[3])
    assert first_parting([*expected, expected[1]], measured) == Parting(2, expected[1], None)


def test_an_operator_may_take_its_results_in_any_order() -> None:
    expected = [Taken(8, "aten.convolution_backward", 0), Taken(4, "aten.convolution_backward", 8)]
    measured = [Taken(4, "aten.convolution_backward", 0), Taken(8, "aten.convolution_backward", 4)]
    assert first_parting(expected, measured) is None
    assert first_parting(expected, [measured[0], Taken(9, "aten.convolution_backward", 4)])


GPT = "experiments.gpu.networks:gpt"


@pytest.mark.parametrize(
    ("model", "settings", "options"),
    [
        ("mlp", {"batch": 8, "width": 64}, {"optimizer": "adam"}),
        (GPT, {"depth": 1}, {"optimizer": "sgd"}),
        ("experiments.gpu.networks:unet", {"depth": 1}, {"optimizer": "momentum"}),
    ],
)
def test_a_real_step_takes_what_is_predicted_allocation_by_allocation(
    model: str, settings: dict[str, Any], options: dict[str, Any]
) -> None:
    """On the CPU, whose profile stands for a snapshot: the same events, of the other device."""
    case = Case("step", model, settings, options)
    expected = predicted(trace_step(case.predicted("cpu")).ledger.memory, [])
    with case.real(CPU, "cpu").prepared() as prepared:
        prepared.run()
        prepared.clear()
        with profile(
            activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True
        ) as profiler:
            result = prepared.run()
        del result
    tree = profiler.profiler.kineto_results.experimental_event_tree()
    seen = changes(tree, "cpu")
    assert changes(tree, "cuda") == []
    trace = [
        entry("alloc" if one.nbytes > 0 else "free_completed", one.address, abs(one.nbytes))
        for one in seen
    ]
    found = history(trace, seen)
    assert first_parting(expected, found.taken) is None
    assert len(expected) > 10
    wrong = [
        one._replace(nbytes=one.nbytes + 4) if i == 7 else one for i, one in enumerate(expected)
    ]
    parting = first_parting(wrong, found.taken)
    assert parting is not None
    assert parting.predicted == wrong[7]


def test_workspaces_are_expected_where_they_are_taken() -> None:
    case = Case("gpt", GPT, {"depth": 1}, {"dtype": "bfloat16", "optimizer": "sgd"})
    profiler = trace_step(case.predicted("A100-80GB"))
    workspaces = known_workspaces(profiler.recording, attribute(profiler.recording))
    names = [workspace.name for workspace in workspaces]
    assert names[:2] == ["cuBLAS forward", "cuBLAS backward"]
    assert any("dq_accum" in name for name in names)
    expected = predicted(profiler.ledger.memory, workspaces)
    taken = {one.operator: one for one in expected}
    assert taken["cuBLAS forward"].nbytes == workspaces[0].nbytes
    assert not taken["cuBLAS forward"].in_kernel
    assert all(one.in_kernel for name, one in taken.items() if "dq_accum" in name)
    # It comes after the result of the first product has its memory.
    place = [one.operator for one in expected].index("cuBLAS forward")
    assert expected[place - 1].operator in ("aten.mm", "aten.addmm")
    assert expected[place + 1].alive >= expected[place].alive + workspaces[0].nbytes


def test_a_workspace_that_stays_is_alive_afterwards() -> None:
    case = Case("mlp", "mlp", {"batch": 2, "width": 8}, {})
    memory = trace_step(case.predicted("cuda")).ledger.memory
    before = sum(1 for event in memory.events() if event.record < 0)
    plain = predicted(memory, [])
    with_one = predicted(memory, [Workspace("cuBLAS", 1000, before)])
    assert with_one[0] == Taken(1000, "cuBLAS", 0)
    assert [one.alive - 1000 for one in with_one[1:]] == [one.alive for one in plain]
    in_kernel = predicted(memory, [Workspace("softmax_d", 1000, before, before)])
    assert in_kernel[0] == Taken(1000, "softmax_d", 0, in_kernel=True)
    assert in_kernel[1:] == plain


def test_what_is_there_before_a_step_is_put_down_anew() -> None:
    case = Case("lstm", "experiments.gpu.networks:lstm", {}, {"optimizer": "adam"})
    step = case.real(CPU, "cpu")
    with step.prepared() as prepared:
        prepared.run()
        values = [parameter.clone() for parameter in parameters(step.module)]
        views = [parameter.untyped_storage().data_ptr() for parameter in parameters(step.module)]
        nbytes = laid_out_afresh(prepared, CPU)
        assert all(map(torch.equal, values, parameters(step.module)))
        assert all(parameter.grad is None for parameter in parameters(step.module))
        shared = [parameter.untyped_storage().data_ptr() for parameter in parameters(step.module)]
        assert len(set(shared)) == len(set(views))
        state = sum(p.nbytes for p in parameters(step.module)) * 2 + 4 * len(values)
        held = sum(value.nbytes for value in values) + state
        assert nbytes == held + step.inputs.tensors[0].nbytes
        prepared.run()


def test_the_row_of_a_step_on_cuda(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every call of torch.cuda that the row rests on, with a device of made-up figures."""
    stats = {f"{name}_bytes.all.peak": 10_000_000 for name in FIGURES}
    stats["requested_bytes.all.current"] = 777
    asked: list[dict[str, Any]] = []

    def record_memory_history(**options: Any) -> None:
        signature(torch.cuda.memory._record_memory_history).bind(**options)
        asked.append(options)

    for name in ("synchronize", "reset_peak_memory_stats", "empty_cache"):
        monkeypatch.setattr(torch.cuda, name, lambda device=None: None)
    monkeypatch.setattr(torch.cuda, "memory_stats", lambda device: stats)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 0)
    monkeypatch.setattr(torch.cuda.memory, "_record_memory_history", record_memory_history)
    monkeypatch.setattr(torch.cuda.memory, "_snapshot", lambda: {"device_traces": [TRACE]})
    case = Case("mlp", "mlp", {"batch": 2, "width": 8}, {"optimizer": "adam"})
    profiler = trace_step(case.predicted("A100-80GB"))
    row = _on_cuda(Run(tmp_path, CPU, target="A100-80GB"), case, profiler)
    assert set(row) <= set(COLUMNS)
    memory = profiler.ledger.memory
    assert row["predicted_requested"] > memory.peak  # with the workspaces of cuBLAS
    assert row["predicted_allocated"] == memory.peak_allocated
    assert row["predicted_reserved"] == memory.peak_reserved
    for name in FIGURES:
        assert row[f"measured_{name}"] == 10_000_000
        assert row[f"difference_{name}"] == row[f"predicted_{name}"] - 10_000_000
    assert (row["first_difference"], row["measured_size"], row["measured_alive"]) == (0, 1000, -100)
    assert row["predicted_op"] == "aten.addmm"
    assert row["predicted_alive"] == 0
    assert [options["enabled"] for options in asked] == ["all", None]
    # Where nothing differs, no history is taken.
    for name in FIGURES:
        stats[f"{name}_bytes.all.peak"] = row[f"predicted_{name}"]
    same = _on_cuda(Run(tmp_path, CPU, target="A100-80GB"), case, profiler)
    assert [same[f"difference_{name}"] for name in FIGURES] == [0, 0, 0]
    assert "first_difference" not in same
    assert len(asked) == 2


def test_a_row_of_the_rehearsal_tells_the_peak_of_the_cpu(tmp_path: Path) -> None:
    case = Case("mlp", "mlp", {"batch": 2, "width": 8}, {"optimizer": "sgd"})
    row = compared(Run(tmp_path, CPU), case)
    assert row["difference_requested"] == 0 < row["measured_requested"]
    assert set(row) <= set(COLUMNS)
