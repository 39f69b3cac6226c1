"""The rules of the CUDA caching allocator once more, slow and obvious: a segment is a list of bytes
in use, and what is free is looked for afresh each time. Nothing is shared with the package."""

from dataclasses import dataclass, field
from itertools import pairwise

MIB = 1024 * 1024


@dataclass
class Interval:
    start: int
    end: int

    @property
    def size(self) -> int:
        return self.end - self.start


@dataclass(eq=False)
class Segment:
    """Offsets count from its own start. ``mapped`` says which of its pages have memory; a plain
    segment is one mapped page."""

    stream: int
    small: bool
    page: int
    mapped: list[bool]
    used: list[Interval] = field(default_factory=list)

    def in_use(self, at: int, end: int) -> bool:
        return any(block.start < end and at < block.end for block in self.used)

    def gaps(self) -> list[Interval]:
        """The free runs of mapped memory, each as long as possible."""
        edges = {0, len(self.mapped) * self.page}
        for number in range(len(self.mapped)):
            edges.add(number * self.page)
        for block in self.used:
            edges |= {block.start, block.end}
        gaps: list[Interval] = []
        marks = sorted(edges)
        for start, end in pairwise(marks):
            if not self.mapped[start // self.page] or self.in_use(start, end):
                continue
            if gaps and gaps[-1].end == start:
                gaps[-1].end = end
            else:
                gaps.append(Interval(start, end))
        return gaps

    def unmapped_after(self, at: int) -> int:
        """Bytes without memory that begin right there."""
        bytes_ = 0
        if at % self.page == 0:
            for has_memory in self.mapped[at // self.page :]:
                if has_memory:
                    break
                bytes_ += self.page
        return bytes_


class NaiveAllocator:
    def __init__(self, capacity: int | None = None, expandable: bool = False) -> None:
        self.capacity = capacity
        self.expandable = expandable
        self.segments: list[Segment] = []
        self.live: dict[object, tuple[Segment, Interval, int]] = {}

    # -- counters, each by its definition ---------------------------------------------------

    @property
    def requested(self) -> int:
        return sum(nbytes for _, _, nbytes in self.live.values())

    @property
    def allocated(self) -> int:
        return sum(block.size for segment in self.segments for block in segment.used)

    @property
    def reserved(self) -> int:
        return sum(sum(segment.mapped) * segment.page for segment in self.segments)

    # -- the rules --------------------------------------------------------------------------

    def allocate(self, name: object, nbytes: int, stream: int) -> bool:
        """False: out of memory."""
        size = (nbytes + 511) // 512 * 512
        small = size <= MIB
        place = self.find(size, stream, small)
        if place is None and not self.extend(size, stream, small):
            self.give_back()
            if not self.extend(size, stream, small):
                return False
        if place is None:
            place = self.fresh
        segment, gap = place
        remainder = gap.size - size
        split = remainder >= 512 if small or self.expandable else remainder > MIB
        block = Interval(gap.start, gap.start + size if split else gap.end)
        segment.used.append(block)
        self.live[name] = (segment, block, nbytes)
        return True

    def free(self, name: object) -> None:
        segment, block, _ = self.live.pop(name)
        segment.used.remove(block)

    def find(self, size: int, stream: int, small: bool) -> tuple[Segment, Interval] | None:
        """Best fit, the lowest address first among equals."""
        fitting = sorted(
            (
                (gap.size, number, gap.start)
                for number, segment in enumerate(self.segments)
                if (segment.stream, segment.small) == (stream, small)
                for gap in segment.gaps()
                if gap.size >= size
            ),
        )
        if not fitting:
            return None
        chosen = fitting[0]
        if self.expandable:
            # A gap that could grow counts as what it could grow to.
            def could_be(place: tuple[int, int, int]) -> int:
                length, number, start = place
                return length + self.segments[number].unmapped_after(start + length)

            for following in fitting[1:]:
                if could_be(following) >= could_be(chosen):
                    break
                chosen = following
        length, number, start = chosen
        return self.segments[number], Interval(start, start + length)

    def extend(self, size: int, stream: int, small: bool) -> bool:
        """Get memory for ``size`` bytes from the device; it is put into ``self.fresh``."""
        if self.expandable:
            return self.extend_expandable(size, stream, small)
        if small:
            length = 2 * MIB
        elif size < 10 * MIB:
            length = 20 * MIB
        else:
            length = (size + 2 * MIB - 1) // (2 * MIB) * (2 * MIB)
        if self.capacity is not None and self.reserved + length > self.capacity:
            return False
        segment = Segment(stream, small, length, [True])
        self.segments.append(segment)
        self.fresh = (segment, Interval(0, length))
        return True

    def extend_expandable(self, size: int, stream: int, small: bool) -> bool:
        page = 2 * MIB if small else 20 * MIB
        mine = [s for s in self.segments if (s.stream, s.small) == (stream, small)]
        place = next((found for s in mine if (found := self.room(s, size)) is not None), None)
        if place is None:
            # Long enough for these tests; the real ones depend on the device.
            total = self.capacity + self.capacity // 8 if self.capacity else 1024 * MIB
            total = max(total, size)
            segment = Segment(stream, small, page, [False] * ((total + page - 1) // page))
            self.segments.append(segment)
            place = segment, 0
        segment, start = place
        # One run of pages without memory after the other, until the gap is long enough.
        while True:
            gap = next(
                (gap for gap in segment.gaps() if gap.start == start), Interval(start, start)
            )
            if gap.size >= size:
                self.fresh = (segment, gap)
                return True
            missing = min(size - gap.size, segment.unmapped_after(gap.end))
            pages = (missing + page - 1) // page
            if self.capacity is not None and self.reserved + pages * page > self.capacity:
                return False
            for number in range(gap.end // page, gap.end // page + pages):
                assert not segment.mapped[number]
                segment.mapped[number] = True

    def room(self, segment: Segment, size: int) -> tuple[Segment, int] | None:
        """The lowest place with as much room, where some of it has no memory yet."""
        gaps = segment.gaps()
        for number, has_memory in enumerate(segment.mapped):
            begins = not has_memory and (number == 0 or segment.mapped[number - 1])
            if not begins:
                continue
            hole = number * segment.page
            start = next((gap.start for gap in gaps if gap.end == hole), hole)
            later = [block.start for block in segment.used if block.start >= start]
            end = min(later, default=len(segment.mapped) * segment.page)
            if end - start >= size:
                return segment, start
        return None

    def give_back(self) -> None:
        """Every page in which nothing is used loses its memory; a segment that had some and now has
        none is forgotten."""
        for segment in list(self.segments):
            had_memory = any(segment.mapped)
            for number, has_memory in enumerate(segment.mapped):
                start = number * segment.page
                if has_memory and not segment.in_use(start, start + segment.page):
                    segment.mapped[number] = False
            if had_memory and not any(segment.mapped):
                self.segments.remove(segment)
