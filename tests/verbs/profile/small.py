"""A profile small enough to be read: the small ledger with times, on a device with round roofs."""

from __future__ import annotations

from collections import Counter

from flopratio.hardware import DeviceProfile
from flopratio.measure import Interval, MeasuredMemory, Profiled, Timing
from flopratio.verbs.profile import OperatorDifference, Profile
from tests.report.small import small_ledger

ROOFS = DeviceProfile(
    "Abacus", "cpu", {"float32": 1e9}, 1e9, 1e-6, {"threads": 1}, {"float32": 2e9}
)
"""1 GFLOP/s, 1 GB/s, 1 µs a launch: a row of F FLOP and B bytes takes max(F, B) ns and 1 µs."""

TIMES_US = (8_000, 100, None, 3_000, 2_000, 2_500, None, None, 200, 10_000)
"""Of the rows of the small ledger, in order; views have none."""


def small_profile() -> Profile:
    """Forward takes 11.1 ms in its operators and 0.9 around them, grad_input 2.2 and grad_weight
    12.5; 0.3 ms of backward can't be divided."""
    ledger = small_ledger()
    ledger.rows = [
        row._replace(time_us=time, dtype="float32")
        for row, time in zip(ledger.rows, TIMES_US, strict=True)
    ]
    ledger.convention = {"flop_per_mac": 2, "device": "cpu"}
    ledger.versions = {"torch": "2.13.0"}
    ledger.memory["peak"] = 10_000

    def always(ms: float) -> Interval:
        return Interval(ms, ms - 0.5, ms + 0.5)

    phases = {
        "forward": always(12.0),
        "grad_input": always(2.2),
        "grad_weight": always(12.5),
        "undivided": always(0.3),
        "backward": always(15.0),
    }
    profiled = Profiled(
        ledger=ledger,
        rest={("stem.conv", "forward"): 900.0},
        undivided={"head": 300.0},
        unmatched=Counter({"aten::relu": 2}),
        untraced=Counter({"aten::_foobar": 1}),
        unattributed={"Memcpy DtoH": 50.0},
        phases_ms=phases,
        kernels_ms=always(27.0),
        idle_ms={"forward": always(1.0), "backward": always(2.0), "update": always(0.0)},
        wall_ms=always(26.0),
        overhead=0.25,
        time_ratio=1.5,
        forward_ms=10.0,
        backward_ms=15.0,
        repeats=5,
    )
    timing = Timing(
        forward_ms=always(10.0),
        backward_ms=always(15.0),
        update_ms=Interval(0.0, 0.0, 0.0),
        step_ms=always(25.0),
        time_ratio=Interval(1.5, 1.4, 1.6),
        repeats=20,
        profiled=profiled,
    )
    return Profile(
        ledger,
        timing,
        ROOFS,
        measured_memory=MeasuredMemory("cpu", 10_100, 10_300, kernels={"aten::mm": 200}),
        differences=[OperatorDifference("head", "forward", "aten.addmm", 1, 2, 1_500_010, 10)],
        machine={"cores": 2},
        notes=["it was cold"],
        examples=2,
    )
