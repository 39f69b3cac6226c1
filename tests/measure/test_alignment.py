"""Lists of names that meet."""

from __future__ import annotations

import pytest

from flopratio.measure.alignment import WINDOW, align

LAYER = ["t", "addmm", "sigmoid", "mul", "add"]
FUSED = ["t", "addmm", "silu", "add"]


@pytest.mark.parametrize(
    ("expected", "found", "places"),
    [
        ("", "a", []),
        ("ab", "", [None, None]),
        ("abc", "abc", [0, 1, 2]),
        ("abc", "axbc", [0, 2, 3]),
        ("abcabcabc", "abcaxabc", [0, 1, 2, 3, None, None, 5, 6, 7]),
        ("abab", "xy", [None, None, None, None]),
    ],
)
def test_names_meet_in_their_order(expected, found, places):
    assert align(expected, found) == places


@pytest.mark.parametrize("layers", [1, 20, 3 * WINDOW])
def test_what_is_missing_in_each_layer_shifts_no_other(layers):
    places = align(LAYER * layers, FUSED * layers)
    expected = []
    for layer in range(layers):
        first = layer * len(FUSED)
        expected += [first, first + 1, None, None, first + 3]
    assert places == expected


def test_a_long_stretch_that_only_one_has():
    head, tail = ["a", "b"] * WINDOW, ["c", "d"] * 9
    other = ["x"] * (3 * WINDOW)
    assert align(head + tail, head + other + tail)[: len(head)] == list(range(len(head)))
    assert align(head + other, head)[len(head) :] == [None] * len(other)
