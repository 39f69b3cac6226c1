"""What does it cost to follow a step's memory? The Profiler's ledger without and with its memory,
beside torch's own MemTracker, on the same fake step, in one process, taking turns.

    python benchmarks/memory.py [MODEL ...]
"""

import gc
import sys
import warnings
from collections.abc import Callable
from statistics import median
from time import perf_counter

from rich.console import Console
from rich.table import Column, Table
from torch.distributed._tools.mem_tracker import MemTracker

from flopratio.models import Example, load
from flopratio.step.losses import loss_of
from flopratio.trace.profiler import Profiler

MODELS = {
    "torchvision:resnet50": {"batch": 8},
    "torchvision:vit_b_16": {"batch": 8},
    "hf:gpt2": {"batch": 8, "seq": 1024},
}
REPEATS = 5


def step(example: Example) -> None:
    loss_of(example.module(*example.args, **example.kwargs)).backward()
    example.module.zero_grad(set_to_none=True)


def without_memory(example: Example) -> None:
    with Profiler(example.module) as profiler:
        step(example)
    assert profiler.ledger.totals.forward


def with_memory(example: Example) -> None:
    with Profiler(example.module) as profiler:
        step(example)
    assert profiler.ledger.memory.peak_reserved


def mem_tracker(example: Example) -> None:
    tracker = MemTracker()
    tracker.track_external(example.module)
    with tracker:
        step(example)
    assert tracker.get_tracker_snapshot("peak")


def milliseconds(run: Callable[[Example], None], example: Example) -> float:
    gc.collect()  # what one run leaves is not charged to the next
    start = perf_counter()
    run(example)
    return 1000 * (perf_counter() - start)


def main() -> None:
    warnings.simplefilter("ignore")
    table = Table(
        Column("model", no_wrap=True),
        "without ms",
        "with memory ms",
        "MemTracker ms",
        "of without",
        "MemTracker takes",
    )
    for name in sys.argv[1:] or list(MODELS):
        example = load(name, MODELS[name])
        runs: dict[Callable[[Example], None], list[float]] = {
            without_memory: [],
            with_memory: [],
            mem_tracker: [],
        }
        with example.mode:
            for repeat in range(REPEATS + 1):
                for run, times in runs.items():
                    elapsed = milliseconds(run, example)
                    if repeat:  # the first of each warms caches up
                        times.append(elapsed)
        without, whole, tracker = (median(times) for times in runs.values())
        table.add_row(
            name,
            *(f"{value:.0f}" for value in (without, whole, tracker)),
            f"{whole / without:.2f} x",
            f"{tracker / whole:.1f} x as long",
        )
    console = Console(width=110)
    console.print(table)
    console.print("targets: at most 1.3 x the trace without; MemTracker at least 4 x as long")


if __name__ == "__main__":
    main()
