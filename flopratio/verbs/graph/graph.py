"""The computational graph of a step as plain data: variables, operators, and what each of them
costs or keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from flopratio.ledger import COUNTS, LayerTotals

SCHEMA = "flopratio.graph/1"

Kind = Literal["input", "parameter", "buffer", "constant", "value", "loss"]
"""What a variable is: given to the step, of the model, made of whole numbers and constants alone,
made by an operator, or what backward starts from."""


NOTHING = LayerTotals("", "")


@dataclass(frozen=True)
class Variable:
    """A tensor of forward, or several that are read alike.

    Args:
        name: of an input or parameter (``fc.weight``); empty of a value.
        shape: empty of a scalar, and of several.
        dtype: ``float32``.
        numbers: how many it holds.
        saved_bytes: that autograd keeps of it for backward, parameters apart.
        has_gradient: whether backward computes its gradient.
        tensors: how many it stands for.
    """

    kind: Kind
    name: str = ""
    shape: tuple[int, ...] = ()
    dtype: str = ""
    numbers: int = 0
    saved_bytes: int = 0
    has_gradient: bool = False
    tensors: int = 1


@dataclass(frozen=True)
class Operator:
    """An operator of forward with its backward, or neighbours that are drawn as one.

    Args:
        op: its name (``aten.addmm``); empty of several.
        layer: path of its module; of several, of the module that they are folded into.
        type: class of that module.
        operators: how many it stands for.
        figures: FLOP by phase. Its ``saved_bytes`` are those of tensors that are not drawn, for
            nothing else reads them.
        reads, writes: indices of variables.
        gradients: those of the variables read whose gradient its backward computes.
        keeps: variables that its backward reads again.
        runs_backward: whether a backward reached it.
    """

    op: str
    layer: str
    type: str
    operators: int
    figures: LayerTotals
    reads: tuple[int, ...] = ()
    writes: tuple[int, ...] = ()
    gradients: tuple[int, ...] = ()
    keeps: tuple[int, ...] = ()
    runs_backward: bool = False


@dataclass(frozen=True)
class Graph:
    """Operators in the order in which they ran, and the variables between them.

    Args:
        operators, variables: those that are drawn.
        outside: FLOP and bytes that belong to none of them.
        types: path of a module -> its class.
        model: what was traced.
        settings: its sizes.
        depth: of the paths that operators are folded into; None if each stands for itself.
        note: how it was folded, if nobody asked for that.
    """

    operators: tuple[Operator, ...]
    variables: tuple[Variable, ...]
    outside: LayerTotals = NOTHING
    types: Mapping[str, str] = field(default_factory=dict)
    model: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    depth: int | None = None
    note: str = ""

    @cached_property
    def totals(self) -> LayerTotals:
        """All that the graph shows, summed: what the ledger's rows sum to."""
        drawn = added("", self.model, (*(each.figures for each in self.operators), self.outside))
        kept = sum(variable.saved_bytes for variable in self.variables)
        return replace(drawn, saved_bytes=drawn.saved_bytes + kept)

    @cached_property
    def maker(self) -> dict[int, int]:
        """Variable -> the operator that makes it, by their indices; none of what is given."""
        return {
            variable: index
            for index, operator in enumerate(self.operators)
            for variable in operator.writes
        }

    @cached_property
    def readers(self) -> dict[int, tuple[int, ...]]:
        """Variable -> the operators that read it, by their indices."""
        readers: dict[int, tuple[int, ...]] = {}
        for index, operator in enumerate(self.operators):
            for variable in operator.reads:
                readers[variable] = (*readers.get(variable, ()), index)
        return readers

    def document(self) -> dict[str, Any]:
        """Plain ints, strings, lists and dicts."""
        return {
            "schema": SCHEMA,
            "model": self.model,
            "settings": dict(self.settings),
            "depth": self.depth,
            "note": self.note,
            "totals": asdict(self.totals),
            "outside": asdict(self.outside),
            "operators": [asdict(operator) for operator in self.operators],
            "variables": [asdict(variable) for variable in self.variables],
        }


def added(name: str, kind: str, figures: Any) -> LayerTotals:
    """The sum of some figures."""
    every = tuple(figures)
    sums = {count: sum(getattr(each, count) for each in every) for count in COUNTS}
    return LayerTotals(name, kind, **sums)
