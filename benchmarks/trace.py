"""What does tracing a training step cost? The plain step on fake tensors, the step under
FlopCounterMode, and under the Profiler with the finished ledger, in one process, taking turns.

    python benchmarks/trace.py [MODEL ...]
"""

import gc
import sys
import warnings
from collections.abc import Callable
from statistics import median
from time import perf_counter

from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from flopratio.models import Example, load
from flopratio.step.losses import loss_of
from flopratio.trace.profiler import Profiler

MODELS = {
    "torchvision:resnet50": {"batch": 8},
    "torchvision:vit_b_16": {"batch": 8},
    "torchvision:densenet121": {"batch": 8},
    "torchvision:mobilenet_v3_large": {"batch": 8},
    "torchvision:convnext_base": {"batch": 8},
    "hf:gpt2": {"batch": 8, "seq": 1024},
}
REPEATS = 7


def step(example: Example) -> None:
    loss_of(example.module(*example.args, **example.kwargs)).backward()
    example.module.zero_grad(set_to_none=True)


def counted(example: Example) -> None:
    with FlopCounterMode(display=False) as counter:
        step(example)
    counter.get_total_flops()


def profiled(example: Example) -> None:
    with Profiler(example.module) as profiler:
        step(example)
    assert profiler.ledger.totals.forward


def milliseconds(run: Callable[[Example], None], example: Example) -> float:
    gc.collect()  # what one run leaves is not charged to the next
    start = perf_counter()
    run(example)
    return 1000 * (perf_counter() - start)


def main() -> None:
    warnings.simplefilter("ignore")
    chosen = sys.argv[1:] or list(MODELS)
    table = Table("model", "plain ms", "FlopCounterMode ms", "Profiler ms", "of plain", "of FCM")
    for name in chosen:
        example = load(name, MODELS[name])
        runs = {step: [], counted: [], profiled: []}
        with example.mode:
            for repeat in range(REPEATS + 1):
                for run, times in runs.items():
                    elapsed = milliseconds(run, example)
                    if repeat:  # the first of each warms caches up
                        times.append(elapsed)
        plain, counter, profiler = (median(times) for times in runs.values())
        table.add_row(
            name,
            *(f"{value:.0f}" for value in (plain, counter, profiler)),
            f"{profiler / plain:.2f} x",
            f"{profiler / counter:.2f} x",
        )
    Console(width=110).print(table)
    Console(width=110).print("targets: at most 1.20 x the plain step, 0.75 x FlopCounterMode")


if __name__ == "__main__":
    main()
