"""A million points of the transformer's step from its closed form, beside the time that
FlopCounterMode takes for one.

    python benchmarks/closed_form.py

Traces are not read from disk. Of what takes less than seconds the best of five runs is told, and
the processor's time beside the clock's, which others on the machine make longer.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
from torch.utils.flop_counter import FlopCounterMode

from flopratio.closed_form.grid import all_at_points, on_grid
from flopratio.step.options import StepOptions
from flopratio.verbs.formula import formula_of
from flopratio.verbs.formula.trace import step_of
from flopratio.verbs.sweep.closed_form import WHOLE, GridForm, Piece
from flopratio.verbs.sweep.grid_file import write_grid

MODEL = "transformer"
KEYS = ("batch", "depth", "width", "seq")
OPTIONS = StepOptions(optimizer="sgd")
GRID = {
    "batch": tuple(range(1, 33)),
    "depth": tuple(range(1, 33)),
    "width": tuple(range(64, 64 * 33, 64)),
    "seq": tuple(range(64, 64 * 33, 64)),
}
POINT = {"batch": 8, "depth": 12, "width": 768, "seq": 1024}


def timed(what: str, run: Callable[[], Any], times: int = 5) -> float:
    """Print what a run takes at best, in seconds; return the processor's."""
    clock, processor = [], []
    for _ in range(times):
        start, busy = perf_counter(), process_time()
        run()
        clock.append(perf_counter() - start)
        processor.append(process_time() - busy)
    print(f"  {what:<58}{min(clock):>8.3f} s{min(processor):>8.3f} s of the processor")
    return min(processor)


def main() -> None:
    start, busy = perf_counter(), process_time()
    closed = formula_of(MODEL, KEYS, {}, OPTIONS, cached=False)
    seconds, processor = perf_counter() - start, process_time() - busy
    print(
        f"{MODEL} in {', '.join(KEYS)}: {len(closed.fitted_at)} traces fitted, "
        f"{len(closed.verified_at)} verified, {closed.traces} in all: {seconds:.1f} s, "
        f"{processor:.1f} s of the processor"
    )
    forms = {name: closed[name] for name in WHOLE}
    found = GridForm(MODEL, OPTIONS, GRID, {}, "float32")
    found.pieces.append(Piece({key: frozenset(each) for key, each in GRID.items()}, forms))
    draw = np.random.default_rng(0)
    scattered = {key: draw.choice(np.array(each), 1_000_000) for key, each in GRID.items()}
    print(f"evaluated exactly, the bound on overflow first, and written: {found.size:,} points")
    timed("forward, on the grid", lambda: on_grid(forms["forward"], GRID))
    timed(
        f"all {len(forms)} quantities, on the grid",
        lambda: [on_grid(form, GRID) for form in forms.values()],
    )
    forward = {"forward": forms["forward"]}
    timed("forward, at a million scattered points", lambda: all_at_points(forward, scattered))
    timed(
        f"all {len(forms)} quantities, at a million scattered points",
        lambda: all_at_points(forms, scattered),
    )
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("parquet", "csv"):

            def write(kind: str = kind) -> Path:
                return write_grid(found, Path(folder), kind=kind, fresh=True)

            size = write().stat().st_size / 1e6  # and pyarrow is imported
            timed(f"worked out and written as {kind}, {size:,.0f} MB", write, 3)
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MiB")

    def one_point() -> None:
        example = step_of(MODEL, POINT, OPTIONS).example
        with example.mode, FlopCounterMode(display=False) as counter:
            example.module(*example.args).sum().backward()
        counter.get_total_flops()

    print("FlopCounterMode, which counts forward and backward of one point alone:")
    sizes = ", ".join(f"{key} {value:,}" for key, value in POINT.items())
    seconds = timed(f"{sizes}, on fake tensors", one_point)
    print(f"  a million points would take {seconds * 1e6 / 3600 / 24:.1f} days")
    print("cold: a new process, and nothing on disk")
    for line in COLD:
        timed_cold(line)


COLD = (
    "sweep hf:gpt2 batch=1..1024 seq=16..1024 --measure none",
    "formula hf:gpt2 batch seq n_layer n_embd vocab_size",
)


def timed_cold(line: str) -> None:
    """Print what a command takes from its start to its end, imports included."""
    start, busy = perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as folder:
        verb, *rest = line.split()
        output = ["-o", f"{folder}/swept"] if verb == "sweep" else []
        subprocess.run(
            [sys.executable, "-m", "flopratio", verb, *rest, *output],
            env={**os.environ, "FLOPRATIO_CACHE": f"{folder}/cache"},
            capture_output=True,
            check=True,
        )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - busy.ru_utime - busy.ru_stime
    seconds = perf_counter() - start
    print(f"  {line:<58}{seconds:>7.1f} s{processor:>8.1f} s of the processor")


if __name__ == "__main__":
    main()
