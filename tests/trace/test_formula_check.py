"""Formulas beside the schemas of their operators: every one of ours, and what is said of a misfit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from itertools import product
from typing import Any

import pytest
import torch

from flopratio.formulas import OPERATORS, Tensor
from flopratio.models.torchvision_operators import import_torchvision
from flopratio.trace.formula_check import arguments_of, check_call, check_cost, overloads

with suppress(ImportError):
    import torch.nn.attention.varlen  # has operators of its own
import_torchvision()

SIZE = 4
"""All sizes are equal, so that operands of unlike kinds fit each other."""


class Choice:
    """One way to make up the arguments of an operator.

    Args:
        rank: how many dimensions a tensor has.
        whole: what a whole number is.
        true: what a truth value is.
        length: how many entries a list has.
        absent: whether what may be absent is.
        word: what a string is.
    """

    def __init__(
        self, size: int, rank: int, whole: int, true: bool, length: int, absent: bool
    ) -> None:
        self.size, self.rank, self.length = size, rank, length
        self.whole, self.true, self.absent = whole, true, absent

    def value(self, kind: str) -> Any:
        if kind.startswith("Optional["):
            return None if self.absent else self.value(kind[len("Optional[") : -1])
        if kind.startswith("List["):
            return tuple(self.value(kind[len("List[") : -1]) for _ in range(self.length))
        if kind == "Tensor":
            return Tensor((self.size,) * self.rank)
        plain = {"int": self.whole, "bool": self.true, "float": 0.5, "number": 0.5, "str": "linear"}
        return plain.get(kind)

    def call(self, op: Any) -> tuple[tuple[Any, ...], dict[str, Any], Any]:
        """Positional arguments, named ones, and what the operator returns."""
        schema = op._schema
        given = [argument for argument in schema.arguments if not argument.is_out]
        positional = tuple(self.value(str(one.type)) for one in given if not one.kwarg_only)
        named = {one.name: self.value(str(one.type)) for one in given if one.kwarg_only}
        results = tuple(self.value(str(one.type)) for one in schema.returns)
        return positional, named, results[0] if len(results) == 1 else results or None


CHOICES = [
    Choice(*choice)
    for choice in product((4, 2), (2, 4, 3, 1, 5, 0), (1, 0, 3), (True, False), (4, 1, 2, 3), (False, True))
]


def tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from tensors(item)


def of_this_torch() -> list[tuple[str, Any]]:
    dispatched = set(torch._C._dispatch_get_all_op_names())
    return [(name, overload) for name in sorted(OPERATORS) for overload in overloads(name) if (overload._schema.name + ("." + overload._schema.overload_name if overload._schema.overload_name else "")) in dispatched]


def with_a_working_call(op: Any, name: str) -> int:
    """The check of whatever the formula gives in any of the made up calls; how many it took."""
    formula, worked = OPERATORS[name], 0
    for choice in CHOICES:
        positional, named, out = choice.call(op)
        try:
            cost = formula(*positional, **named, out=out)
        except Exception:
            continue
        worked += 1
        known = (*tensors(positional), *tensors(tuple(named.values())), *tensors(out))
        check_cost(op, formula, cost, {id(tensor.storage): 0 for tensor in known})
    return worked


def test_all() -> None:
    bad, silent = [], []
    for name, op in of_this_torch():
        try:
            check_call(op, OPERATORS[name])
            if not with_a_working_call(op, name):
                silent.append(str(op))
        except ValueError as error:
            bad.append(f"{op}: {error}")
    print("\n".join(bad))
    print("silent", silent)
    assert not bad
    assert not silent
