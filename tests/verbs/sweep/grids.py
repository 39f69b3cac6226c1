"""Grids with forms that are known."""

from __future__ import annotations

from collections.abc import Iterable

from flopratio.closed_form import Polynomial
from flopratio.verbs.sweep.closed_form import GridForm, Piece
from flopratio.verbs.sweep.plan import swept_options

KEYS = {"depth": (2,), "batch": tuple(range(1, 31)), "width": tuple(range(1, 21))}


def piece(factor: int, **where: Iterable[int]) -> Piece:
    b, s = Polynomial.of("b"), Polynomial.of("s")
    forms = {"forward": b * s * factor, "grad_input": b * factor, "grad_weight": s * factor}
    forms["backward"] = forms["grad_input"] + forms["grad_weight"]
    return Piece({key: frozenset(values) for key, values in where.items()}, forms)


def made(*pieces: Piece) -> GridForm:
    grid = {"b": (1, 2, 3), "s": tuple(range(1, 8))}
    return GridForm("toy", swept_options(), grid, {}, "float32", list(pieces))
