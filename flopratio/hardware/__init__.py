"""What devices can do at best, as measured: their roofs. Without torch; ``measure`` measures."""

from flopratio.hardware.library import device_profile, read, shipped_profiles, write
from flopratio.hardware.profile import DeviceProfile

__all__ = ["DeviceProfile", "device_profile", "read", "shipped_profiles", "write"]
