"""What every allocator offers a replay: memory handed out and taken back, and the bytes counted."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable


class Allocator(ABC):
    """An allocator's counters, in bytes, under the names of ``torch.cuda.memory_stats``.

    Attributes:
        requested: what the live blocks were asked for.
        allocated: what they take up, with rounding and with remainders too small to split off.
        reserved: what the allocator holds of its device, free blocks included.
        peak, peak_allocated, peak_reserved: the most that each of them has been.
        retries: how often cached memory went back to the device to make room.
    """

    def __init__(self) -> None:
        self.requested = self.allocated = self.reserved = 0
        self.peak = self.peak_allocated = self.peak_reserved = 0
        self.retries = 0

    @abstractmethod
    def allocate(self, block: Hashable, nbytes: int, stream: int = 0) -> None:
        """Hand out ``nbytes`` bytes under the name ``block``.

        Raises:
            ValueError: the block is live already, or its size is negative.
            OutOfMemory: the device has no room.
        """

    @abstractmethod
    def free(self, block: Hashable) -> None:
        """Take a block back.

        Raises:
            ValueError: the block is not live.
        """

    def _count(self, requested: int, allocated: int) -> None:
        self.requested += requested
        self.allocated += allocated
        if self.requested > self.peak:
            self.peak = self.requested
        if self.allocated > self.peak_allocated:
            self.peak_allocated = self.allocated


class OutOfMemory(Exception):  # noqa: N818 - torch calls it so, and so do those who meet it
    """A request that the device has no room for, even after all cached memory was given back.

    Args:
        nbytes: the request.
        requested, allocated, reserved: the allocator's counters when it came.
        capacity: bytes of the device.
    """

    def __init__(
        self, nbytes: int, *, requested: int, allocated: int, reserved: int, capacity: int
    ) -> None:
        super().__init__(
            f"out of memory: {nbytes:,} bytes asked for, {allocated:,} allocated and {reserved:,} "
            f"reserved of {capacity:,}"
        )
        self.nbytes = nbytes
        self.requested = requested
        self.allocated = allocated
        self.reserved = reserved
        self.capacity = capacity
