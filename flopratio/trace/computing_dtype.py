"""In which element type an operator computes: that of the roof that its work is held against."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from flopratio.text.dtypes import dtype_name
from flopratio.trace.recording import LIST, NESTED, TENSOR


def computing_dtype(operands: tuple[Any, ...], results: Any) -> str:
    """The element type of what an operator computes with, by torch's name.

    It is that of the first operand that has floating-point or complex numbers: of an embedding not
    the indices', of a selection not the mask's, of a cast the source's. As torch promotes types, an
    operand without dimensions (a learning rate, a scale) decides only where there is no other.
    An operator without tensors (random numbers) computes what it returns.

    Args:
        operands: the notes of its arguments.
        results: the note of what it returned.

    Returns:
        ``bfloat16``; empty without any tensor.
    """
    found = list(_tensors(operands)) or list(_tensors((results,)))
    if not found:
        return ""
    return dtype_name(max(found, key=_decides)[2])  # the first of equals


def _tensors(notes: Any) -> Iterator[Any]:
    """The notes of tensors among some notes, those in lists too."""
    for note in notes:
        if type(note) is tuple and note:
            if note[0] in (TENSOR, NESTED):
                yield note
            elif note[0] == LIST:
                yield from _tensors(note[1:])


def _decides(note: Any) -> tuple[bool, bool]:
    _, shape, dtype, *_ = note
    return dtype.is_floating_point or dtype.is_complex, bool(shape)
