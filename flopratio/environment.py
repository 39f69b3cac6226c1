"""What a result was made with: versions, machine and precision; no host name, no paths."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from flopratio.version import __version__


def versions() -> dict[str, str]:
    """Versions of what the counts may depend on."""
    found = {"flopratio": __version__, "python": platform.python_version()}
    for package in ("torch", "fvcore", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def machine(device: str) -> dict[str, Any]:
    """The machine as far as times depend on it.

    Args:
        device: ``none`` (nothing is timed), ``cpu`` or ``cuda``.
    """
    import torch

    found: dict[str, Any] = {
        "os": f"{platform.system()} {platform.release().partition('-')[0]}",
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": device,
    }
    if device == "cuda":
        properties = torch.cuda.get_device_properties(torch.cuda.current_device())
        found["gpu"] = properties.name
        found["gpu_memory_bytes"] = properties.total_memory
        found["cuda"] = torch.version.cuda
    return found


def precision(dtype: str) -> dict[str, Any]:
    """How products are computed: TF32 rounds the operands of fp32 products on CUDA."""
    import torch

    return {
        "dtype": dtype,
        "tf32_matmul": torch.backends.cuda.matmul.allow_tf32,
        "tf32_cudnn": torch.backends.cudnn.allow_tf32,
    }


def cpu_model() -> str:
    """The processor's name (``Intel(R) Xeon(R) ...``); its architecture where the system keeps
    that to itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()
