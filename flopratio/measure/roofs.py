"""The most that this machine's device does, measured: FLOP/s of a large product in each dtype,
bytes/s of a large copy, and what one more small operator costs.

On the CPU times are wall times. On CUDA they are the device's, between events, with what is timed
queued behind a pause, so that the device never waits for the host.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch

from flopratio.allocator.device import device_profiles
from flopratio.errors import UsageError
from flopratio.hardware import (
    DeviceProfile,
    cached,
    cached_path,
    datasheet,
    device_profile,
    keep,
)
from flopratio.measure.hardware import machine, processor, usable_cores
from flopratio.measure.precision import float32_products
from flopratio.measure.stopwatch import DeviceStopwatch, Stopwatch

METHOD = 1
"""One more whenever figures are measured otherwise, so that kept ones are measured again."""

SMALLEST_PRODUCT = 256
PRODUCT_S = {"cpu": 50e-3, "cuda": 1e-3}
"""A product is large when it takes this long: starting it and waiting for the last of its threads
or blocks is then a small part."""
LONGEST_PRODUCT_S = 1.2
GAIN = 1.1
"""A large product is doubled once more while that made it faster by this."""
COPIED_BYTES = {"cpu": 256 << 20, "cuda": 1 << 30}
"""Read, and as many written: no cache holds them."""
OPERATORS = 500
"""Small ones in a row; a CUDA stream takes 1024 before the host must wait."""
MIN_REPEATS = 3
MAX_REPEATS = 100
BUDGET_S = 0.3
"""What the repeats of one action may take once there are three."""
MEMORY_SHARE = 0.25
"""Of the device's free memory, for what is measured with."""

Progress = Callable[[str], None]


def roofs_of(
    name: str, *, fresh: bool = False, progress: Progress = lambda what: None
) -> DeviceProfile:
    """A device's roofs: of this machine's, measured or kept; else shipped, or in a file.

    Args:
        name: ``cpu``, ``cuda`` or ``cuda:1``, ``h200``, ``FILE.json``.
        fresh, progress: as of :func:`measured_roofs`.

    Raises:
        UsageError: there is no such device or file.
    """
    kind, _, index = name.strip().casefold().partition(":")
    if kind in PRODUCT_S and (not index or index.isdecimal()):
        return measured_roofs(name.strip().casefold(), fresh=fresh, progress=progress)
    gpus = [
        alias for gpu in device_profiles().values() for alias in (gpu.name, *gpu.reported_names)
    ]
    return device_profile(name, unmeasured=gpus)


def measured_roofs(
    device: str | torch.device,
    *,
    fresh: bool = False,
    clock: Callable[[], float] = time.perf_counter,
    progress: Progress = lambda what: None,
) -> DeviceProfile:
    """The roofs of a device of this machine: measured once in seconds, then kept (see
    :func:`roofs_path`) for this device, driver, torch and, on the CPU, number of threads.

    float32 is measured without TF32. Random state and precision are afterwards as they were.

    Args:
        device: ``cpu``, ``cuda`` or ``cuda:1``.
        fresh: measure even what was kept.
        clock: seconds; a fake one tests the bookkeeping.
        progress: called with the name of what is measured next; not called for what was kept.

    Raises:
        UsageError: the device isn't there.
        torch.OutOfMemoryError: there is no memory left on it.
    """
    device = _present(device)
    path = roofs_path(device)
    kept = None if fresh else cached(path)
    if kept is not None:
        return replace(kept, datasheet=datasheet(kept.name))
    with _undisturbed(device):
        profile = _measure(_Bench(device, clock, progress))
    keep(profile, path)
    return profile


def roofs_path(device: str | torch.device) -> Path | None:
    """Where the roofs of this machine's device are kept, once they are measured: a FILE.json that
    stands for it elsewhere. None without a folder for caches.

    Raises:
        UsageError: the device isn't there.
    """
    device = _present(device)
    found = _environment(device)
    names = ("driver", "torch", "cuda", "threads", "cores", "instructions")
    on_cuda = device.type == "cuda"
    ignored = ("threads", "cores", "instructions") if on_cuda else ()
    key = {name: found.get(name) for name in names if name not in ignored}
    name = _name(device)
    return cached_path(name, {"method": METHOD, "device": device.type, "name": name, **key})


def _present(device: str | torch.device) -> torch.device:
    """The device, if it is one that can be measured here."""
    try:
        wanted = torch.device(device)
    except RuntimeError as error:
        raise UsageError(f"no device {str(device)!r}: it should be cpu or cuda") from error
    if wanted.type not in PRODUCT_S:
        raise UsageError(f"the roofs of {wanted} can't be measured: there are cpu and cuda")
    if wanted.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if count <= (wanted.index or 0):
            there = f"{count} of them here" if count else "no CUDA device here"
            raise UsageError(
                f"the roofs of {wanted} can't be measured, for there is {there}: name cpu, or the "
                "FILE.json of a device that was measured elsewhere"
            )
    return wanted


@contextmanager
def _undisturbed(device: torch.device) -> Iterator[None]:
    """Whatever the caller has switched on, measure plain operators."""
    with torch.no_grad(), torch.autocast(device.type, enabled=False):
        if device.type == "cpu":
            yield
            return
        with torch.cuda.device(device):
            try:
                yield
            finally:
                torch.cuda.empty_cache()  # gigabytes that nobody has a use for


@dataclass(frozen=True)
class _Bench:
    device: torch.device
    clock: Callable[[], float]
    progress: Progress

    def seconds(self, action: Callable[[], object]) -> list[float]:
        """What each of several repeats takes, after one that warms up."""
        watch = self._watch()
        action()
        laps: list[float] = []
        while len(laps) < MIN_REPEATS or (len(laps) < MAX_REPEATS and sum(laps) < BUDGET_S):
            watch.prepare()
            watch.mark()
            action()
            watch.mark()
            laps += [lap / 1e3 for lap in watch.laps_ms()]
        return laps

    def _watch(self) -> Stopwatch:
        on_device = self.device.type == "cuda"
        return DeviceStopwatch(self.clock) if on_device else Stopwatch(self.clock)


def _measure(bench: _Bench) -> DeviceProfile:
    name = _name(bench.device)
    with float32_products(tf32=False):
        flops_per_s = {dtype: _product(bench, dtype) for dtype in _dtypes(bench.device)}
    if _has_tf32(bench.device):
        with float32_products(tf32=True):
            flops_per_s["tf32"] = _product(bench, "float32", called="tf32")
    return DeviceProfile(
        name=name,
        device=bench.device.type,
        flops_per_s=flops_per_s,
        bytes_per_s=_copy(bench),
        launch_s=_launch(bench),
        environment=_environment(bench.device)
        | {"measured": datetime.now(UTC).isoformat(timespec="seconds")},
        datasheet=datasheet(name),
    )


def _dtypes(device: torch.device) -> tuple[str, ...]:
    if device.type == "cpu" or _has_tf32(device):
        return ("float32", "bfloat16", "float16", "float64")
    return ("float32", "float16", "float64")


def _has_tf32(device: torch.device) -> bool:
    """Whether a GPU multiplies in TF32: those that do in bfloat16."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)


def _product(bench: _Bench, dtype: str, *, called: str = "") -> float:
    """FLOP/s of the product of two square matrices, the size doubled until nothing is gained.

    Of random values: zeros take less power, and a GPU then runs faster.
    """
    bench.progress(f"a large product in {called or dtype}")
    kind: torch.dtype = getattr(torch, dtype)
    values = torch.Generator(bench.device).manual_seed(0)
    best, size, previous = 0.0, SMALLEST_PRODUCT, 0.0
    while True:
        a, b = (
            torch.randn((size, size), dtype=kind, device=bench.device, generator=values)
            for _ in range(2)
        )
        out = torch.empty_like(a)
        seconds = statistics.median(bench.seconds(partial(torch.mm, a, b, out=out)))
        rate = 2 * size**3 / seconds
        is_large = seconds >= PRODUCT_S[bench.device.type] and rate < GAIN * best
        best = max(best, rate)
        size *= 2
        fits = 3 * size**2 * kind.itemsize <= MEMORY_SHARE * _free_bytes(bench.device)
        # Eight times the work; less where starting it, or other programs, take most of the time.
        growth = min(8.0, seconds / previous) if previous else 8.0
        if is_large or not fits or growth * seconds > LONGEST_PRODUCT_S:
            return best
        previous = seconds


def _copy(bench: _Bench) -> float:
    """Bytes/s, read and written, of a copy that is far larger than caches."""
    bench.progress("a large copy")
    share = int(MEMORY_SHARE * _free_bytes(bench.device))
    count = min(COPIED_BYTES[bench.device.type], share // 2) // 4
    source = torch.arange(count, dtype=torch.float32, device=bench.device)
    target = torch.zeros_like(source)
    laps = bench.seconds(lambda: target.copy_(source))
    return 2 * source.nbytes / statistics.median(laps)


def _launch(bench: _Bench) -> float:
    """Seconds from one small operator to the next, many of them in a row."""
    bench.progress("small operators in a row")
    x = torch.ones(16, device=bench.device)

    def row() -> None:
        for _ in range(OPERATORS):
            torch.add(x, x)

    return statistics.median(bench.seconds(row)) / OPERATORS


def _free_bytes(device: torch.device) -> int:
    """Of the GPU's memory; the CPU's is no limit to what is measured here."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else sys.maxsize


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else processor()


def _environment(device: torch.device) -> dict[str, Any]:
    """What the figures depend on, without the switches that measuring sets itself."""
    found = machine(device, switches=False)
    if device.type == "cuda":
        return found | {"driver": _driver()}
    return found | {"load": _load()}


def _load() -> float | None:
    """Programs that ran or waited to, on average of the last minute, what measures among them; None
    where the system doesn't tell, or tells it of cores that this process may not run on. With more
    of them than cores, figures are those of a part of the machine."""
    if not hasattr(os, "getloadavg") or usable_cores() < (os.cpu_count() or 1):
        return None
    return os.getloadavg()[0]


def _driver() -> str | None:
    """The NVIDIA driver's version; None where its tool doesn't tell."""
    command = ("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip().partition("\n")[0].strip() or None
