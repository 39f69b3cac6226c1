"""The CUDA caching allocator, by the rules of c10/cuda/CUDACachingAllocator.cpp."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable
from typing import NamedTuple

from flopratio.allocator.interface import Allocator, OutOfMemory
from flopratio.allocator.pool import (
    MIN_BLOCK,
    SMALL_REQUEST,
    DeviceMemory,
    ExpandablePool,
    Pool,
    SegmentPool,
)


class SegmentBlock(NamedTuple):
    """A piece of a segment.

    Args:
        start: its address.
        size: in bytes.
        requested: what was asked for; None if it is free.
    """

    start: int
    size: int
    requested: int | None


class Segment(NamedTuple):
    """Contiguous memory of the device, all of it in blocks."""

    start: int
    size: int
    stream: int
    small: bool
    blocks: tuple[SegmentBlock, ...]


class CachingAllocator(Allocator):
    """What ``torch.cuda`` does with a stream of allocations, without a GPU.

    A size is rounded up to a multiple of 512 B. Up to 1 MiB it is served by the small pool, else by
    the large one; each stream has its own two. The smallest free block that is large enough is
    taken, the lowest of several, and split if at least 512 B (small pool, expandable segments) or
    more than 1 MiB (large pool) remain; if not, the remainder counts as allocated. Where no block
    is large enough, a segment of 2 MiB (small pool), of 20 MiB (below 10 MiB) or of the size
    rounded up to 2 MiB is asked of the device. It is kept for good, unless the device runs out of
    memory: then all segments that are wholly free go back and the request is tried once more.

    The options of ``PYTORCH_ALLOC_CONF`` that are not arguments here have their default values.
    Memory is free again as soon as it is freed: no block is used on a stream other than its own
    (``record_stream``).

    Args:
        capacity: bytes of the device that the process may reserve; None: without end.
        expandable_segments: as ``PYTORCH_ALLOC_CONF=expandable_segments:True``: segments that grow
            by pages of 2 MiB (small pool) or 20 MiB, where every remainder from 512 B on is split
            off.
    """

    def __init__(self, *, capacity: int | None = None, expandable_segments: bool = False) -> None:
        super().__init__()
        self._memory = DeviceMemory(capacity)
        self._kind = ExpandablePool if expandable_segments else SegmentPool
        self._large: defaultdict[int, Pool] = defaultdict(
            lambda: self._kind(self._memory, small=False)
        )
        self._small: defaultdict[int, Pool] = defaultdict(
            lambda: self._kind(self._memory, small=True)
        )
        # block -> its pool, start, size and requested bytes; no pool for one without bytes
        self._live: dict[Hashable, tuple[Pool | None, int, int, int]] = {}

    def allocate(self, block: Hashable, nbytes: int, stream: int = 0) -> None:
        """As :meth:`Allocator.allocate`; a block without bytes takes no memory, as in torch."""
        if block in self._live:
            raise ValueError(f"block {block} is allocated already")
        if nbytes <= 0:
            if nbytes < 0:
                raise ValueError(f"block {block} has a negative size, {nbytes}")
            self._live[block] = (None, 0, 0, 0)
            return
        size = -(-nbytes // MIN_BLOCK) * MIN_BLOCK
        pool = (self._small if size <= SMALL_REQUEST else self._large)[stream]
        place = pool.take(size) or self._grow(pool, size, nbytes)
        self._live[block] = (pool, *place, nbytes)
        self._count(nbytes, place[1])

    def free(self, block: Hashable) -> None:
        try:
            pool, start, size, requested = self._live.pop(block)
        except KeyError:
            raise ValueError(f"block {block} is not allocated") from None
        if pool is not None:
            pool.put(start, size)
            self.requested -= requested
            self.allocated -= size

    def _grow(self, pool: Pool, size: int, nbytes: int) -> tuple[int, int]:
        memory = self._memory
        place = pool.grow(size)
        if place is None:
            self.retries += 1
            for cached in (*self._large.values(), *self._small.values()):
                cached.shrink()
            place = pool.grow(size)
        self.reserved, self.peak_reserved = memory.reserved, memory.peak_reserved
        if place is None:
            assert memory.capacity is not None  # memory without end doesn't run out
            raise OutOfMemory(
                nbytes,
                requested=self.requested,
                allocated=self.allocated,
                reserved=self.reserved,
                capacity=memory.capacity,
            )
        return place

    def segments(self) -> list[Segment]:
        """All memory that is held now, by address: what ``torch.cuda.memory_snapshot`` shows."""
        live: defaultdict[Pool, list[SegmentBlock]] = defaultdict(list)
        for pool, start, size, requested in self._live.values():
            if pool is not None:
                live[pool].append(SegmentBlock(start, size, requested))
        segments = []
        for small, pools in ((True, self._small), (False, self._large)):
            for stream, pool in pools.items():
                free = [
                    SegmentBlock(start, size, None) for start, size in pool.free_blocks().items()
                ]
                blocks = sorted(live[pool] + free)
                for start, length in pool.ranges().items():
                    inside = (block for block in blocks if start <= block.start < start + length)
                    segments.append(Segment(start, length, stream, small, tuple(inside)))
        return sorted(segments)
