"""The contractions of a step, read off its jaxpr: the program of primitive operations that JAX
makes of ``value_and_grad``."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from math import prod
from typing import Any

import jax

from experiments.arbiters.jax_networks import JaxNetwork

PHASES = ("forward", "grad_input", "grad_weight")

Counts = Mapping[tuple[str, str], int]
"""(layer, phase) -> FLOP."""


@dataclass(frozen=True)
class Met:
    """An equation of a jaxpr, or of one below it.

    Args:
        scope: the ``named_scope`` that it stands in, as JAX wraps it: ``transpose(jvp(output))``.
        times: how often loops around it run.
    """

    equation: Any
    scope: str
    times: int

    @property
    def primitive(self) -> str:
        return str(self.equation.primitive.name)

    @property
    def is_backward(self) -> bool:
        """Reverse mode transposes the linear program that forward mode has made."""
        return "transpose(" in self.scope

    @property
    def layer(self) -> str:
        """The outermost scope that was named."""
        parts = re.sub(r"\w*\(|\)", "", self.scope).split("/")
        return next((part for part in parts if part), "")


def equations(jaxpr: Any, scope: str = "", times: int = 1) -> Iterator[Met]:
    """All equations on whose results something depends (JAX leaves out the others when it lowers a
    jaxpr), those of jaxprs within them after the equation that holds them.

    Raises:
        NotImplementedError: a loop of unknown length or a branch.
    """
    for equation in _live(jaxpr):
        met = Met(equation, f"{scope}/{equation.source_info.name_stack}", times)
        yield met
        # A scatter's jaxpr only says how it puts one number to another.
        inner = (
            [] if met.primitive.startswith("scatter") else list(_inner(equation.params.values()))
        )
        if inner and met.primitive in ("while", "cond"):
            raise NotImplementedError(f"how often does what is in a {met.primitive} run?")
        repeated = equation.params["length"] if met.primitive == "scan" else 1
        for each in inner:
            yield from equations(each, met.scope, times * repeated)


def _live(jaxpr: Any) -> list[Any]:
    wanted = {id(each) for each in jaxpr.outvars}
    live = []
    for equation in reversed(jaxpr.eqns):
        if equation.effects or any(id(each) in wanted for each in equation.outvars):
            live.append(equation)
            wanted |= {id(each) for each in equation.invars}
    return live[::-1]


def _inner(values: Any) -> Iterator[Any]:
    for value in values:
        if hasattr(value, "eqns"):
            yield getattr(value, "jaxpr", value)
        elif isinstance(value, tuple | list):
            yield from _inner(value)


def flops(met: Met) -> int:
    """FLOP of one equation, from the shapes of its operands; 0 of what is no contraction."""
    if met.primitive == "dot_general":
        left = met.equation.invars[0].aval.shape
        (contracted, _), _ = met.equation.params["dimension_numbers"]
        (out,) = met.equation.outvars
        return 2 * prod(out.aval.shape) * prod(left[axis] for axis in contracted)
    if met.primitive == "conv_general_dilated":
        return Convolution.of(met.equation).flops
    return 0


@dataclass(frozen=True)
class Axis:
    """One spatial axis of a convolution: three sizes, and what meets what."""

    left: int
    right: int
    out: int
    stride: int
    padding: int
    left_dilation: int
    right_dilation: int

    @property
    def on_data(self) -> int:
        """Pairs of an output position and an entry of the right operand that meet an entry of the
        left one: not its padding, and not the holes between its entries."""
        found = 0
        for tap in range(self.right):
            start = tap * self.right_dilation - self.padding
            for position in range(start, start + self.out * self.stride, self.stride):
                entry, hole = divmod(position, self.left_dilation)
                found += hole == 0 and 0 <= entry < self.left
        return found


@dataclass(frozen=True)
class Convolution:
    """A ``conv_general_dilated``.

    Args:
        products: multiply-adds of one pair of positions, for all examples and channels.
        transposed: whether it is the gradient of another one's input.
    """

    axes: tuple[Axis, ...]
    products: int
    transposed: bool

    @classmethod
    def of(cls, equation: Any) -> Convolution:
        left, right = (each.aval.shape for each in equation.invars)
        out = equation.outvars[0].aval.shape
        given = equation.params
        numbers = given["dimension_numbers"]
        places = zip(numbers.lhs_spec[2:], numbers.rhs_spec[2:], numbers.out_spec[2:], strict=True)
        axes = tuple(
            Axis(left[a], right[b], out[c], stride, padding[0], *dilations)
            for (a, b, c), stride, padding, dilations in zip(
                places,
                given["window_strides"],
                given["padding"],
                zip(given["lhs_dilation"], given["rhs_dilation"], strict=True),
                strict=True,
            )
        )
        batch, channels = (out[axis] for axis in numbers.out_spec[:2])
        # All here are written NCHW, OIHW. For the input's gradient JAX exchanges the channels of
        # the weight, for the weight's those of the image too.
        transposed = numbers.rhs_spec[0] == 1 and numbers.lhs_spec[0] == 0
        return cls(axes, batch * channels * right[numbers.rhs_spec[1]], transposed)

    @property
    def flops(self) -> int:
        """Taps on padding included: every position of the output (of the input's gradient: of the
        gradient that it is made of) meets every tap."""
        positions = ((one.left if self.transposed else one.out) * one.right for one in self.axes)
        return 2 * self.products * prod(positions)

    @property
    def flops_on_data(self) -> int:
        """Without those taps."""
        return 2 * self.products * prod(one.on_data for one in self.axes)


def step(
    network: JaxNetwork,
    *,
    freeze: str | None = None,
    input_grad: bool = False,
    weights: bool = True,
) -> tuple[Any, tuple[Any, ...]]:
    """The value of the loss and its gradients, as a function and the shapes that it takes.

    Args:
        freeze: a pattern of parameters that want no gradient.
        input_grad: whether what the batch is embedded to wants one.
        weights: whether the other parameters do.
    """
    frozen = {
        name: each
        for name, each in network.parameters.items()
        if not weights or (freeze is not None and fnmatch(name, freeze))
    }
    trained = {name: each for name, each in network.parameters.items() if name not in frozen}

    def loss(trained: Any, x: Any, frozen: Any, target: Any) -> Any:
        parameters = {**frozen, **trained}
        x = x if input_grad else network.embed(parameters, x)
        y = network.scores(parameters, x)
        with jax.named_scope("loss"):
            return network.loss(y, target)

    x = network.x
    if input_grad:
        x = jax.eval_shape(network.embed, network.parameters, network.x)
    wanted = tuple(place for place, asked in enumerate((bool(trained), input_grad)) if asked)
    return jax.value_and_grad(loss, wanted), (trained, x, frozen, network.target)


def jaxpr_of(network: JaxNetwork, **options: Any) -> Any:
    function, shapes = step(network, **options)
    return jax.make_jaxpr(function)(*shapes).jaxpr


def by_direction(jaxpr: Any) -> Counter[tuple[str, bool]]:
    """(layer, whether backward) -> FLOP of contractions."""
    counts: Counter[tuple[str, bool]] = Counter()
    for met in equations(jaxpr):
        counts[met.layer, met.is_backward] += met.times * flops(met)
    return +counts


def count(network: JaxNetwork, *, freeze: str | None = None, input_grad: bool = False) -> Counts:
    """FLOP of contractions by layer and phase.

    A jaxpr tells forward from backward. Of backward the weights' part is what is missing when only
    the gradient of the input is asked for: of the chain that leads there nothing is.
    """
    whole = by_direction(jaxpr_of(network, freeze=freeze, input_grad=input_grad))
    both = by_direction(jaxpr_of(network, freeze=freeze, input_grad=True))
    chain = by_direction(jaxpr_of(network, input_grad=True, weights=False))
    counts: Counter[tuple[str, str]] = Counter()
    for (layer, is_backward), found in whole.items():
        if not is_backward:
            counts[layer, "forward"] = found
            continue
        of_weight = both[layer, True] - chain[layer, True]
        counts[layer, "grad_weight"] = of_weight
        counts[layer, "grad_input"] = found - of_weight
    return +counts
