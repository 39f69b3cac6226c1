"""The roofline of a profiled step."""

from dataclasses import replace

import pytest

from flopratio.report.figures import roofline as figure
from flopratio.report.figures.roofline import roofline
from tests.report.figures.axes import drawn
from tests.report.figures.rows import texts
from tests.verbs.profile.small import ROOFS, small_profile


def points(axes) -> dict[str, list[tuple[float, float]]]:
    """Phase -> FLOP per byte and FLOP/s of its points."""
    return {
        scatter.get_label(): [tuple(map(float, place)) for place in scatter.get_offsets()]
        for scatter in axes.collections
        if scatter.get_label() in figure.PLOTTED
    }


def test_every_layer_has_a_point_for_each_phase(monkeypatch, tmp_path):
    _, (axes,) = drawn(monkeypatch, figure, lambda: roofline(small_profile(), tmp_path))
    assert axes.get_xscale() == axes.get_yscale() == "log"
    assert points(axes) == {
        "forward": [
            # stem.conv: 4,002,000 FLOP, 120 bytes, 8 ms in its operator and 0.9 around it
            pytest.approx((4_002_000 / 120, 4_002_000 / 8.9e-3)),
            pytest.approx((1_000 / 80, 1_000 / 100e-6)),
            pytest.approx((1_500_010 / 80, 1_500_010 / 3e-3)),
        ],
        "grad_input": [
            pytest.approx((1_500_000 / 60, 1_500_000 / 2e-3)),
            pytest.approx((1_000 / 120, 1_000 / 200e-6)),
        ],
        "grad_weight": [
            pytest.approx((1_500_000 / 90, 1_500_000 / 2.5e-3)),
            pytest.approx((4_000_500 / 130, 4_000_500 / 10e-3)),
        ],
    }


def test_roofs_ridge_and_names_are_written(tmp_path):
    words = texts(roofline(small_profile(), tmp_path))
    assert "Abacus: roofs as measured" in words
    assert {"float32", "1.0 GFLOP/s", "1.0 GB/s", "ridge 1"} <= set(words)
    assert {"stem.conv", "head"} <= set(words)
    assert {"forward", "grad_input", "grad_weight"} <= set(words)
    # 0.3 ms of 27 are undivided
    assert "1% of the time has no point: copies and the like" in words


def test_lines_are_the_roofs(monkeypatch, tmp_path):
    _, (axes,) = drawn(monkeypatch, figure, lambda: roofline(small_profile(), tmp_path))
    slope, roof = axes.lines
    assert [y / x for x, y in slope.get_xydata()] == pytest.approx([1e9, 1e9])
    assert slope.get_xydata()[-1] == pytest.approx(roof.get_xydata()[0]) == (1, 1e9)
    left, right = axes.get_xlim()
    assert left < 1 < 4_002_000 / 120 < right


def test_roofs_of_other_dtypes_are_left_out(tmp_path):
    rates = {"float32": 1e9, "tf32": 4e9, "bfloat16": 8e9}
    profile = replace(small_profile(), roofs=replace(ROOFS, flops_per_s=rates))
    assert set(figure.roofs_of(profile)) == {"float32", "tf32"}
    for index, row in enumerate(profile.ledger.rows):
        profile.ledger.rows[index] = row._replace(dtype="bfloat16")
    assert figure.roofs_of(profile) == {"bfloat16": 8e9}
    for index, row in enumerate(profile.ledger.rows):
        profile.ledger.rows[index] = row._replace(flops=0)
    assert figure.roofs_of(profile) == rates


def test_without_times_there_is_no_figure(tmp_path):
    profile = small_profile()
    profile.ledger.rows = [row._replace(time_us=None) for row in profile.ledger.rows]
    assert roofline(profile, tmp_path) == []


def test_bytes_of_a_fused_operator_are_shared_by_its_phases(monkeypatch, tmp_path):
    profile = small_profile()
    *rows, last = profile.ledger.rows
    fused = [
        last._replace(phase="grad_input", flops=4_000_000, elementwise=0),
        last._replace(flops=12_000_000, elementwise=0, bytes_read=0, bytes_written=0),
    ]
    profile.ledger.rows = [*rows, *fused]
    _, (axes,) = drawn(monkeypatch, figure, lambda: roofline(profile, tmp_path))
    # 130 bytes, 1 : 3
    assert points(axes)["grad_input"][-1][0] == pytest.approx(4_000_000 / 32)
    assert points(axes)["grad_weight"][-1][0] == pytest.approx(12_000_000 / 98)
