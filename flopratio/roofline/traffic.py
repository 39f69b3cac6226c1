"""What an operator moves between memory and the device.

A ledger has the bytes of an operator's operands and results. That is what most kernels move: each
operand is read once and each result written once, also by fused ones, whose values in between stay
on the chip. The exceptions follow from what the operators do, and are all in here.
"""

from __future__ import annotations

from flopratio.formulas.movement import BOOKKEEPING, CREATION, names
from flopratio.ledger import Row
from flopratio.text.dtypes import RUNNABLE, itemsize

ALLOCATIONS = names(
    """
    empty empty_like empty_permuted empty_strided new_empty new_empty_strided empty_quantized
    _empty_affine_quantized _empty_per_channel_affine_quantized
    resize resize_ resize_as resize_as_ set set_ _efficientzerotensor
    """
)
"""They take memory as it comes."""

TO_PYTHON = names("_local_scalar_dense item")
"""They hand a number to Python, and compute nothing."""

NO_KERNEL = ALLOCATIONS | BOOKKEEPING | TO_PYTHON
"""Operators for which the device has nothing to do."""

GATHERS = names(
    """
    embedding index _unsafe_index index_select gather take nll_loss_forward nll_loss2d_forward
    """
)
"""They look up some entries of a table: no more of it than they write."""

SHAPE_ONLY = names(
    """
    copy_ _foreach_copy_ _foreach_zero_
    nll_loss_backward nll_loss2d_backward
    max_pool2d_with_indices_backward max_pool3d_with_indices_backward
    adaptive_max_pool2d_backward adaptive_max_pool3d_backward
    fractional_max_pool2d_backward fractional_max_pool3d_backward
    avg_pool2d_backward avg_pool3d_backward
    _adaptive_avg_pool2d_backward _adaptive_avg_pool3d_backward
    """
)
"""One of their operands has the size of the result, and is not read: it gives the result's shape,
or is written over."""

SCATTERS = names(
    """
    index_add_ index_copy_ index_fill_ index_put_ _index_put_impl_ index_reduce_ put_
    scatter_ scatter_add_ scatter_reduce_
    """
)
"""In place, they touch those entries alone that they are given."""

TWICE = names(
    """
    native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_functional
    _batch_norm_with_update _batch_norm_with_update_functional cudnn_batch_norm miopen_batch_norm
    native_group_norm

    native_batch_norm_backward batch_norm_backward cudnn_batch_norm_backward
    miopen_batch_norm_backward native_group_norm_backward
    native_layer_norm_backward _fused_rms_norm_backward
    """
)
"""They read all operands twice: a mean over a batch, and the sums in a gradient of a normalization
(over the normalized entries and over the batch), are complete only when all has been read, and then
each entry is needed again. (A layer norm's forward keeps a row on the chip.)"""

FLOP_OF_EVALUATION = 4
"""A batch norm in evaluation does that much an entry at most: ``(x - mean) * rstd * weight + bias``
of statistics that it has. To work these out takes 3 more (a sum, and squares and their sum)."""


def moved(row: Row) -> int:
    """Bytes that the operator of a row reads and writes."""
    read, written = row.bytes_read, row.bytes_written
    if row.op in NO_KERNEL:
        return 0
    if row.op in CREATION:
        return written
    if row.op in GATHERS:
        return min(read, written) + written
    if row.op in SHAPE_ONLY:
        return max(read - written, 0) + written
    if row.op in SCATTERS:
        return 2 * max(read - written, 0)
    return (2 if row.op in TWICE and not _is_evaluation(row) else 1) * read + written


def _is_evaluation(row: Row) -> bool:
    """Whether a batch norm needs no mean over its batch."""
    if "batch_norm" not in row.op or "backward" in row.op or row.dtype not in RUNNABLE:
        return False
    entries = row.bytes_written // itemsize(row.dtype)
    return row.elementwise <= (FLOP_OF_EVALUATION + 1) * entries
