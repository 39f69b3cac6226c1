"""What the rows of a folder depend on. No host names, no paths."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import torch

from flopratio.allocator import device_profiles
from flopratio.errors import UsageError
from flopratio.measure.hardware import machine
from flopratio.version import versions

NAME = "environment.json"

SAME = ("device", "gpu", "driver", "cuda", "cudnn", "torch", "tf32_matmul", "tf32_cudnn", "small")
"""Rows of one folder may not differ in these."""


def without_tf32() -> None:
    """float32 is float32: cuDNN rounds to TF32 unless it is told not to."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def surroundings(device: torch.device, *, small: bool) -> dict[str, Any]:
    """The machine, its software and its switches; JSON-ready."""
    found = {**machine(device), **versions(), "small": small}
    if device.type == "cuda":
        found["driver"] = _driver()
    return found


def name_of(device: torch.device) -> str:
    """As rows tell it: ``NVIDIA H200``, or ``cpu``."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def target_of(device: torch.device) -> str:
    """What the steps are predicted for: the GPU where it is known."""
    if device.type != "cuda":
        return "cpu"
    name = name_of(device)
    known = (profile for profile in device_profiles().values() if name in profile.reported_names)
    return next((profile.name for profile in known), "cuda")


def keep(directory: Path, found: dict[str, Any]) -> None:
    """Write ``environment.json``.

    Raises:
        UsageError: the folder has rows of another machine, torch or size.
    """
    path = directory / NAME
    if path.exists():
        before = json.loads(path.read_text(encoding="utf-8"))
        for name in SAME:
            if before.get(name) != found.get(name):
                raise UsageError(
                    f"the rows in {directory} are of {name}={before.get(name)}, not "
                    f"{found.get(name)}: choose another folder with -o"
                )
    path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def _driver() -> str | None:
    """The NVIDIA driver's version; None where its tool doesn't tell."""
    command = ("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip().partition("\n")[0].strip() or None
