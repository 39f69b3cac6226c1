"""The CPU's memory, measured: by hand for moves that are given, and of a step that runs."""

import torch

from flopratio.measure.memory import Allocation, measure_peak, peak_of, record_allocations


def test_peak_is_the_most_alive() -> None:
    peak = peak_of(100, [Allocation(50, "a"), Allocation(-50, ""), Allocation(30, "b")])
    assert (peak.nbytes, peak.outside_kernels, peak.kernels) == (150, 150, {})


def test_what_kernels_hold_for_themselves_is_named() -> None:
    moves = [
        Allocation(50, "a"),
        Allocation(40, "b", in_kernel=True),
        Allocation(20, "b"),
        Allocation(-40, "b", in_kernel=True),
        Allocation(10, "c"),
    ]
    peak = peak_of(0, moves)
    assert (peak.nbytes, peak.outside_kernels) == (110, 80)
    assert peak.kernels == {"b": 40}


def test_nothing_happens() -> None:
    assert peak_of(7, []).nbytes == 7


def test_operators_are_those_that_a_trace_sees() -> None:
    weight, x = torch.randn(6, 4), torch.randn(8, 4)
    moves = record_allocations(lambda: torch.nn.functional.linear(x, weight))
    # linear is made up of a transpose and a product; the product's 8 * 6 * 4 bytes go at the end.
    assert [(move.nbytes, move.operator) for move in moves[:1]] == [(192, "aten::mm")]
    assert sum(move.nbytes for move in moves) == 0


def test_a_kernels_own_memory_is_told_apart() -> None:
    # An expanded operand has to be copied, 8 * 8 * 4 bytes, before it can be multiplied.
    x, expanded = torch.randn(8, 8), torch.randn(1).expand(8, 8)
    moves = record_allocations(lambda: x.mm(expanded))
    assert (256, "aten::mm", True) in moves
    assert (256, "aten::mm", False) in moves


def test_what_is_there_counts_once() -> None:
    x = torch.randn(8, 4)
    peak = measure_peak(lambda: x.exp(), [x, {"view": x.t()}, 3])
    assert peak.nbytes == 128 + 128
