"""Attention's share against the length of the sequence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flopratio.report import figures
from tests.report.figures.rows import frame_of, texts


def point(depth: int, seq: int) -> dict[str, Any]:
    """Width 4, no head: 24 * 16 and 4 * 4 seq FLOP for each position and layer."""
    attention = depth * 16 * seq**2
    return {
        "model": "transformer",
        "depth": depth,
        "seq": seq,
        "batch": 1,
        "forward": attention + depth * 384 * seq,
        "attention_forward": attention,
        "status": "ok",
    }


def test_the_share_climbs_with_seq(tmp_path: Path) -> None:
    others = {
        "model": "mlp",
        "depth": 1,
        "seq": "",
        "batch": 1,
        "forward": 8,
        "attention_forward": "",
    }
    frame = frame_of(*(point(depth, seq) for depth in (1, 2) for seq in (8, 24)), others)
    words = texts(figures.attention_share_against_seq(frame, tmp_path))
    assert "Attention's share of the FLOPs climbs with seq" in words
    # 16 seq of 16 seq + 384, a quarter at 8 and a half at 24, whatever the depth: one line.
    assert "transformer: 25.000 → 50.000" in words


def test_a_sweep_without_attention_or_of_one_seq_has_no_such_figure(tmp_path: Path) -> None:
    one = frame_of(point(1, 8), point(2, 8))
    assert figures.attention_share_against_seq(one, tmp_path) == []
    assert (
        figures.attention_share_against_seq(one.drop(columns="attention_forward"), tmp_path) == []
    )


def test_the_title_claims_only_what_the_data_show(tmp_path: Path) -> None:
    frame = frame_of(point(1, 8), {**point(1, 24), "attention_forward": 16})
    words = texts(figures.attention_share_against_seq(frame, tmp_path))
    assert "Attention's share of the FLOPs against seq" in words
