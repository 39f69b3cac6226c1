"""How long do the formulas take for 100,000 points at once, and `flopratio --help` to answer?

python benchmarks/analytic_sweep.py
"""

import subprocess
import sys
from collections.abc import Callable
from statistics import median
from time import perf_counter

import numpy as np

from flopratio.formulas import exact
from flopratio.networks.analytic import analyse
from flopratio.networks.library import describe

POINTS = 100_000


def seconds(run: Callable[[], object], repeats: int = 5) -> float:
    """The median of a few runs."""
    times = []
    for _ in range(repeats):
        start = perf_counter()
        run()
        times.append(perf_counter() - start)
    return median(times)


def sweep() -> tuple[int, float]:
    """FLOPs and ratio of an MLP at random depths, widths and batches, exact for each point."""
    random = np.random.default_rng(0)
    depth, width, batch = (
        exact(random.integers(1, most, POINTS).tolist()) for most in (1000, 100_000, 4096)
    )
    analysis = analyse(describe("mlp", depth=depth, width=width, batch=batch), optimizer="sgd")
    forward = analysis.total("forward")
    ratio = analysis.total("grad_input", "grad_weight") / forward
    analysis.total("update", of="elementwise")
    analysis.total("forward", of="saved_bytes")
    return int(forward.max()), float(ratio.min())


def main() -> None:
    largest, smallest = sweep()
    print(f"{POINTS:,} points; largest forward {largest:,} FLOP, smallest ratio {smallest:.4f}")
    print(f"analytic sweep     {seconds(sweep):6.3f} s   (target 1 s)")
    help_ = [sys.executable, "-m", "flopratio", "--help"]
    run = lambda: subprocess.run(help_, check=True, capture_output=True)  # noqa: E731
    print(f"flopratio --help   {seconds(run):6.3f} s   (target 0.5 s)")
    modules = "import sys, flopratio; print(' '.join({'torch', 'pandas'} & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", modules], check=True, capture_output=True)
    print(f"import flopratio loads of torch and pandas: {loaded.stdout.decode().strip() or 'none'}")


if __name__ == "__main__":
    main()
