"""What a profile tells, by hand from the small one, and as a document."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

import flopratio as fr
from flopratio.errors import UsageError
from flopratio.measure import Interval
from flopratio.verbs.profile import untrusted
from flopratio.verbs.profile.groups import AROUND, UNDIVIDED
from tests.report.small import small_ledger
from tests.verbs.profile.small import small_profile


def test_a_layers_time_is_that_of_its_operators_and_around_them() -> None:
    layers = {group.name: group for group in small_profile().layers()}
    conv = layers["stem.conv"]
    assert conv.ms("forward") == pytest.approx(8.0 + 0.9)
    assert conv.ms("grad_weight") == conv.backward_ms == pytest.approx(10.0)
    assert conv.time_ratio == pytest.approx(10.0 / 8.9)
    assert conv.total.flops_per_s == pytest.approx(8e6 / 18.9e-3)
    assert conv.total.nbytes == 120 + 130
    assert conv.total.intensity == pytest.approx(8e6 / 250)
    head = layers["head"]
    assert head.ms(UNDIVIDED) == pytest.approx(0.3)
    assert head.backward_ms == pytest.approx(2.0 + 2.5 + 0.3)
    assert head.ms("update") == 0


@pytest.mark.parametrize("by", ["layer", "type", "op", "phase"])
def test_every_grouping_has_all_the_time_once(by: str) -> None:
    profile = small_profile()
    groups = profile.grouped(by)
    assert sum(group.total.ms for group in groups) == pytest.approx(27.0)
    assert sum(group.total.flops for group in groups) == 12_500_000
    assert sum(group.total.predicted_ms for group in groups) == pytest.approx(
        profile.prediction.step_seconds * 1e3
    )


def test_groups_are_named_by_what_they_have_in_common() -> None:
    profile = small_profile()
    assert [group.name for group in profile.grouped("type")] == ["Conv2d", "ReLU", "Linear"]
    assert AROUND in [group.name for group in profile.grouped("op")]
    phases = ["forward", "grad_input", "grad_weight", UNDIVIDED]
    assert [group.name for group in profile.grouped("phase")] == phases


def test_layers_fold_into_the_modules_that_hold_them() -> None:
    groups = small_profile().grouped("layer", lambda layer: layer.partition(".")[0])
    assert [(group.name, group.type) for group in groups] == [
        ("stem", "Sequential"),
        ("head", "Linear"),
    ]
    assert groups[0].layers == 1
    assert groups[0].total.ms == pytest.approx(18.9 + 0.3)


def test_utilisation_is_time_at_the_roof_over_time() -> None:
    """12.5 MFLOP at 1 GFLOP/s take 12.5 ms, and the step took 25."""
    profile = small_profile()
    assert profile.mfu == profile.hfu == pytest.approx(0.5)
    assert profile.achieved_flops_per_s == pytest.approx(12.5e6 / 25e-3)


def test_what_is_computed_again_is_no_work_of_the_model() -> None:
    profile = small_profile()
    rows = profile.ledger.rows
    rows.append(rows[0]._replace(phase="recompute"))  # 4 MFLOP
    assert profile.mfu == pytest.approx(0.5)
    assert profile.hfu == pytest.approx((12.5 + 4) / 25)


def test_without_a_roof_there_is_no_utilisation() -> None:
    profile = small_profile()
    profile.ledger.rows[0] = profile.ledger.rows[0]._replace(dtype="float8_e4m3fn")
    assert profile.mfu is None
    assert profile.document()["mfu"] is None


def test_the_explanation_adds_up() -> None:
    explanation = small_profile().explanation
    assert explanation is not None
    assert explanation.flop_ratio == pytest.approx(7 / 5.5)
    assert explanation.flop_ratio + sum(
        reason.contribution for reason in explanation.reasons
    ) == pytest.approx(explanation.time_ratio)


def test_a_step_without_products_is_not_explained() -> None:
    profile = small_profile()
    profile.ledger.rows[:] = [row._replace(flops=0) for row in profile.ledger.rows]
    assert profile.explanation is None
    assert "forward has no products" in profile.not_explained
    assert profile.document()["explanation"] is None


def test_the_document_has_times_beside_the_counts() -> None:
    document = small_profile().document()
    assert document["schema"] == "flopratio.ledger/1"
    assert document["flops"]["forward"] == 5_500_000
    assert document["time_ms"]["forward"] == {"median": 10.0, "low": 9.5, "high": 10.5}
    assert {"backward", "update", "step", "grad_input", "grad_weight"} <= set(document["time_ms"])
    assert document["time_ratio"] == 1.5
    assert document["time_ratio_interval"] == {"median": 1.5, "low": 1.4, "high": 1.6}
    assert document["memory"]["peak"] == 10_000
    assert document["memory"]["measured_peak"] == 10_100
    assert document["profiler_overhead"] == 0.25
    assert document["unmatched"] == {"aten::relu": 2}
    assert document["unattributed"] == {"Memcpy DtoH": 50.0}
    assert document["roofs"]["name"] == "Abacus"
    assert document["operator_differences"][0]["executed_calls"] == 2
    conv, relu, head = (document["layers"][i] for i in (0, 1, 2))
    assert conv["forward_ms"] == pytest.approx(8.9)
    assert conv["grad_weight_ms"] == conv["backward_ms"] == pytest.approx(10.0)
    assert conv["mfu"] == pytest.approx(8.0 / 18.9)
    assert conv["bound"] == "compute"
    assert conv["phases"]["forward"]["achieved_flops_per_s"] == pytest.approx(4e6 / 8.9e-3)
    assert relu["achieved_flops_per_s"] == 0
    assert head["grad_input_ms"] is None  # a part of it is of nobody knows which phase
    json.dumps(document)


def test_a_saved_profile_can_be_read_back() -> None:
    profile = small_profile()
    text = profile.to_json()
    read = fr.Profile.from_json(text)
    assert read.to_json() == text
    assert read.ledger.memory == profile.ledger.memory
    assert read.measured_memory == profile.measured_memory
    assert read.layers() == profile.layers()
    assert read.explanation == profile.explanation


def test_a_saved_profile_is_a_ledger_too() -> None:
    profile = small_profile()
    assert fr.Ledger.from_json(profile.to_json()).rows == profile.ledger.rows


def test_a_ledger_that_was_not_measured_is_no_profile() -> None:
    with pytest.raises(UsageError, match="counted and not measured"):
        fr.Profile.from_json(small_ledger().to_json())


def test_a_document_without_its_rows_is_no_profile() -> None:
    with pytest.raises(UsageError, match="without its rows"):
        fr.Profile.from_json(small_profile().to_json(rows=False))


def test_the_frame_and_the_csv_have_what_was_expected_of_each_row() -> None:
    profile = small_profile()
    first = profile.frame.iloc[0]
    assert first["time_us"] == 8_000
    assert first["predicted_us"] == pytest.approx(4_000 + 1)
    assert first["bound"] == "compute"
    heading, line, *_ = profile.to_csv().splitlines()
    assert heading.split(",")[0] == "model"
    assert {"time_us", "predicted_us", "bound", "device"} <= set(heading.split(","))
    assert line.startswith("toy,stem.conv")


def test_a_profile_in_a_line() -> None:
    assert repr(small_profile()) == (
        "Profile(toy on Abacus: 25.000 ms a step, backward : forward = 1.273 in FLOP, 1.500 in "
        "time)"
    )


def test_tf32_is_as_torch_had_it_where_it_was_measured() -> None:
    profile = small_profile()
    assert profile.tf32 == "none"
    assert replace(profile, machine={"tf32_cudnn": True}).tf32 == "convolutions"
    assert replace(profile, machine={"tf32_cudnn": True, "tf32_matmul": True}).tf32 == "all"


# -- whether to trust it ---------------------------------------------------------------------------


def test_the_times_of_the_explanation_are_those_without_the_profiler() -> None:
    explanation = small_profile().explanation
    assert explanation is not None
    assert sum(reason.forward_us for reason in explanation.reasons) == pytest.approx(10_000)
    assert sum(reason.backward_us for reason in explanation.reasons) == pytest.approx(15_000)


def with_profiled(**changes: Any) -> fr.Profile:
    profile = small_profile()
    timing = replace(profile.timing, profiled=replace(profile.profiled, **changes))
    return replace(profile, timing=timing)


def idle_ms(forward: float, backward: float) -> dict[str, Interval]:
    idle = {"forward": forward, "backward": backward, "update": 0.0}
    return {name: Interval(ms, ms, ms) for name, ms in idle.items()}


def test_what_the_profiler_changed_is_not_to_be_trusted() -> None:
    """Under it the ratio is (2.2 + 12.5 + 0.3 + 2) / (11.1 + 0.9 + 1) = 17 / 13."""
    idle = idle_ms(0.9, 1.9)
    for overhead in (0.19, -0.16):
        assert untrusted(with_profiled(overhead=overhead, idle_ms=idle)) == []
    (slower,) = untrusted(with_profiled(overhead=0.25))
    assert slower.endswith("those without it: a step takes 25% more under it than without it")
    (longer,) = untrusted(with_profiled(overhead=0.0, idle_ms=idle_ms(2.4, 3.6)))
    assert longer.endswith("forward and backward take 33 ms under it and 25 ms without it")
    (other,) = untrusted(with_profiled(overhead=0.0, time_ratio=1.9))
    assert other.endswith("the ratio of times is 1.308 under it and 1.900 without it")


# -- fused backward operators ----------------------------------------------------------------------


def test_bytes_of_a_fused_backward_operator_are_shared_out_by_flop() -> None:
    """1000 B of a convolution's backward stand in its first row; 3 of 4 FLOP are the weights'."""
    profile = small_profile()
    fused = profile.ledger.rows[-1]._replace(autograd="ConvolutionBackward0")
    rows = [
        fused._replace(phase="grad_input", flops=100, elementwise=0, bytes_read=900,
                       bytes_written=100, time_us=1_000.0),
        fused._replace(phase="grad_weight", flops=290, elementwise=10, bytes_read=0,
                       bytes_written=0, time_us=1_000.0),
    ]  # fmt: skip
    whole = profile.total.total.nbytes - fused.bytes_read - fused.bytes_written + 1000
    profile.ledger.rows[-1:] = rows
    profile = replace(profile)
    conv = next(layer for layer in profile.layers() if layer.name == fused.layer)
    assert conv.phases["grad_input"].nbytes == 250
    assert conv.phases["grad_weight"].nbytes == 750
    assert conv.phases["grad_weight"].bytes_per_s == pytest.approx(750e3)
    assert profile.total.total.nbytes == whole
    layers = {layer["name"]: layer for layer in profile.document()["layers"]}
    assert layers[fused.layer]["phases"]["grad_weight"]["bytes"] == 750
