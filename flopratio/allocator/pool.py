"""The pools of the CUDA caching allocator: the cached blocks of one stream and one class of sizes.

A block is a range of addresses. Free blocks next to each other are always merged, so each is as
large as it can be.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left, insort

MIB = 1 << 20

MIN_BLOCK = 512
"""Every size is rounded up to a multiple of it."""
SMALL_REQUEST = 1 * MIB
"""The largest request that the small pool serves."""
SMALL_SEGMENT = 2 * MIB
"""A segment of the small pool."""
LARGE_SEGMENT = 20 * MIB
"""A segment of the large pool, for a request below :data:`OWN_SEGMENT`."""
OWN_SEGMENT = 10 * MIB
"""From this size on, a request that finds no free block gets a segment of its own size."""
SEGMENT_MULTIPLE = 2 * MIB
"""The size of such a segment is rounded up to a multiple of it."""

ADDRESS_SPACE = 1 << 50
"""The length of an expandable segment on a device of unknown capacity."""


def round_up(nbytes: int, multiple: int) -> int:
    return -(-nbytes // multiple) * multiple


class DeviceMemory:
    """The memory of a device, in bytes, and its addresses.

    An address is never used twice, and a later one is higher. Only the choice between free blocks
    of one size hangs on the order of addresses.
    """

    def __init__(self, capacity: int | None = None) -> None:
        self.capacity = capacity
        self.reserved = self.peak_reserved = 0
        self._end = 0

    def reserve(self, nbytes: int) -> bool:
        """Take memory; False if there is not as much."""
        if self.capacity is not None and self.reserved + nbytes > self.capacity:
            return False
        self.reserved += nbytes
        self.peak_reserved = max(self.peak_reserved, self.reserved)
        return True

    def release(self, nbytes: int) -> None:
        self.reserved -= nbytes

    def addresses(self, length: int, alignment: int = SEGMENT_MULTIPLE) -> int:
        """The start of a fresh range of addresses. It doesn't touch the one before, so that blocks
        of two segments never look like neighbours."""
        start = round_up(self._end + 1, alignment)
        self._end = start + length
        return start


class Pool(ABC):
    """The free blocks of one pool, and how more memory comes to it.

    Args:
        memory: of the device.
        split_from: a free block is split when at least so many bytes of it would remain.
    """

    def __init__(self, memory: DeviceMemory, split_from: int) -> None:
        self._memory = memory
        self._split_from = split_from
        # A plain sorted list: with the hundreds of free blocks that a training step leaves, and
        # with tens of thousands still, it is faster than a tree (benchmarks/allocator.py).
        self._by_size: list[tuple[int, int]] = []  # (size, start)
        self._size_at: dict[int, int] = {}  # start -> size
        self._start_at: dict[int, int] = {}  # end -> start

    def take(self, size: int) -> tuple[int, int] | None:
        """Carve a block out of the smallest free block that is large enough, the lowest of these.

        Returns:
            Its start and size; the size is larger than asked for where the remainder was too small
            to be split off. None if no free block is large enough.
        """
        index = bisect_left(self._by_size, (size,))
        if index == len(self._by_size):
            return None
        return self._carve(self._preferred(index), size)

    def _preferred(self, index: int) -> int:
        """The free block to take, given the first that is large enough."""
        return index

    def _carve(self, index: int, size: int) -> tuple[int, int]:
        """Take ``size`` bytes from the front of the free block at a place in the order of sizes."""
        length, start = self._by_size.pop(index)
        del self._size_at[start]
        remainder = length - size
        if remainder < self._split_from:
            del self._start_at[start + length]
            return start, length
        self._insert(start + size, remainder)
        return start, size

    def put(self, start: int, size: int) -> None:
        """Free a block: it merges with the free blocks before and after it."""
        end = start + size
        following = self._size_at.get(end)
        if following is not None:
            self._remove(end, following)
            end += following
        before = self._start_at.get(start)
        if before is not None:
            self._remove(before, start - before)
            start = before
        self._insert(start, end - start)

    def _insert(self, start: int, size: int) -> None:
        insort(self._by_size, (size, start))
        self._size_at[start] = size
        self._start_at[start + size] = start

    def _remove(self, start: int, size: int) -> None:
        del self._by_size[bisect_left(self._by_size, (size, start))]
        del self._size_at[start]
        del self._start_at[start + size]

    @abstractmethod
    def grow(self, size: int) -> tuple[int, int] | None:
        """Take a block from fresh memory of the device; None if it has not as much."""

    @abstractmethod
    def shrink(self) -> None:
        """Give back to the device whatever can be."""

    @abstractmethod
    def ranges(self) -> dict[int, int]:
        """The memory that the pool holds: start -> length."""

    def free_blocks(self) -> dict[int, int]:
        """start -> size"""
        return self._size_at


class SegmentPool(Pool):
    """A pool of segments as ``cudaMalloc`` returned them."""

    def __init__(self, memory: DeviceMemory, *, small: bool) -> None:
        # "More than 1 MiB" in the large pool: all sizes are multiples of 512.
        super().__init__(memory, MIN_BLOCK if small else SMALL_REQUEST + MIN_BLOCK)
        self._segments: dict[int, int] = {}

    def grow(self, size: int) -> tuple[int, int] | None:
        length = segment_size(size)
        if not self._memory.reserve(length):
            return None
        start = self._memory.addresses(length)
        self._segments[start] = length
        self._insert(start, length)
        return self._carve(bisect_left(self._by_size, (length, start)), size)

    def shrink(self) -> None:
        """Free the segments of which no block is live."""
        for start, size in list(self._size_at.items()):
            if self._segments.get(start) == size:
                self._remove(start, size)
                del self._segments[start]
                self._memory.release(size)

    def ranges(self) -> dict[int, int]:
        return self._segments


def segment_size(size: int) -> int:
    """Bytes that are asked of the device for a block of ``size`` bytes."""
    if size <= SMALL_REQUEST:
        return SMALL_SEGMENT
    if size < OWN_SEGMENT:
        return LARGE_SEGMENT
    return round_up(size, SEGMENT_MULTIPLE)


class ExpandablePool(Pool):
    """A pool of expandable segments: a segment is a long range of addresses, of which pages are
    mapped to memory as they are needed. One segment suffices until its addresses run out."""

    def __init__(self, memory: DeviceMemory, *, small: bool) -> None:
        super().__init__(memory, MIN_BLOCK)
        self._page = SMALL_SEGMENT if small else LARGE_SEGMENT
        self._segments: dict[int, int] = {}
        self._unmapped: dict[int, int] = {}  # start -> size, each as large as it can be

    def _preferred(self, index: int) -> int:
        """A free block in front of unmapped pages counts as if they were mapped: so the end of the
        segment is left alone while another block fits."""
        extent = self._extent(index)
        while index + 1 < len(self._by_size) and (further := self._extent(index + 1)) < extent:
            index, extent = index + 1, further
        return index

    def _extent(self, index: int) -> int:
        size, start = self._by_size[index]
        return size + self._unmapped.get(start + size, 0)

    def grow(self, size: int) -> tuple[int, int] | None:
        start = self._room(size)
        while (free := self._size_at.get(start, 0)) < size:
            unmapped = start + free
            if not self._map(unmapped, min(size - free, self._unmapped[unmapped])):
                return None
        return self._carve(bisect_left(self._by_size, (free, start)), size)

    def _room(self, size: int) -> int:
        """The lowest address from which free and unmapped blocks make up ``size`` bytes."""
        for unmapped in sorted(self._unmapped):
            start = end = self._start_at.get(unmapped, unmapped)
            while end - start < size:
                follows = self._size_at.get(end) or self._unmapped.get(end)
                if follows is None:
                    break
                end += follows
            else:
                return start
        capacity = self._memory.capacity
        length = ADDRESS_SPACE if capacity is None else capacity + capacity // 8
        length = round_up(max(length, size), self._page)
        start = self._memory.addresses(length, self._page)
        self._segments[start] = self._unmapped[start] = length
        return start

    def _map(self, start: int, size: int) -> bool:
        """Map pages from the beginning of an unmapped block on; False if memory has run out."""
        size = round_up(size, self._page)
        if not self._memory.reserve(size):
            return False
        remainder = self._unmapped.pop(start) - size
        if remainder:
            self._unmapped[start + size] = remainder
        self.put(start, size)
        return True

    def shrink(self) -> None:
        """Unmap the pages that lie in free blocks with all of their bytes."""
        for start, size in list(self._size_at.items()):
            end = start + size
            first, last = round_up(start, self._page), end // self._page * self._page
            if first >= last:
                continue
            self._remove(start, size)
            if start < first:
                self._insert(start, first - start)
            if last < end:
                self._insert(last, end - last)
            self._memory.release(last - first)
            self._unmap(first, last)

    def _unmap(self, start: int, end: int) -> None:
        end += self._unmapped.pop(end, 0)
        before = (at for at, size in self._unmapped.items() if at + size == start)
        start = next(before, start)
        self._unmapped[start] = end - start
        if self._segments.get(start) == end - start:  # the addresses go back, too
            del self._segments[start], self._unmapped[start]

    def ranges(self) -> dict[int, int]:
        """The runs of mapped pages."""
        mapped = {}
        for segment, length in self._segments.items():
            start = segment
            for unmapped in sorted(self._unmapped):
                if segment <= unmapped < segment + length:
                    if start < unmapped:
                        mapped[start] = unmapped - start
                    start = unmapped + self._unmapped[unmapped]
            if start < segment + length:
                mapped[start] = segment + length - start
        return mapped
