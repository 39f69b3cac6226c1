"""The devices that were measured and are shipped, and how one names them or one's own file."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from pathlib import Path

from flopratio.errors import UsageError
from flopratio.hardware.folder import cache_folder
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


HOW_MEASURED = (
    "flopratio profile MODEL --device cuda -o FILE.json measures one where such a GPU is, and that "
    "FILE.json is taken here (so is the one that it keeps there, in {folder})"
)


def device_profile(name: str, *, unmeasured: Iterable[str] = ()) -> DeviceProfile:
    """A device by its name, in any case of letters, or by the file that holds its profile.

    Args:
        name: ``h200`` or ``NVIDIA H200``, if it is shipped; else the path of a JSON file: of a
            device profile, or of what ``flopratio profile`` wrote, which has one.
        unmeasured: names of devices that exist, of which there may be no profile.

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
    folder = cache_folder()
    how = HOW_MEASURED.format(folder="the user's caches" if folder is None else folder / "devices")
    existing = list(unmeasured)
    folded = [each.casefold() for each in existing]
    if any(name.strip().casefold() in (each, *each.split("-")) for each in folded):
        raise UsageError(f"of {name.strip()} no measured profile is shipped: {how}")
    near = nearest(name, [*shipped, *existing])
    hint = f": did you mean {' or '.join(map(repr, near))}?" if near else ";"
    raise UsageError(
        f"no device {name!r} is known{hint} cpu and cuda are this machine's; of another GPU {how}"
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
