"""All figures of a sweep: which are drawn, and that the same data give the same files."""

from pathlib import Path

import pandas as pd

from flopratio.ledger import LayerTotals
from flopratio.report import figures
from tests.report.figures.rows import frame_of, row, texts


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


def test_a_name_is_never_read_as_a_formula(tmp_path):
    name, choice = r"my_$\frac{$.py:a_b$x", r"$\oops{$"
    rows = [
        {**row(depth, batch, model=name), "kind": kind, "ratio": ratio}
        for kind, ratio in ((choice, 1.5), ("a_1$", 1.75))
        for depth in (1, 2)
        for batch in (1, 8)
    ]
    frame = frame_of(*rows)
    frame.insert(1, "kind", frame.pop("kind"))
    paths = figures.draw_all(frame, tmp_path)
    words = [word for path in paths if path.suffix == ".svg" for word in texts([path])]
    assert sum(word.startswith(name) for word in words) >= 5
    assert any(choice in word for word in words)
    assert any("a_1$" in word for word in words)
