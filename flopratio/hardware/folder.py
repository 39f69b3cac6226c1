"""The folder that what was measured on this machine is kept in."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def cache_folder() -> Path | None:
    """``FLOPRATIO_CACHE``, or the folder for it in the user's caches; None for who has no home."""
    if chosen := os.environ.get("FLOPRATIO_CACHE"):
        return Path(chosen)
    variable, *default = {
        "win32": ("LOCALAPPDATA", "AppData", "Local"),
        "darwin": ("", "Library", "Caches"),
    }.get(sys.platform, ("XDG_CACHE_HOME", ".cache"))
    caches = Path(os.environ.get(variable) or "")
    if not caches.is_absolute():  # the XDG specification has relative ones ignored
        try:
            caches = Path.home().joinpath(*default)
        except RuntimeError:
            return None
    return caches / "flopratio"
