"""The version, and the versions of what a count was made with. (What a time was measured on:
``measure/hardware.py``.)"""

from __future__ import annotations

import platform
from functools import cache
from importlib import metadata

__version__ = "0.1.0"


def versions() -> dict[str, str]:
    """Versions of what the counts may depend on."""
    return dict(_installed())


@cache
def _installed() -> dict[str, str]:
    known = {"flopratio": __version__, "python": platform.python_version()}
    for package in ("torch", "fvcore", "numpy"):
        try:
            known[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return known


def release_of(version: str) -> tuple[int, int]:
    """Major and minor of a version."""
    major, minor = version.split(".")[:2]
    return int(major), int(minor)


@cache
def torch_release() -> tuple[int, int]:
    """Major and minor version of the torch at hand, which is not imported for that; of the pinned
    one where there is none."""
    try:
        return release_of(metadata.version("torch"))
    except metadata.PackageNotFoundError:
        return 2, 13
