"""The law: a contraction that costs F forward costs F in backward for each operand that requires a
gradient. Counted from the forward operators alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

from flopratio.formulas import Gradient
from flopratio.trace.forward_call import ForwardCall
from flopratio.trace.nodes import Nodes
from flopratio.trace.recording import Graph


class Law(NamedTuple):
    """What the law says of the backwards of a step."""

    flops: dict[tuple[str, str], int]
    """(layer, phase) -> contraction FLOP."""
    unknown: frozenset[str]
    """Operators without a formula that a gradient reaches: what theirs cost is not known."""


def flops_in_full(call: ForwardCall, gradient: Gradient) -> int:
    """What a gradient costs: F."""
    flops: int = gradient.flops
    return flops


def count_by_law(
    graphs: Iterable[Graph],
    nodes: Nodes,
    ran: Collection[tuple[int, int]],
    flops_of: Callable[[ForwardCall, Gradient], int] = flops_in_full,
) -> Law:
    """What backward costs; its own operators are not looked at.

    Args:
        graphs: what each backward could reach: a contraction that no loss depends on costs nothing.
        nodes: the forward operators behind each node.
        ran: the nodes that ran, each with the place of its graph: all that counts of a backward
            that did not end.
        flops_of: of a gradient of a forward operator.
    """
    law: Counter[tuple[str, str]] = Counter()
    unknown = set()
    for place, graph in enumerate(graphs):
        for number in graph.nodes:
            if not graph.ended and (place, number) not in ran:
                continue
            elsewhere = nodes.left_to_inner(place, number)
            for call, wanted in nodes.behind(graph, number):
                if not call.costed.known and any(wanted):
                    unknown.add(call.costed.op)
                if call in elsewhere:
                    continue
                for gradient, phase in call.gradients(wanted):
                    if gradient.flops:
                        law[call.layer, phase] += flops_of(call, gradient) * graph.batch
    return Law(dict(law), frozenset(unknown))
