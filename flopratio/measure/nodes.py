"""Nodes of backward in two runs of the same step: which is which, by their numbers and names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from flopratio.measure.alignment import align
from flopratio.trace.recording import ACCUMULATE_GRAD, Recording


def same_nodes(
    profiled: Mapping[int, str], reached: Iterable[int], recorded: Mapping[int, str]
) -> dict[int, int | None]:
    """Number of a node in the profile -> that in the recording, None if it is none.

    If they are equally many and most are called alike, one by one in their order (a view may be
    made otherwise while it is watched, and its node be called otherwise); else as their names meet.
    Numbers themselves do not tell: a backward that is differentiable itself leaves some out when
    watched.

    Args:
        profiled: number -> name.
        reached: all numbers in the recording.
        recorded: number -> name, of those that ran an operator.
    """
    ours, theirs = sorted(profiled, reverse=True), sorted(reached, reverse=True)
    if len(ours) == len(theirs):
        pairs = dict(zip(ours, theirs, strict=True))
        alike = [recorded[n] == profiled[own] for own, n in pairs.items() if n in recorded]
        if 2 * sum(alike) >= len(alike):
            return dict(pairs)
    known = [number for number in theirs if number in recorded]
    places = align([recorded[number] for number in known], [profiled[number] for number in ours])
    met = zip(known, places, strict=True)
    same: dict[int, int | None] = dict.fromkeys(ours)
    return same | {ours[place]: number for number, place in met if place is not None}


def by_node(recording: Recording, shares: Mapping[int, float]) -> dict[int, float]:
    """Sequence number of a node, as recorded -> what is known of it by how far it lies behind the
    newest of its backward."""
    by_number = {}
    for graph in recording.graphs:
        if graph.within is None:
            newest = max((node for node in graph.nodes if node != ACCUMULATE_GRAD), default=-1)
            behind = ((newest - back, share) for back, share in shares.items())
            by_number.update({node: share for node, share in behind if node in graph.nodes})
    return by_number
