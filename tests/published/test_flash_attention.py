"""FlashAttention's benchmarks/benchmark_flash_attention.py: the FLOP behind its throughputs.

Its convention: hardware FLOP, so that backward is 2.5 times forward (four products, and Q K.T
evaluated again); a causal mask halves all of it. The ledger counts causal attention in full, so the
causal figures are those of ``causal_half``, the other convention.
"""

from fractions import Fraction

import pytest
import torch

from experiments.literature.reference import rows
from experiments.literature.steps import hardware_flops, profiled
from flopratio.formulas import OPERATORS, Tensor
from flopratio.formulas.attention import causal_half, flash_results

FORMULAS = {row["mode"]: row["formula"] for row in rows("flash_attention_flop_convention")}

# The benchmark's grid: 16k tokens, a width of 2048.
SIZES = [
    {"B": 16384 // length, "S": length, "H": 2048 // head, "D": head}
    for length in (512, 2048, 16384)
    for head in (64, 128)
]


def published(mode: str, sizes: dict[str, int], causal: bool) -> Fraction:
    formula = FORMULAS["fwd"].replace("^", "**")
    forward = eval(formula, {}, {**sizes, "causal": causal})
    factor = FORMULAS[mode].removesuffix("*fwd") if mode != "fwd" else 1
    return Fraction(factor) * forward


def phases(forward: int, backward: int) -> dict[str, int]:
    return {"fwd": forward, "bwd": backward, "fwd_bwd": forward + backward}


@pytest.fixture(params=SIZES, ids=lambda sizes: f"S={sizes['S']}, D={sizes['D']}")
def sizes(request: pytest.FixtureRequest) -> dict[str, int]:
    found: dict[str, int] = request.param
    return found


@pytest.mark.parametrize("causal", [False, True])
def test_the_ledger_counts_in_full(sizes: dict[str, int], causal: bool) -> None:
    shape = [sizes[size] for size in "BHSD"]
    operands = [torch.empty(shape, device="meta", requires_grad=True) for _ in range(3)]
    flash = torch.ops.aten._scaled_dot_product_flash_attention
    ledger = profiled(lambda: flash(*operands, 0.0, causal)[0].sum().backward())

    forward = ledger.totals.forward
    found = phases(forward, hardware_flops(ledger) - forward)
    assert found == {mode: published(mode, sizes, causal=False) for mode in FORMULAS}


def test_a_causal_mask_halves_all(sizes: dict[str, int]) -> None:
    operand = Tensor(tuple(sizes[size] for size in "BHSD"), 2)
    operands = operand, operand, operand
    out, logsumexp, *others = flash_results(*operands)
    operator = "aten._scaled_dot_product_flash_attention"
    forward = OPERATORS[operator](*operands, 0.0, True, out=(out, logsumexp, *others))
    backward = OPERATORS[f"{operator}_backward"](
        out, *operands, out, logsumexp, *others[:4], 0.0, True, *others[4:6], out=operands
    )

    backward = causal_half(backward)
    found = phases(causal_half(forward).flops, backward.flops + backward.recompute)
    assert found == {mode: published(mode, sizes, causal=True) for mode in FORMULAS}
