"""What the measured times depend on: processor, accelerator, precision. No host names, no paths."""

from __future__ import annotations

import platform
from typing import Any

import torch

from flopratio.hardware.processor import processor, usable_cores
from flopratio.measure.precision import (
    float32_matmul_precision,
    tf32_in_convolutions,
    tf32_in_products,
)

__all__ = ["machine", "processor", "usable_cores"]


def machine(device: str | torch.device, *, switches: bool = True) -> dict[str, Any]:
    """The machine and the switches that decide how fast a step runs there.

    Args:
        device: ``cpu`` or ``cuda``; the accelerator's entries are there for ``cuda`` only.
        switches: whether to tell what torch's settings are at the moment.

    Returns:
        JSON-ready values; sizes in bytes.
    """
    device = torch.device(device)
    on_cuda = device.type == "cuda"
    figures: dict[str, Any] = {
        "device": device.type,
        "os": platform.system(),
        "processor": processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": usable_cores(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    if on_cuda:
        figures |= _accelerator(device)
    if switches:
        figures |= _switches(on_cuda=on_cuda)
    return figures


def _accelerator(device: torch.device) -> dict[str, Any]:
    properties = torch.cuda.get_device_properties(device)
    return {
        "gpu": properties.name,
        "gpu_memory_bytes": properties.total_memory,
        "gpu_l2_bytes": properties.L2_cache_size,
        "gpu_multiprocessors": properties.multi_processor_count,
        "compute_capability": f"{properties.major}.{properties.minor}",
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }


def _switches(*, on_cuda: bool) -> dict[str, Any]:
    settings: dict[str, Any] = {"float32_matmul_precision": float32_matmul_precision()}
    if on_cuda:
        settings |= {
            "cudnn_benchmark": torch.backends.cudnn.benchmark,
            # TF32 rounds the operands of float32 products to 10 bits of mantissa.
            "tf32_matmul": tf32_in_products(),
            "tf32_cudnn": tf32_in_convolutions(),
        }
    return settings
