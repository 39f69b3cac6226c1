"""The allocators: worked examples, invariants, and a slow reference that shares no code."""

import subprocess
import sys
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flopratio.allocator import (
    Allocator,
    CachingAllocator,
    CpuAllocator,
    DeviceProfile,
    Event,
    OutOfMemory,
    SegmentBlock,
    Workspace,
    cublas_workspaces,
    device_profile,
    device_profiles,
    flash_attention_backward,
    replay,
    unknown_workspaces,
)
from tests.allocator.naive_allocator import NaiveAllocator

MIB = 1024 * 1024


def allocated(*sizes: int, **options: Any) -> CachingAllocator:
    """An allocator that holds blocks 0, 1, ... of these sizes."""
    allocator = CachingAllocator(**options)
    for block, nbytes in enumerate(sizes):
        allocator.allocate(block, nbytes)
    return allocator


def counters(allocator: Allocator) -> tuple[int, int, int]:
    return allocator.requested, allocator.allocated, allocator.reserved


class TestRounding:
    """What one block takes."""

    @pytest.mark.parametrize(
        ("nbytes", "size", "segment"),
        [
            # up to 512 B: 512 B, in the small pool's segment of 2 MiB
            (1, 512, 2 * MIB),
            (512, 512, 2 * MIB),
            (513, 1024, 2 * MIB),
            # 1 MiB is the last that is small
            (MIB, MIB, 2 * MIB),
            (MIB + 1, MIB + 512, 20 * MIB),
            # 20 - 9.5 = 10.5 MiB remain of the segment, more than 1: split
            (9 * MIB + MIB // 2, 9 * MIB + MIB // 2, 20 * MIB),
            # from 10 MiB on, a segment of its own: a multiple of 2 MiB
            (10 * MIB - 512, 10 * MIB - 512, 20 * MIB),
            (10 * MIB - 511, 10 * MIB, 10 * MIB),
            (10 * MIB, 10 * MIB, 10 * MIB),
            # 11.5 of 12 MiB: 0.5 remain, no more than 1, and count as allocated
            (11 * MIB + MIB // 2, 12 * MIB, 12 * MIB),
            # exactly 1 MiB remains: not split; 512 B more: split
            (11 * MIB, 12 * MIB, 12 * MIB),
            (11 * MIB - 512, 11 * MIB - 512, 12 * MIB),
        ],
    )
    def test_a_lone_block(self, nbytes: int, size: int, segment: int) -> None:
        assert counters(allocated(nbytes)) == (nbytes, size, segment)

    @pytest.mark.parametrize(
        ("nbytes", "size", "mapped"),
        [
            (1, 512, 2 * MIB),
            (MIB, MIB, 2 * MIB),
            (MIB + 1, MIB + 512, 20 * MIB),
            # every remainder from 512 B on is split off
            (11 * MIB + MIB // 2, 11 * MIB + MIB // 2, 20 * MIB),
            # 41 MiB lie in three pages of 20 MiB
            (41 * MIB, 41 * MIB, 60 * MIB),
        ],
    )
    def test_a_lone_block_in_expandable_segments(self, nbytes: int, size: int, mapped: int) -> None:
        assert counters(allocated(nbytes, expandable_segments=True)) == (nbytes, size, mapped)

    def test_a_block_without_bytes_takes_nothing(self) -> None:
        allocator = allocated(0)
        assert counters(allocator) == (0, 0, 0)
        allocator.free(0)
        assert allocator.segments() == []

    def test_the_constants_are_those_of_the_installed_torch(self) -> None:
        from flopratio.allocator import pool

        header = Path(torch.__file__).parent / "include/c10/core/AllocatorConfig.h"
        text = header.read_text() if header.exists() else ""
        if "kRoundLarge" not in text:
            pytest.skip("this torch has no such header")
        for constant, value in {
            "kMinBlockSize": pool.MIN_BLOCK,
            "kSmallSize": pool.SMALL_REQUEST,
            "kSmallBuffer": pool.SMALL_SEGMENT,
            "kMinLargeAlloc": pool.OWN_SEGMENT,
            "kRoundLarge": pool.SEGMENT_MULTIPLE,
        }.items():
            assert f"constexpr size_t {constant} = {value};" in text
        assert f"large_segment_size_{{{pool.LARGE_SEGMENT}}}" in text


class TestReuse:
    """What becomes of a freed block."""

    def test_the_smallest_block_that_fits_is_taken(self) -> None:
        # Three free blocks, 8 KiB, 2 KiB and 4 KiB, kept apart by live ones.
        allocator = allocated(8192, 512, 2048, 512, 4096, 512)
        for block in (0, 2, 4):
            allocator.free(block)
        allocator.allocate("new", 3000)
        (segment,) = allocator.segments()
        (new,) = (block for block in segment.blocks if block.requested == 3000)
        # where the 4 KiB lay, after 8192 + 512 + 2048 + 512
        assert new.start - segment.start == 11_264

    def test_of_two_that_fit_alike_the_lower_is_taken(self) -> None:
        allocator = allocated(1024, 512, 1024, 512)
        allocator.free(2)
        allocator.free(0)
        allocator.allocate("new", 1024)
        assert allocator.segments()[0].blocks[0].requested == 1024

    def test_a_block_is_reused_on_its_own_stream_only(self) -> None:
        allocator = allocated(MIB)
        allocator.free(0)
        allocator.allocate(1, MIB, stream=7)
        assert allocator.reserved == 4 * MIB
        allocator.allocate(2, MIB, stream=0)
        assert allocator.reserved == 4 * MIB

    def test_a_small_request_never_uses_the_large_pool(self) -> None:
        allocator = allocated(5 * MIB)
        allocator.free(0)
        allocator.allocate(1, MIB)
        assert allocator.reserved == 22 * MIB

    @pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 0, 1), (0, 2, 1), (2, 1, 0)])
    def test_free_neighbours_merge(self, order: tuple[int, ...]) -> None:
        # 3 x 6 MiB lie in one segment of 20 MiB; freed, they make room for 20 MiB - 512 B.
        allocator = allocated(6 * MIB, 6 * MIB, 6 * MIB)
        for block in order:
            allocator.free(block)
        allocator.allocate("new", 20 * MIB - 512)
        assert allocator.reserved == 20 * MIB

    def test_blocks_of_two_segments_do_not_merge(self) -> None:
        allocator = allocated(10 * MIB, 10 * MIB)
        allocator.free(0)
        allocator.free(1)
        allocator.allocate("new", 20 * MIB)
        assert allocator.reserved == 40 * MIB

    def test_an_unsplit_remainder_comes_back_with_its_block(self) -> None:
        allocator = allocated(11 * MIB + MIB // 2)
        allocator.free(0)
        assert counters(allocator) == (0, 0, 12 * MIB)
        allocator.allocate(1, 12 * MIB)
        assert counters(allocator) == (12 * MIB, 12 * MIB, 12 * MIB)

    def test_a_large_free_block_serves_a_request_with_one_mib_to_spare(self) -> None:
        # 13 MiB of a free 14: 1 MiB remains, which is not split off and counts.
        allocator = allocated(14 * MIB)
        allocator.free(0)
        allocator.allocate(1, 13 * MIB)
        assert counters(allocator) == (13 * MIB, 14 * MIB, 14 * MIB)

    def test_a_snapshot_that_a_user_posted(self) -> None:
        """y = X @ W + b on a GPU of compute capability 8.x, W [1000, 10], b [10], X [1000] in fp32:
        https://discuss.pytorch.org/t/178671."""
        allocator = CachingAllocator()
        events = [
            Event("alloc", "W", 40_000),
            Event("alloc", "b", 40),
            Event("alloc", "X", 4_000),
            Event("alloc", "X @ W", 40),
            Event("alloc", "y", 40),
            Event("free", "X @ W", 40),
        ]
        profile = device_profile("A100-80GB")
        replay(events, allocator, workspaces=cublas_workspaces(profile, [("forward", 4)]))
        small, large = allocator.segments()
        assert [(block.size, block.requested is not None) for block in small.blocks] == [
            (40_448, True),
            (512, True),
            (4_096, True),
            (512, False),
            (512, True),
            (2_051_072, False),
        ]
        assert [(block.size, block.requested) for block in large.blocks] == [
            (8_519_680, 8_519_680),
            (12_451_840, None),
        ]


class TestExpandableSegments:
    def test_one_segment_grows_by_pages(self) -> None:
        # 15 + 15 MiB: the second begins in the first page of 20 MiB and needs 10 MiB of a second.
        allocator = allocated(15 * MIB, 15 * MIB, expandable_segments=True)
        (segment,) = allocator.segments()
        assert segment.size == allocator.reserved == 40 * MIB
        assert [block.size for block in segment.blocks] == [15 * MIB, 15 * MIB, 10 * MIB]

    def test_what_does_not_fit_any_segment_fits_a_longer_one(self) -> None:
        # Freed 15 + 15 MiB: two plain segments of 16 MiB hold no 17 MiB, an expandable one does.
        for expandable, reserved in ((False, (16 + 16 + 18) * MIB), (True, 40 * MIB)):
            allocator = allocated(15 * MIB, 15 * MIB, expandable_segments=expandable)
            allocator.free(0)
            allocator.free(1)
            allocator.allocate(2, 17 * MIB)
            assert allocator.reserved == reserved

    def test_the_end_that_can_grow_is_taken_last(self) -> None:
        # Live 2 MiB blocks keep apart 8 MiB in front and the 5 MiB that are left of the page:
        # 3 + 8 + 2 + 2 + 5 = 20. Though 5 MiB fit 4 better, they could grow to any length.
        allocator = allocated(3 * MIB, 8 * MIB, 2 * MIB, 2 * MIB, expandable_segments=True)
        allocator.free(1)
        allocator.allocate("new", 4 * MIB)
        (segment,) = allocator.segments()
        assert [(block.size // MIB, block.requested is None) for block in segment.blocks] == [
            (3, False),
            (4, False),
            (4, True),
            (2, False),
            (2, False),
            (5, True),
        ]

    def test_pages_in_the_middle_go_back_and_their_addresses_are_used_again(self) -> None:
        # 60 MiB: 5 live, 50 free, 5 live. Whole pages of the free ones: 20 to 40 MiB, one page.
        allocator = allocated(
            5 * MIB, 50 * MIB, 5 * MIB, expandable_segments=True, capacity=60 * MIB
        )
        allocator.free(1)
        allocator.allocate("other stream", 20 * MIB, stream=1)
        assert allocator.reserved == 60 * MIB
        assert allocator.retries == 1
        assert sorted(segment.size // MIB for segment in allocator.segments()) == [20, 20, 20]
        allocator.free("other stream")
        # The gap of 15 + 20 + 15 MiB closes again: the other stream's page goes back for it.
        allocator.allocate("new", 50 * MIB)
        assert allocator.reserved == 60 * MIB
        (segment,) = allocator.segments()
        assert [block.size // MIB for block in segment.blocks] == [5, 50, 5]


class TestOutOfMemory:
    def test_cached_segments_go_back_to_make_room(self) -> None:
        # 20 of 30 MiB are cached; 12 MiB don't fit beside them.
        allocator = allocated(20 * MIB, capacity=30 * MIB)
        allocator.free(0)
        allocator.allocate(1, 21 * MIB)
        assert counters(allocator) == (21 * MIB, 22 * MIB, 22 * MIB)
        assert allocator.retries == 1

    def test_the_peak_is_what_was_reserved_before_it_went_back(self) -> None:
        allocator = allocated(20 * MIB, 10 * MIB, capacity=30 * MIB)
        allocator.free(0)
        allocator.free(1)
        allocator.allocate(2, 22 * MIB)
        assert (allocator.reserved, allocator.peak_reserved) == (22 * MIB, 30 * MIB)

    def test_a_segment_in_use_stays_whole(self) -> None:
        # Of 20 MiB only 2 are live, and yet 12 MiB more don't fit in 30.
        allocator = allocated(2 * MIB, 8 * MIB, capacity=30 * MIB)
        allocator.free(1)
        with pytest.raises(OutOfMemory, match="19,922,944 bytes asked for") as caught:
            allocator.allocate(2, 19 * MIB)
        assert caught.value.nbytes == 19 * MIB
        assert caught.value.allocated == 2 * MIB
        assert caught.value.reserved == 20 * MIB
        assert caught.value.capacity == 30 * MIB

    def test_a_request_that_failed_leaves_the_counters_alone(self) -> None:
        allocator = allocated(2 * MIB, capacity=30 * MIB)
        with pytest.raises(OutOfMemory):
            allocator.allocate(1, 19 * MIB)
        assert counters(allocator) == (2 * MIB, 2 * MIB, 20 * MIB)
        allocator.allocate(1, 3 * MIB)
        assert counters(allocator) == (5 * MIB, 5 * MIB, 20 * MIB)

    def test_the_last_byte_can_be_had(self) -> None:
        assert allocated(30 * MIB, capacity=30 * MIB).reserved == 30 * MIB
        with pytest.raises(OutOfMemory):
            allocated(30 * MIB, 1, capacity=30 * MIB)

    def test_the_replay_names_the_event(self) -> None:
        events = [Event("alloc", 0, 10 * MIB), Event("alloc", 1, 30 * MIB)]
        with pytest.raises(OutOfMemory) as caught:
            replay(events, CachingAllocator(capacity=30 * MIB))
        assert caught.value.__notes__ == ["at event 1"]


class TestCpu:
    def test_sizes_round_up_to_64_bytes(self) -> None:
        allocator = CpuAllocator()
        for block, nbytes in enumerate((0, 1, 64, 65)):
            allocator.allocate(block, nbytes)
        # 0 + 64 + 64 + 128
        assert counters(allocator) == (130, 256, 256)

    def test_nothing_is_cached(self) -> None:
        result = replay([Event("alloc", 0, 100), Event("free", 0, 100)], CpuAllocator())
        assert (result.peak, result.peak_allocated, result.peak_reserved) == (100, 128, 128)
        assert (result.requested, result.allocated, result.reserved) == (0, 0, 0)


class TestReplay:
    EVENTS = (
        Event("alloc", 0, 100),
        Event("alloc", 1, 2000),
        Event("free", 0, 100),
        Event("alloc", 2, 600),
        Event("free", 1, 2000),
        Event("free", 2, 600),
    )

    def test_the_peaks_and_where_they_are(self) -> None:
        result = replay(self.EVENTS, CachingAllocator())
        # 2000 + 600 requested; 2048 + 1024 allocated, at the event of index 3
        assert result.peak == 2600
        assert result.peak_allocated == 3072
        assert result.at == 3
        assert result.rounding == 472
        assert result.peak_reserved == 2 * MIB
        assert result.fragmentation == 1 - 3072 / (2 * MIB)
        assert (result.requested, result.allocated, result.reserved) == (0, 0, 2 * MIB)

    def test_of_two_equal_peaks_the_first_is_named(self) -> None:
        twice = [Event(kind, block, 100) for block in (0, 1) for kind in ("alloc", "free")]
        assert replay(twice, CachingAllocator()).at == 0

    def test_no_event_no_peak(self) -> None:
        result = replay([], CachingAllocator())
        assert (result.peak_allocated, result.at, result.fragmentation) == (0, None, 0.0)

    def test_a_workspace_comes_before_its_event_and_stays(self) -> None:
        result = replay(self.EVENTS, CachingAllocator(), workspaces=[Workspace("w", 4096, 3)])
        assert result.peak == 2600 + 4096
        assert result.at == 3
        assert result.allocated == 4096

    def test_a_passing_workspace_leaves_before_its_event(self) -> None:
        passing = Workspace("w", 4096, before=3, until=4)
        result = replay(self.EVENTS, CachingAllocator(), workspaces=[passing])
        assert (result.peak_allocated, result.at, result.allocated) == (2048 + 1024 + 4096, 3, 0)

    def test_a_workspace_within_one_kernel_is_gone_before_the_next_event(self) -> None:
        # Two of them at once, 2000 + 512 + 512 requested; then 2000 + 600, and 2048 + 1024 rounded.
        within = [Workspace(name, 512, before=3, until=3) for name in ("softmax_d", "dq_accum")]
        result = replay(self.EVENTS, CachingAllocator(), workspaces=within)
        assert (result.peak, result.peak_allocated, result.allocated) == (3024, 3072, 0)

    def test_what_goes_makes_room_for_what_comes(self) -> None:
        workspaces = [Workspace("later", 4096, 3, 4), Workspace("earlier", 4096, 2, 3)]
        result = replay(self.EVENTS, CachingAllocator(), workspaces=workspaces)
        assert result.peak_allocated == 2048 + 1024 + 4096

    def test_a_workspace_after_the_last_event(self) -> None:
        result = replay(self.EVENTS, CachingAllocator(), workspaces=[Workspace("w", 5000, 6)])
        assert (result.at, result.peak_allocated) == (6, 5120)

    @pytest.mark.parametrize("allocator", [CachingAllocator, CpuAllocator])
    @pytest.mark.parametrize(
        ("events", "message"),
        [
            ([Event("free", 3, 1)], "block 3 is not allocated"),
            ([Event("alloc", 3, 1), Event("alloc", 3, 1)], "block 3 is allocated already"),
            ([Event("alloc", 3, -1)], "negative size"),
            ([Event("malloc", 3, 1)], "an alloc or a free, not 'malloc'"),  # type: ignore[arg-type]
        ],
    )
    def test_events_that_make_no_sense(
        self, allocator: type[Allocator], events: list[Event], message: str
    ) -> None:
        with pytest.raises(ValueError, match=message):
            replay(events, allocator())

    def test_what_cannot_be_known_is_named_and_not_counted(self) -> None:
        unknown = unknown_workspaces(["aten.mm", "aten.convolution", "aten.convolution"])
        assert unknown == ("aten.convolution",)
        result = replay(self.EVENTS, CachingAllocator(), unknown_workspaces=unknown)
        assert result.unknown_workspaces == ("aten.convolution",)
        assert result.peak_allocated == replay(self.EVENTS, CachingAllocator()).peak_allocated


# -- any stream ------------------------------------------------------------------------------

SIZES = st.one_of(
    st.integers(0, 3000),
    st.integers(0, 2 * MIB),
    st.integers(MIB, 45 * MIB),
    st.sampled_from([MIB, 10 * MIB, 20 * MIB]).flatmap(
        lambda edge: st.integers(edge - 1024, edge + 1024)
    ),
    st.integers(1, 12).map(lambda mib: mib * MIB),
)


@st.composite
def streams(draw: st.DrawFn, *, close: bool = False) -> list[Event]:
    """Events that make sense; ``close``: everything is freed in the end."""
    events: list[Event] = []
    live: list[Event] = []
    for number in range(draw(st.integers(1, 40))):
        if live and draw(st.booleans()):
            block = live.pop(draw(st.integers(0, len(live) - 1)))
            events.append(block._replace(kind="free"))
        else:
            events.append(Event("alloc", number, draw(SIZES), draw(st.integers(0, 1))))
            live.append(events[-1])
    if close:
        for block in draw(st.permutations(live)):
            events.append(block._replace(kind="free"))
    return events


def rounded(nbytes: int) -> int:
    return (nbytes + 511) // 512 * 512


def check(allocator: CachingAllocator, live: dict[object, Event]) -> None:
    """What holds at any time."""
    segments = allocator.segments()
    assert sum(segment.size for segment in segments) == allocator.reserved
    assert all(one.start + one.size <= next_.start for one, next_ in pairwise(segments))
    for segment in segments:
        # The blocks tile the segment: no overlap, no hole.
        assert segment.blocks[0].start == segment.start
        assert all(one.start + one.size == next_.start for one, next_ in pairwise(segment.blocks))
        last = segment.blocks[-1]
        assert last.start + last.size == segment.start + segment.size
        for one, next_ in pairwise(segment.blocks):
            assert one.requested is not None or next_.requested is not None
        assert all(block.size % 512 == 0 for block in segment.blocks)
    in_use: list[SegmentBlock] = [
        block for segment in segments for block in segment.blocks if block.requested is not None
    ]
    requested = sorted(event.nbytes for event in live.values() if event.nbytes)
    assert sorted(block.requested or 0 for block in in_use) == requested
    assert sum(block.size for block in in_use) == allocator.allocated
    assert sum(requested) == allocator.requested <= allocator.allocated <= allocator.reserved


def drive(events: Iterable[Event], allocator: CachingAllocator) -> None:
    live: dict[object, Event] = {}
    for event in events:
        if event.kind == "alloc":
            try:
                allocator.allocate(event.block, event.nbytes, event.stream)
            except OutOfMemory:
                continue
            live[event.block] = event
        elif live.pop(event.block, None):
            allocator.free(event.block)
        check(allocator, live)


class TestAnyStream:
    @settings(deadline=None)
    @given(streams(), st.booleans(), st.none() | st.integers(20, 200).map(lambda mib: mib * MIB))
    def test_the_invariants_hold_after_each_event(
        self, events: list[Event], expandable: bool, capacity: int | None
    ) -> None:
        drive(events, CachingAllocator(capacity=capacity, expandable_segments=expandable))

    @given(streams(close=True), st.booleans())
    def test_nothing_is_allocated_when_all_is_freed(
        self, events: list[Event], expandable: bool
    ) -> None:
        result = replay(events, CachingAllocator(expandable_segments=expandable))
        assert (result.requested, result.allocated) == (0, 0)
        assert result.peak <= result.peak_allocated <= result.peak_reserved == result.reserved

    @given(streams(), st.booleans())
    def test_the_same_stream_gives_the_same_result(
        self, events: list[Event], expandable: bool
    ) -> None:
        results = [replay(events, CachingAllocator(expandable_segments=expandable)) for _ in "12"]
        assert results[0] == results[1]

    @given(streams())
    def test_expandable_segments_allocate_the_plain_sum_of_roundings(
        self, events: list[Event]
    ) -> None:
        allocator = CachingAllocator(expandable_segments=True)
        live: dict[object, int] = {}
        for event in events:
            replay([event], allocator)
            if event.kind == "alloc":
                live[event.block] = rounded(event.nbytes)
            else:
                del live[event.block]
            assert allocator.allocated == sum(live.values())

    @given(streams())
    def test_plain_segments_allocate_at_most_one_mib_more_a_block(
        self, events: list[Event]
    ) -> None:
        allocator = CachingAllocator()
        replay(events, allocator)
        for segment in allocator.segments():
            for block in segment.blocks:
                if block.requested is not None:
                    spare = block.size - rounded(block.requested)
                    assert 0 <= spare <= (0 if segment.small else MIB)


def compare(events: Iterable[Event], *, capacity: int | None, expandable: bool) -> None:
    """Both allocators count the same after each event, and run out of memory at the same ones."""
    allocator = CachingAllocator(capacity=capacity, expandable_segments=expandable)
    naive = NaiveAllocator(capacity, expandable)
    for event in events:
        if event.nbytes == 0:
            continue
        if event.kind == "alloc":
            try:
                allocator.allocate(event.block, event.nbytes, event.stream)
                fits = True
            except OutOfMemory:
                fits = False
            assert naive.allocate(event.block, event.nbytes, event.stream) is fits
        elif event.block in naive.live:
            allocator.free(event.block)
            naive.free(event.block)
        assert counters(allocator) == (naive.requested, naive.allocated, naive.reserved)


def crowd(seed: int) -> list[Event]:
    """A long stream of mostly large blocks, for a device that is too small for it."""
    random = Random(seed)
    share = random.choice([0.45, 0.5, 0.55])
    events: list[Event] = []
    live: list[Event] = []
    for number in range(200):
        if live and random.random() < share:
            events.append(live.pop(random.randrange(len(live)))._replace(kind="free"))
        else:
            least, most = (MIB, 45 * MIB) if random.random() < 0.7 else (200_000, MIB)
            stream = int(random.random() < 0.2)
            events.append(Event("alloc", number, random.randint(least, most), stream))
            live.append(events[-1])
    return events


class TestReference:
    """Against an implementation of the same rules that looks for free bytes afresh each time."""

    @settings(deadline=None, max_examples=200)
    @given(streams(), st.booleans(), st.none() | st.integers(20, 200).map(lambda mib: mib * MIB))
    def test_any_stream(self, events: list[Event], expandable: bool, capacity: int | None) -> None:
        compare(events, capacity=capacity, expandable=expandable)

    @pytest.mark.parametrize("expandable", [False, True])
    @pytest.mark.parametrize("mib", [100, 160, 240])
    def test_a_device_that_is_crowded(self, mib: int, expandable: bool) -> None:
        for seed in range(25):
            compare(crowd(seed), capacity=mib * MIB, expandable=expandable)


class TestDeviceProfiles:
    def test_the_known_gpus(self) -> None:
        assert set(device_profiles()) == {
            "A100-40GB",
            "A100-80GB",
            "H100-80GB",
            "H200-141GB",
            "L4-24GB",
            "RTX4090-24GB",
            "V100-32GB",
        }

    @pytest.mark.parametrize("profile", device_profiles().values(), ids=list(device_profiles()))
    def test_hopper_takes_more_for_cublas(self, profile: DeviceProfile) -> None:
        # :4096:2:16:8 is 2 * 4096 + 8 * 16 KiB = 8320 KiB; 32 MiB on sm90
        expected = 32 * MIB if profile.architecture == "sm90" else 8320 * 1024
        assert profile.cublas_workspace_bytes == expected

    @pytest.mark.parametrize("profile", device_profiles().values(), ids=list(device_profiles()))
    def test_the_memory_is_about_what_the_name_says(self, profile: DeviceProfile) -> None:
        gigabytes = int(profile.name.rpartition("-")[2].removesuffix("GB"))
        assert profile.memory_bytes is not None
        assert gigabytes * 10**9 <= profile.memory_bytes <= gigabytes * 2**30

    @pytest.mark.parametrize("name", ["H100-80GB", "h100-80gb", "NVIDIA H100 80GB HBM3"])
    def test_a_gpu_goes_by_several_names(self, name: str) -> None:
        assert device_profile(name).name == "H100-80GB"

    def test_an_unknown_gpu_warns_and_guesses_nothing(self) -> None:
        with pytest.warns(UserWarning, match="nothing is known of the GPU 'H100-96GB'.*H100-80GB"):
            profile = device_profile("H100-96GB")
        assert profile == DeviceProfile("H100-96GB")
        assert cublas_workspaces(profile, [("forward", 0)]) == ()


class TestWorkspaces:
    def test_forward_and_backward_have_one_of_cublas_each(self) -> None:
        workspaces = cublas_workspaces(
            device_profile("H200-141GB"), [("forward", 12), ("backward", 87)]
        )
        assert workspaces == (
            Workspace("cuBLAS forward", 33_554_432, 12),
            Workspace("cuBLAS backward", 33_554_432, 87),
        )

    def test_a_torch_that_gives_them_back_has_none_that_stay(self) -> None:
        profile = DeviceProfile(
            "later", cublas_workspace_bytes=8_519_680, cublas_workspace_persistent=False
        )
        assert cublas_workspaces(profile, [("forward", 12)]) == ()

    def test_flash_attention_backward(self) -> None:
        # 1000 rows round up to 1024, a head of 80 to 96:
        # softmax_d 4 B * 2 * 12 * 1024 = 98,304; dq_accum 4 B * 2 * 1024 * 12 * 96 = 9,437,184
        assert flash_attention_backward(2, 12, 1000, 80) == {
            "softmax_d": 98_304,
            "dq_accum": 9_437_184,
        }

    def test_flash_attention_backward_with_shared_keys(self) -> None:
        # dk_expanded and dv_expanded: 2 B * 1 * 512 * 8 * 64 = 524,288 each
        nbytes = flash_attention_backward(1, 8, 128, 64, keys=512, key_heads=2)
        assert nbytes["dk_expanded"] == nbytes["dv_expanded"] == 524_288
        assert set(flash_attention_backward(1, 8, 128, 64, keys=512, key_heads=8)) == {
            "softmax_d",
            "dq_accum",
        }


def test_torch_is_not_imported() -> None:
    code = "import flopratio.allocator, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
