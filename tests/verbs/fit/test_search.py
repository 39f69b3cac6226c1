"""The search for the largest size that fits, on steps whose memory is written down here."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flopratio.verbs.fit.search import Search, Tried


def search(need, limit, *, start=2, refuse=lambda size: False):
    """A search that has run: ``need`` tells the bytes at a size, ``refuse`` the sizes that are
    refused."""

    def attempt(size):
        if refuse(size):
            return Tried(size, refusal=f"{size} will not do")
        return Tried(size, memory={"peak": need(size), "inputs": size})

    found = Search(attempt, limit, "peak")
    found.run(attempt(start))
    return found


def answer(found):
    """The largest size that fits and the next."""
    return found.largest and found.largest.size, found.next.size


@given(
    slope=st.integers(1, 1000),
    constant=st.integers(0, 10_000),
    limit=st.integers(0, 1_000_000),
    start=st.integers(1, 100),
)
def test_an_affine_memory(slope, constant, limit, start):
    found = search(lambda size: constant + slope * size, limit, start=start)
    largest = (limit - constant) // slope
    assert answer(found) == ((largest, largest + 1) if largest > 0 else (None, 1))


@given(
    rises=st.lists(st.integers(0, 50), min_size=1, max_size=60),
    limit=st.integers(0, 2_000),
    start=st.integers(1, 8),
)
def test_any_memory_that_never_falls(rises, limit, start):
    def need(size):
        return sum(rises[:size]) + 20 * max(0, size - len(rises))

    largest = max((size for size in range(1, 200) if need(size) <= limit), default=None)
    found = search(need, limit, start=start)
    assert answer(found) == ((largest, largest + 1) if largest else (None, 1))


def test_an_affine_memory_takes_four_traces():
    found = search(lambda size: 1_500 + 1_000 * size, 24_000)
    assert sorted(found.tried) == [2, 3, 22, 23]


def test_sizes_far_off_are_approached_step_by_step():
    found = search(lambda size: max(10_000, 3 * size), 3_000_000)
    assert answer(found) == (1_000_000, 1_000_001)
    assert len(found.tried) < 12


def test_a_square_and_a_step_function():
    assert answer(search(lambda size: 7 * size**2, 7 * 500**2)) == (500, 501)
    assert answer(search(lambda size: size // 64, 10)) == (64 * 11 - 1, 64 * 11)


def test_nothing_fits():
    found = search(lambda size: 100 * size, 99, start=64)
    assert found.largest is None
    assert found.next.size == 1


def test_nothing_fits_and_the_smallest_sizes_are_refused():
    found = search(lambda size: 100 * size, 99, start=64, refuse=lambda size: size < 3)
    assert answer(found) == (None, 3)
    found = search(lambda size: 100 * size, 400, start=64, refuse=lambda size: size < 3)
    assert answer(found) == (4, 5)


# -- sizes that a model refuses --------------------------------------------------------------------


def test_multiples_of_a_patch():
    found = search(lambda size: size**2, 300**2, start=224, refuse=lambda size: size % 16)
    assert found.step == 16
    assert answer(found) == (288, 304)
    assert found.gaps == []


@pytest.mark.parametrize("start", [128, 1024, 1000])
def test_a_table_of_positions_ends(start):
    found = search(lambda size: size, 80_000, start=start, refuse=lambda size: size > 1024)
    assert answer(found) == (1024, 1025)
    assert found.next.refusal == "1025 will not do"
    assert len(found.tried) < 25


@pytest.mark.parametrize("end", [1, 2, 3, 99, 1000, 1023, 1025])
def test_sizes_end_anywhere(end):
    assert answer(search(lambda size: 1, 2, start=1, refuse=lambda size: size > end)) == (
        end,
        2 * end if end == 1 else end + 1,
    )


def test_powers_of_two_have_gaps():
    found = search(lambda size: size, 5_000, start=64, refuse=lambda size: size & (size - 1))
    assert found.largest.size == 4096
    assert found.gaps
    assert all(gap.size & (gap.size - 1) for gap in found.gaps)


def test_the_one_size_that_a_model_takes():
    found = search(lambda size: size, 1_000, start=7, refuse=lambda size: size != 7)
    assert found.largest.size == 7
    assert found.next.refusal


# -- memory that behaves oddly ---------------------------------------------------------------------


def test_a_size_that_changes_nothing():
    found = Search(lambda size: Tried(size, memory={"peak": 10}), 20, "peak")
    found.run(Tried(2, memory={"peak": 10}))
    assert found.is_flat
    assert not search(lambda size: 10, 9).is_flat
    assert not search(lambda size: size, 20).is_flat


def test_peaks_that_fall_are_told_and_the_answer_was_tried():
    def need(size):
        return 50 + size if size < 10 else size

    found = search(need, 55, start=4)
    assert found.fits(found.largest)
    assert not found.fits(found.next)
    assert found.next.size == found.largest.size + 1
    found = search(need, 500, start=9)
    assert [(low.size, high.size) for low, high in found.falls] == [(9, 10)]


# -- another search, of the same step run otherwise ------------------------------------------------


def test_what_one_search_learnt_spares_the_next_its_guesses():
    first = search(lambda size: 1_500 + 1_000 * size, 24_000)
    less = first.another(lambda size: Tried(size, memory={"peak": 400 + 1_000 * size}))
    less.run(Tried(22, memory={"peak": 22_400}))
    assert sorted(less.tried) == [22, 23, 24]
    more = first.another(lambda size: Tried(size, memory={"peak": 9_000 + 1_000 * size}))
    more.run(Tried(22, memory={"peak": 31_000}))
    assert sorted(more.tried) == [15, 16, 22]
