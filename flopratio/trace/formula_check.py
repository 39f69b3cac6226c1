"""Whether a formula fits its operator: what it takes and names, beside the operator's schema.

What it takes is compared once for each overload, when a trace first meets it; what it names, each
time that it is evaluated (equal calls are evaluated once), as that depends on the call.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from functools import cache
from inspect import Parameter, signature
from typing import Any, NamedTuple

import torch

from flopratio.errors import FormulaError
from flopratio.formulas import (
    OPERATORS,
    SPARSE_OPERATORS,
    Cost,
    Gradient,
    Tensor,
    operands_of,
)
from flopratio.formulas.formula import Copy, OperatorFormula
from flopratio.text.suggestions import did_you_mean
from flopratio.torch_private import operator_names
from flopratio.trace.recorder import operator_of
from flopratio.trace.recording import Operator

OUT, OUTPUT = "out", "output"
"""What a formula calls what its operator returned; an argument of that name that it is given."""


class Arguments(NamedTuple):
    """What a formula is given of the arguments of an overload."""

    given: tuple[str, ...]
    """Their names, in order. The first :attr:`by_position` come by position."""
    by_position: int
    needed: frozenset[str]
    """Those that each call gives, for they have no default."""
    tensors: frozenset[str]
    """Those that are tensors or lists of them."""
    written: frozenset[str]
    """What an ``out=`` overload writes to, which is not given."""
    changed: frozenset[str]
    """Those that are written to, and are no results: of in-place operators on lists, and running
    statistics."""


@cache
def arguments_of(op: Operator) -> Arguments:
    """What a formula is given of the arguments of an operator."""
    every = op.arguments
    given = [
        (OUTPUT if argument.name == OUT else argument.name, argument)
        for argument in every
        if not argument.is_out
    ]
    return Arguments(
        tuple(name for name, _ in given),
        sum(not argument.kwarg_only for _, argument in given),
        frozenset(name for name, argument in given if not argument.has_default),
        frozenset(name for name, argument in given if argument.is_tensor),
        frozenset(argument.name for argument in every if argument.is_out),
        frozenset(
            name for name, argument in given if argument.is_written and not argument.is_returned
        ),
    )


def overloads(name: str) -> list[Any]:
    """The overloads of an operator; none of one that this torch has not."""
    namespace, _, rest = name.partition(".")
    packet = getattr(getattr(torch.ops, namespace), rest, None) if rest else None
    return [getattr(packet, each) for each in getattr(packet, "overloads", list)()]


_there: set[str] = set()
"""Operators that were looked up, and are there."""


def is_there(name: str) -> bool:
    """Whether an operator has a formula or is one of this torch."""
    if name in _there or name in OPERATORS or name in SPARSE_OPERATORS or overloads(name):
        _there.add(name)
        return True
    return False


def _error(op: Operator, formula: OperatorFormula, what: str) -> FormulaError:
    named = formula if hasattr(formula, "__qualname__") else type(formula)
    home = f"{named.__module__}.{named.__qualname__}"
    return FormulaError(f"the formula of {op.name} ({home}) {what}")


@cache
def check_call(op: Operator, formula: OperatorFormula) -> None:
    """A formula takes whatever calls of an overload give, under the names that the schema has.

    Not looked at are parameters before ``/``, which have any name, and those with a default that
    this torch's schema never fills, if no ``*`` catches what was meant for them: both are for
    arguments that other versions of torch call otherwise, or have besides.

    Raises:
        FormulaError: it can't be called, or has a parameter that is no argument of the operator.
    """
    arguments = arguments_of(op)
    parameters = signature(formula).parameters
    bound = _bound(op, formula, arguments.given)
    _bound(op, formula, arguments.needed)
    stars = any(parameter.kind in _STARS for parameter in parameters.values())
    for name, parameter in parameters.items():
        given = bound.get(name, name)
        nameless = parameter.kind in _STARS or parameter.kind is Parameter.POSITIONAL_ONLY
        if name == OUT or nameless or (name not in bound and not stars):
            continue
        if given != name and given in parameters:
            raise _error(op, formula, f"takes {given!r} in the place of {name!r}")
        if name not in arguments.given and name not in (known := _arguments_of_all(op, formula)):
            unknown = f"takes {name!r}, which is no argument of it{did_you_mean(name, known)}"
            raise _error(op, formula, unknown)


_STARS = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)


def _bound(op: Operator, formula: OperatorFormula, given: Collection[str]) -> dict[str, Any]:
    """Parameter -> the argument that it gets, of a call that gives these."""
    arguments = arguments_of(op)
    positional = [name for name in arguments.given[: arguments.by_position] if name in given]
    named = {name: name for name in arguments.given[arguments.by_position :] if name in given}
    try:
        return signature(formula).bind(*positional, **named, out=OUT).arguments
    except TypeError as error:
        called = f"({', '.join((*positional, '*', *named, OUT))})"
        raise _error(op, formula, f"is to be called with {called}: {error}") from None


def _arguments_of_all(op: Operator, formula: OperatorFormula) -> set[str]:
    """The arguments of all overloads of all operators that have the same formula."""
    every_formula = (*OPERATORS.items(), *SPARSE_OPERATORS.items())
    names = [name for name, other in every_formula if other is formula]
    every = [op, *(operator_of(overload) for name in names for overload in overloads(name))]
    return {argument for overload in every for argument in arguments_of(overload).given}


_differentiated: defaultdict[str, set[str]] = defaultdict(set)
"""Backward operator -> the operands of all forward operators that named it."""


def check_cost(
    op: Operator, formula: OperatorFormula, cost: Any, positions: Mapping[int, int]
) -> None:
    """What a formula gave names operands and operators that are there, and keeps tensors that are.

    Args:
        positions: the storages of operands and results, by their ``id``.

    Raises:
        FormulaError: it does not.
    """
    if not isinstance(cost, Cost):
        raise _error(op, formula, f"gives {type(cost).__name__}, which is no Cost")
    arguments = arguments_of(op)
    if arguments.written:  # autograd takes no out= overload
        return
    tensors = arguments.tensors
    for gradient in cost.gradients:
        _check_operands(op, formula, "gradient", gradient, tensors)
        if gradient.op:
            if not is_there(gradient.op):
                raise _error(op, formula, _no_such_operator(gradient))
            _differentiated[gradient.op] |= tensors
        for tensor in gradient.saves:
            storage = tensor.storage if isinstance(tensor, Tensor) else None
            kept = storage.original if isinstance(storage, Copy) else storage
            if id(kept) not in positions:
                what = f"of {tensor.shape}" if isinstance(tensor, Tensor) else repr(tensor)
                operands = " and ".join(operands_of(gradient))
                raise _error(
                    op,
                    formula,
                    f"keeps a tensor {what} for the gradient of {operands}, "
                    "which is neither one of its operands nor of its results",
                )
    if cost.parts and (known := _differentiated.get(op.name)):
        for part in cost.parts:
            _check_operands(op, formula, "part", part, known)


def _check_operands(
    op: Operator, formula: OperatorFormula, kind: str, work: Any, known: Collection[str]
) -> None:
    for operand in operands_of(work):
        if operand not in known:
            whose = "it" if kind == "gradient" else "the operator whose gradients it computes"
            what = f"names a {kind} of {operand!r}, which is no tensor that {whose} takes"
            raise _error(op, formula, f"{what}{did_you_mean(operand, known)}")


def _no_such_operator(gradient: Gradient) -> str:
    operands = " and ".join(operands_of(gradient))
    namespace = gradient.op.partition(".")[0]
    names = {name.partition(".")[0].replace("::", ".") for name in operator_names()}
    known = [name for name in names | set(OPERATORS) if name.startswith(f"{namespace}.")]
    what = f"says that {gradient.op!r} computes the gradient of {operands}, and there is none"
    return f"{what}{did_you_mean(gradient.op, known)}"
