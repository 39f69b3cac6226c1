"""When a device's measured roofs are not to be trusted, in words."""

from __future__ import annotations

import math
from typing import TypeGuard

from flopratio.hardware.profile import DeviceProfile


def doubts(roofs: DeviceProfile, utilisation: float | None = None) -> list[str]:
    """A sentence, if the roofs were measured beside other programs, or a step is faster than they
    allow; else none. (Winograd's convolutions are faster too, but hardly a whole step.)

    Args:
        roofs: whose environment tells the ``load`` and the ``cores``, if they are a CPU's.
        utilisation: what all products of a step would take at the roofs, over what the step took;
            None where that is not known.
    """
    found = []
    load, cores = (roofs.environment.get(name) for name in ("load", "cores"))
    if _is_number(load) and _is_number(cores) and round(load) > cores:
        found.append(f"{load:.1f} programs were after {cores} cores while they were measured")
    if utilisation is not None and utilisation > 1:
        found.append(
            f"at them the products of a step would take {utilisation:.1%} of the time that it took"
        )
    if not found:
        return []
    reasons = ", and ".join(found)
    return [
        f"the measured roofs are not to be trusted, for {reasons}: say roofs=fresh while nothing "
        "else runs, and they are measured anew"
    ]


def _is_number(value: object) -> TypeGuard[float]:
    """Whether it is a finite one: a file's environment may hold anything."""
    return isinstance(value, int | float) and math.isfinite(value)
