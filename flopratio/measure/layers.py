"""Which layer, and which operand's gradient, the time of a profiled event belongs to.

Forward: every module call is a range in the profile, so an operator belongs to the innermost range
around it. Backward: the event ``autograd::engine::evaluate_function: AddmmBackward0`` carries the
sequence number of the forward operator that made the node. What a node computes for a parameter is
grad_weight, what it computes for data grad_input; the edges of the autograd graph tell which.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import record_function

from flopratio.torch_private import TorchDispatchMode

LOSS = "loss"
"""The layer that the loss, which no module of the network computes, is booked under."""

FORWARD = "flopratio.forward"
UPDATE = "flopratio.update"
LAYER = "flopratio.layer: "
"""Names of the ranges in the profile; a layer's path follows the last one."""

_EVALUATE = "autograd::engine::evaluate_function: "

_GRADIENT_ORDER = {
    "AddmmBackward0": (1, 2),
    "BaddbmmBackward0": (1, 2),
    "MmBackward0": (1, 0),
    "BmmBackward0": (1, 0),
    "MvBackward0": (0, 1),
    "MulBackward0": (1, 0),
}
"""Positions of a node's operands in the order in which it multiplies for them. Autograd's generated
code goes by the operands' names (``addmm(self, mat1, mat2)``: mat1, mat2; ``mm(self, mat2)``: mat2,
self), the edges stand in the order of the signature."""

_PRODUCTS = frozenset({"aten::mm", "aten::bmm", "aten::mv", "aten::ger", "aten::mul"})

_READS_BY_INDEX = ("Embedding", "Index", "Gather")
"""Nodes whose result depends on indices, which are data, though they have no edge for them."""


@dataclass
class LayerTime:
    """What one layer took, in microseconds.

    ``undivided`` is backward time of fused operators whose parts can't be told apart.
    """

    forward: float = 0.0
    grad_input: float = 0.0
    grad_weight: float = 0.0
    undivided: float = 0.0
    update: float = 0.0

    @property
    def backward(self) -> float:
        return self.grad_input + self.grad_weight + self.undivided


class Operands(NamedTuple):
    """What a node of the autograd graph differentiates for.

    Args:
        name: the node (``AddmmBackward0``).
        phases: per operand ``grad_input``, ``grad_weight``, or None if it needs no gradient.
    """

    name: str
    phases: tuple[str | None, ...]

    @property
    def distinct(self) -> set[str]:
        return {phase for phase in self.phases if phase is not None}


@contextmanager
def layer_ranges(module: nn.Module) -> Iterator[None]:
    """Within, every call of a submodule is a range in the profile. No hooks: those would change
    what user code sees of its modules."""
    paths = {submodule: path for path, submodule in module.named_modules()}
    plain_call = nn.Module.__call__

    def call(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if self not in paths:
            return plain_call(self, *args, **kwargs)
        with record_function(LAYER + paths[self]):
            return plain_call(self, *args, **kwargs)

    with patch.object(nn.Module, "__call__", call):
        yield


def operands(loss: Tensor, parameters: Iterable[nn.Parameter]) -> dict[int, Operands]:
    """Sequence number -> operands, for every node that the gradient of ``loss`` passes.

    An operand counts as a weight if it comes from parameters only: a parameter, or a view, cast,
    sum or product of some.
    """
    weights = {id(parameter) for parameter in parameters}
    nodes: set[Node] = set()
    ahead = [loss.grad_fn]
    while ahead:
        node = ahead.pop()
        if node is not None and node not in nodes:
            nodes.add(node)
            ahead += [edge for edge, _ in node.next_functions]

    from_weights: dict[Node | None, bool] = {None: False}
    for node in nodes:
        variable = getattr(node, "variable", None)
        if variable is not None:
            from_weights[node] = id(variable) in weights
    found = {}
    # A node's operands are older than itself, and so have smaller sequence numbers.
    for node in sorted(nodes - from_weights.keys(), key=lambda node: node._sequence_nr()):
        edges = [edge for edge, _ in node.next_functions]
        from_weights[node] = all(from_weights.get(edge, False) for edge in edges) and not (
            node.name().startswith(_READS_BY_INDEX)
        )
        phases = tuple(
            None if edge is None else "grad_weight" if from_weights.get(edge) else "grad_input"
            for edge in edges
        )
        found[node._sequence_nr()] = Operands(node.name(), phases)
    return found


class FusedHalves(TorchDispatchMode):
    """Runs every fused backward operator twice, for the input's gradient and for the weights', with
    a mark before, between and after.

    Afterwards ``nodes`` holds the sequence number of the node of each, in order of execution.
    """

    def __init__(self, mark: Callable[[], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.mark = mark
        self.nodes: list[int] = []

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        masked = func._schema.arguments[-1].name == "output_mask" if args else False
        if not masked or len(args) != len(func._schema.arguments):
            return func(*args, **kwargs)
        *rest, (for_input, *for_weights) = args
        node = torch._C._current_autograd_node()
        if node is None or not for_input or not any(for_weights):
            return func(*args, **kwargs)
        self.mark()
        first = func(*rest, [True, *(False for _ in for_weights)])
        self.mark()
        others = func(*rest, [False, *for_weights])
        self.mark()
        self.nodes.append(node._sequence_nr())
        return (first[0], *others[1:])


class Attribution:
    """Books the events of one profiled step to layers.

    Args:
        events: of the profile.
        operands: of the autograd graph, see :func:`operands`.
        shares: sequence number of a fused node -> the part of its time that goes to the input.
        updated: layer path and size in elements of each parameter that the optimizer updates, in
            its order.
        on_device: whether kernels' times count, rather than the processor's.
    """

    def __init__(
        self,
        events: Iterable[FunctionEvent],
        operands: Mapping[int, Operands],
        shares: Mapping[int, float],
        updated: list[tuple[str, int]],
        *,
        on_device: bool,
    ) -> None:
        self.layers: dict[str, LayerTime] = {}
        self._operands = operands
        self._shares = shares
        self._time = "device_time_total" if on_device else "cpu_time_total"
        self._layer_of_node: dict[int, str] = {}
        host = [event for event in events if event.device_type.name == "CPU"]
        host.sort(key=lambda event: event.time_range.start)
        for event in host:
            if event.name == FORWARD:
                self._forward(event, LOSS)
        self._backward(event for event in host if event.name.startswith(_EVALUATE))
        for event in host:
            if event.name == UPDATE:
                self._update(event, updated)

    def _total(self, event: FunctionEvent) -> float:
        return float(getattr(event, self._time))

    def _layer(self, path: str) -> LayerTime:
        return self.layers.setdefault(path, LayerTime())

    def _forward(self, event: FunctionEvent, layer: str) -> None:
        if event.name.startswith(LAYER):
            layer = event.name.removeprefix(LAYER)
        elif event.name != FORWARD:
            below = sum(self._total(child) for child in event.cpu_children)
            self._layer(layer).forward += self._total(event) - below
            if event.sequence_nr >= 0:
                # Operators that make no node show the number of the next one: the last one counts.
                self._layer_of_node[event.sequence_nr] = layer
        for child in sorted(event.cpu_children, key=lambda child: child.time_range.start):
            self._forward(child, layer)

    def _backward(self, evaluations: Iterable[FunctionEvent]) -> None:
        layer = LOSS
        for event in evaluations:
            name = event.name.removeprefix(_EVALUATE)
            if name == "torch::autograd::AccumulateGrad":
                # It has no number, and runs right after the node that made the gradient.
                self._layer(layer).grad_weight += self._total(event)
            elif (node := self._operands.get(event.sequence_nr)) is not None:
                layer = self._layer_of_node.get(event.sequence_nr, LOSS)
                self._divide(event, node, self._layer(layer))

    def _divide(self, event: FunctionEvent, node: Operands, layer: LayerTime) -> None:
        """Split the time of one node between its operands."""
        total = self._total(event)
        if node.distinct == {"grad_weight"}:
            layer.grad_weight += total
            return
        if node.distinct != {"grad_input", "grad_weight"}:
            layer.grad_input += total
            return
        # Work beside the node itself sums the gradient of a broadcast operand: the bias.
        times = {"grad_input": 0.0, "grad_weight": 0.0}
        inner = None
        for child in event.cpu_children:
            if child.name == node.name:
                inner = child
            elif child.name.startswith("aten::"):
                times["grad_weight"] += self._total(child)
        work = [] if inner is None else [c for c in inner.cpu_children if c.name[:6] == "aten::"]
        if inner is not None and (share := self._shares.get(event.sequence_nr)) is not None:
            times["grad_input"] += share * self._total(inner)
            times["grad_weight"] += (1 - share) * self._total(inner)
        elif node.name in _GRADIENT_ORDER:
            wanted = [node.phases[i] for i in _GRADIENT_ORDER[node.name]]
            products = [child for child in work if child.name in _PRODUCTS]
            for phase, product in zip(filter(None, wanted), products, strict=False):
                times[phase] += self._total(product)
        elif work:
            layer.undivided += total
            return
        # The rest is views and overhead, which every operand has its part in.
        known = sum(times.values())
        for phase, time in times.items():
            part = time / known if known else 0.5
            setattr(layer, phase, getattr(layer, phase) + part * total)

    def _update(self, event: FunctionEvent, updated: list[tuple[str, int]]) -> None:
        """One parameter after the other: each has its events. All at once (``foreach``): the time
        goes by size."""
        steps = [child for child in event.cpu_children if child.name.startswith("Optimizer.step#")]
        work = [child for step in steps for child in step.cpu_children]
        work = [child for child in work if child.name.startswith("aten::")]
        together = any(c.name.startswith(("aten::_foreach", "aten::_fused")) for c in work)
        if not updated:
            return
        if together or len(work) % len(updated):
            total = sum(self._total(child) for child in work)
            elements = sum(size for _, size in updated)
            for path, size in updated:
                self._layer(path).update += total * size / elements
            return
        per_parameter = len(work) // len(updated)
        for index, child in enumerate(work):
            self._layer(updated[index // per_parameter][0]).update += self._total(child)
