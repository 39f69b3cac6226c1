"""What autograd keeps for the backward, by the formulas: the closed form beside what its hooks see,
both at the moment at which most is kept (see :mod:`flopratio.trace.kept`).

Each formula names, for each gradient of its operator, the operands or results that the gradient
needs (``saves``). An operator's node keeps those of the gradients that are wanted, each storage
once, parameters apart.
"""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

from flopratio.trace.attribution import Attribution
from flopratio.trace.forward_call import ForwardCall
from flopratio.trace.kept import is_kept, most_kept
from flopratio.trace.recording import Record, Recording


def saved_by_formulas(recording: Recording, attribution: Attribution) -> dict[str, int]:
    """Layer -> bytes that its forward operators keep at once; a storage is the layer's that kept it
    first.

    Left out is what no formula can tell: the nodes of user-defined ``autograd.Function``s and of
    tensor subclasses, and what runs under somebody else's hooks (of a checkpoint, which keep
    nothing; of offloading).
    """
    storages = recording.storages
    saved: defaultdict[str, int] = defaultdict(int)
    seen: set[int] = set()
    there = _nodes_there(recording)
    for node in sorted(attribution.forward_calls):
        if node not in there:
            continue
        for call in attribution.forward_calls[node]:
            if _left_out(call.record) or call.recomputed:
                continue
            for number in _kept(call):
                number = attribution.copies.get((node, number), number)
                if number in seen or number < 0 or storages[number].kind == "parameter":
                    continue
                seen.add(number)
                saved[call.layer] += storages[number].nbytes
    return dict(saved)


def saved_by_hooks(recording: Recording, attribution: Attribution) -> dict[str, int]:
    """Layer -> bytes that autograd's hooks saw it keep at once, of the same operators."""
    storages = recording.storages
    saved: defaultdict[str, int] = defaultdict(int)
    seen: set[int] = set()
    for kept in most_kept(recording).kept:
        calls = attribution.forward_calls.get(kept.node)
        if kept.in_function or (calls and _left_out(calls[0].record)) or kept.storage in seen:
            continue
        seen.add(kept.storage)
        layer = calls[0].layer if calls else recording.layers[0]
        saved[layer] += storages[kept.storage].nbytes
    return dict(saved)


def _nodes_there(recording: Recording) -> _Nodes:
    """The nodes that keep what they keep when most is kept."""
    record = most_kept(recording).record
    there = {kept.node for kept in recording.saved if is_kept(recording, kept, record)}
    gone = {kept.node for kept in recording.saved} - there
    return _Nodes(gone, range(min(there), max(there) + 1) if there else None)


class _Nodes(NamedTuple):
    """Some nodes, by their sequence numbers.

    Args:
        gone: those that have let go of what they kept, or are yet to come.
        among: where those lie that are there; None if there are none. A node that keeps nothing,
            as autograd's hooks see it, counts as there if it lies among them.
    """

    gone: set[int]
    among: range | None

    def __contains__(self, node: object) -> bool:
        return node not in self.gone and (self.among is None or node in self.among)


def _left_out(record: Record) -> bool:
    shared = record.in_function or record.taken_apart
    return shared or record.hooked or record.node is not None


def _kept(call: ForwardCall) -> list[int]:
    """The storages that an operator's node keeps, in the formula's order."""
    numbers = (*call.record.inputs, *call.record.outputs)
    wanted = {id(gradient) for gradient, _ in call.gradients()}
    return [
        numbers[position]
        for gradient, positions in zip(call.costed.cost.gradients, call.costed.saves, strict=True)
        if id(gradient) in wanted
        for position in positions
    ]
