"""What an allocator makes of a step's allocations: replayed without torch and without a GPU."""

from flopratio.allocator.caching import CachingAllocator, Segment, SegmentBlock
from flopratio.allocator.cpu import CpuAllocator
from flopratio.allocator.device import DeviceProfile, device_profile, device_profiles
from flopratio.allocator.interface import Allocator, OutOfMemory
from flopratio.allocator.replay import Event, Replay, Workspace, replay
from flopratio.allocator.workspaces import (
    cublas_workspaces,
    flash_attention_backward,
    unknown_workspaces,
)

__all__ = [
    "Allocator",
    "CachingAllocator",
    "CpuAllocator",
    "DeviceProfile",
    "Event",
    "OutOfMemory",
    "Replay",
    "Segment",
    "SegmentBlock",
    "Workspace",
    "cublas_workspaces",
    "device_profile",
    "device_profiles",
    "flash_attention_backward",
    "replay",
    "unknown_workspaces",
]
