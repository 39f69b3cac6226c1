"""What kind of work an operator is."""

from __future__ import annotations

import pytest

from flopratio.formulas import OPERATORS
from flopratio.roofline import families
from flopratio.roofline.families import FAMILIES, family, formula_file
from tests.roofline.devices import row


@pytest.mark.parametrize(
    ("operator", "kind"),
    [
        (row("relu"), families.ELEMENTWISE),
        (row("add"), families.ELEMENTWISE),
        (row("add", "grad_input", autograd="MulBackward0"), families.SUMMED_GRADIENTS),
        (row("add_", "grad_weight", autograd="AccumulateGrad"), families.SUMMED_GRADIENTS),
        (row("add", "recompute"), families.ELEMENTWISE),
        (row("sum", "grad_weight", autograd="AddmmBackward0"), families.BIAS_GRADIENTS),
        (row("sum"), families.REDUCTIONS),
        (row("_log_softmax"), families.SOFTMAX),
        (row("_softmax_backward_data", "grad_input"), families.SOFTMAX),
        (row("native_layer_norm_backward", "grad_weight"), families.NORMALIZATION),
        (row("_to_copy"), families.COPIES),
        (row("bernoulli_"), families.CREATED),
        (row("argsort"), families.OTHERS),
        (row("embedding_dense_backward", "grad_weight"), families.INDEXING),
        (row("nll_loss_forward"), families.LOSS),
        (row("operator_of_nobody"), families.OTHERS),
    ],
    ids=lambda value: value.op if hasattr(value, "op") else None,
)
def test_family_of_an_operator(operator, kind: str) -> None:
    assert family(operator) == kind


def test_families_are_of_files_that_have_formulas() -> None:
    files = {formula_file(op) for op in OPERATORS}
    assert FAMILIES.keys() - files - {"arithmetic"} == set()
