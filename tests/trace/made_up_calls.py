"""Calls of an operator, made up from the kinds of its arguments, to try its formula with."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any, NamedTuple

from flopratio.formulas import Cost, Tensor
from flopratio.formulas.formula import OperatorFormula
from flopratio.torch_private import has_kernel, schema_of
from flopratio.trace.formula_check import check_cost, overloads
from flopratio.trace.recorder import operator_of


class Choice(NamedTuple):
    """One way to make up the arguments of an operator."""

    size: int = 4
    """Of every dimension of every tensor, so that operands of unlike kinds fit each other."""
    rank: int = 2
    number: int = 1
    """What a whole number is."""
    truth: bool = True
    length: int = 1
    """Of every list."""
    absent: bool = False
    """Whether what may be absent is."""

    def value(self, kind: str) -> Any:
        if kind.startswith("Optional["):
            return None if self.absent else self.value(kind[len("Optional[") : -1])
        if kind.startswith("List["):
            return tuple(self.value(kind[len("List[") : -1]) for _ in range(self.length))
        if kind == "Tensor":
            return Tensor((self.size,) * self.rank)
        plain = {"int": self.number, "bool": self.truth, "float": 0.5, "number": 0.5, "str": "r"}
        return plain.get(kind)


def choices(op: Any) -> Iterator[Choice]:
    """Those between which the kinds of an operator's arguments and results can tell."""
    schema = schema_of(op)
    kinds = " ".join(str(one.type) for one in (*schema.arguments, *schema.returns))
    for choice in product(
        (4, 2),
        (2, 4, 3, 1, 5, 0),
        (1, 0, 2, 3) if "int" in kinds else (1,),
        (True, False) if "bool" in kinds else (True,),
        (4, 1, 2, 3) if "List" in kinds else (1,),
        (False, True) if "Optional" in kinds else (False,),
    ):
        yield Choice(*choice)


def tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from tensors(item)


def check_made_up_calls(op: Any, formula: OperatorFormula) -> list[Cost]:
    """Check what the formula gives of each call that is made up and that it takes."""
    schema, costs = schema_of(op), []
    given = [argument for argument in schema.arguments if not argument.is_out]
    for choice in choices(op):
        positional = tuple(choice.value(str(one.type)) for one in given if not one.kwarg_only)
        named = {one.name: choice.value(str(one.type)) for one in given if one.kwarg_only}
        results = tuple(choice.value(str(one.type)) for one in schema.returns)
        out = results[0] if len(results) == 1 else results or None
        try:
            cost = formula(*positional, **named, out=out)
        except Exception:  # no call that there could be
            continue
        costs.append(cost)
        known = (*tensors(positional), *tensors(tuple(named.values())), *tensors(out))
        check_cost(operator_of(op), formula, cost, {id(tensor.storage): 0 for tensor in known})
    return costs


def met_by_a_trace(name: str, dispatched: set[str]) -> list[Any]:
    """The overloads of an operator that a trace can meet: none that only scripts have, and none
    that torch takes apart before, unless it takes apart all of them."""
    found = [op for op in overloads(name) if full_name(op) in dispatched]
    whole = [op for op in found if not is_composite(op)]
    return whole or found


def full_name(op: Any) -> str:
    schema = schema_of(op)
    return f"{schema.name}.{schema.overload_name}".removesuffix(".")


def is_composite(op: Any) -> bool:
    return has_kernel(full_name(op), "CompositeImplicitAutograd")
