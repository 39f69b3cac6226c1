"""What devices can do at best, as measured: their roofs. Without torch; ``measure`` measures."""

from flopratio.hardware.cache import cached, cached_path, keep
from flopratio.hardware.datasheets import datasheet
from flopratio.hardware.doubt import doubts
from flopratio.hardware.library import device_profile, read, shipped_profiles, write
from flopratio.hardware.profile import DeviceProfile

__all__ = [
    "DeviceProfile",
    "cached",
    "cached_path",
    "datasheet",
    "device_profile",
    "doubts",
    "keep",
    "read",
    "shipped_profiles",
    "write",
]
