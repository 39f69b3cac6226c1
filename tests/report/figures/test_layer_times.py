"""Shares of time beside shares of FLOP."""

import pytest

from flopratio.report.figures import layer_times as figure
from flopratio.report.figures.layer_times import layer_times, shares
from tests.report.figures.axes import drawn
from tests.report.figures.rows import texts
from tests.verbs.profile.small import small_profile

ALL_US = 8_000 + 900 + 100 + 3_000 + 2_000 + 2_500 + 300 + 200 + 10_000
"""Of all rows, with what is around them and what can't be divided."""
ALL_FLOP = 4_002_000 + 1_000 + 1_500_010 + 2 * 1_500_000 + 1_000 + 4_000_500


def test_shares_are_of_the_whole_step() -> None:
    layers = small_profile().layers()
    found = shares(layers, {layer.name: layer.name for layer in layers})
    assert found["stem.conv"].time == pytest.approx(
        {"forward": 100 * 8_900 / ALL_US, "grad_weight": 100 * 10_000 / ALL_US}
    )
    assert found["head"].time["undivided"] == pytest.approx(100 * 300 / ALL_US)
    assert found["head"].flops["grad_input"] == pytest.approx(100 * 1_500_000 / ALL_FLOP)
    for field in ("time", "flops"):
        assert sum(sum(getattr(share, field).values()) for share in found.values()) == (
            pytest.approx(100)
        )


def test_layers_of_one_group_are_summed() -> None:
    layers = small_profile().layers()
    found = shares(layers, {"stem.conv": "stem", "stem.relu": "stem", "head": "head"})
    assert list(found) == ["stem", "head"]
    assert found["stem"].time["forward"] == pytest.approx(100 * 9_000 / ALL_US)


def test_bars_of_time_and_flop_stand_side_by_side(monkeypatch, tmp_path):
    title, (axes,) = drawn(monkeypatch, figure, lambda: layer_times(small_profile(), tmp_path))
    # stem.conv 70.0 and 64.0%, stem.relu 1.1 and 0.0%, head 28.9 and 36.0%
    assert title == "7% of the step's time is in other layers than its FLOPs"
    assert [tick.get_text() for tick in axes.get_yticklabels()] == [
        "stem.conv",
        "stem.relu",
        "head",
    ]
    ends = {
        (round(bar.get_y() + bar.get_height() / 2, 2), round(bar.get_x() + bar.get_width(), 3))
        for bars in axes.containers
        for bar in bars
    }
    for place, share in ((-0.18, 18_900 / ALL_US), (0.18, 8_002_500 / ALL_FLOP)):
        assert max(end for y, end in ends if y == place) == pytest.approx(100 * share, abs=1e-3)
    words = [text.get_text() for text in axes.texts]
    assert words == ["time 70%", "time 1%", "time 29%", "FLOP 64%", "FLOP <1%", "FLOP 36%"]
    labels = axes.get_legend_handles_labels()[1]
    assert labels == ["forward", "grad_input", "grad_weight", "grad_input or grad_weight"]


def test_files_name_the_step_and_the_device(tmp_path):
    words = texts(layer_times(small_profile(), tmp_path))
    assert "toy on Abacus" in words
    assert "share of the step (%)" in words
