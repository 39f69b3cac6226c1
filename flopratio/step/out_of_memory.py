"""Whether a step ended because memory did."""

from __future__ import annotations

import re

import torch

from flopratio.errors import message_of


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device, or the host (whose allocator has no error class of its own), ran out."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return (
        re.search(r"DefaultCPUAllocator|can't allocate memory|out of memory", message_of(error))
        is not None
    )
