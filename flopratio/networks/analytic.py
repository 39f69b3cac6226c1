"""The analytic ledger of a built-in network: its layers' formulas, applied one after another.
Torch is not needed for it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from flopratio.errors import UsageError
from flopratio.formulas import LAYERS, Call, Gradient, Size, Tensor, operands_of, prod
from flopratio.formulas.dependence import (
    CONSTANT,
    DATA,
    PARAMETERS,
    depends_on,
    phase_among,
    phase_of,
)
from flopratio.formulas.loss import INDEX_BYTES
from flopratio.formulas.optimizer import OPTIMIZERS
from flopratio.ledger import Ledger, Row, autograd_node
from flopratio.networks.description import (
    DECAY_LAYER,
    INPUT,
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

KERNELS_DIFFER = ("Attention", "RMSNorm")
"""The layer types for which other targets than the CPU have other operators, of which the formulas
do not tell."""

CPU_ATTENTION = ("flash", "none")
"""The kernels of attention of which they do, as a ledger names them; torch 2.8 takes others where
heads share keys."""


@dataclass(frozen=True)
class Term:
    """A row, and how many times over it stands in the step."""

    row: Row
    times: Size = 1


@dataclass
class _Times:
    """How many times over a round of layers is applied; known when it has been walked through."""

    value: Size = 1


def _at_most_one(times: Size) -> Size:
    """Whether there is a first time; a symbol stands for one or more."""
    return np.minimum(times, 1) if isinstance(times, np.ndarray) else 1


def _less_one(times: Size) -> Size:
    """One less than a number of times, but not less than none."""
    return np.maximum(times - 1, 0) if isinstance(times, np.ndarray) else times - 1


def _is_zero(size: Size) -> bool:
    return isinstance(size, int) and size == 0


class _Use(NamedTuple):
    """Where a value whose gradient is asked for was last used.

    Args:
        layer, type: of the user.
        rows: what the user does in backward; what is summed there comes last.
    """

    layer: str
    type: str
    rows: list[tuple[Row, _Times]]


class _Walk:
    """Applies a network's layers to its input, and writes down what each operator costs."""

    def __init__(
        self, network: Network, *, freeze: str | None, input_grad: bool, inference: bool, dtype: str
    ) -> None:
        self.freeze = freeze
        self.inference = inference
        self.dtype = dtype
        self.forward: list[tuple[Row, _Times]] = []
        self.backward: list[list[tuple[Row, _Times]]] = []
        """What each call of forward does in backward, in the order of forward."""
        self.parameters: list[tuple[str, Tensor, _Times]] = []
        """Layer, tensor and multiplicity of each."""
        self.owners: dict[str, Tensor] = {}
        """The parameters by their paths, those that are frozen too."""
        self.types: dict[str, str] = {}
        self.froze = False
        """Whether the pattern has matched a parameter yet."""
        # Of a storage, by its identity; views share theirs.
        self.needs_gradient: dict[int, bool] = {}
        self.dependences: dict[int, int] = {}
        self.sizes: dict[int, Tensor] = {}
        self.uses: dict[int, _Use] = {}
        self.saved: set[int] = set()
        """What keeping adds nothing to: what is kept already, and parameters and buffers."""
        self.same: dict[int, int] = {}
        """A parameter's storage under which it is known: that of the one which it is tied to."""
        self.kept: list[Tensor] = []
        """Keeps storages alive: their identities must stay unique."""
        self.times = _Times()
        """Of what is being walked through."""
        is_tokens = network.tokens is not None
        self.tokens = Tensor(network.input_shape, INDEX_BYTES) if is_tokens else None
        self.itemsize = itemsize(dtype)
        x = self.tokens or Tensor(network.input_shape, self.itemsize)
        self._enter(x, DATA, input_grad and not inference and not is_tokens)
        self.out = self.sequence(network.layers, x)

    def _key(self, tensor: Tensor) -> int:
        return self.same.get(id(tensor.storage), id(tensor.storage))

    def _enter(self, tensor: Tensor, dependence: int, needs_gradient: bool) -> None:
        self.kept.append(tensor)
        key = self._key(tensor)
        self.dependences[key] = dependence
        self.needs_gradient[key] = needs_gradient
        self.sizes[key] = tensor
        self.uses.pop(key, None)  # what is written in place is another value

    def _is_frozen(self, parameter: str) -> bool:
        hit = self.freeze is not None and matches(parameter, self.freeze)
        self.froze |= hit
        return hit

    def sequence(self, items: Sequence[Layer | Repeat], x: Tensor, prefix: str = "") -> Tensor:
        """Apply a list of layers.

        Args:
            prefix: of their paths.
        """
        results = {INPUT: x}
        for item in items:
            if isinstance(item, Repeat):
                x = self._repeat(item, x)
            else:
                inputs = [results[name] for name in item.reads] or [x]
                x = self.layer(prefix + item.name, item, *inputs)
            results[item.name] = x
        return x

    def layer(self, name: str, layer: Layer, *inputs: Tensor) -> Tensor:
        """Apply one layer."""
        arguments = dict(layer.arguments)
        if inputs[0] is self.tokens:  # which do not tell of what size numbers are
            arguments["itemsize"] = self.itemsize
        cost = LAYERS[layer.type](*inputs, **arguments)
        self.types[name] = layer.type
        for parameter, tensor in cost.parameters.items():
            path = f"{name}.{parameter}"
            owner = self.owners.get(layer.tied.get(parameter, path))
            self.kept.append(tensor)
            if owner is not None:  # of a layer that is applied again, or of another
                self.same[id(tensor.storage)] = id(owner.storage)
                continue
            self.owners[path] = tensor
            self._enter(tensor, PARAMETERS, not self._is_frozen(path) and not self.inference)
            self.saved.add(self._key(tensor))
            self.parameters.append((name, tensor, self.times))
        for tensor in cost.buffers.values():
            self._enter(tensor, CONSTANT, False)
            self.saved.add(self._key(tensor))
        for call in cost.calls:
            self._call(name, layer.type, call)
        self.kept.append(cost.out)
        return cost.out

    def _call(self, name: str, kind: str, call: Call) -> None:
        tensors = {key: t for key, t in call.operands.items() if isinstance(t, Tensor)}
        outs = call.out if isinstance(call.out, tuple) else (call.out,)
        self.kept += tensors.values()
        cost = call.cost  # worked out each time that it is asked for
        dependences = {
            key: self.dependences.get(self._key(tensor), DATA)  # such as the loss's target
            for key, tensor in tensors.items()
        }
        needed = {
            key: dependences[key]
            for key, tensor in tensors.items()
            if self.needs_gradient.get(self._key(tensor), False)
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
        self.forward.append((row, self.times))
        backward: list[tuple[Row, _Times]] = []
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
            backward.append((row, self.times))
            if not _is_zero(gradient.recompute):
                again = row._replace(phase="recompute", flops=gradient.recompute, elementwise=0)
                backward.append((again, self.times))
        self.backward.append(backward)
        for key in needed:
            self._use(tensors[key], _Use(name, kind, backward))
        for out in outs:
            self._enter(out, depends_on(dependences.values()), bool(needed))

    def _use(self, tensor: Tensor, use: _Use) -> None:
        """A value that is used again gets one gradient more. Backward comes to the later use first,
        so that they are added where it comes to the earlier one."""
        key = self._key(tensor)
        before = self.uses.get(key)
        self.uses[key] = use
        if before is None:
            return
        value = self.sizes[key]
        row = Row(
            before.layer,
            before.type,
            "aten.add",
            "",
            phase_of(self.dependences[key]),
            0,
            value.numel,
            2 * value.nbytes,
            value.nbytes,
            dtype=self.dtype,
        )
        before.rows.append((row, self.times))

    def _save(self, gradients: Iterable[Gradient]) -> Size:
        """Bytes that these gradients ask forward to keep: each storage once, parameters and buffers
        apart."""
        total: Size = 0
        for gradient in gradients:
            for tensor in gradient.saves:
                if self._key(tensor) not in self.saved:
                    self.saved.add(self._key(tensor))
                    total = total + tensor.nbytes
                self.kept.append(tensor)
        return total

    def penalise(self, loss: Tensor, factor: float) -> None:
        """Add to the loss a term that decays each trained weight."""
        for _, weight, times in self.parameters:
            self.times = times
            if not self.needs_gradient[self._key(weight)]:
                continue
            penalty, total = LAYERS["L2Penalty"](weight, weight_decay=factor), loss.new()
            added = Call("aten.add", {"self": loss, "other": penalty.out}, total)
            for call in (*penalty.calls, added):
                self._call(DECAY_LAYER, "L2Penalty", call)
            loss = total
        self.types[DECAY_LAYER] = "L2Penalty"

    def _repeat(self, repeat: Repeat, x: Tensor) -> Tensor:
        """Apply layers several times."""
        if isinstance(repeat.times, int):
            for number in range(repeat.times):
                prefix = repeat.name if repeat.shared else f"{repeat.name}.{number}"
                x = self.sequence(repeat.layers, x, f"{prefix}.")
            return x
        # An array or a symbol of times. A round costs what the one before it cost if it is given
        # what that was given. So the first may differ from all others; and it doesn't if it hands
        # on what it was given itself.
        first, others = _Times(_at_most_one(repeat.times)), _Times(_less_one(repeat.times))
        given = self._state(x)
        x = self._round(repeat, x, first)
        steady = self._state(x) == given
        if not steady and isinstance(repeat.times, np.ndarray) and not repeat.times.all():
            raise UsageError(
                f"what follows {repeat.name} costs otherwise where it is applied no times: leave "
                "the least depth out, and ask for it by itself"
            )
        if steady and not repeat.shared:
            first.value = repeat.times
        else:
            x = self._round(repeat, x, others)
        return x

    def _state(self, x: Tensor) -> tuple[bool, bool]:
        """What a value's users depend on: whether it needs a gradient, and whether it is kept."""
        return self.needs_gradient[self._key(x)], self._key(x) in self.saved

    def _round(self, repeat: Repeat, x: Tensor, times: _Times) -> Tensor:
        """One of rounds whose number is not known, which go by one name."""
        outside, self.times = self.times, times
        before = len(self.parameters)
        if not repeat.shared:  # else the parameters are those of the round before
            own = [path for path in self.owners if path.startswith(f"{repeat.name}.")]
            for path in own:
                del self.owners[path]
        x = self.sequence(repeat.layers, x, f"{repeat.name}.")
        self.times = outside
        if repeat.shared:
            new = self.parameters[before:]
            self.parameters[before:] = [(name, tensor, outside) for name, tensor, _ in new]
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
    walk = _Walk(
        network, freeze=freeze, input_grad=input_grad, inference=inference, dtype=dtype_name(dtype)
    )
    if not inference:
        kind, out = LOSSES[network.loss], walk.out
        if network.loss == "cross_entropy":  # of rows, whatever they are rows of
            out = out.view(prod(out.shape[:-1]), out.shape[-1])
        loss = walk.layer(LOSS_LAYER, Layer(LOSS_LAYER, kind), out)
        if loss_decay is not None:
            walk.penalise(loss, loss_decay)
    if freeze is not None and not walk.froze:
        raise UsageError(matches_nothing("freeze", freeze, walk.owners))
    update: list[Term] = []
    state: Size = 0
    for name, tensor, times in [] if inference else walk.parameters:
        if not walk.needs_gradient[id(tensor.storage)]:
            continue
        step = OPTIMIZERS[optimizer](tensor, weight_decay)
        state = state + step.state_bytes * times.value
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
            update.append(Term(row, times.value))
    backward = [row for rows in reversed(walk.backward) for row in rows]
    return Analysis(
        [*(Term(row, times.value) for row, times in (*walk.forward, *backward)), *update],
        [(name, tensor, times.value) for name, tensor, times in walk.parameters],
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
