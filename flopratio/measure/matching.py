"""Which events of a profile recorded operators are, by their names and in their order."""

from __future__ import annotations

from collections.abc import Sequence

from flopratio.measure.alignment import align
from flopratio.measure.events import Below
from flopratio.measure.operators import is_dispatched

NEARBY = 50
"""How many events further on an operator is looked for, of those that have the name of some. One
that torch runs in another way while a dispatch mode watches is not to be taken for the next of its
name, and all between for lost."""


def matches(names: Sequence[str], events: Sequence[Below]) -> list[int | None]:
    """For each operator the index of its event; None if it has none.

    That is the next of its name. Where one has none, the two lists are aligned instead, without the
    events that others of these operators call.

    Args:
        names: of the operators, as events have them (``aten::addmm``).
    """
    wanted = [plain(name) for name in names]
    known = set(wanted)
    candidates = [i for i, (event, _) in enumerate(events) if plain(event.name) in known]
    places = _in_turn(wanted, events, candidates)
    if None not in places:
        return places
    outer = _outermost(events, candidates)
    found = align(wanted, [plain(events[i].event.name) for i in outer])
    return [None if place is None else outer[place] for place in found]


def plain(name: str) -> str:
    """The name by which an operator and its event meet. While a dispatch mode watches, torch makes
    anew what else it adds up, or writes, in place."""
    return _WRITES_IN_PLACE.get(name, name.removesuffix("_"))


_WRITES_IN_PLACE = {"aten::_index_put_impl_": "aten::index_put"}
"""Operator in place -> the one that makes its result anew, where not just an underscore differs."""


def end_of(events: Sequence[Below], index: int) -> int:
    """Where what is below an event ends."""
    depth = events[index].depth
    index += 1
    while index < len(events) and events[index].depth > depth:
        index += 1
    return index


def _in_turn(
    wanted: Sequence[str], events: Sequence[Below], candidates: Sequence[int]
) -> list[int | None]:
    """For each name the next event that has it and is not too far, nor below the one before."""
    called = [plain(events[i].event.name) for i in candidates]
    places: list[int | None] = []
    position = 0
    for name in wanted:
        near = range(position, min(position + NEARBY, len(called)))
        found = next((i for i in near if called[i] == name), None)
        places.append(None if found is None else candidates[found])
        if found is not None:
            position = found + 1
            following = end_of(events, candidates[found])
            while position < len(candidates) and candidates[position] < following:
                position += 1
    return places


def _outermost(events: Sequence[Below], candidates: Sequence[int]) -> list[int]:
    """The candidates without those that others call."""
    outer = []
    following = 0
    for index in candidates:
        if index >= following:
            outer.append(index)
            if is_dispatched(events[index].event.name):
                following = end_of(events, index)
    return outer
