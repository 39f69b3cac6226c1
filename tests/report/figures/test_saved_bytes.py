"""Saved bytes against batch and depth, with and without checkpointing."""

from flopratio.report import figures
from tests.report.figures.rows import frame_of, row, texts


def test_too_many_series_are_thinned_out_and_counted(tmp_path):
    frame = frame_of(*(row(depth, batch) for depth in range(1, 31) for batch in (1, 2)))
    words = texts(figures.saved_bytes_against_batch(frame, tmp_path))
    assert "4 of 30 lines shown" in words
    shown = [word.split(":")[0] for word in words if word.startswith("depth ")]
    assert shown == ["depth 1", "depth 11", "depth 20", "depth 30"]


def test_saved_bytes_are_in_binary_units_with_exact_slopes(frame, tmp_path):
    by_batch = texts(figures.saved_bytes_against_batch(frame, tmp_path))
    assert "Saved activations are exactly affine in batch" in by_batch
    assert "depth 1: 2 KiB per example" in by_batch
    by_depth = texts(figures.saved_bytes_against_depth(frame, tmp_path))
    assert "Saved activations are exactly affine in depth" in by_depth
    assert "batch 64: 64 KiB per layer" in by_depth
    assert "saved activations (KiB)" in by_depth


def test_two_points_are_no_proof_of_a_line(tmp_path):
    frame = frame_of(*(row(depth, batch) for depth in (1, 2) for batch in (1, 8)))
    words = texts(figures.saved_bytes_against_batch(frame, tmp_path))
    assert "Saved activations against batch" in words


def test_counts_beyond_64_bits_stay_exact(tmp_path):
    huge = frame_of(*(row(depth, 10**20) | {"batch": 1} for depth in (1, 2, 3)))
    words = texts(figures.saved_bytes_against_depth(huge, tmp_path))
    assert "Saved activations are exactly affine in depth" in words
    huge.loc[2, "saved_bytes"] += 1
    words = texts(figures.saved_bytes_against_depth(huge, tmp_path))
    assert "Saved activations against depth" in words


def test_checkpointing_shows_what_stays_and_what_it_costs(frame, tmp_path):
    words = texts(figures.checkpointing_against_depth(frame, tmp_path))
    assert "Checkpointed, the deepest keep 11% of the saved activations" in words  # 1 layer of 9
    assert "mlp, batch 64: up to 0.50 forward again" in words
    assert {"all kept", "checkpointed in √n segments", "saved activations (KiB)"} <= set(words)
