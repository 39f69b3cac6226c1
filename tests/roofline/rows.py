"""Rows of steps that nobody ran, for properties that hold for all."""

from __future__ import annotations

from hypothesis import strategies as st

from flopratio.ledger import PHASES, Row

OPERATORS = (
    "aten.mm",
    "aten.convolution",
    "aten.convolution_backward",
    "aten.native_layer_norm_backward",
    "aten.relu",
    "aten.add",
    "aten.sum",
    "aten._softmax",
    "aten.clone",
    "aten.empty",
    "aten.view",
    "aten.embedding",
    "aten._foreach_add_",
    "aten._fused_adamw_",
    "mine.operator",
)

COUNTS = st.one_of(st.just(0), st.integers(1, 10**15))


def rows(*, timed: bool = False) -> st.SearchStrategy[Row]:
    """A row of any operator.

    Args:
        timed: whether it may have a time.
    """
    times = st.none() | st.just(0.0) | st.floats(1e-9, 1e9)  # no clock tells a femtosecond
    return st.builds(
        Row,
        layer=st.sampled_from(["", "a", "a.b", "c"]),
        type=st.just("Linear"),
        op=st.sampled_from(OPERATORS),
        autograd=st.sampled_from(["", "MmBackward0", "AccumulateGrad"]),
        phase=st.sampled_from(PHASES),
        flops=COUNTS,
        elementwise=COUNTS,
        bytes_read=COUNTS,
        bytes_written=COUNTS,
        time_us=times if timed else st.none(),
        dtype=st.sampled_from(["float32", "float32", "bfloat16", "float64", "int8", ""]),
    )


def steps(*, timed: bool = False) -> st.SearchStrategy[list[Row]]:
    """Rows in any order."""
    return st.lists(rows(timed=timed), max_size=30)
