"""A million points of a step from its closed form, beside FlopCounterMode at one point.

Best of five for what takes milliseconds; traces are not read from disk.
"""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from flopratio.closed_form.grid import on_grid
from flopratio.networks.library import NETWORKS
from flopratio.step.options import StepOptions
from flopratio.verbs.formula import formula_of
from flopratio.verbs.formula.trace import step_of
from flopratio.verbs.sweep.closed_form import GridForm, Piece, write_grid

MODEL, SIZES = (
    ("transformer", ("batch", "seq", "depth", "width"))
    if "transformer" in NETWORKS
    else ("mlp", ("batch", "depth", "width"))
)
QUANTITIES = ("forward", "grad_input", "grad_weight", "update", "saved_bytes", "parameters")


def best(run: Callable[[], Any], times: int = 5) -> float:
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def one_point() -> None:
    with FlopCounterMode(display=False), torch.device("meta"):
        model = torch.nn.Sequential(*(torch.nn.Linear(512, 512) for _ in range(4)))
        model(torch.empty(8, 512)).sum().backward()


def main() -> None:
    start = time.perf_counter()
    closed = formula_of(MODEL, SIZES, {}, StepOptions(optimizer="sgd"), cached=False)
    traced = time.perf_counter() - start
    print(
        f"{MODEL} in {', '.join(SIZES)}: {len(closed.fitted_at)} traces fitted, "
        f"{len(closed.verified_at)} verified, {traced:.1f} s"
    )
    each = round(1_000_000 ** (1 / len(SIZES)))
    values = {
        key: tuple(range(axis[0], axis[0] + each * (axis[1] - axis[0]), axis[1] - axis[0]))
        for key, axis in closed.domains.items()
    }
    points = each ** len(SIZES)
    for name in QUANTITIES:
        seconds = best(lambda form=closed[name]: on_grid(form, values))  # type: ignore[misc]
        print(f"  {name:<12} at {points:,} points: {seconds * 1000:8.1f} ms")
    grid = GridForm(MODEL, StepOptions(), values, {})
    grid.pieces.append(Piece({k: frozenset(v) for k, v in values.items()}, closed.totals))
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("parquet", "csv"):
            seconds = best(lambda k=kind: write_grid(grid, Path(folder), kind=k, fresh=True), 1)  # type: ignore[misc]
            print(f"  all columns, worked out and written as {kind}: {seconds:.2f} s")
    print(f"  peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MiB")
    step_of(MODEL, {}, StepOptions())
    seconds = best(one_point)
    print(
        f"FlopCounterMode, four linear layers at one point: {seconds * 1000:.1f} ms; a million "
        f"would take {seconds * 1e6 / 3600:.1f} hours"
    )


if __name__ == "__main__":
    main()
