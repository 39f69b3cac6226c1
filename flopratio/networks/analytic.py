"""The analytic ledger of a built-in network: its layers' formulas, applied one after another.
Torch is not needed for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from flopratio.errors import UsageError
from flopratio.formulas import LAYERS, Call, Gradient, Size, Tensor, operands_of
from flopratio.formulas.optimizer import OPTIMIZERS
from flopratio.ledger import Ledger, Row
from flopratio.networks.library import LOSS_LAYER, LOSSES, Layer, Network, Repeat, describe
from flopratio.text.patterns import matches
from flopratio.text.suggestions import did_you_mean


@dataclass(frozen=True)
class Term:
    """A row, and how many times over it stands in the step."""

    row: Row
    times: Size = 1


def _node_name(op: str) -> str:
    """Autograd's name for the node of an operator: ``aten.addmm`` -> ``AddmmBackward0``."""
    words = op.removeprefix("aten.").strip("_").removesuffix("_forward").split("_")
    return "".join(word.capitalize() for word in words) + "Backward0"


def _less_one(times: Size) -> Size:
    """One less than a number of times, but not less than none; a symbol stands for one or more."""
    if isinstance(times, int):
        return max(times - 1, 0)
    return np.maximum(times - 1, 0) if isinstance(times, np.ndarray) else times - 1


class _Walk:
    """Applies a network's layers to its input, and writes down what each operator costs."""

    def __init__(self, *, freeze: str | None, inference: bool) -> None:
        self.freeze = freeze
        self.inference = inference
        self.forward: list[Term] = []
        self.backward: list[Term] = []
        self.parameters: list[tuple[str, Tensor, Size]] = []
        self.types: dict[str, str] = {}
        self.needs_gradient: dict[int, bool] = {}
        """By storage; views share an answer."""
        self.from_parameters: dict[int, bool] = {}
        self.saved: set[int] = set()
        self.kept: list[Tensor] = []
        """Keeps storages alive: their identities must stay unique."""
        self.froze = False

    def _frozen(self, layer: str, parameter: str) -> bool:
        if self.freeze is None:
            return False
        hit = matches(f"{layer}.{parameter}", self.freeze)
        self.froze |= hit
        return hit

    def start(self, x: Tensor, input_grad: bool) -> None:
        self.kept.append(x)
        self.needs_gradient[id(x.storage)] = input_grad
        self.from_parameters[id(x.storage)] = False

    def layer(self, name: str, layer: Layer, x: Tensor, times: Size, owns: bool) -> Tensor:
        """Apply one layer; ``owns``: its parameters are new (those of a shared one are not)."""
        cost = LAYERS[layer.type](x, **layer.arguments)
        self.types[name] = layer.type
        for parameter, tensor in cost.parameters.items():
            self.kept.append(tensor)
            frozen = self._frozen(name, parameter)
            self.needs_gradient[id(tensor.storage)] = not frozen and not self.inference
            self.from_parameters[id(tensor.storage)] = True
            if owns:
                self.parameters.append((name, tensor, times))
        for call in cost.calls:
            self._call(name, layer.type, call, times)
        self.kept.append(cost.out)
        return cost.out

    def _call(self, name: str, kind: str, call: Call, times: Size) -> None:
        tensors = {key: t for key, t in call.operands.items() if isinstance(t, Tensor)}
        outs = call.out if isinstance(call.out, tuple) else (call.out,)
        self.kept += [*tensors.values(), *outs]
        wanted = {key: self.needs_gradient.get(id(t.storage), False) for key, t in tensors.items()}
        inherited = all(self.from_parameters.get(id(t.storage), False) for t in tensors.values())
        cost = call.cost
        gradients = [
            gradient
            for gradient in cost.gradients
            if any(wanted.get(operand, False) for operand in operands_of(gradient))
        ]
        written = sum(out.nbytes for out in outs)
        self.forward.append(
            Term(
                Row(
                    name,
                    kind,
                    call.op,
                    "",
                    "forward",
                    cost.flops,
                    cost.elementwise,
                    sum(t.nbytes for t in tensors.values()),
                    written,
                    self._save(gradients),
                ),
                times,
            )
        )
        for out in outs:
            self.needs_gradient[id(out.storage)] = any(wanted.values())
            self.from_parameters[id(out.storage)] = inherited
        for gradient in gradients:
            if not gradient.op:  # handed through as it is: no operator runs
                continue
            asking = [tensors[name] for name in operands_of(gradient) if wanted.get(name, False)]
            operand = asking[0]
            weight = all(self.from_parameters.get(id(t.storage), False) for t in asking)
            row = Row(
                name,
                kind,
                gradient.op,
                _node_name(call.op),
                "grad_weight" if weight else "grad_input",
                gradient.flops,
                gradient.elementwise,
                outs[0].nbytes + sum(t.nbytes for t in gradient.saves),
                operand.nbytes,
            )
            self.backward.append(Term(row, times))

    def _save(self, gradients: list[Gradient]) -> Size:
        """Bytes that these gradients ask forward to keep: each storage once, parameters apart."""
        total: Size = 0
        for gradient in gradients:
            for tensor in gradient.saves:
                storage = id(tensor.storage)
                if storage not in self.saved and not self.from_parameters.get(storage, False):
                    self.saved.add(storage)
                    total = total + tensor.nbytes
                self.kept.append(tensor)
        return total

    def repeat(self, repeat: Repeat, x: Tensor) -> Tensor:
        before = len(self.parameters)
        x = self._repeat(repeat, x)
        if repeat.shared:
            self._sum_gradients(self.parameters[before:], repeat.times)
        return x

    def _sum_gradients(self, shared: list[tuple[str, Tensor, Size]], times: Size) -> None:
        """A weight that was used ``times`` over gets as many gradients: ``times - 1`` additions."""
        for name, tensor, _ in shared:
            if self.needs_gradient[id(tensor.storage)]:
                row = Row(
                    name,
                    self.types[name],
                    "aten.add",
                    "",
                    "grad_weight",
                    0,
                    tensor.numel,
                    2 * tensor.nbytes,
                    tensor.nbytes,
                )
                self.backward.append(Term(row, _less_one(times)))

    def _repeat(self, repeat: Repeat, x: Tensor) -> Tensor:
        if isinstance(repeat.times, int):
            for number in range(repeat.times):
                prefix = repeat.name if repeat.shared else f"{repeat.name}.{number}"
                for layer in repeat.layers:
                    owns = number == 0 or not repeat.shared
                    x = self.layer(f"{prefix}.{layer.name}", layer, x, 1, owns)
            return x
        # An array or a symbol of times: every application costs the same, which holds as soon as
        # the gradient flows through all of them.
        if not self.needs_gradient[id(x.storage)]:
            raise UsageError("a depth that is not one number needs a trained layer in front of it")
        before = len(self.parameters)
        for layer in repeat.layers:
            x = self.layer(f"{repeat.name}.{layer.name}", layer, x, repeat.times, True)
        if repeat.shared:
            self.parameters[before:] = [(n, t, 1) for n, t, _ in self.parameters[before:]]
        return x


@dataclass(frozen=True)
class Analysis:
    """What the formulas say of a network's step.

    Args:
        terms: the rows with their multiplicities, forward first, then backward, then update.
        parameters: layer, tensor and multiplicity of every parameter.
        types: layer path -> type.
        state_bytes: what the optimizer keeps.
    """

    terms: list[Term]
    parameters: list[tuple[str, Tensor, Size]]
    types: dict[str, str]
    state_bytes: Size

    def total(self, *phases: str, of: str = "flops") -> Size:
        """The sum of one column over phases."""
        return sum(
            getattr(term.row, of) * term.times for term in self.terms if term.row.phase in phases
        )


def analyse(
    network: Network,
    *,
    optimizer: str = "none",
    freeze: str | None = None,
    input_grad: bool = False,
    inference: bool = False,
    itemsize: int = 4,
) -> Analysis:
    """What the formulas say of a network's training step.

    Args:
        network: with ints, arrays or symbols for sizes.
        optimizer: a key of ``OPTIMIZERS``.
        freeze: a pattern of layer or parameter paths whose parameters need no gradient.
        input_grad: whether the input needs a gradient too.
        inference: forward only, and no loss.
        itemsize: bytes a number.

    Raises:
        UsageError: an unknown optimizer, or a pattern that matches nothing.
    """
    if optimizer not in OPTIMIZERS:
        raise UsageError(
            f"there is no optimizer {optimizer!r}{did_you_mean(optimizer, OPTIMIZERS)}"
        )
    walk = _Walk(freeze=freeze, inference=inference)
    x = Tensor(network.input_shape, itemsize)
    walk.start(x, input_grad and not inference)
    for item in network.layers:
        if isinstance(item, Repeat):
            x = walk.repeat(item, x)
        else:
            x = walk.layer(item.name, item, x, 1, True)
    if not inference:
        walk.layer(LOSS_LAYER, Layer(LOSS_LAYER, LOSSES[network.loss]), x, 1, False)
    if freeze is not None and not walk.froze:
        names = list(dict.fromkeys(name for name, _, _ in walk.parameters))
        raise UsageError(f"--freeze {freeze} matches no layer{did_you_mean(freeze, names)}")
    update: list[Term] = []
    state: Size = 0
    for name, tensor, times in [] if inference else walk.parameters:
        if not walk.needs_gradient[id(tensor.storage)]:
            continue
        step = OPTIMIZERS[optimizer](tensor)
        state = state + step.state_bytes * times
        for call in step.calls:
            tensors = [t for t in call.operands.values() if isinstance(t, Tensor)]
            row = Row(
                name,
                walk.types[name],
                call.op,
                "",
                "update",
                0,
                call.cost.elementwise,
                sum(t.nbytes for t in tensors),
                call.out.nbytes if isinstance(call.out, Tensor) else 0,
            )
            update.append(Term(row, times))
    return Analysis(
        [*walk.forward, *reversed(walk.backward), *update],
        walk.parameters,
        walk.types,
        state,
    )


def count(network: Network | str, *, optimizer: str = "none", **options: Any) -> Ledger:
    """The analytic ledger of a built-in network, without torch.

    Args:
        network: a description, or the name of one (``mlp``).
        optimizer: a key of ``OPTIMIZERS``.
        options: a name's keys (``depth=4``), and those of :func:`analyse`.
    """
    asked = {key: options.pop(key) for key in ("freeze", "input_grad", "inference", "itemsize")
             if key in options}  # fmt: skip
    if isinstance(network, str):
        network = describe(network, **options)
    elif options:
        raise UsageError(f"{', '.join(options)}: a description has its sizes already")
    analysis = analyse(network, optimizer=optimizer, **asked)
    parameters = dict.fromkeys(analysis.types, 0)
    for name, tensor, times in analysis.parameters:
        parameters[name] += tensor.numel * times
    return Ledger(
        [term.row for term in analysis.terms for _ in range(term.times)],
        model=network.model,
        settings=dict(network.settings),
        parameters=parameters,
        types=analysis.types,
    )
