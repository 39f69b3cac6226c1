"""What a call of backward can reach: the autograd graph behind its roots, noted before it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

from flopratio.torch_private import sequence_number
from flopratio.trace.recording import ACCUMULATE_GRAD, Graph

Edge = tuple[Any, int]
"""A node, and the number of the output of it that is differentiated; the node may be None."""


def graph_behind(
    roots: Iterable[torch.Tensor],
    inputs: Iterable[torch.Tensor],
    *,
    create_graph: bool,
    start: int,
    leaf: Callable[[torch.Tensor], None],
) -> Graph:
    """The graph that a backward from these roots walks.

    Args:
        roots: what is differentiated.
        inputs: what for; empty for all leaves.
        create_graph: whether the backward itself is differentiable.
        start: index of the first record that it will make.
        leaf: called with each leaf that the roots depend on.
    """
    edges: dict[Any, tuple[Edge, ...]] = {}
    pending = [root.grad_fn for root in roots if root.grad_fn is not None]
    graph = Graph(create_graph, {}, set(), range(start, start))
    while pending:
        node = pending.pop()
        if node in edges:
            continue
        edges[node] = node.next_functions
        sequence = sequence_number(node)
        if (
            sequence == ACCUMULATE_GRAD
            and (variable := getattr(node, "variable", None)) is not None
        ):
            leaf(variable)
        graph.nodes[sequence] = tuple(following is not None for following, _ in edges[node])
        if isinstance(node, torch.autograd.function.BackwardCFunction):
            graph.functions.add(sequence)
        pending += [following for following, _ in edges[node] if following is not None]
    if inputs:
        _restrict(graph, edges, _asked_edges(inputs))
    return graph


def _restrict(graph: Graph, edges: dict[Any, tuple[Edge, ...]], asked: set[Edge]) -> None:
    """Some gradients only are asked for: an edge counts if a way leads from it to one."""
    met = {edge for following in edges.values() for edge in following}
    if asked.isdisjoint(met):  # wrappers of torch.func, whose edges do not show
        return
    leads = _leads_to(edges, asked)
    for node, following in edges.items():
        graph.nodes[sequence_number(node)] = tuple(
            edge[0] is not None and (edge in asked or leads[edge[0]]) for edge in following
        )


def _asked_edges(inputs: Iterable[torch.Tensor]) -> set[Edge]:
    """The edges that end at the tensors whose gradients are asked for."""
    edges = set()
    for tensor in inputs:
        try:
            edge = torch.autograd.graph.get_gradient_edge(tensor)
        except (AttributeError, RuntimeError):  # a wrapper of torch.func has none
            continue
        edges.add((edge.node, edge.output_nr))
    return edges


def _leads_to(edges: dict[Any, tuple[Edge, ...]], asked: set[Edge]) -> dict[Any, bool]:
    """For each node, whether a way leads from it to an asked edge."""
    users: dict[Any, list[Any]] = {node: [] for node in edges}
    for node, following in edges.items():
        for edge in following:
            if edge[0] is not None:
                users[edge[0]].append(node)
    pending = [node for node, following in edges.items() if not asked.isdisjoint(following)]
    leads = dict.fromkeys(edges, False)
    while pending:
        node = pending.pop()
        if not leads[node]:
            leads[node] = True
            pending += users[node]
    return leads
