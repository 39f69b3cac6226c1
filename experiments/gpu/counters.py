"""Stage 6: FLOP that the hardware's own counters saw, beside the ledger's: the only arbiter that is
no software."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

from experiments.gpu.kernels import KERNELS, counted
from experiments.gpu.rows import Run, run_rows
from flopratio.measure.counters import executed, why_not

COLUMNS = (
    *("ledger", "counted", "tensor_cores", "ratio", "elementwise"),
    *("by_unit", "not_converted", "unread", "kernels"),
)
"""``ledger``: FLOP of contractions, with what a fused kernel computes again. ``counted``: those of
tensor cores where there are any, else all; there the scaling and rounding of results is in it."""


def run(run: Run) -> bool:
    """``counters.csv``."""
    return run_rows(run, "counters", ("kernel",), COLUMNS, _work(run))


def _work(run: Run) -> Iterator[Any]:
    for name in KERNELS:
        yield (name,), lambda name=name: [_row(run, name)]


def _row(run: Run, name: str) -> dict[str, Any]:
    total = counted(KERNELS[name], run.device)
    elementwise = total.elementwise_forward + total.elementwise_backward
    ledger = total.forward + total.backward + total.recompute
    row: dict[str, Any] = {"ledger": ledger, "elementwise": elementwise}
    reason = why_not() if run.on_cuda else "a processor has no such counters: they are a GPU's"
    if reason is not None:
        return {**row, "status": "left out", "reason": reason}
    found = executed([sys.executable, "-m", "experiments.gpu.kernels", name])
    tensor = sum(flop for unit, flop in found.by_unit.items() if unit.startswith("tensor"))
    by_counters = tensor or found.flops
    return {
        **row,
        "counted": by_counters,
        "tensor_cores": tensor,
        "ratio": by_counters / ledger,
        "by_unit": json.dumps(found.by_unit),
        "not_converted": json.dumps(found.not_converted),
        "unread": " ".join(found.unread),
        "kernels": " | ".join(kernel.name for kernel in found.kernels),
    }
