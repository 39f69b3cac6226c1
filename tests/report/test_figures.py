"""The figures: which are drawn, what they say, and that the same data give the same file."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest
import torch

import flopratio as fr
from flopratio.ledger import LayerTotals
from flopratio.report import figures
from flopratio.report.figures.timeline import _places

PHASES = ("forward_ms", "backward_ms", "update_ms")


def row(depth: int, batch: int, *, model: str = "mlp", measured: bool = True) -> dict:
    """A point of an MLP of ``depth + 1`` layers of 8 units whose first layer has 8 inputs too."""
    forward = 128 * batch * (depth + 1)
    backward = 2 * forward - 128 * batch
    update = 2 * 72 * (depth + 1)
    times: dict = dict.fromkeys([*PHASES, "time_ratio", "time_ratio_low", "time_ratio_high"], None)
    if measured:
        times = {"forward_ms": 2.0, "backward_ms": 3.0, "update_ms": 5.0}
        times |= {"time_ratio": 1.5, "time_ratio_low": 1.4, "time_ratio_high": 1.7}
    return {
        "model": model,
        "depth": depth,
        "batch": batch,
        "forward": forward,
        "ratio": backward / forward,
        "ratio_with_update": (backward + update) / forward,
        "first_layer_share": 128 * batch / forward,
        "saved_bytes": 1024 * batch * (depth + 1) + 4,
        "peak_bytes": 2048 * (depth + 1) + 1024 * batch * (depth + 1),
        "inference_peak_bytes": 1024 * (depth + 1) + 1024 * batch,
        "checkpointed_saved_bytes": 1024 * batch + 4,
        "checkpointed_peak_bytes": 2048 * (depth + 1) + 1024 * batch,
        "checkpointed_recompute": forward // 2,
        **times,
        "status": "ok",
    }


def frame_of(*rows: dict) -> pd.DataFrame:
    return pd.DataFrame(rows, dtype=object)


@pytest.fixture
def frame() -> pd.DataFrame:
    return frame_of(*(row(depth, batch) for depth in (1, 2, 4, 8) for batch in (1, 8, 64)))


def texts(paths: list[Path]) -> list[str]:
    """The words in a figure: matplotlib writes each as a comment beside its outlines."""
    svg = next(path for path in paths if path.suffix == ".svg")
    return re.findall(r"<!-- (.*?) -->", svg.read_text())


def names(paths: list[Path]) -> set[str]:
    return {path.stem for path in paths}


def test_all_figures_are_written_as_png_and_svg(frame, tmp_path):
    paths = figures.draw_all(frame, tmp_path, [LayerTotals("a", "Linear", 4, 0, 4)])
    assert sorted(path.name for path in paths) == sorted(
        f"{name}.{extension}"
        for name in (
            "ratio_against_depth",
            "ratio_with_update_against_batch",
            "saved_bytes_against_batch",
            "saved_bytes_against_depth",
            "checkpointing_against_depth",
            "memory_against_batch",
            "memory_against_depth",
            "time_ratio_against_flop_ratio",
            "share_of_step",
            "flops_by_layer",
        )
        for extension in ("png", "svg")
    )
    for path in paths:
        head = {".png": b"\x89PNG", ".svg": b"<?xml"}[path.suffix]
        assert path.read_bytes().startswith(head)


def test_same_data_give_the_same_files(frame, tmp_path):
    layers = [LayerTotals("a", "Linear", 4, 0, 4)]
    first = [path.read_bytes() for path in figures.draw_all(frame, tmp_path, layers)]
    second = [path.read_bytes() for path in figures.draw_all(frame, tmp_path, layers)]
    assert first == second
    assert not any(b"dc:date" in content for content in first)


def test_other_data_give_other_files(frame, tmp_path):
    before = [path.read_bytes() for path in figures.draw_all(frame, tmp_path)]
    for column in ("ratio", "ratio_with_update", "time_ratio", "forward_ms"):
        frame.loc[0, column] *= 1.1
    frame.loc[0, "saved_bytes"] *= 2
    for column in ("peak_bytes", "checkpointed_saved_bytes"):  # of the largest depth and batch
        frame.loc[len(frame) - 1, column] *= 2
    after = [path.read_bytes() for path in figures.draw_all(frame, tmp_path)]
    assert all(a != b for a, b in zip(before, after, strict=True))


def test_figures_without_data_are_left_out(tmp_path):
    unmeasured = frame_of(*(row(d, b, measured=False) for d in (1, 2) for b in (1, 8)))
    one_depth = frame_of(*(row(2, b, measured=False) for b in (1, 8)))
    out_of_memory = frame_of(
        {"model": "mlp", "depth": 1, "batch": 1, "forward": "", "status": "oom"}
    )
    assert names(figures.draw_all(unmeasured, tmp_path)) == {
        "ratio_against_depth",
        "ratio_with_update_against_batch",
        "saved_bytes_against_batch",
        "saved_bytes_against_depth",
        "checkpointing_against_depth",
        "memory_against_batch",
        "memory_against_depth",
    }
    assert names(figures.draw_all(one_depth, tmp_path)) == {
        "ratio_with_update_against_batch",
        "saved_bytes_against_batch",
        "memory_against_batch",
    }
    assert figures.draw_all(out_of_memory, tmp_path) == []
    assert figures.draw_all(unmeasured.iloc[:0], tmp_path, []) == []


def test_points_without_figures_are_left_out(frame, tmp_path):
    gap = {"model": "mlp", "depth": 100, "batch": 64, "forward": "", "status": "oom"}
    with_gap = pd.concat([frame, frame_of(gap)], ignore_index=True)
    with_gap = with_gap.astype(object).where(with_gap.notna(), "")
    without = [path.read_bytes() for path in figures.draw_all(frame, tmp_path)]
    assert [path.read_bytes() for path in figures.draw_all(with_gap, tmp_path)] == without


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


def test_titles_claim_only_what_the_data_show(frame, tmp_path):
    frame["ratio"] = list(reversed(frame["ratio"]))
    frame["ratio_with_update"] = 2.0
    frame.loc[0, "saved_bytes"] += 1
    assert "Backward : forward against depth" in texts(figures.ratio_against_depth(frame, tmp_path))
    assert "(Backward + update) : forward against batch" in texts(
        figures.ratio_with_update_against_batch(frame, tmp_path)
    )
    for figure in (figures.saved_bytes_against_batch, figures.saved_bytes_against_depth):
        words = texts(figure(frame, tmp_path))
        assert any(word.startswith("Saved activations against") for word in words)


def test_series_differ_by_the_key_that_decides(frame, tmp_path):
    words = texts(figures.ratio_with_update_against_batch(frame, tmp_path))
    assert {"depth 1", "depth 2", "depth 4", "depth 8"} <= set(words)
    assert "The update's share of the FLOPs fades as the batch grows" in words
    # depth 8: (17/9 * 9 * 128 + 9 * 144) / (9 * 128) = 3.014 at batch 1
    assert "mlp, depth 1: 2.625 → 1.518; depth 8: 3.014 → 1.906" in words


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


def test_models_have_a_panel_each(tmp_path):
    frame = frame_of(*(row(d, 1, model=m) for m in ("mlp", "cnn") for d in (1, 3)))
    words = texts(figures.ratio_against_depth(frame, tmp_path))
    assert {"mlp: 1.500 → 1.750", "cnn: 1.500 → 1.750"} <= set(words)


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


def test_layers_show_their_ratios(tmp_path):
    layers = [
        LayerTotals("first", "Linear", 2_000_000, 0, 2_000_000),
        LayerTotals("relu", "ReLU", elementwise_forward=10),
        LayerTotals("last", "Linear", 1_000_000, 1_000_000, 1_000_000),
    ]
    words = texts(figures.flops_by_layer(layers, tmp_path))
    assert "The first layer's backward costs its forward, every other's twice that" in words
    assert "FLOP of contractions (MFLOP)" in words
    assert {"first", "last", "1 : 1", "2 : 1"} <= set(words)
    assert "relu" not in words


def test_many_layers_are_cut_in_the_middle(tmp_path):
    layers = [LayerTotals(f"layer {i}", "Linear", 8, 8, 8) for i in range(40)]
    words = texts(figures.flops_by_layer(layers, tmp_path))
    assert {"layer 0", "layer 5", "layer 34", "layer 39"} <= set(words)
    assert not {"layer 6", "layer 33"} & set(words)
    assert any("28 more layers" in word for word in words)
    assert "FLOPs of each layer" in words


# -- memory ----------------------------------------------------------------------------------------


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


def test_checkpointing_shows_what_stays_and_what_it_costs(frame, tmp_path):
    words = texts(figures.checkpointing_against_depth(frame, tmp_path))
    assert "Checkpointed, the deepest keep 11% of the saved activations" in words  # 1 layer of 9
    assert "mlp, batch 64: up to 0.50 forward again" in words
    assert {"all kept", "checkpointed in √n segments", "saved activations (KiB)"} <= set(words)


def test_memory_timeline_names_the_phases_the_categories_and_the_peak(tmp_path):
    # W, b, x: 96 + 24 + 128 bytes; y, 192, and the loss, 4, make the peak.
    model, x = torch.nn.Linear(4, 6), torch.randn(8, 4)
    optimizer = torch.optim.SGD(model.parameters())
    with fr.Profiler(model) as profiler:
        model(x).sum().backward()
        optimizer.step()
    picture = tmp_path / "timeline.svg"
    figures.memory_timeline(profiler.ledger.memory, picture, "linear batch=8")
    words = texts([picture])
    assert "linear batch=8: 44% of the peak are temporaries" in words
    assert "peak 444.0 B: aten.sum for (step)" in words
    assert {"forward", "backward", "update", "live tensors (B)"} <= set(words)
    assert {"parameters", "inputs", "gradients", "temporaries"} <= set(words)
    assert "buffers" not in words  # there are none
    figures.memory_timeline(profiler.ledger.memory, tmp_path / "timeline.png")
    assert (tmp_path / "timeline.png").read_bytes().startswith(b"\x89PNG")


def test_an_update_of_many_operators_takes_a_quarter():
    places = _places([("forward", range(3)), ("backward", range(3, 9)), ("update", range(9, 900))])
    assert len(places) == 901
    assert places[9] == 9
    assert places[-1] == pytest.approx(12)
