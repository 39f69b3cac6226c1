"""What autograd keeps for a backward: when most of it is there at once, and what that is.

One tensor is kept from when its node is made until the node has run, or its graph is gone; of
several micro-batches, or of graphs that are let go, only one may be there at a time.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import NamedTuple

from flopratio.trace.recording import Recording, Saved


class MostKept(NamedTuple):
    """The moment at which autograd keeps most bytes for a backward, the first of several.

    Args:
        nbytes: how many, each storage once, parameters apart.
        record: the record that runs then; the number of records, if it is after the last.
        kept: what it keeps then, in the order in which it began to.
    """

    nbytes: int
    record: int
    kept: list[Saved]


def most_kept(recording: Recording) -> MostKept:
    """When autograd keeps most for a backward."""
    every = recording.kept_for_backward()
    storages = recording.storages
    changes: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
    for kept in every:
        changes[kept.born].append((kept.storage, 1))
        if kept.died is not None and kept.died < len(recording.records):
            changes[kept.died].append((kept.storage, -1))
    nodes: Counter[int] = Counter()
    """Storage -> how many tensors of it are kept."""
    alive = most = moment = 0
    for record in sorted(changes):
        for number, change in changes[record]:
            before = nodes[number]
            nodes[number] = before + change
            if not before or not nodes[number]:
                alive += change * storages[number].nbytes
        if alive > most:
            most, moment = alive, record
    return MostKept(most, moment, [kept for kept in every if is_kept(recording, kept, moment)])


def is_kept(recording: Recording, kept: Saved, record: int) -> bool:
    """Whether a tensor is kept while that record runs. Of what is let go after the last record it
    can't be told when."""
    if kept.died is None or kept.died >= len(recording.records):
        return kept.born <= record
    return kept.born <= record < kept.died
