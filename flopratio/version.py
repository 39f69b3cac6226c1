"""The version, and the versions of what a count was made with. (What a time was measured on:
``measure/hardware.py``.)"""

from __future__ import annotations

import platform
from importlib import metadata

__version__ = "0.1.0"


def versions() -> dict[str, str]:
    """Versions of what the counts may depend on."""
    known = {"flopratio": __version__, "python": platform.python_version()}
    for package in ("torch", "fvcore", "numpy"):
        try:
            known[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return known
