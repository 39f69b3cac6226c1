"""Peak memory against batch and depth."""

from flopratio.report import figures
from tests.report.figures.rows import texts


def test_training_stands_beside_inference_with_and_without_checkpointing(frame, tmp_path):
    words = texts(figures.memory_against_batch(frame, tmp_path))
    # depth 8: (2 + 1) 9 for 9 + 1 at batch 1; (2 + 64) 9 for 9 + 64 at batch 64
    assert "Training peaks at 2.7 to 8.14 times inference's memory" in words
    assert "mlp, depth 8: 2.7 to 8.14 x inference" in words
    assert {"training", "training, checkpointed", "inference", "peak memory (KiB)"} <= set(words)
    words = texts(figures.memory_against_depth(frame, tmp_path))
    # batch 64: (2 + 64) 2 for 2 + 64 at depth 1
    assert "mlp, batch 64: 2 to 8.14 x inference" in words


def test_a_column_that_is_not_filled_is_no_line(frame, tmp_path):
    for absent in (frame.drop(columns="checkpointed_peak_bytes"), frame):
        frame["checkpointed_peak_bytes"] = ""
        words = texts(figures.memory_against_depth(absent, tmp_path))
        assert {"training", "inference"} <= set(words)
        assert "training, checkpointed" not in words
    assert figures.memory_against_depth(frame.drop(columns="peak_bytes"), tmp_path) == []


def test_nothing_is_claimed_where_training_takes_no_more(frame, tmp_path):
    frame["inference_peak_bytes"] = frame["peak_bytes"]
    words = texts(figures.memory_against_batch(frame, tmp_path))
    assert "Peak memory of training and inference against batch" in words
