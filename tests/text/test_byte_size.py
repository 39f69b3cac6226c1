"""Sizes of memory with their units."""

import pytest

from flopratio.errors import UsageError
from flopratio.text.byte_size import parse_bytes


@pytest.mark.parametrize(
    ("size", "nbytes"),
    [
        ("80GiB", 80 * 2**30),
        ("80GB", 80 * 10**9),
        ("80 gib", 80 * 2**30),
        ("1.5KiB", 1536),
        ("0.1kB", 100),
        ("24 MB", 24_000_000),
        ("2TiB", 2**41),
        ("640B", 640),
        ("0", 0),
        (1024, 1024),
    ],
)
def test_sizes(size, nbytes):
    assert parse_bytes("memory", size) == nbytes


@pytest.mark.parametrize(
    ("size", "said"),
    [
        ("80", "memory=80 has no unit: write 80GiB or 80GB"),
        ("80G", "G in memory=80G is no unit of memory: write 80GiB or 80GB"),
        ("80 apples", "apples in memory=80 apples is no unit"),
        ("-1GiB", "memory=-1GiB is no size"),
        ("lots", "memory=lots is no size"),
        ("", "write it like 80GiB"),
        (-1, "less than nothing"),
        (True, "whole number of bytes"),
        (1.5, "whole number of bytes"),
    ],
)
def test_what_is_no_size_is_told_in_a_sentence(size, said):
    with pytest.raises(UsageError, match=said):
        parse_bytes("memory", size)
