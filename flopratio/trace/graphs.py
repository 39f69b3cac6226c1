"""What a call of backward can reach: the autograd graph behind its roots, noted before it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.autograd.graph import GradientEdge, get_gradient_edge

from flopratio.torch_private import (
    disable_current_modes,
    gradients_at_once,
    is_transformed,
    next_sequence_number,
    sequence_number,
)
from flopratio.trace.recording import ACCUMULATE_GRAD, Graph

Root = torch.Tensor | GradientEdge
"""What is differentiated, or what for: a tensor, or the place in the graph that one had."""

Edge = tuple[Any, int]
"""A node, and the number of the output of it that is differentiated; the node may be None."""

ON_VIEW = "torch::autograd::CopySlices"
"""The node of an operator that writes to a view, in the graph of what it is a view of. It holds the
operator's own node, and is made right after the operator has run."""


def graph_behind(
    graph: Graph,
    roots: Iterable[Root],
    gradients: Iterable[torch.Tensor | None],
    inputs: Iterable[Root],
    leaf: Callable[[torch.Tensor], None],
) -> None:
    """Note what a backward from these roots walks.

    Args:
        graph: to be filled.
        roots: what is differentiated.
        gradients: of the roots.
        inputs: what for; empty for all leaves.
        leaf: called with each leaf that the roots depend on.
    """
    roots, inputs = tuple(roots), tuple(inputs)
    edges: dict[Any, tuple[Edge, ...]] = {}
    pending = [node for node in map(_node_of, roots) if node is not None]
    newest = next_sequence_number()
    while pending:
        node = pending.pop()
        if node in edges:
            continue
        edges[node] = node.next_functions
        sequence = sequence_number(node)
        if sequence == ACCUMULATE_GRAD:
            if (variable := getattr(node, "variable", None)) is not None:
                leaf(variable)
        elif sequence in graph.nodes or sequence >= newest:
            graph.foreign = True
        graph.nodes[sequence] = tuple(following is not None for following, _ in edges[node])
        if isinstance(node, torch.autograd.function.BackwardCFunction):
            graph.functions.add(sequence)
        elif node.name() == ON_VIEW:
            graph.on_views.add(sequence)
        operands = [following for following, _ in edges[node] if following is not None]
        # A view whose base was written to gets its node when the next operator reads it, after
        # that one's own.
        newer = [n for n in map(sequence_number, operands) if sequence < n < newest]
        if newer:
            graph.readers[max(newer)] = sequence
        pending += operands
    tensors = [root for root in roots if isinstance(root, torch.Tensor)]
    graph.batch = gradients_at_once(tensors, [each for each in gradients if each is not None])
    graph.transformed = any(map(is_transformed, tensors))
    # A transform of torch.func asks for all leaves of its own graph, and their edges do not show.
    if inputs and not graph.transformed:
        graph.restricted = True
        _restrict(graph, edges, _asked_edges(inputs))


def _node_of(root: Root) -> Any:
    """The node that made a root; None if none did."""
    return root.node if isinstance(root, GradientEdge) else root.grad_fn


def _restrict(graph: Graph, edges: dict[Any, tuple[Edge, ...]], asked: set[Edge]) -> None:
    """Some gradients only are asked for: an edge counts if a way leads from it to one."""
    leads = _leads_to(edges, asked)
    for node, following in edges.items():
        graph.nodes[sequence_number(node)] = tuple(
            edge[0] is not None and (edge in asked or leads[edge[0]]) for edge in following
        )


def _asked_edges(inputs: Iterable[Root]) -> set[Edge]:
    """The edges that end at the tensors whose gradients are asked for."""
    edges = set()
    for tensor in inputs:
        if isinstance(tensor, torch.Tensor) and not tensor.requires_grad:
            continue  # torch will refuse it
        with disable_current_modes():  # of a leaf, torch makes a view to find it
            edge = tensor if isinstance(tensor, GradientEdge) else get_gradient_edge(tensor)
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
