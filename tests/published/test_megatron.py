"""Narayanan et al., Efficient Large-Scale Language Model Training on GPU Clusters Using
Megatron-LM, 2021, table 1, by its equations 2 (parameters) and 3 (FLOP of an iteration).

Its convention: products alone, 2 FLOP a multiply-add, causal attention in full, and what is
executed: every layer's activations are forgotten and its forward run again, but not the head's. So
these are hardware FLOPs. (The throughput that it measures is no count, and not tested.)
"""

from decimal import Decimal
from fractions import Fraction

import pytest

from experiments.literature.gpt import Sizes, tokens, weightless
from experiments.literature.reference import rounded, rows
from experiments.literature.steps import hardware_flops, part, trained

s, V = 2048, 51200  # sequence, vocabulary


@pytest.mark.parametrize("row", rows("megatron2021_table1"), ids=lambda row: f"{row['params_B']}B")
def test_parameters_and_flops_of_an_iteration(row: dict[str, str]) -> None:
    L, h, heads, B = (int(row[column]) for column in ("layers", "hidden", "heads", "batch"))
    sizes = Sizes(L, h, heads, V, s, recompute=True)
    ledger = trained(weightless(sizes), tokens(B, s))

    # Equation 2, P = 12 L h^2 (1 + 13 / 12 h + (V + s) / 12 L h), leaves the last norm out.
    last_norm = part(ledger, "norm").totals.parameters
    parameters = ledger.totals.parameters - last_norm
    assert parameters == 12 * L * h**2 + 13 * L * h + (V + s) * h
    assert rounded(Fraction(parameters, 10**9), row["params_B"]) == Decimal(row["params_B"])
    assert last_norm == 2 * h

    # Equation 3, F = 96 B s L h^2 (1 + s / 6 h + V / 16 L h).
    flops = 96 * B * s * L * h**2 + 16 * B * s**2 * L * h + 6 * B * s * h * V
    assert hardware_flops(ledger) == flops
    derived = row["flops_per_iter_DERIVED"]
    assert rounded(flops, derived) == Decimal(derived)
    assert ledger.totals.recompute == part(ledger, "blocks.*").totals.forward
