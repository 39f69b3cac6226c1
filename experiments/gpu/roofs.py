"""Stage 4: what the device does at best."""

from __future__ import annotations

from experiments.gpu.rows import Run
from flopratio.hardware import DeviceProfile
from flopratio.measure.roofs import measured_roofs

NAME = "roofs.json"


def run(run: Run) -> bool:
    """``roofs.json``."""
    roofs_of(run)
    return True


def roofs_of(run: Run) -> DeviceProfile:
    """The device's roofs, measured once for all stages of a folder."""
    path = run.directory / NAME
    if path.exists() and not run.again:
        return DeviceProfile.from_json(path.read_text(encoding="utf-8"))
    profile = measured_roofs(run.device, fresh=True)
    path.write_text(profile.to_json() + "\n", encoding="utf-8")
    run.say(f"roofs: of {profile.name}, ok")
    return profile
