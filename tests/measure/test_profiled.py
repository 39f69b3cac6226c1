"""The medians over profiled steps, and the events that are kept of one."""

from __future__ import annotations

from collections import Counter

import pytest

from flopratio.ledger import Ledger, Row
from flopratio.measure.events import (
    BACKWARD_RANGE,
    EVALUATE,
    FORWARD_RANGE,
    HostEvent,
    Kernel,
    ProfiledEvents,
    event_tree,
)
from flopratio.measure.join import Timed
from flopratio.measure.profiled import ProfiledStep, profiled_of, step_events


def row(layer: str, phase: str, time_us: float | None = None) -> Row:
    return Row(layer, "Linear", "aten.mm", "", phase, flops=10, time_us=time_us)


def host(name, start_us, end_us, number, *, thread=1, is_range=False):
    return HostEvent(name, start_us * 1000, end_us * 1000, thread, number, is_annotation=is_range)


def step(*times: float | None, rest: float, wall_ms: float, unmatched=0) -> ProfiledStep:
    rows = [
        row("a", phase, time)
        for phase, time in zip(("forward", "grad_input", "grad_weight"), times, strict=True)
    ]
    timed = Timed(rows, rest={("a", "forward"): rest}, undivided={"a": 5.0})
    timed.unmatched["aten::mul"] = unmatched
    timed.unattributed["triton"] = 2.0
    tree = event_tree(
        ProfiledEvents([host(FORWARD_RANGE, 0, 100, 1, is_range=True), host("op", 0, 70, 2)]),
        on_device=False,
    )
    return ProfiledStep.of(timed, tree, on_device=False, wall_ms=wall_ms, plain_ms=2.0)


def test_times_are_medians_row_by_row():
    steps = [
        step(10, 20, None, rest=1, wall_ms=3),
        step(14, 10, None, rest=3, wall_ms=5, unmatched=2),
        step(12, 30, 9, rest=8, wall_ms=30),
    ]
    ledger = Ledger([row("a", phase) for phase in ("forward", "grad_input", "grad_weight")])
    profiled = profiled_of(ledger, steps, events=[], time_ratio=2.5)
    assert [row.time_us for row in profiled.ledger.rows] == [12, 20, 9]
    assert profiled.rest == {("a", "forward"): 3}
    assert profiled.undivided == {"a": 5}
    assert profiled.unmatched == Counter({"aten::mul": 2})
    assert profiled.unattributed == {"triton": 2}
    phases = {phase: interval.median for phase, interval in profiled.phases_ms.items()}
    assert phases["forward"] == pytest.approx(0.017)  # 11, 17 and 20 us: of the sums
    assert phases["grad_input"] == pytest.approx(0.020)
    assert phases["undivided"] == pytest.approx(0.005)
    assert phases["backward"] == pytest.approx(0.025)  # 25, 15 and 44
    assert profiled.kernels_ms.median == pytest.approx(0.070)
    assert profiled.idle_ms["forward"].median == pytest.approx(0.030)
    assert profiled.wall_ms.median == 2
    assert profiled.overhead == pytest.approx(5 / 2 - 1)
    assert profiled.repeats == 3
    times = profiled.times()
    assert (times.rows, times.time_ratio) == (profiled.ledger.rows, 2.5)
    assert times.idle_forward_us == pytest.approx(30)
    assert times.idle_backward_us == 0


def test_one_step_that_was_held_up_is_no_part_of_any_time():
    """Of five, one stands still in one row, around operators, or in what nothing divides."""
    steps = [step(10, 20, 9, rest=1, wall_ms=3) for _ in range(5)]
    steps[0].timed.rows[0] = steps[0].timed.rows[0]._replace(time_us=90_000)
    steps[1].timed.rest["a", "forward"] = 90_000
    steps[2].timed.undivided["a"] = 90_000
    steps[3].timed.rest["b", "forward"] = 90_000  # where the others have none
    ledger = Ledger([row("a", phase) for phase in ("forward", "grad_input", "grad_weight")])
    profiled = profiled_of(ledger, steps, events=[], time_ratio=None)
    assert [row.time_us for row in profiled.ledger.rows] == [10, 20, 9]
    assert profiled.rest == {("a", "forward"): 1, ("b", "forward"): 0}
    assert profiled.undivided == {"a": 5}


def test_kept_are_kernels_and_on_the_host_what_is_recorded_and_around_it():
    tree = event_tree(
        ProfiledEvents(
            [
                host(FORWARD_RANGE, 100, 200, 1, is_range=True),
                host("aten::linear", 110, 150, 2),
                host("aten::addmm", 120, 140, 3),
                host("aten::expand", 121, 125, 4),
                host(BACKWARD_RANGE, 200, 300, 5, is_range=True),
                host(EVALUATE + "AddmmBackward0", 210, 290, 6, thread=2),
                host("aten::mm", 220, 230, 7, thread=2),
            ],
            [
                Kernel("gemm", 130_000, 160_000, 7, 3),
                Kernel("fill", 165_000, 166_000, 7, 4),
                Kernel("gemm", 225_000, 250_000, 7, 7),
                Kernel("triton", 260_000, 270_000, 9, 0),
            ],
        ),
        on_device=True,
    )
    places = {
        "aten::linear": (("a", "forward"), None),
        "aten::addmm": (("a", "forward"), 0),
        EVALUATE + "AddmmBackward0": (("a", ""), None),
        "aten::mm": (("a", "grad_weight"), 1),
    }
    for event in tree.events:
        event.place, event.row = places.get(event.name, (None, None))
    assert [tuple(event) for event in step_events(tree)] == [
        ("aten::linear", 0, 40, "host", "a", "forward", None),
        ("aten::addmm", 10, 20, "host", "a", "forward", 0),
        ("gemm", 20, 30, "stream 7", "a", "forward", 0),
        ("fill", 55, 1, "stream 7", "a", "forward", 0),
        (EVALUATE + "AddmmBackward0", 100, 80, "host backward", "a", "", None),
        ("aten::mm", 110, 10, "host backward", "a", "grad_weight", 1),
        ("gemm", 115, 25, "stream 7", "a", "grad_weight", 1),
        ("triton", 150, 10, "stream 9", "", "", None),
    ]
