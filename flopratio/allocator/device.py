"""What is known of a GPU that bears on memory: one JSON file each, in ``devices/``."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from flopratio.text.suggestions import did_you_mean


@dataclass(frozen=True)
class DeviceProfile:
    """A GPU and what torch does on it by default. None stands for what is not known.

    Args:
        name: as the user writes it (``H100-80GB``).
        reported_names: as ``torch.cuda.get_device_name`` reports its variants.
        memory_bytes: its whole memory by ``nvidia-smi``; a process gets some hundred MiB less, for
            the CUDA context.
        architecture: ``sm90`` for compute capability 9.0.
        torch: the version that the following fields describe.
        cublas_workspace_bytes: of each handle and stream.
        cublas_workspace_persistent: whether it stays; if not, each product gives it back.
        cublaslt_workspace_bytes: in addition to it; 0 where cuBLASLt shares it.
        optimizer_foreach: whether optimizers use their foreach implementation unless it is chosen.
        optimizer_fused: whether they use their fused implementation unless it is chosen.
        attention: the kernel that ``scaled_dot_product_attention`` tries first in 16 bits without a
            mask: ``cudnn`` (with the cuDNN that torch's own wheels bring), ``flash`` or
            ``efficient``.
    """

    name: str
    reported_names: tuple[str, ...] = ()
    memory_bytes: int | None = None
    architecture: str | None = None
    torch: str | None = None
    cublas_workspace_bytes: int | None = None
    cublas_workspace_persistent: bool | None = None
    cublaslt_workspace_bytes: int | None = None
    optimizer_foreach: bool | None = None
    optimizer_fused: bool | None = None
    attention: str | None = None


@cache
def device_profiles() -> dict[str, DeviceProfile]:
    """Every known GPU by its name; a file dropped into ``devices/`` adds one."""
    profiles = {}
    for path in sorted(
        files(__package__).joinpath("devices").iterdir(), key=lambda path: path.name
    ):
        if path.name.endswith(".json"):
            document = json.loads(path.read_text(encoding="utf-8"))
            document["reported_names"] = tuple(document["reported_names"])
            profile = DeviceProfile(**document)
            profiles[profile.name] = profile
    return profiles


def targets() -> tuple[str, ...]:
    """What a step may be predicted for: any ``cuda`` device, the ``cpu``, or a GPU by its name."""
    return ("cuda", "cpu", *device_profiles())


def device_profile(name: str) -> DeviceProfile:
    """The profile of a GPU, by its own name or one that torch reports, in any case of letters.

    A GPU that is not known gives a warning, and a profile without any figure.
    """
    known = {
        alias.casefold(): profile
        for profile in device_profiles().values()
        for alias in (profile.name, *profile.reported_names)
    }
    profile = known.get(name.casefold())
    if profile is not None:
        return profile
    warnings.warn(
        f"its memory, its workspaces and its defaults are left out, for nothing is known of the "
        f"GPU {name!r}{did_you_mean(name, device_profiles())}",
        stacklevel=2,
    )
    return DeviceProfile(name)
