"""Where profiles that were measured on this machine are kept. A cache only: what can't be read or
written is measured again."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from flopratio.errors import UsageError
from flopratio.hardware.folder import cache_folder
from flopratio.hardware.library import read, write
from flopratio.hardware.profile import DeviceProfile


def cached_path(name: str, key: Mapping[str, Any]) -> Path | None:
    """Where the profile of a device is kept, be it there or not.

    Args:
        name: the device's; for people, as the beginning of the file's name.
        key: all that its figures depend on; JSON-ready.
    """
    folder = cache_folder()
    if folder is None:
        return None
    slug = re.sub(r"[^a-z0-9]+", "-", name.casefold()).strip("-")
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    return folder / "devices" / f"{slug}-{digest[:12]}.json"


def cached(path: Path | None) -> DeviceProfile | None:
    """The profile that was kept there, if it is there and whole."""
    if path is None:
        return None
    try:
        return read(path)
    except UsageError:
        return None


def keep(profile: DeviceProfile, path: Path | None) -> None:
    """Keep a profile there, if that can be written."""
    if path is None:
        return
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write(profile, path)
