"""Predicted against measured times."""

import statistics

import pytest

from flopratio.report.figures import predicted_against_measured as figure
from flopratio.report.figures.predicted_against_measured import predicted_against_measured
from tests.report.figures.axes import drawn
from tests.report.figures.rows import texts
from tests.verbs.profile.small import small_profile

MEASURED_MS = (8.9, 0.1, 3.0, 2.0, 2.5, 0.2, 10.0)
"""Of each layer and phase with arithmetic, in the order in which they ran."""
PREDICTED_MS = (4.001, 0.002, 1.501, 1.501, 1.501, 0.002, 4.001)
"""1 ns a FLOP of products, or of all other, or a byte; and 1 µs a launch."""


def test_a_point_for_each_layer_and_phase(monkeypatch, tmp_path):
    profile = small_profile()
    title, (axes,) = drawn(
        monkeypatch, figure, lambda: predicted_against_measured(profile, tmp_path)
    )
    found = {
        (float(x), float(y))
        for line in axes.lines
        if line.get_label() in ("forward", "grad_input", "grad_weight")
        for x, y in line.get_xydata()
    }
    expected = {(ms / 1e3, own / 1e3) for ms, own in zip(MEASURED_MS, PREDICTED_MS, strict=True)}
    assert sorted(found) == [pytest.approx(point) for point in sorted(expected)]
    off = statistics.median(
        abs(own / ms - 1) for ms, own in zip(MEASURED_MS, PREDICTED_MS, strict=True)
    )
    assert f"median departure {off:.0%}" in [text.get_text() for text in axes.texts]
    assert title == "A step of 25.0 ms was predicted to take 12.5 ms"
    assert axes.get_xlim() == axes.get_ylim()
    diagonal = next(line for line in axes.lines if line.get_label() == "as measured")
    assert all(x == y for x, y in diagonal.get_xydata())


def test_axes_are_named_in_seconds(tmp_path):
    words = texts(predicted_against_measured(small_profile(), tmp_path))
    assert {"measured", "predicted", "as measured", "half or twice that"} <= set(words)
    assert {"1 ms", "10 ms"} <= set(words)
