"""The ratio of times against batch and width."""

import pandas as pd
import pytest

from flopratio.report.figures import time_ratio as figure
from flopratio.report.figures.time_ratio import time_ratio_against_size
from tests.report.figures.axes import drawn
from tests.report.figures.rows import texts


@pytest.fixture
def steps() -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "batch": batch,
                "width": width,
                "ratio": 1.75,
                "time_ratio": 1.75 + 1 / batch,
                "time_ratio_low": 1.7,
                "time_ratio_high": 1.8 + 1 / batch,
                "predicted_time_ratio": 1.8,
                "bound": "launch" if batch * width < 1000 else "compute",
            }
            for width in (32, 512)
            for batch in (1, 8, 64)
        ]
    )


def test_a_line_for_each_width_and_for_each_batch(steps, monkeypatch, tmp_path):
    title, (by_batch, by_width) = drawn(
        monkeypatch, figure, lambda: time_ratio_against_size(steps, tmp_path)
    )
    assert title == "The same network's backward takes 1.8 to 2.8 times its forward's time"
    labels = by_batch.get_legend_handles_labels()[1]
    assert {"width 32", "width 512", "predicted ratio", "predicted: most is launches"} <= set(
        labels
    )
    assert "predicted: most is memory" not in labels
    assert {"batch 1", "batch 8", "batch 64"} <= set(by_width.get_legend_handles_labels()[1])
    assert labels.index("width 512") < labels.index("predicted ratio")
    measured = next(line for line in by_batch.lines if line.get_label() == "width 32")
    assert [tuple(map(float, place)) for place in measured.get_xydata()] == [
        (1, 2.75),
        (8, 1.875),
        (64, pytest.approx(1.75 + 1 / 64)),
    ]
    hollow = [
        tuple(map(float, place))
        for line in by_batch.lines
        if line.get_markerfacecolor() == "white"
        for place in line.get_xydata()
    ]
    assert sorted(hollow) == [(1, 2.75), (1, 2.75), (8, 1.875)]


def test_one_batch_is_no_line(steps, tmp_path):
    words = texts(time_ratio_against_size(steps[steps["batch"] == 8], tmp_path))
    assert "against width" in words
    assert "against batch" not in words
    assert time_ratio_against_size(steps.iloc[:0], tmp_path) == []


def test_one_wide_interval_leaves_the_view(steps, monkeypatch, tmp_path):
    steps.loc[0, "time_ratio_high"] = 260.0
    _, (by_batch, _) = drawn(monkeypatch, figure, lambda: time_ratio_against_size(steps, tmp_path))
    assert by_batch.get_ylim() == (0, pytest.approx(1.15 * 2.75))
    assert by_batch.get_legend().get_title().get_text() == "an interval leaves the view"
