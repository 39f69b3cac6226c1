"""What ranks send each other (``c10d``, ``_c10d_functional``), and what sharded parameters are
copied to and from for it (``fsdp``): bytes moved, and no contraction.

Only a reduction computes. Each element that a rank contributes is added (multiplied, compared) into
an accumulator, one FLOP, on whichever device of the network that is done: N additions of N
elements, as of any sum here, however many ranks there are. An average is divided in the end, a
division for each element of the result.
"""

from __future__ import annotations

from typing import Any

from flopratio.formulas.formula import (
    Cost,
    OperatorFormula,
    Size,
    Tensor,
    operator,
)
from flopratio.formulas.movement import moves, views

FUNCTIONAL = "_c10d_functional"

MOVED = """
    c10d.allgather_ c10d._allgather_base_ c10d.allgather_coalesced_
    c10d.allgather_into_tensor_coalesced_ c10d.alltoall_ c10d.alltoall_base_ c10d.broadcast_
    c10d.gather_ c10d.gather_into_tensor_ c10d.scatter_ c10d.send c10d.recv_ c10d.recv_any_source_
    _c10d_functional.all_gather_into_tensor _c10d_functional.all_gather_into_tensor_coalesced
    _c10d_functional.all_gather_into_tensor_out _c10d_functional.all_to_all_single
    _c10d_functional.batch_p2p_ops _c10d_functional.broadcast _c10d_functional.broadcast_
    _c10d_functional.irecv _c10d_functional.isend
    _c10d_functional_autograd.all_gather_into_tensor _c10d_functional_autograd.all_to_all_single
    fsdp.all_gather_copy_in fsdp.chunk_cat fsdp.chunk_cat_mixed_dtype fsdp.copy_
    fsdp.split_with_sizes_copy
"""
"""What gathers, scatters, exchanges or copies."""

WAITED = """
    c10d.barrier c10d.monitored_barrier_ fsdp.record_grad_output_stream
    _c10d_functional.wait_tensor _c10d_functional.wait_tensors
    _c10d_functional._wrap_tensor_autograd
"""
"""What waits, or marks."""

REDUCED = """
    c10d.allreduce_ c10d.allreduce_coalesced_ c10d.reduce_
    c10d.reduce_scatter_ c10d._reduce_scatter_base_ c10d.reduce_scatter_tensor_coalesced_
"""
"""Reductions into tensors that are there; the operation is an object that says nothing."""

FUNCTIONAL_REDUCTIONS = """
    all_reduce all_reduce_ all_reduce_coalesced all_reduce_coalesced_
    reduce_scatter_tensor reduce_scatter_tensor_coalesced reduce_scatter_tensor_out
"""
"""Reductions whose operation is named (``sum``, ``avg``)."""


def elements(value: Any) -> Size:
    """The elements of a tensor, or of all tensors in a list."""
    if isinstance(value, Tensor):
        return value.numel
    return sum(map(elements, value)) if isinstance(value, tuple) else 0


def reduced_from(operand: int) -> OperatorFormula:
    def formula(*arguments: Any, out: Any, **options: Any) -> Cost:
        """An addition for each element that this rank contributes, of the operand at a place."""
        return Cost(elementwise=elements(arguments[operand]))

    return formula


def functional_reduction(
    input: Any, reduce_op: str, /, *group: Any, out: Any, **options: Any
) -> Cost:
    """The same, and the divisions of an average."""
    divisions = elements(out) if str(reduce_op).lower() == "avg" else 0
    return Cost(elementwise=elements(input) + divisions)


for _name in MOVED.split():
    operator(_name)(moves)
for _name in WAITED.split():
    operator(_name)(views)
for _name in REDUCED.split():
    # What is scattered comes second, after what it is written to.
    operator(_name)(reduced_from(1 if "scatter" in _name else 0))
for _name in FUNCTIONAL_REDUCTIONS.split():
    operator(f"{FUNCTIONAL}.{_name}")(functional_reduction)
operator("_c10d_functional_autograd.reduce_scatter_tensor")(functional_reduction)


@operator("c10d.check_for_nan")
def check_for_nan(tensor: Tensor, *, out: None) -> Cost:
    """One comparison an element."""
    return Cost(elementwise=tensor.numel)
