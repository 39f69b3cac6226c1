"""The ratio against depth and batch."""

from flopratio.report import figures
from tests.report.figures.rows import frame_of, row, texts


def test_ratio_against_depth_shows_the_theory_and_one_series_for_every_batch(frame, tmp_path):
    words = texts(figures.ratio_against_depth(frame, tmp_path))
    assert "Backward FLOPs climb towards twice forward with depth" in words
    assert "mlp: 1.500 → 1.889" in words  # 2 - 1/2 at depth 1, 2 - 1/9 at depth 8
    assert "any batch" in words
    assert "2 - first layer's share" in words
    assert {"1 : 1", "1.5 : 1", "2 : 1"} <= set(words)


def test_theory_is_drawn_from_its_own_column(frame, tmp_path):
    as_predicted = figures.ratio_against_depth(frame, tmp_path)[1].read_bytes()
    frame["first_layer_share"] = 0.5
    assert figures.ratio_against_depth(frame, tmp_path)[1].read_bytes() != as_predicted
    assert figures.ratio_against_depth(frame.drop(columns="first_layer_share"), tmp_path) == []


def test_series_differ_by_the_key_that_decides(frame, tmp_path):
    words = texts(figures.ratio_with_update_against_batch(frame, tmp_path))
    assert {"depth 1", "depth 2", "depth 4", "depth 8"} <= set(words)
    assert "The update's share of the FLOPs fades as the batch grows" in words
    # depth 8: (17/9 * 9 * 128 + 9 * 144) / (9 * 128) = 3.014 at batch 1
    assert "mlp, depth 1: 2.625 → 1.518; depth 8: 3.014 → 1.906" in words


def test_models_have_a_panel_each(tmp_path):
    frame = frame_of(*(row(d, 1, model=m) for m in ("mlp", "cnn") for d in (1, 3)))
    words = texts(figures.ratio_against_depth(frame, tmp_path))
    assert {"mlp: 1.500 → 1.750", "cnn: 1.500 → 1.750"} <= set(words)
