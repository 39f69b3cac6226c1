"""The two small tables: phases, and memory."""

from __future__ import annotations

import pytest

import flopratio as fr
from flopratio.ledger import Ledger, Row
from flopratio.memory import Memory, MemoryBlock, OperatorRun
from flopratio.report.shares import (
    Shares,
    bar,
    memory_shares,
    percent,
    phase_shares,
    share_table,
)
from tests.report.small import printed, small_ledger


def texts(shares: Shares) -> dict[str, tuple[str, ...]]:
    return {line.name: line.figures for line in (*shares.lines, *shares.below)}


def a_whole_step() -> Ledger:
    """With recomputation and an update."""
    ledger = small_ledger()
    ledger.rows.append(Row("head", "Linear", "aten.addmm", "", "recompute", 500_000))
    ledger.rows.append(Row("head", "Linear", "aten.add_", "", "update", elementwise=1_000_000))
    return ledger


def test_phases_their_ratios_and_those_of_the_step() -> None:
    assert texts(phase_shares(a_whole_step())) == {
        "forward": ("5.50", "0.003", "1"),
        "grad_input": ("1.50", "0.001", "0.273"),
        "grad_weight": ("5.50", "0.001", "1"),
        "recompute": ("0.50", "0", "0.091"),
        "update": ("0", "1.000", "0.182"),
        "total": ("13.00", "1.005", ""),
        "backward : forward": ("", "", "1.273"),
        "… with elementwise": ("", "", "1.272"),
        "… with recompute": ("", "", "1.364"),
        "… with update": ("", "", "1.455"),
    }


def test_shares_are_of_products_and_elementwise_work() -> None:
    shares = phase_shares(a_whole_step())
    assert [line.share for line in shares.lines] == [
        pytest.approx(flops / 14_004_510)
        for flops in (5_503_010, 1_501_000, 5_500_500, 500_000, 1_000_000)
    ]
    assert sum(line.share or 0 for line in shares.lines) == pytest.approx(1)


def test_every_digit_and_multiply_adds() -> None:
    exact = phase_shares(small_ledger(), exact=True)
    assert texts(exact)["forward"] == ("5,500,000", "3,010", "1")
    macs = phase_shares(small_ledger(), macs=True)
    assert "MMAC" in macs.heading[1]
    assert texts(macs)["forward"][0] == "2.750"


def test_a_forward_alone_is_one_line() -> None:
    ledger = Ledger([Row("a", "Linear", "aten.mm", "", "forward", 8)])
    assert texts(phase_shares(ledger)) == {"forward": ("8", "0", "1")}
    assert texts(phase_shares(Ledger([]))) == {"forward": ("0", "0", "")}


def a_memory() -> Memory:
    blocks = [
        MemoryBlock(0, 3 * 1024, "parameters", "a", "", -1, None),
        MemoryBlock(1, 9 * 1024, "saved_activations", "a", "aten.mm", 0, 2),
        MemoryBlock(2, 4 * 1024, "gradients", "a", "aten.mm", 2, None),
    ]
    operators = [OperatorRun("a", "aten.mm", phase) for phase in ("forward", "forward", "update")]
    return Memory(
        {"parameters": 3 * 1024, "saved_activations": 9 * 1024, "gradients": 4 * 1024,
         "peak": 12 * 1024, "peak_phase": "forward", "peak_reserved": 2**21,
         "inference_peak": None, "first_step_peak": 12 * 1024},
        blocks=blocks,
        operators=operators,
    )  # fmt: skip


def test_what_is_alive_at_the_peak_and_the_figures_beside() -> None:
    shares = memory_shares(a_memory(), exact=True)
    assert shares is not None
    assert shares.heading[0] == "memory at the peak, in forward"
    assert [(line.name, line.figures, line.share) for line in shares.lines] == [
        ("saved activations", ("9,216",), 0.75),
        ("parameters", ("3,072",), 0.25),
    ]
    assert [(line.name, line.figures) for line in shares.below] == [
        ("peak", ("12,288",)),
        ("reserved", ("2,097,152",)),
    ]


def test_of_figures_alone_there_are_no_shares() -> None:
    shares = memory_shares(small_ledger().memory)
    assert shares is not None
    assert not shares.has_shares
    assert texts(shares) == {"parameters": ("4.80",), "peak": ("10.00",)}
    assert memory_shares(Memory()) is None


def test_the_parts_of_a_real_step_are_the_peak() -> None:
    memory = fr.count("mlp", depth=2, width=16, batch=8, optimizer="adamw").memory
    shares = memory_shares(memory, exact=True)
    assert shares is not None
    alive = sum(int(line.figures[0].replace(",", "")) for line in shares.lines)
    assert alive == memory.peak
    assert texts(shares)["inference"] == (f"{memory.inference_peak:,}",)


@pytest.mark.parametrize(
    ("share", "text"), [(0.0, ""), (1e-9, "▏"), (1 / 8, "▌"), (0.5, "██"), (1.0, "████")]
)
def test_bars(share: float, text: str) -> None:
    assert bar(share, 4) == text


def test_percents() -> None:
    assert [percent(share) for share in (None, 0.0, 0.0001, 0.3456)] == [
        "",
        "0.0%",
        "<0.1%",
        "34.6%",
    ]


@pytest.mark.parametrize("width", [30, 40, 60, 80, 120])
def test_it_fits_the_terminal(width: int) -> None:
    held = memory_shares(a_memory())
    assert held is not None
    for shares in (phase_shares(a_whole_step()), held):
        text = printed(share_table(shares, width=width), width)
        assert max(map(len, text.splitlines())) <= width
        assert "reserved" in text or "1.273" in text  # no figure is lost


def test_a_narrow_terminal_has_no_bars() -> None:
    shares = phase_shares(a_whole_step())
    assert "█" not in printed(share_table(shares, width=40), 40)
    assert "█" in printed(share_table(shares, width=80), 80)
