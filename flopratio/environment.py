"""What a count was made with. (What a time was measured on: ``measure/hardware.py``.)"""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

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
