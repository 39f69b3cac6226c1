"""What changed between two snapshots of a step, layer by layer. Equal means equal integers."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from flopratio.ledger import COUNTS
from flopratio.snapshot import LayerCounts, Snapshot


class Change(NamedTuple):
    """A figure on both sides."""

    before: int
    after: int

    @property
    def delta(self) -> int:
        return self.after - self.before


class Move(NamedTuple):
    """A layer whose figures moved, or that only one side has.

    Args:
        sign: ``~`` where both sides have it, ``-`` and ``+`` where only the one before or after.
        changes: column -> the figure on both sides, of the columns that differ.
    """

    sign: str
    layer: str
    type: str
    changes: dict[str, Change]


@dataclass(frozen=True)
class Difference:
    """What changed from one snapshot to another.

    Layers are matched by their paths; those that only one side has, by their class and integers:
    such a layer was renamed. Of layers that have equal integers and run in another order, as few as
    possible are said to have moved.

    Args:
        before, after: the two sides.
        unchanged: how many layers are as they were, in path, class and integers.
        changed: path -> column -> the figure on both sides, of the columns that differ.
        only_before, only_after: paths of layers that the other side has not, in their order.
        renamed: path before and after, of layers with equal class and integers.
        retyped: path -> class before and after; the model's own name is told apart.
        moved: path after -> the path of the layer that it runs after now; empty if it is the first.
        totals, memory: the figures of the whole step that differ. One that only one side knows is
            not compared.
        uncounted_ops: operators without a formula, with the number of their calls on both sides,
            where they differ.
        reconciled: whether law and execution agree on both sides, if one side is reconciled and
            the other is not; else None.
        settings, convention, versions: what differs in how the two were counted, by name; None
            where a side does not say. These are told, and are no change by themselves.
    """

    before: Snapshot
    after: Snapshot
    unchanged: int
    changed: dict[str, dict[str, Change]]
    only_before: tuple[str, ...]
    only_after: tuple[str, ...]
    renamed: tuple[tuple[str, str], ...]
    retyped: dict[str, tuple[str, str]]
    moved: dict[str, str]
    totals: dict[str, Change]
    memory: dict[str, Change]
    uncounted_ops: dict[str, Change]
    reconciled: tuple[bool | None, bool | None] | None
    settings: dict[str, tuple[Any, Any]]
    convention: dict[str, tuple[Any, Any]]
    versions: dict[str, tuple[str | None, str | None]]

    @property
    def equal(self) -> bool:
        """Whether the two are the same step: no layer and no figure differs."""
        return not (
            self.changed
            or self.only_before
            or self.only_after
            or self.renamed
            or self.retyped
            or self.moved
            or self.totals
            or self.memory
            or self.uncounted_ops
            or self.reconciled
        )

    def moves(self) -> list[Move]:
        """The layers whose figures moved or that come or go, the largest first: by the largest
        share that a change has of its column's total."""
        nothing: dict[str, int] = {}
        old, new = self.before.layers, self.after.layers
        moves = [
            *(Move("~", path, new[path].type, changes) for path, changes in self.changed.items()),
            *(
                Move("-", path, old[path].type, _changes(old[path].counts, nothing))
                for path in self.only_before
            ),
            *(
                Move("+", path, new[path].type, _changes(nothing, new[path].counts))
                for path in self.only_after
            ),
        ]
        return sorted(moves, key=lambda move: -self._share(move.changes))

    def _share(self, changes: Mapping[str, Change]) -> float:
        before, after = self.before.totals, self.after.totals
        return max(
            (
                abs(change.delta) / max(before.get(column, 0), after.get(column, 0), 1)
                for column, change in changes.items()
            ),
            default=0.0,
        )

    @property
    def versions_differ(self) -> bool:
        """Whether another torch made the two."""
        return "torch" in self.versions

    @property
    def layers(self) -> tuple[str, ...]:
        """The paths of all layers that are not as they were, each once; a renamed one's new."""
        renamed = [new for _, new in self.renamed]
        named = (self.changed, self.only_before, self.only_after, renamed, self.retyped, self.moved)
        return tuple(dict.fromkeys(path for paths in named for path in paths))


def difference(before: Snapshot, after: Snapshot) -> Difference:
    """What changed from ``before`` to ``after``."""
    shared = [path for path in before.layers if path in after.layers]
    gone = [path for path in before.layers if path not in after.layers]
    new = [path for path in after.layers if path not in before.layers]
    renamed = _renamed(
        {path: before.layers[path] for path in gone}, {path: after.layers[path] for path in new}
    )
    names = dict.fromkeys(shared) | dict(renamed)
    totals = _changes(before.totals, after.totals)
    changed = {
        path: changes
        for path in shared
        if (changes := _changes(before.layers[path].counts, after.layers[path].counts))
    }
    retyped = {
        path: (before.layers[path].type, after.layers[path].type)
        for path in shared
        if path and before.layers[path].type != after.layers[path].type
    }
    as_they_were = {
        path: names[path] or path for path in before.layers if path in names and path not in changed
    }
    kept = set(as_they_were.values())
    moved = _moved(
        [new for old, new in as_they_were.items() if _runs(before, old)],
        [path for path in after.layers if path in kept],
    )
    unchanged = set(shared) - set(changed) - set(retyped) - set(moved)
    reconciled = before.reconciled, after.reconciled
    return Difference(
        before=before,
        after=after,
        unchanged=len(unchanged),
        changed=changed,
        only_before=tuple(path for path in gone if path not in names),
        only_after=tuple(path for path in new if path not in names.values()),
        renamed=tuple(renamed.items()),
        retyped=retyped,
        moved=moved,
        totals=totals,
        memory=_changes(_known(before.memory, after.memory), _known(after.memory, before.memory)),
        uncounted_ops=_changes(before.uncounted_ops, after.uncounted_ops),
        reconciled=reconciled if reconciled[0] is not reconciled[1] else None,
        settings=_differing(before.settings, after.settings),
        convention=_differing(before.convention, after.convention),
        versions=_differing(before.versions, after.versions),
    )


def _changes(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, Change]:
    """The figures that differ; one that a side lacks is 0 there."""
    both = {name: Change(before.get(name, 0), after.get(name, 0)) for name in (*before, *after)}
    return {name: change for name, change in both.items() if change.delta}


def _differing(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    both = {name: (before.get(name), after.get(name)) for name in (*before, *after)}
    return {name: (old, new) for name, (old, new) in both.items() if old != new}


def _known(figures: Mapping[str, int | None], others: Mapping[str, int | None]) -> dict[str, int]:
    """The figures that both sides know."""
    return {
        name: figure
        for name, figure in figures.items()
        if figure is not None and others.get(name) is not None
    }


def _runs(snapshot: Snapshot, path: str) -> bool:
    """Whether a layer does anything: one that only holds parameters has no place in the order."""
    counts = snapshot.layers[path].counts
    return any(figure for column, figure in counts.items() if column != "parameters")


def _renamed(gone: Mapping[str, LayerCounts], new: Mapping[str, LayerCounts]) -> dict[str, str]:
    """Old -> new path of the layers with equal class and integers. Of several such layers, those
    belong together whose paths share the longest end; then the first with the first."""
    pairs: dict[str, str] = {}
    longest = max((path.count(".") + 1 for path in (*gone, *new)), default=0)
    for parts in range(longest, -1, -1):
        alike: defaultdict[Any, list[str]] = defaultdict(list)
        taken = set(pairs.values())
        for path in reversed(list(new)):
            if path not in taken and path.count(".") + 1 >= parts:
                alike[_end(path, parts), *_identity(new[path])].append(path)
        for path in gone:
            if path not in pairs and path.count(".") + 1 >= parts:
                paths = alike[_end(path, parts), *_identity(gone[path])]
                if paths:
                    pairs[path] = paths.pop()
    return {path: pairs[path] for path in gone if path in pairs}


def _end(path: str, parts: int) -> str:
    """The last parts of a path."""
    names = path.split(".")
    return ".".join(names[len(names) - parts :])


def _identity(layer: LayerCounts) -> tuple[Any, ...]:
    return layer.type, *(layer.counts[column] for column in COUNTS)


def _moved(before: Sequence[str], after: Sequence[str]) -> dict[str, str]:
    """The layers that run in another place among those of both sides, each with the one that it
    runs after now: the fewest without which the order is the same."""
    places = {path: place for place, path in enumerate(before)}
    order = [path for path in after if path in places]
    stayed = _increasing([places[path] for path in order])
    return {
        path: order[index - 1] if index else ""
        for index, path in enumerate(order)
        if index not in stayed
    }


def _increasing(numbers: Sequence[int]) -> set[int]:
    """The indices of a longest increasing subsequence."""
    ends: list[int] = []  # the least number that a subsequence of each length can end in
    at: list[int] = []
    behind: list[int] = []
    for index, number in enumerate(numbers):
        length = bisect_left(ends, number)
        if length == len(ends):
            ends.append(number)
            at.append(index)
        else:
            ends[length], at[length] = number, index
        behind.append(at[length - 1] if length else -1)
    kept, index = set[int](), at[-1] if at else -1
    while index >= 0:
        kept.add(index)
        index = behind[index]
    return kept
