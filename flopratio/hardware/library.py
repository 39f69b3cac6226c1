"""The devices that were measured and are shipped, and how one names them or one's own file."""

from __future__ import annotations

import os
from functools import cache
from importlib.resources import files
from pathlib import Path

from flopratio.errors import UsageError
from flopratio.hardware.profile import DeviceProfile
from flopratio.text.suggestions import nearest


@cache
def shipped_profiles() -> dict[str, DeviceProfile]:
    """Every device that is shipped, by the name of its file; a file dropped into ``devices/`` adds
    one. Each was measured; without a measurement there is none."""
    folder = files(__package__).joinpath("devices")
    found = {path.name: path for path in folder.iterdir() if path.name.endswith(".json")}
    return {
        name.removesuffix(".json"): DeviceProfile.from_json(path.read_text(encoding="utf-8"))
        for name, path in sorted(found.items())
    }


def device_profile(name: str) -> DeviceProfile:
    """A device by its name, in any case of letters, or by the file that holds its profile.

    Args:
        name: ``h200`` or ``NVIDIA H200``, if it is shipped; else the path of a JSON file.

    Raises:
        UsageError: there is no such device or file, or the file is no device profile.
    """
    shipped = shipped_profiles()
    known = {
        alias.casefold(): profile
        for key, profile in shipped.items()
        for alias in (profile.name, key)
    }
    if found := known.get(name.strip().casefold()):
        return found
    path = Path(name)
    if path.suffix.casefold() == ".json" or path.name != name or path.is_file():
        return read(path)
    near = nearest(name, shipped)
    hint = f"did you mean {' or '.join(map(repr, near))}? One" if near else "one"
    raise UsageError(
        f"no measured profile of {name!r} is shipped: {hint} is measured by flopratio profile "
        "MODEL --device cuda where such a GPU is; give the FILE.json of one that was measured, or "
        "cpu for this machine"
    )


def read(path: str | Path) -> DeviceProfile:
    """The profile in a file.

    Raises:
        UsageError: the file can't be read or is no device profile.
    """
    try:
        return DeviceProfile.from_json(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text"
        raise UsageError(f"{path}: {reason}; a device profile is a FILE.json") from error
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error


def write(profile: DeviceProfile, path: str | Path) -> None:
    """Write a profile to where :func:`device_profile` can read it, over what is there.

    Raises:
        OSError: the file can't be written.
    """
    path = Path(path)
    # Whole or not at all: others may be reading, or writing the same.
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_text(profile.to_json() + "\n", encoding="utf-8")
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
