"""What the non-zeros of masked weights alone would cost.

A product with a weight that a mask has set to 0 in places (``torch.nn.utils.prune``, a mask that
the model holds as a buffer) is a dense one: it multiplies by the zeros, and counts in full. So does
one with a 2:4 sparse weight. Here is the same step with the entries that are not 0 alone: of a
product with such a weight, and of both of its gradients (that of the weight is wanted where the
mask is not 0), the share that the mask leaves.
"""

from __future__ import annotations

from collections import Counter
from math import prod
from typing import NamedTuple

from flopratio.formulas import Gradient
from flopratio.formulas.sparse import SEMI_STRUCTURED
from flopratio.trace.attribution import Attribution
from flopratio.trace.evaluation import is_tensor
from flopratio.trace.forward_call import ForwardCall
from flopratio.trace.law import count_by_law
from flopratio.trace.recording import Record, Recording


class _Share(NamedTuple):
    """How much of a weight is not 0."""

    nonzeros: int
    elements: int

    def of(self, flops: int) -> int:
        return flops * self.nonzeros // self.elements


def nonzero_flops(recording: Recording, attribution: Attribution) -> dict[str, int]:
    """Phase -> contraction FLOP of forward and backward by the law; empty if no weight is masked
    that is known."""
    shares = _shares(recording)

    def share_of(record: Record) -> _Share | None:
        if record.op.name in SEMI_STRUCTURED:
            return _Share(1, 2)
        known = [shares[number] for number in record.inputs if number in shares]
        return min(known, key=lambda share: share.of(share.elements), default=None)

    def flops_of(call: ForwardCall, gradient: Gradient) -> int:
        share = share_of(call.record)
        flops: int = gradient.flops
        return flops if share is None else share.of(flops)

    masked = False
    by_phase = Counter({"forward": 0, "grad_input": 0, "grad_weight": 0})
    for record, row in zip(recording.records, attribution.row_of_each_record(), strict=True):
        if row.phase == "forward" and row.flops:
            share = share_of(record)
            masked = masked or share is not None
            by_phase["forward"] += row.flops if share is None else share.of(row.flops)
    if not masked:
        return {}
    law = count_by_law(recording.graphs, attribution.nodes, attribution.ran, flops_of)
    for (_, phase), flops in law.flops.items():
        by_phase[phase] += flops
    return {**by_phase, "backward": by_phase["grad_input"] + by_phase["grad_weight"]}


def _shares(recording: Recording) -> dict[int, _Share]:
    """Storage -> how much is not 0, of what a parameter and a mask were multiplied to, and of its
    casts and copies."""
    shares: dict[int, _Share] = {}
    masks = recording.nonzeros
    if not masks:
        return shares
    for record in recording.records:
        if record.node is not None or len(record.outputs) != 1 or not is_tensor(record.results):
            continue
        elements = prod(record.results[1])
        known = [shares[number] for number in record.inputs if number in shares]
        if record.op.name in ("aten.mul", "aten.mul_") and any(
            number >= 0 and recording.storages[number].kind == "parameter"
            for number in record.inputs
        ):
            known += [_Share(masks[at], elements) for at in record.inputs if at in masks]
        if len(known) == 1 and known[0].elements == elements:
            shares[record.outputs[0]] = known[0]
    return shares
