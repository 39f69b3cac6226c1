"""What is a gradient of a weight, and what of data: the one rule, for the analytic count, the trace
and the measured time alike.

A value depends on nothing that is trained, on parameters only, or on data; the result of an
operator depends on what its operands depend on, and data wins. The gradient of an operand that
depends on parameters only (a weight, however it was cast, masked, transposed or scaled) is
``grad_weight``; of any other, ``grad_input``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from flopratio.formulas.formula import Gradient, Part, operands_of

CONSTANT, PARAMETERS, DATA = 0, 1, 2
"""What a value depends on: nothing that is trained, parameters only, or data."""


def depends_on(operands: Iterable[int]) -> int:
    """What a result depends on, given what its operands do; one of no operands is a constant."""
    return max(operands, default=CONSTANT)


def phase_of(dependence: int) -> str:
    """The phase of the gradient of a value that depends on this."""
    return "grad_weight" if dependence == PARAMETERS else "grad_input"


def phase_among(
    work: Gradient | Part, needed: Mapping[str, int], dependences: Mapping[str, int]
) -> str | None:
    """The phase of the gradient of one operand, or of a value made of several; None if nobody
    needs it.

    Args:
        needed: operand -> what it depends on, of those that require a gradient.
        dependences: the same of every operand.
    """
    operands = operands_of(work)
    if not any(operand in needed for operand in operands):
        return None
    known = dependences if work.inner else needed
    return phase_of(depends_on(known[operand] for operand in operands if operand in known))
