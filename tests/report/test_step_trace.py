"""A profiled step as viewers of traces read it."""

import json
from dataclasses import replace

import pytest
import torch

import flopratio as fr
from flopratio.errors import UsageError
from flopratio.measure import StepEvent
from flopratio.report.memory_trace import chrome_trace
from flopratio.report.step_trace import NO_PHASE, step_trace, write_step_trace
from flopratio.verbs.profile import Profile
from tests.report.trace_format import check_trace, tracks
from tests.verbs.profile.small import small_profile

FIGURES = ("FLOP of contractions", "elementwise FLOP", "bytes read", "bytes written")


@pytest.fixture(scope="module")
def profile() -> Profile:
    """Linear(4, 6) of 8 examples: each operator takes 8 µs in every 10, as if on a GPU, where its
    kernel runs 100 µs later; views have no event."""
    model, x = torch.nn.Linear(4, 6), torch.randn(8, 4)
    with fr.Profiler(model) as profiler:
        model(x).sum().backward()
    ledger = profiler.ledger
    events = [StepEvent("autograd::engine::evaluate_function", 0.0, 1.0, "host", "", "", None)]
    for place, run in enumerate(ledger.memory.operators):
        row = ledger.rows[run.row]
        if row.bytes_written:
            where = row.layer, row.phase, run.row
            events.append(StepEvent(row.op, 10.0 * place, 8.0, "host", *where))
            events.append(StepEvent("gemm", 10.0 * place + 100, 5.0, "stream 7", *where))
    like = small_profile()
    profiled = replace(like.profiled, ledger=ledger, events=events)
    return replace(like, ledger=ledger, timing=replace(like.timing, profiled=profiled))


def test_the_format(profile: Profile) -> None:
    check_trace(step_trace(profile))
    check_trace(chrome_trace(profile.ledger.memory))


def test_phases_have_a_track_each_then_kernels_then_the_rest(profile: Profile) -> None:
    found = tracks(step_trace(profile))
    assert list(found) == ["forward", "grad_weight", "kernels, stream 7", NO_PHASE]
    for phase in ("forward", "grad_weight"):
        own = [row for row in profile.ledger.rows if row.phase == phase and row.bytes_written]
        assert [event["args"]["op"] for event in found[phase]] == [row.op for row in own]
        assert {event["args"]["phase"] for event in found[phase]} == {phase}
    assert {event["name"] for event in found["kernels, stream 7"]} == {"gemm"}


def test_an_operator_has_its_layers_name_and_its_figures(profile: Profile) -> None:
    forward = tracks(step_trace(profile))["forward"]
    product = next(event for event in forward if event["args"]["op"] == "aten.addmm")
    assert product["name"] == "(model)"
    assert product["dur"] == 8.0
    # 2 * 8 * 4 * 6; the bias; x 128, W 96 and b 24 bytes; y 192
    assert [product["args"][name] for name in FIGURES] == [384, 48, 248, 192]
    assert product["args"]["dtype"] == "float32"


def test_memory_is_counted_where_it_changes(profile: Profile) -> None:
    events = step_trace(profile)["traceEvents"]
    counters = [event for event in events if event["ph"] == "C"]
    totals = [sum(event["args"].values()) for event in counters]
    assert totals[0] == 96 + 24 + 128  # W, b, x: the transpose of W comes first, and is a view
    assert max(totals) == profile.ledger.memory.peak
    moments = {event["ts"] for event in events if event["ph"] == "X" and event["tid"] < 3}
    product = next(e for e in events if e.get("args", {}).get("op") == "aten.addmm")
    assert {product["ts"]} < moments
    assert counters[1]["ts"] == product["ts"]
    (peak,) = (event for event in events if event["ph"] == "i")
    assert peak["name"] == f"peak: {profile.ledger.memory.peak:,} bytes"
    assert totals[[event["ts"] for event in counters].index(peak["ts"])] == max(totals)


def test_memory_follows_the_operators_where_two_threads_overlap(profile: Profile) -> None:
    def totals(profile: Profile) -> list[int]:
        events = step_trace(profile)["traceEvents"]
        return [sum(event["args"].values()) for event in events if event["ph"] == "C"]

    early = [
        event._replace(start_us=5.0) if event.phase == "grad_weight" else event
        for event in profile.profiled.events
    ]
    timing = replace(profile.timing, profiled=replace(profile.profiled, events=early))
    assert totals(replace(profile, timing=timing)) == totals(profile)


def test_another_step_than_was_predicted_has_no_counter(profile: Profile) -> None:
    rows = [row._replace(op="aten.mm") for row in profile.ledger.rows]
    ledger = fr.Ledger(rows, memory=profile.ledger.memory)
    document = step_trace(replace(profile, ledger=ledger))
    check_trace(document)
    assert not [event for event in document["traceEvents"] if event["ph"] == "C"]
    assert "other operators" in document["otherData"]["memory"]


def test_an_operator_of_many_layers_says_so(profile: Profile) -> None:
    rows = profile.ledger.rows
    update = fr.Ledger(
        [*rows, *(rows[0]._replace(layer=layer, phase="update", flops=7) for layer in "ab")],
        memory=profile.ledger.memory,
    )
    event = StepEvent("aten::_foreach_add_", 900.0, 5.0, "host", "a", "update", len(rows))
    runs = [*update.memory.operators, update.memory.operators[0]._replace(row=len(rows))]
    runs[-1] = runs[-1]._replace(layer="a", op=rows[0].op, phase="update")
    update.memory = type(update.memory)(update.memory, blocks=update.memory.blocks, operators=runs)
    profiled = replace(profile.profiled, events=[*profile.profiled.events, event])
    timing = replace(profile.timing, profiled=profiled)
    (found,) = tracks(step_trace(replace(profile, ledger=update, timing=timing)))["update"]
    assert found["name"] == "2 layers"
    assert found["args"]["FLOP of contractions"] == 14


def test_files(profile: Profile, tmp_path) -> None:
    write_step_trace(profile, tmp_path / "step.json")
    assert json.loads((tmp_path / "step.json").read_text()) == step_trace(profile)
    with pytest.raises(UsageError, match="profile the step anew"):
        write_step_trace(small_profile(), tmp_path / "other.json")
