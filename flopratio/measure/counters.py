"""Floating-point operations as the GPU's own counters saw them executed, by Nsight Compute.

What is counted how:

- Instructions of the ordinary cores are counted by thread, those switched off by a predicate left
  out. An FMA is 2 FLOP, an addition or a multiplication 1; a packed pair (``ffma2``) twice that.
- Of the tensor cores no size of an instruction is assumed: there are counters of the operations
  themselves, one by type of operand, that count 2 per multiply-add whatever the instruction
  (``HMMA`` or ``HGMMA`` of any shape).
- Half-precision instructions of the ordinary cores (``hfma``) work on one value or on a pair, and
  their counter doesn't tell which; and there may be tensor instructions that no counter of
  operations covers. These can't be converted, and are named with their number.

A kernel executes more than the formula says: whole tiles where sizes aren't multiples of them, the
scaling of each result, additions that bring the parts of a split product together.
"""

from __future__ import annotations

import csv
import os
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from flopratio.errors import UsageError

THREAD_FLOP = {
    f"smsp__sass_thread_inst_executed_op_{letter}{name}_pred_on": (dtype, flop)
    for letter, dtype in (("f", "float32"), ("d", "float64"))
    for name, flop in (("add", 1), ("mul", 1), ("fma", 2), ("add2", 2), ("mul2", 2), ("fma2", 4))
}
"""Counter of a thread's instructions -> (dtype, FLOP of one). Only Blackwell has the pairs."""

HALF = tuple(
    f"smsp__sass_thread_inst_executed_op_h{name}_pred_on" for name in ("add", "mul", "fma")
)

TENSOR_OPERATIONS = re.compile(
    r"sm__ops_path_tensor_src_((?:fp|bf|tf)\w*?)(?:_dst_\w+?)?(?:_sparsity_o(?:n|ff))?"
)
"""Counters of operations in tensor cores; the group is the type of the operands."""

TENSOR_INSTRUCTIONS = re.compile(r"sm__inst_executed_pipe_tensor(?:_op_\w+)?")
"""Counters of warps' instructions in tensor cores, of any size."""

INSTALLED = Path("/opt/nvidia/nsight-compute")
"""A folder for each version."""

MISSING_VALUES = ("n/a", "no data", "")


@dataclass(frozen=True)
class KernelCounters:
    """One kernel that ran.

    Args:
        name: of its function.
        flops: FLOP by where they were executed: ``float32`` and ``float64`` in the ordinary cores,
            ``tensor bf16``, ``tensor tf32``, ... in the tensor cores. Only what isn't 0.
        not_converted: executed instructions whose FLOP can't be told, by counter.
        unread: counters that this GPU gave no value for.
    """

    name: str
    flops: dict[str, int] = field(default_factory=dict)
    not_converted: dict[str, int] = field(default_factory=dict)
    unread: tuple[str, ...] = ()


@dataclass(frozen=True)
class Executed:
    """The kernels that ran, in order."""

    kernels: list[KernelCounters]

    @property
    def flops(self) -> int:
        """All FLOP; of the ordinary cores also those that are no part of a contraction."""
        return sum(self.by_unit.values())

    @property
    def by_unit(self) -> Counter[str]:
        return _total(kernel.flops for kernel in self.kernels)

    @property
    def not_converted(self) -> Counter[str]:
        return _total(kernel.not_converted for kernel in self.kernels)

    @property
    def unread(self) -> list[str]:
        return sorted({name for kernel in self.kernels for name in kernel.unread})


def why_not() -> str | None:
    """Why no counters can be read on this machine, in one sentence; None if they may be."""
    if not torch.cuda.is_available():
        return "hardware counters can't be read here, for there is no CUDA device"
    if _ncu() is None:
        return (
            "hardware counters can't be read here, for Nsight Compute is not installed: it brings "
            "the command ncu"
        )
    return None


def executed(command: Sequence[str], *, timeout_s: float = 300) -> Executed:
    """What the kernels of a program executed, from ``torch.cuda.profiler.start()`` to ``stop()``.

    Each kernel is run several times, with memory put back in between; clocks are left alone.

    Args:
        command: the program and its arguments: ``[sys.executable, "-c", "..."]``.

    Raises:
        UsageError: there is no such counter on this machine (see :func:`why_not`), it may not be
            read, the program failed, or ran no kernel between the two calls.
    """
    ncu = _ncu()
    if (reason := why_not()) is not None or ncu is None:
        raise UsageError(reason or "")
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "counters.csv"
        metrics = _chosen(_run([ncu, "--query-metrics"], timeout_s, log=None))
        options = [
            *("--metrics", ",".join(f"{name}.sum" for name in metrics)),
            *("--csv", "--print-units", "base", "--log-file", str(log)),
            *("--profile-from-start", "off", "--target-processes", "all"),
            *("--clock-control", "none", "--cache-control", "none"),
        ]
        _run([ncu, *options, *command], timeout_s, log)
        found = parse(log.read_text(encoding="utf-8", errors="replace"))
    if not found.kernels:
        raise UsageError(
            "Nsight Compute saw no kernel: the program should run some between "
            "torch.cuda.profiler.start() and stop()"
        )
    return found


def parse(text: str) -> Executed:
    """What ``ncu --csv`` wrote, one line for each kernel and counter.

    Raises:
        UsageError: a value that is no number of instructions.
    """
    lines = text.splitlines()
    start = next((n for n, line in enumerate(lines) if line.startswith('"ID"')), len(lines))
    table = [line for line in lines[start:] if line.startswith('"')]
    names: dict[tuple[str, str], str] = {}
    values: dict[tuple[str, str], dict[str, str]] = {}
    for row in csv.DictReader(table):
        launch = row["Process ID"], row["ID"]
        names[launch] = row["Kernel Name"]
        metric = row["Metric Name"].removesuffix(".sum")
        values.setdefault(launch, {})[metric] = row["Metric Value"]
    return Executed([_kernel(name, values[launch]) for launch, name in names.items()])


def _kernel(name: str, values: dict[str, str]) -> KernelCounters:
    unread = tuple(sorted(metric for metric, text in values.items() if text in MISSING_VALUES))
    counts = {metric: _number(values[metric]) for metric in values if metric not in unread}
    flops: Counter[str] = Counter()
    for metric, count in counts.items():
        if metric in THREAD_FLOP:
            dtype, flop = THREAD_FLOP[metric]
            flops[dtype] += flop * count
        elif operands := TENSOR_OPERATIONS.fullmatch(metric):
            flops[f"tensor {operands[1]}"] += count
    unconverted = [metric for metric in counts if metric in HALF]
    if not any(unit.startswith("tensor") and flop for unit, flop in flops.items()):
        unconverted += filter(TENSOR_INSTRUCTIONS.fullmatch, counts)
    return KernelCounters(
        name,
        {unit: flop for unit, flop in flops.items() if flop},
        {metric: counts[metric] for metric in unconverted if counts[metric]},
        unread,
    )


def _number(text: str) -> int:
    try:
        value = float(text.replace(",", "")) if "." in text else int(text.replace(",", ""))
    except ValueError as error:
        raise UsageError(f"Nsight Compute counted {text!r}, which is no number") from error
    if value != int(value):
        raise UsageError(f"Nsight Compute counted {text}, which should be a whole number")
    return int(value)


def _chosen(listing: str) -> list[str]:
    """The counters to read, with what ``ncu --query-metrics`` lists for this GPU: of operations in
    tensor cores all, but none that is a part of another one.

    Raises:
        UsageError: there are none: what tensor cores execute would be missing without a word.
    """
    first_words = (line.split()[0].strip('"') for line in listing.splitlines() if line.split())
    listed = {word.partition('"')[0] for word in first_words}
    tensor = {name for name in listed if TENSOR_OPERATIONS.fullmatch(name)}
    if not tensor:
        raise UsageError("Nsight Compute lists no counter of tensor cores' operations for this GPU")
    whole = {name for name in tensor if not any(_is_part(name, other) for other in tensor)}
    ordinary = {name for name in THREAD_FLOP if "2_pred_on" not in name or name in listed}
    instructions = {name for name in listed if TENSOR_INSTRUCTIONS.fullmatch(name)}
    return sorted({*whole, *ordinary, *HALF, *instructions})


def _is_part(name: str, other: str) -> bool:
    """Whether a counter counts a part of another one's operations."""
    return name.startswith((f"{other}_dst_", f"{other}_sparsity_"))


def _run(command: list[str], timeout_s: float, log: Path | None) -> str:
    """The standard output of Nsight Compute, which writes its errors there or to its log."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s)
    except subprocess.TimeoutExpired as error:
        raise UsageError(f"Nsight Compute took longer than {timeout_s:.0f} s") from error
    except OSError as error:
        raise UsageError(f"Nsight Compute can't be started: {error.strerror}") from error
    logged = log.read_text(encoding="utf-8", errors="replace") if log and log.exists() else ""
    said = f"{logged}\n{done.stdout}\n{done.stderr}"
    if "ERR_NVGPUCTRPERM" in said:
        raise UsageError(
            "Nsight Compute may not read this GPU's counters (ERR_NVGPUCTRPERM): run it as root, "
            "or have the driver allow it to every user"
        )
    if done.returncode != 0:
        errors = [line for line in said.splitlines() if line.startswith("==ERROR==")]
        last = (errors or [line for line in said.splitlines() if line.strip()] or [""])[-1]
        raise UsageError(
            f"Nsight Compute failed with exit code {done.returncode}: "
            f"{last.removeprefix('==ERROR==').strip() or 'it said nothing'}"
        )
    return done.stdout


def _ncu() -> str | None:
    """Nsight Compute's command: on the path, with CUDA, or where its own installer puts it."""
    if found := shutil.which("ncu"):
        return found
    places = [Path(os.environ.get("CUDA_HOME") or "/usr/local/cuda") / "bin" / "ncu"]
    places += sorted(INSTALLED.glob("*/ncu"), reverse=True)
    return next((str(place) for place in places if os.access(place, os.X_OK)), None)


def _total(counts: Iterable[dict[str, int]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for count in counts:
        total.update(count)
    return total
