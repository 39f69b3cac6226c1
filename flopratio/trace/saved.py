"""What autograd keeps for the backward, by the formulas: the closed form beside what its hooks see.

Each formula names, for each gradient of its operator, the operands or results that the gradient
needs (``saves``). An operator's node keeps those of the gradients that are wanted, each storage
once, parameters apart.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from flopratio.trace.recorder import Record

if TYPE_CHECKING:
    from flopratio.trace.attribution import Attribution, Origin


def saved_by_formulas(attribution: Attribution) -> dict[str, int]:
    """Layer -> bytes that its forward operators keep; a storage is the layer's that kept it first.

    Left out is what no formula can tell: the nodes of user-defined ``autograd.Function``s, and what
    runs under somebody else's hooks (of a checkpoint, which keep nothing; of offloading).
    """
    storages = attribution.recorder.storages
    saved: defaultdict[str, int] = defaultdict(int)
    seen: set[int] = set()
    for node in sorted(attribution.origins):
        for origin in attribution.origins[node]:
            if _left_out(origin.record) or origin.recomputed:
                continue
            for number in _kept(origin):
                number = attribution.copies.get((node, number), number)
                if number in seen or number < 0 or storages[number].kind == "parameter":
                    continue
                seen.add(number)
                saved[origin.layer] += storages[number].nbytes
    return dict(saved)


def saved_by_hooks(attribution: Attribution) -> dict[str, int]:
    """Layer -> bytes that autograd's hooks saw it keep, of the same operators."""
    storages = attribution.recorder.storages
    saved: defaultdict[str, int] = defaultdict(int)
    seen: set[int] = set()
    for node, number, in_function in attribution.recorder.saved:
        origins = attribution.origins.get(node)
        if in_function or (origins and _left_out(origins[0].record)):
            continue
        if number in seen or number < 0 or storages[number].kind == "parameter":
            continue
        seen.add(number)
        layer = origins[0].layer if origins else attribution.recorder.layers[0]
        saved[layer] += storages[number].nbytes
    return dict(saved)


def _left_out(record: Record) -> bool:
    return record.in_function or record.hooked or record.node is not None


def _kept(origin: Origin) -> list[int]:
    """The storages that an operator's node keeps, in the formula's order."""
    numbers = (*origin.record.inputs, *origin.record.outputs)
    wanted = {id(gradient) for gradient, _ in origin.gradients()}
    return [
        numbers[position]
        for gradient, positions in zip(
            origin.costed.cost.gradients, origin.costed.saves, strict=True
        )
        if id(gradient) in wanted
        for position in positions
    ]
