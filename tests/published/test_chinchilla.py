"""Hoffmann et al., Training Compute-Optimal Large Language Models, 2022, table A4: training FLOP by
their count over 6 N D, and nanoGPT's scaling_laws.ipynb, which reproduces it to the last FLOP.

Their convention (appendix F): the products of the blocks, 2 FLOP a multiply-add, causal attention
in full; 3 FLOP for each score that softmax turns into a probability; backward twice forward, of
softmax too. Embeddings and logits are not counted (the appendix does, the table does not, as the
notebook found), nor are the products of relative positions, whose parameters are.
"""

from decimal import Decimal
from fractions import Fraction

import pytest

from experiments.literature.chinchilla import CONTEXT, chinchilla
from experiments.literature.gpt import tokens
from experiments.literature.reference import rounded, rows
from experiments.literature.steps import model_flops, part, trained

SOFTMAX = 3
"""FLOP a score, by their count; the ledger has 5 (see ``formulas/activation.py``)."""


@pytest.mark.parametrize("row", rows("chinchilla_table_A4"), ids=lambda row: row["params_label"])
def test_training_flops(row: dict[str, str]) -> None:
    ledger = trained(chinchilla(row), tokens(1, CONTEXT))
    blocks = part(ledger, "blocks.*")

    # The head's own weight is counted, the embedding's is not: in this model they are one.
    parameters = ledger.totals.parameters - part(ledger, "*.positions").totals.parameters
    assert parameters == int(row["nanogpt_N"])

    scores = int(row["layers"]) * int(row["heads"]) * CONTEXT**2
    flops = model_flops(blocks) + 3 * SOFTMAX * scores
    assert flops == int(row["nanogpt_F_per_seq"])

    ratio = Fraction(flops, 6 * parameters * CONTEXT)
    assert rounded(ratio, row["nanogpt_ratio"]) == Decimal(row["nanogpt_ratio"])
    assert rounded(ratio, "1.00") == Decimal(row["flop_ratio_ours_over_6ND"])


def test_softmax_has_five_flops_a_score_here() -> None:
    """A comparison for the maximum and an addition into the sum come on top of their three."""
    smallest = rows("chinchilla_table_A4")[0]
    ledger = trained(chinchilla(smallest), tokens(1, CONTEXT))
    softmax = [row.elementwise for row in ledger.rows if row.op == "aten._softmax"]
    scores = int(smallest["layers"]) * int(smallest["heads"]) * CONTEXT**2
    assert sum(softmax) == (SOFTMAX + 2) * scores
