"""The contractions of a step, read off the joint graph of forward and backward that AOTAutograd
makes: a program of ``aten`` operators, written before anything runs.

``functorch.compile`` is the public door to AOTAutograd: it hands the joint graph to a partitioner,
which here keeps it and goes no further. (``torch.export`` has none: its joint graph, and
``aot_export_joint_simple``, are private.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from functorch.compile import aot_function, nop
from torch import Tensor, nn
from torch.func import functional_call

PRODUCTS = {"mm": 0, "bmm": 0, "mv": 0, "dot": 0, "addmm": 1, "baddbmm": 1, "addmv": 1}
"""Operators that multiply two tensors -> the place of the first of them among the arguments."""

ATTENTION = "_scaled_dot_product_flash_attention_for_cpu"

SUSPICIOUS = ("mm", "mv", "dot", "conv", "attention", "linear", "rnn", "lstm", "gru", "dist")
"""Parts of the names of operators that may be contractions."""


@dataclass(frozen=True)
class JointCount:
    """FLOP of contractions.

    Args:
        recompute: of a fused attention's backward, which evaluates the scores once more.
        products: how many nodes have any.
    """

    forward: int
    backward: int
    recompute: int
    products: int


class _Captured(Exception):  # noqa: N818
    """The joint graph is there; nothing is to be compiled."""

    def __init__(self, graph: torch.fx.Graph) -> None:
        self.graph = graph


def joint_graph(model: nn.Module, x: Tensor, loss: Callable[[Any], Tensor]) -> torch.fx.Graph:
    """The joint graph of a model's step.

    Args:
        loss: of the model's output, a scalar.
    """

    def keep(joint: torch.fx.GraphModule, inputs: Any, **_: Any) -> Any:
        raise _Captured(joint.graph)

    def step(parameters: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor) -> Tensor:
        return loss(functional_call(model, {**parameters, **buffers}, (x,)))

    compiled = aot_function(step, fw_compiler=nop, bw_compiler=nop, partition_fn=keep)
    try:
        # A tensor that has two names is there once.
        compiled(dict(model.named_parameters()), dict(model.named_buffers()), x)
    except _Captured as captured:
        return captured.graph
    raise ValueError("nothing in this step wants a gradient")


def count(graph: torch.fx.Graph) -> JointCount:
    """FLOP of the contractions of a joint graph.

    Backward is what depends on the gradients that come in (``tangents``); the rest is forward.

    Raises:
        NotImplementedError: an operator that may be a contraction, and of which nothing is known.
    """
    backward: set[torch.fx.Node] = set()
    found = {True: 0, False: 0}
    recompute = products = 0
    for node in graph.nodes:
        is_backward = "tangents" in node.name or not backward.isdisjoint(node.all_input_nodes)
        if is_backward:
            backward.add(node)
        if node.op == "call_function" and hasattr(node.target, "overloadpacket"):
            flops, again = _flops(node)
            found[is_backward] += flops
            recompute += again
            products += flops > 0
    return JointCount(found[False], found[True], recompute, products)


def _shapes(node: torch.fx.Node) -> list[Any]:
    """The shapes of a node's arguments; None of what is no tensor."""
    values = [each.meta["val"] if isinstance(each, torch.fx.Node) else each for each in node.args]
    return [tuple(each.shape) if isinstance(each, Tensor) else None for each in values]


def _flops(node: torch.fx.Node) -> tuple[int, int]:
    """FLOP of a node's contractions, and of those that were done before."""
    name = node.target.overloadpacket.__name__
    shapes = _shapes(node)
    if name in PRODUCTS:
        left, right = shapes[PRODUCTS[name] :][:2]
        return 2 * prod(left) * (right[-1] if len(right) > 1 else 1), 0
    if name == "convolution":
        out = tuple(node.meta["val"].shape)
        return _convolution(shapes[0], shapes[1], out, node.args[6]), 0
    if name == "convolution_backward":
        out, x, weight = shapes[:3]
        wanted = sum(node.args[10][:2])
        return wanted * _convolution(x, weight, out, node.args[7]), 0
    if name == ATTENTION:
        return sum(_attention(*shapes[:3])), 0
    if name == f"{ATTENTION}_backward":
        scores, mixed = _attention(*shapes[1:4])
        return 2 * scores + 2 * mixed, scores
    if any(part in name for part in SUSPICIOUS):
        raise NotImplementedError(f"is {name} a contraction?")
    return 0, 0


def _convolution(
    x: tuple[int, ...], weight: tuple[int, ...], out: tuple[int, ...], transposed: bool
) -> int:
    """Every position of the output, of a transposed convolution of the input, meets the weight."""
    return 2 * prod(weight) * x[0] * prod((x if transposed else out)[2:])


def _attention(
    query: tuple[int, ...], key: tuple[int, ...], value: tuple[int, ...]
) -> tuple[int, int]:
    """FLOP of the scores, and of mixing the values by them."""
    pairs = prod(query[:-1]) * key[-2]
    return 2 * pairs * query[-1], 2 * pairs * value[-1]
