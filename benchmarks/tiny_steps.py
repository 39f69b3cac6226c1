"""What does profiling a real step cost, where the step itself is so small that nothing hides it?
The plain step, the step under FlopCounterMode and under the Profiler, and the ledger afterwards,
in one process, taking turns.

    python benchmarks/tiny_steps.py
"""

import gc
from collections.abc import Callable
from statistics import median
from time import perf_counter

import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from flopratio.trace.profiler import Profiler

REPEATS = 30


def mlp() -> tuple[nn.Module, torch.Tensor]:
    layers = [nn.Linear(32, 32), nn.ReLU()] * 6
    return nn.Sequential(*layers, nn.Linear(32, 10)), torch.randn(8, 32)


def cnn() -> tuple[nn.Module, torch.Tensor]:
    def block(channels: int) -> list[nn.Module]:
        return [nn.Conv2d(channels, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()]

    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)]
    return nn.Sequential(*block(3), *block(8), *block(8), *head), torch.randn(4, 3, 16, 16)


def transformer() -> tuple[nn.Module, torch.Tensor]:
    layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True)
    return nn.TransformerEncoder(layer, 4, enable_nested_tensor=False), torch.randn(4, 16, 32)


class Timed:
    """One model with its optimizer, and the ways to run its step.

    Args:
        make: makes the model and its batch.
    """

    def __init__(self, make: Callable[[], tuple[nn.Module, torch.Tensor]]) -> None:
        self.model, self.batch = make()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3)
        self.times: dict[str, list[float]] = {}

    def step(self) -> None:
        self.model(self.batch).pow(2).mean().backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def plain(self) -> None:
        self._timed("plain", self.step)

    def counted(self) -> None:
        def run() -> None:
            with FlopCounterMode(display=False) as counter:
                self.step()
            counter.get_total_flops()

        self._timed("counted", run)

    def profiled(self) -> None:
        profiler = Profiler(self.model)

        def run() -> None:
            with profiler:
                self.step()

        self._timed("profiled", run)
        self._timed("ledger", lambda: profiler.ledger.totals)
        self._timed("memory", lambda: profiler.ledger.memory)

    def _timed(self, name: str, run: Callable[[], object]) -> None:
        gc.collect()  # what one run leaves is not charged to the next
        start = perf_counter()
        run()
        self.times.setdefault(name, []).append(1000 * (perf_counter() - start))

    def median(self, name: str) -> float:
        return median(self.times[name][1:])  # the first of each warms caches up


def main() -> None:
    torch.set_num_threads(1)
    columns = "model", "plain ms", "FlopCounterMode ms", "Profiler ms", "of plain", "of FCM"
    table = Table(*columns, "ledger ms", "memory ms")
    for make in (mlp, cnn, transformer):
        timed = Timed(make)
        for _ in range(REPEATS + 1):
            timed.plain()
            timed.counted()
            timed.profiled()
        plain, counted, profiled, ledger, memory = map(
            timed.median, ("plain", "counted", "profiled", "ledger", "memory")
        )
        table.add_row(
            make.__name__,
            *(f"{value:.2f}" for value in (plain, counted, profiled)),
            f"{profiled / plain:.2f} x",
            f"{profiled / counted:.2f} x",
            f"{ledger:.2f}",
            f"{memory:.2f}",
        )
    Console(width=110).print(table)
    Console(width=110).print("a dispatch mode that does nothing costs about twice the plain step")


if __name__ == "__main__":
    main()
