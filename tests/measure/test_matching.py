"""Recorded operators and their events, by name."""

from __future__ import annotations

import pytest

from flopratio.measure.events import Below, Event, HostEvent
from flopratio.measure.matching import NEARBY, end_of, matches


def events_of(*names: str) -> list[Below]:
    """Events; one below another begins with a space more."""
    return [
        Below(Event(HostEvent(f"aten::{name.strip()}", 0, 1, 1, number), None), name.count(" "))
        for number, name in enumerate(names, 1)
    ]


def places(names: str, *events: str) -> list[int | None]:
    return matches([f"aten::{name}" for name in names.split()], events_of(*events))


def test_each_is_the_next_of_its_name():
    assert places("mm add mm", "mm", "relu", "add", "mm", "mm") == [0, 2, 3]


def test_what_an_operator_calls_is_not_the_next_one():
    assert places("add add", "add", " add", "add") == [0, 2]


def test_what_calls_an_operator_and_has_no_record_is_passed():
    assert places("addmm sum", "linear", " addmm", "mean", " sum") == [1, 3]


@pytest.mark.parametrize(
    ("operator", "event"),
    [("add", "add_"), ("add_", "add"), ("index_put", "_index_put_impl_")],
)
def test_in_place_or_not_is_the_same(operator, event):
    assert places(operator, "mm", event) == [1]


def test_what_is_missing_in_one_layer_is_not_taken_from_the_next():
    layer, fused = ["addmm", "sigmoid", "mul"], ["addmm", "silu"]
    found = places(" ".join(layer * 3), *layer, *fused, *layer)
    assert found == [0, 1, 2, 3, None, None, 5, 6, 7]


def test_the_next_of_its_name_may_be_too_far_to_be_it():
    """Else all that is between would be lost, where what comes later has the same names."""
    near, far = ["add", "sub"] * (NEARBY // 2 - 1), ["add", "sub"] * (NEARBY // 2)
    later = ["add", "mul", "sub"] * (NEARBY // 2)
    names = " ".join(["mul", *near])
    assert places(names, *near, "mul", *later)[0] == len(near)
    names = " ".join(["mul", *far])
    assert places(names, *far, "mul", *later) == [None, *range(len(far))]


def test_aligned_without_what_others_call():
    """After one that is missing; what a product calls is not the sum behind it."""
    assert places("sigmoid mm sum", "mm", " sum", "sum") == [None, 0, 2]


def test_what_is_below_an_event_ends_at_the_next_beside_it():
    events = events_of("a", " b", "  c", " d", "e")
    assert [end_of(events, index) for index in range(5)] == [4, 3, 3, 4, 5]
