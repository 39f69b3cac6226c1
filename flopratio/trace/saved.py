"""What autograd keeps for the backward, by the formulas: the closed form beside what its hooks see.

Each formula names, for each gradient of its operator, the operands or results that the gradient
needs (``saves``). An operator's node keeps those of the gradients that are wanted, each storage
once, parameters apart.
"""

from __future__ import annotations

from collections import defaultdict

from flopratio.trace.attribution import Attribution
from flopratio.trace.forward_call import ForwardCall
from flopratio.trace.recording import Record, Recording


def saved_by_formulas(recording: Recording, attribution: Attribution) -> dict[str, int]:
    """Layer -> bytes that its forward operators keep; a storage is the layer's that kept it first.

    Left out is what no formula can tell: the nodes of user-defined ``autograd.Function``s and of
    tensor subclasses, and what runs under somebody else's hooks (of a checkpoint, which keep
    nothing; of offloading).
    """
    storages = recording.storages
    saved: defaultdict[str, int] = defaultdict(int)
    seen: set[int] = set()
    for node in sorted(attribution.forward_calls):
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
    """Layer -> bytes that autograd's hooks saw it keep, of the same operators."""
    storages = recording.storages
    saved: defaultdict[str, int] = defaultdict(int)
    seen: set[int] = set()
    for node, number, in_function in recording.saved:
        calls = attribution.forward_calls.get(node)
        if in_function or (calls and _left_out(calls[0].record)):
            continue
        if number in seen or number < 0 or storages[number].kind == "parameter":
            continue
        seen.add(number)
        layer = calls[0].layer if calls else recording.layers[0]
        saved[layer] += storages[number].nbytes
    return dict(saved)


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
