"""The analytic ledger of a built-in network: its layers' formulas, applied one after another.
Torch is not needed for it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from flopratio.errors import UsageError
from flopratio.formulas import LAYERS, Call, Gradient, Size, Tensor, operands_of
from flopratio.formulas.dependence import CONSTANT, DATA, PARAMETERS, depends_on, phase_among
from flopratio.formulas.optimizer import OPTIMIZERS
from flopratio.ledger import Ledger, Row, autograd_node
from flopratio.networks.description import (
    DECAY_LAYER,
    LOSS_LAYER,
    LOSSES,
    Layer,
    Network,
    Repeat,
)
from flopratio.networks.library import describe
from flopratio.text.dtypes import dtype_name, itemsize
from flopratio.text.patterns import matches, matches_nothing
from flopratio.text.suggestions import did_you_mean


@dataclass(frozen=True)
class Term:
    """A row, and how many times over it stands in the step."""

    row: Row
    times: Size = 1


def _less_one(times: Size) -> Size:
    """One less than a number of times, but not less than none; a symbol stands for one or more."""
    if isinstance(times, int):
        return max(times - 1, 0)
    return np.maximum(times - 1, 0) if isinstance(times, np.ndarray) else times - 1


class _Walk:
    """Applies a network's layers to its input, and writes down what each operator costs."""

    def __init__(self, *, freeze: str | None, inference: bool, dtype: str) -> None:
        self.freeze = freeze
        self.inference = inference
        self.dtype = dtype
        self.forward: list[Term] = []
        self.backward: list[Term] = []
        self.parameters: list[tuple[str, Tensor, Size]] = []
        """Layer, tensor and multiplicity of each."""
        self.names: list[str] = []
        """Of the parameters, with their layers' paths; those that are frozen too."""
        self.types: dict[str, str] = {}
        self.froze = False
        """Whether the pattern has matched a parameter yet."""
        # Of a storage, by its identity; views share theirs.
        self.needs_gradient: dict[int, bool] = {}
        self.dependences: dict[int, int] = {}
        self.saved: set[int] = set()
        """What keeping adds nothing to: what is kept already, and parameters and buffers."""
        self.kept: list[Tensor] = []
        """Keeps storages alive: their identities must stay unique."""

    def start(self, x: Tensor, input_grad: bool) -> None:
        """Take the network's input."""
        self._enter(x, DATA, input_grad)

    def _enter(self, tensor: Tensor, dependence: int, needs_gradient: bool) -> None:
        self.kept.append(tensor)
        self.dependences[id(tensor.storage)] = dependence
        self.needs_gradient[id(tensor.storage)] = needs_gradient

    def _is_frozen(self, parameter: str) -> bool:
        hit = self.freeze is not None and matches(parameter, self.freeze)
        self.froze |= hit
        return hit

    def layer(self, name: str, layer: Layer, x: Tensor, times: Size, owns: bool) -> Tensor:
        """Apply one layer, ``times`` over.

        Args:
            owns: whether its parameters are new, as those of a shared layer are at first.
        """
        cost = LAYERS[layer.type](x, **layer.arguments)
        self.types[name] = layer.type
        for parameter, tensor in cost.parameters.items():
            path = f"{name}.{parameter}"
            frozen = self._is_frozen(path)
            self._enter(tensor, PARAMETERS, not frozen and not self.inference)
            self.saved.add(id(tensor.storage))
            if owns:
                self.parameters.append((name, tensor, times))
                self.names.append(path)
        for tensor in cost.buffers.values():
            self._enter(tensor, CONSTANT, False)
            self.saved.add(id(tensor.storage))
        for call in cost.calls:
            self._call(name, layer.type, call, times)
        self.kept.append(cost.out)
        return cost.out

    def _call(self, name: str, kind: str, call: Call, times: Size) -> None:
        tensors = {key: t for key, t in call.operands.items() if isinstance(t, Tensor)}
        outs = call.out if isinstance(call.out, tuple) else (call.out,)
        self.kept += tensors.values()
        cost = call.cost  # worked out each time that it is asked for
        dependences = {
            key: self.dependences.get(id(tensor.storage), DATA)  # such as the loss's target
            for key, tensor in tensors.items()
        }
        needed = {
            key: dependences[key]
            for key, tensor in tensors.items()
            if self.needs_gradient.get(id(tensor.storage), False)
        }
        gradients = [
            (gradient, phase)
            for gradient in cost.gradients
            if (phase := phase_among(gradient, needed, dependences)) is not None
        ]
        row = Row(
            name,
            kind,
            call.op,
            "",
            "forward",
            cost.flops,
            cost.elementwise,
            sum(tensor.nbytes for tensor in tensors.values()),
            sum(out.nbytes for out in outs),
            self._save(gradient for gradient, _ in gradients),
            dtype=self.dtype,
        )
        self.forward.append(Term(row, times))
        for out in outs:
            self._enter(out, depends_on(dependences.values()), bool(needed))
        for gradient, phase in gradients:
            if not gradient.op:  # handed through as it is: no operator runs
                continue
            operand = next(name for name in operands_of(gradient) if name in needed)
            row = Row(
                name,
                kind,
                gradient.op,
                autograd_node(call.op),
                phase,
                gradient.flops,
                gradient.elementwise,
                outs[0].nbytes + sum(tensor.nbytes for tensor in gradient.saves),
                tensors[operand].nbytes,
                dtype=self.dtype,
            )
            self.backward.append(Term(row, times))

    def _save(self, gradients: Iterable[Gradient]) -> Size:
        """Bytes that these gradients ask forward to keep: each storage once, parameters and buffers
        apart."""
        total: Size = 0
        for gradient in gradients:
            for tensor in gradient.saves:
                storage = id(tensor.storage)
                if storage not in self.saved:
                    self.saved.add(storage)
                    total = total + tensor.nbytes
                self.kept.append(tensor)
        return total

    def penalise(self, loss: Tensor, factor: float) -> None:
        """Add to the loss a term that decays each trained weight."""
        for name, weight, times in self.parameters:
            if not self.needs_gradient[id(weight.storage)]:
                continue
            penalty = LAYERS["L2Penalty"](weight, weight_decay=factor)
            total = loss.new()
            for call in (
                *penalty.calls,
                Call("aten.add", {"self": loss, "other": penalty.out}, total),
            ):
                self._call(DECAY_LAYER, "L2Penalty", call, times)
            self._add_gradients(name, weight, times)
            loss = total
        self.types[DECAY_LAYER] = "L2Penalty"

    def repeat(self, repeat: Repeat, x: Tensor) -> Tensor:
        """Apply layers several times."""
        before = len(self.parameters)
        x = self._repeat(repeat, x)
        if repeat.shared:
            self._sum_gradients(self.parameters[before:], repeat.times)
        return x

    def _sum_gradients(self, shared: list[tuple[str, Tensor, Size]], times: Size) -> None:
        """A weight that was used ``times`` over gets as many gradients: ``times - 1`` additions."""
        for name, tensor, _ in shared:
            if self.needs_gradient[id(tensor.storage)]:
                self._add_gradients(name, tensor, _less_one(times))

    def _add_gradients(self, name: str, weight: Tensor, times: Size) -> None:
        """The gradients of a weight that was used more than once are added up."""
        row = Row(
            name,
            self.types[name],
            "aten.add",
            "",
            "grad_weight",
            0,
            weight.numel,
            2 * weight.nbytes,
            weight.nbytes,
            dtype=self.dtype,
        )
        self.backward.append(Term(row, times))

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
    dtype: str = "float32",
    weight_decay: float | None = None,
    loss_decay: float | None = None,
) -> Analysis:
    """What the formulas say of a network's training step.

    Args:
        network: with ints, arrays or symbols for sizes.
        optimizer: a key of ``OPTIMIZERS``.
        freeze: a pattern of parameters that need no gradient: of their own paths, or of a module
            that holds them, see :func:`flopratio.text.patterns.matches`.
        input_grad: whether the input needs a gradient too.
        inference: forward only, and no loss.
        dtype: of all numbers (``bfloat16``).
        weight_decay: of the update; None: the optimizer's own.
        loss_decay: the factor of a term of the loss that decays the weights; None: there is none.

    Raises:
        UsageError: an unknown optimizer or dtype, or a pattern that matches nothing.
    """
    if optimizer not in OPTIMIZERS:
        raise UsageError(
            f"there is no optimizer {optimizer!r}{did_you_mean(optimizer, OPTIMIZERS)}"
        )
    walk = _Walk(freeze=freeze, inference=inference, dtype=dtype_name(dtype))
    x = Tensor(network.input_shape, itemsize(dtype))
    walk.start(x, input_grad and not inference)
    for item in network.layers:
        if isinstance(item, Repeat):
            x = walk.repeat(item, x)
        else:
            x = walk.layer(item.name, item, x, 1, True)
    if not inference:
        loss = walk.layer(LOSS_LAYER, Layer(LOSS_LAYER, LOSSES[network.loss]), x, 1, False)
        if loss_decay is not None:
            walk.penalise(loss, loss_decay)
    if freeze is not None and not walk.froze:
        raise UsageError(matches_nothing("freeze", freeze, walk.names))
    update: list[Term] = []
    state: Size = 0
    for name, tensor, times in [] if inference else walk.parameters:
        if not walk.needs_gradient[id(tensor.storage)]:
            continue
        step = OPTIMIZERS[optimizer](tensor, weight_decay)
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
                dtype=walk.dtype,
            )
            update.append(Term(row, times))
    return Analysis(
        [*walk.forward, *reversed(walk.backward), *update],
        walk.parameters,
        walk.types,
        state,
    )


OF_STEP = ("freeze", "input_grad", "inference", "dtype", "weight_decay", "loss_decay")
"""What :func:`analyse` is told of a step, beside its optimizer."""


def analytic_ledger(network: Network | str, *, optimizer: str = "none", **options: Any) -> Ledger:
    """The ledger of a built-in network by its formulas alone.

    Args:
        network: a description, or the name of one (``mlp``).
        optimizer: a key of ``OPTIMIZERS``.
        options: a name's KEYs (``depth=4``), and the other arguments of :func:`analyse`.

    Raises:
        UsageError: as :func:`flopratio.networks.library.describe` and :func:`analyse` say.
    """
    step = {name: options.pop(name) for name in OF_STEP if name in options}
    if isinstance(network, str):
        network = describe(network, **options)
    elif options:
        raise UsageError(f"{', '.join(options)}: a description has its sizes already")
    analysis = analyse(network, optimizer=optimizer, **step)
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
