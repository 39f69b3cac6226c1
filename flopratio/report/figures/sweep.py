"""Every figure that a sweep has the data for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flopratio.report.figures.attention import attention_share_against_seq
from flopratio.report.figures.layers import flops_by_layer
from flopratio.report.figures.peak_memory import memory_against_batch, memory_against_depth
from flopratio.report.figures.ratios import ratio_against_depth, ratio_with_update_against_batch
from flopratio.report.figures.saved_bytes import (
    checkpointing_against_depth,
    saved_bytes_against_batch,
    saved_bytes_against_depth,
)
from flopratio.report.figures.step_time import share_of_step, time_ratio_against_flop_ratio

if TYPE_CHECKING:
    import pandas as pd

    from flopratio.ledger import LayerTotals


def draw_all(
    frame: pd.DataFrame, directory: Path, layers: Sequence[LayerTotals] | None = None
) -> list[Path]:
    """Draw every figure for which the data are there.

    Args:
        frame: a sweep's rows.
        directory: where the files go; it must exist.
        layers: of one ledger, for the bars of each layer.

    Returns:
        The files written.
    """
    figures = (
        ratio_against_depth,
        ratio_with_update_against_batch,
        saved_bytes_against_batch,
        saved_bytes_against_depth,
        checkpointing_against_depth,
        memory_against_batch,
        memory_against_depth,
        attention_share_against_seq,
        time_ratio_against_flop_ratio,
        share_of_step,
    )
    paths = [path for figure in figures for path in figure(frame, directory)]
    if layers is not None:
        paths += flops_by_layer(layers, directory)
    return paths
