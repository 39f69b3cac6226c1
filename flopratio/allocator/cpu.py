"""The allocator of the CPU."""

from __future__ import annotations

from collections.abc import Hashable

from flopratio.allocator.interface import Allocator

ALIGNMENT = 64
"""torch aligns every CPU storage to it (c10/core/alignment.h)."""


class CpuAllocator(Allocator):
    """Memory from ``posix_memalign`` and back to it: nothing is cached, so ``reserved`` is
    ``allocated``: each size rounded up to the alignment of 64 B. What the C library keeps beside it
    is not seen by torch either."""

    def __init__(self) -> None:
        super().__init__()
        self._live: dict[Hashable, int] = {}

    def allocate(self, block: Hashable, nbytes: int, stream: int = 0) -> None:
        if block in self._live:
            raise ValueError(f"block {block} is allocated already")
        if nbytes < 0:
            raise ValueError(f"block {block} has a negative size, {nbytes}")
        self._live[block] = nbytes
        self._count(nbytes, _rounded(nbytes))
        self.reserved, self.peak_reserved = self.allocated, self.peak_allocated

    def free(self, block: Hashable) -> None:
        try:
            nbytes = self._live.pop(block)
        except KeyError:
            raise ValueError(f"block {block} is not allocated") from None
        self.requested -= nbytes
        self.allocated -= _rounded(nbytes)
        self.reserved = self.allocated


def _rounded(nbytes: int) -> int:
    return -(-nbytes // ALIGNMENT) * ALIGNMENT
