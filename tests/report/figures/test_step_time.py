"""Measured times."""

from flopratio.report import figures
from tests.report.figures.rows import texts


def test_time_ratio_stands_beside_the_flop_ratio(frame, tmp_path):
    frame["time_ratio"], frame["ratio"] = 1.5, 2.0
    words = texts(figures.time_ratio_against_flop_ratio(frame, tmp_path))
    assert "The time ratio departs from the FLOP ratio by 25% (median)" in words
    assert "mlp: median time 1.50, FLOP 2.00" in words
    assert "time as FLOP" in words


def test_share_of_step_adds_up_to_all_of_it(frame, tmp_path):
    words = texts(figures.share_of_step(frame, tmp_path))
    assert "Backward takes 30% of a step's time" in words
    assert {"20%", "30%", "50%"} <= set(words)
    assert {"depth 1, batch 1", "depth 8, batch 64"} <= set(words)
