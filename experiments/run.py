"""Running experiments, side by side where no times are measured."""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path

from experiments.claims import results_in
from experiments.listed import Experiment


def run(name: str, directory: Path) -> float:
    """Run an experiment, and tell the seconds that it took."""
    start = time.perf_counter()
    with results_in(directory):
        import_module(f"experiments.{name}").main()
    return time.perf_counter() - start


def attempt(name: str, directory: Path) -> tuple[float, str]:
    """As :func:`run`, in a process of its own: the seconds, and what went wrong."""
    try:
        return run(name, directory), ""
    except Exception:
        return 0.0, traceback.format_exc()


def run_all(
    experiments: Sequence[Experiment], directory: Path, jobs: int
) -> Iterator[tuple[str, float, str]]:
    """Run experiments side by side, those that take long first; afterwards those that
    measure times, one by one.

    Yields:
        name, seconds, and the traceback of what went wrong, empty if nothing did; in the order in
        which they end.
    """
    # One thread each: they share the cores among them, and sums come out the same everywhere.
    os.environ["OMP_NUM_THREADS"] = "1"
    groups = (
        ([e for e in experiments if not e.alone], jobs),
        ([e for e in experiments if e.alone], 1),
    )
    for group, at_once in groups:
        with ProcessPoolExecutor(at_once, get_context("spawn"), max_tasks_per_child=1) as pool:
            longest_first = sorted(group, key=lambda each: -each.seconds)
            names = {pool.submit(attempt, e.name, directory): e.name for e in longest_first}
            for future in as_completed(names):
                yield names[future], *future.result()
