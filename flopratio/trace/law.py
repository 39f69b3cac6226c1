"""The law: a contraction that costs F forward costs F in backward for each operand that requires a
gradient. Counted from the forward operators alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from flopratio.trace.forward_call import ForwardCall, reached_by_gradient
from flopratio.trace.recording import Graph


def count_by_law(
    graphs: Iterable[Graph], forward_calls: Mapping[int, list[ForwardCall]]
) -> dict[tuple[str, str], int]:
    """(layer, phase) -> contraction FLOP of backward; backward's own operators are not looked at.

    Args:
        graphs: what each backward could reach: a contraction that no loss depends on costs nothing.
        forward_calls: sequence number of a node -> the forward operators behind it.
    """
    law: defaultdict[tuple[str, str], int] = defaultdict(int)
    for graph in graphs:
        for sequence, asked in graph.nodes.items():
            for call in reached_by_gradient(forward_calls.get(sequence, [])):
                if call.recomputed:
                    continue
                for gradient, phase in call.gradients(asked):
                    if gradient.flops:
                        law[call.layer, phase] += gradient.flops
    return dict(law)
