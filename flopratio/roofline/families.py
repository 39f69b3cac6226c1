"""What kind of work an operator is, in words: told by the file that its formula is in."""

from __future__ import annotations

from functools import lru_cache

from flopratio.formulas import OPERATORS
from flopratio.formulas.movement import CREATION, SEARCHES
from flopratio.ledger import Row

ELEMENTWISE = "elementwise operators (activations, residual sums, scales)"
NORMALIZATION = "normalization"
SOFTMAX = "softmax"
LOSS = "the loss"
POOLING = "pooling"
REDUCTIONS = "sums, means and other reductions"
BIAS_GRADIENTS = "bias gradients (sums over the batch)"
COPIES = "copies and casts"
CREATED = "memory filled with constants or random numbers"
DROPOUT = "dropout"
INDEXING = "embeddings and indexing"
SUMMED_GRADIENTS = "sums of gradients (of what is used more than once)"
OTHERS = "other operators"

FAMILIES = {
    "activation": ELEMENTWISE,
    "arithmetic": ELEMENTWISE,
    "pointwise": ELEMENTWISE,
    "foreach": ELEMENTWISE,
    "normalization": NORMALIZATION,
    "pooling": POOLING,
    "loss": LOSS,
    "reduction": REDUCTIONS,
    "movement": COPIES,
    "dropout": DROPOUT,
    "embedding": INDEXING,
    "scatter": INDEXING,
    "selection": INDEXING,
    "resampling": "resampling",
    "spectral": "Fourier transforms",
    "factorization": "factorizations",
    "communication": "communication",
    "quantization": "quantization",
    "recurrent": "cells of recurrent layers",
}
"""File of :mod:`flopratio.formulas` -> what its operators are."""


@lru_cache
def formula_file(op: str) -> str:
    """The file of an operator's formula (``normalization``); empty if it has none there."""
    formula = OPERATORS.get(op)
    package, _, file = getattr(formula, "__module__", "").rpartition(".")
    return file if package == "flopratio.formulas" else ""


def family(row: Row) -> str:
    """What kind of work a row without products is."""
    if row.autograd == "AccumulateGrad" or (
        row.phase in ("grad_input", "grad_weight") and row.op in ("aten.add", "aten.add_")
    ):
        return SUMMED_GRADIENTS
    if row.op == "aten.sum" and row.phase == "grad_weight":
        return BIAS_GRADIENTS
    if "softmax" in row.op:
        return SOFTMAX
    if row.op in CREATION:
        return CREATED
    if row.op in SEARCHES:
        return OTHERS
    return FAMILIES.get(formula_file(row.op), OTHERS)
