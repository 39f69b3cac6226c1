"""The figures, one function each.

Those of a sweep are written as PNG and SVG, with one panel a model. Their input is a DataFrame of a
sweep's rows, counts as exact Python ints, the keys of the grid between the columns ``model`` and
``forward``; they return the paths written, none where the frame lacks the data. Those of a profiled
step are in :mod:`flopratio.report.figures.profile`.
"""

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
from flopratio.report.figures.sweep import draw_all
from flopratio.report.figures.time_ratio import time_ratio_against_size
from flopratio.report.figures.timeline import memory_timeline

__all__ = [
    "attention_share_against_seq",
    "checkpointing_against_depth",
    "draw_all",
    "flops_by_layer",
    "memory_against_batch",
    "memory_against_depth",
    "memory_timeline",
    "ratio_against_depth",
    "ratio_with_update_against_batch",
    "saved_bytes_against_batch",
    "saved_bytes_against_depth",
    "share_of_step",
    "time_ratio_against_flop_ratio",
    "time_ratio_against_size",
]
