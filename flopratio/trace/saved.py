"""What autograd keeps for the backward, by the formulas: the closed form beside what its hooks see,
both at the moment at which most is kept (see :mod:`flopratio.trace.kept`).

Each formula names, for each gradient of its operator, the operands or results that the gradient
needs (``saves``). An operator's node keeps those of the gradients that are wanted, each storage
once, parameters apart.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from math import inf
from typing import Any

from flopratio.trace.attribution import Attribution
from flopratio.trace.evaluation import is_list, is_nested, is_tensor
from flopratio.trace.forward_call import ForwardCall
from flopratio.trace.kept import is_kept, most_kept
from flopratio.trace.recording import Record, Recording, SparseNote


def saved_by_formulas(recording: Recording, attribution: Attribution) -> dict[str, int]:
    """Layer -> bytes that its forward operators keep at once; a storage is the layer's that kept it
    first.

    Left out is what no formula can tell: the nodes of user-defined ``autograd.Function``s and of
    tensor subclasses, what runs under somebody else's hooks (of a checkpoint, which keep nothing;
    of offloading), and what computes directional derivatives besides.
    """
    storages = recording.storages
    saved: defaultdict[str, int] = defaultdict(int)
    seen: set[int] = set()
    for node in _nodes_there(recording, attribution.forward_calls):
        for call in attribution.forward_calls[node]:
            if _left_out(call.record):
                continue
            for number in _kept(call, recording):
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


def _nodes_there(recording: Recording, nodes: Iterable[int]) -> list[int]:
    """Those of the nodes that keep what they keep when most is kept, sorted. One that keeps nothing
    at any time, as autograd's hooks see it, counts if it lies among them."""
    record = most_kept(recording).record
    there = {kept.node for kept in recording.saved if is_kept(recording, kept, record)}
    others = {kept.node for kept in recording.saved} - there
    first, last = (min(there), max(there)) if there else (-inf, inf)
    return sorted(node for node in nodes if first <= node <= last and node not in others)


def _left_out(record: Record) -> bool:
    shared = record.in_function or record.taken_apart
    return shared or record.hooked or record.node is not None


def _kept(call: ForwardCall, recording: Recording) -> list[int]:
    """The storages that an operator's node keeps, in the formula's order; of a sparse tensor those
    of its indices too."""
    record = call.record
    numbers: list[tuple[int, ...]] = [(number,) for number in (*record.inputs, *record.outputs)]
    if recording.indices:
        notes = (*record.arguments, *(note for _, note in record.keywords), record.results)
        for position, layout in enumerate(_layouts(notes)):
            (values,) = numbers[position]
            numbers[position] = (values, *recording.indices.get((values, layout), ()))
    wanted = {id(gradient) for gradient, _ in call.gradients(call.wanted)}
    return [
        number
        for gradient, positions in zip(call.costed.cost.gradients, call.costed.saves, strict=True)
        if id(gradient) in wanted
        for position in positions
        for number in numbers[position]
    ]


def _layouts(notes: Iterable[Any]) -> Iterator[str]:
    """That of each tensor among some notes, in order."""
    for note in notes:
        if is_list(note):
            yield from _layouts(note[1:])
        elif is_tensor(note) or is_nested(note):
            beside = note[-1]
            yield beside.layout if isinstance(beside, SparseNote) else ""
