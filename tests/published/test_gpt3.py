"""Brown et al., Language Models are Few-Shot Learners (GPT-3), 2020, table D.1: training compute.

Its convention: FLOP = (FLOP a parameter and token) x parameters x tokens, whatever a parameter is
for; attention's products are left out. A forward multiplies and adds once with every parameter that
is active for a token, 2 FLOP; backward makes it 3 times that. (The column named after the active
parameters holds the figure for all parameters: 1 for T5, of which half are active.)
"""

from decimal import Decimal
from fractions import Fraction

import pytest
import torch
from torch import nn

import flopratio as fr
from experiments.literature.gpt import Sizes, tokens, weightless
from experiments.literature.gpt3 import SIZES
from experiments.literature.reference import rounded, rows
from experiments.literature.steps import model_flops, part, trained

ROWS = {row["model"]: row for row in rows("gpt3_table_D1")}

PETAFLOP_DAY = 10**15 * 24 * 60 * 60

CONTEXT, VOCABULARY = 2048, 50257


@pytest.mark.parametrize("model", ROWS)
def test_training_compute(model: str) -> None:
    row = ROWS[model]
    factor = int(row["flops_per_param_per_token"])
    assert factor == int(row["mult_for_bwd"]) * int(row["fwd_flops_per_active_param"])
    assert int(row["fwd_flops_per_active_param"]) == 2 * float(row["frac_active"])

    flops = factor * int(row["params_M"]) * 10**6 * int(row["tokens_B"]) * 10**9
    assert rounded(flops, row["train_flops"]) == Decimal(row["train_flops"])
    assert rounded(Fraction(flops, PETAFLOP_DAY), row["pf_days"]) == Decimal(row["pf_days"])


def linear_layers(ledger: fr.Ledger) -> fr.Ledger:
    """Without the products of attention."""
    return fr.Ledger(
        [row for row in ledger.rows if row.op in ("aten.mm", "aten.addmm")],
        parameters=ledger.parameters,
    )


@pytest.mark.parametrize("model", SIZES)
def test_a_decoder_costs_six_flops_a_weight_and_token(model: str) -> None:
    row = ROWS[model]
    layers, width = SIZES[model]
    sizes = Sizes(layers, width, width // 64, VOCABULARY, CONTEXT)
    ledger = trained(weightless(sizes), tokens(1, CONTEXT))
    parameters = ledger.totals.parameters
    last_digit = "1" if int(row["params_M"]) < 1000 else "1E1"
    assert rounded(Fraction(parameters, 10**6), last_digit) == Decimal(row["params_M"])

    weights = 12 * layers * width**2 + VOCABULARY * width
    linear = linear_layers(ledger)
    assert linear.totals.forward == CONTEXT * weights * int(row["fwd_flops_per_active_param"])
    assert model_flops(linear) == int(row["mult_for_bwd"]) * linear.totals.forward

    # The table's count has positions, biases and norms too, and does not have attention.
    counted = int(row["flops_per_param_per_token"]) * parameters * CONTEXT
    biases_and_norms = layers * 13 * width + 2 * width
    positions = part(ledger, "*.positions").totals.parameters
    assert parameters - weights == biases_and_norms + positions
    attention = 3 * 4 * layers * width * CONTEXT**2
    difference = attention - 6 * CONTEXT * (biases_and_norms + positions)
    assert model_flops(ledger) - counted == difference


def test_an_encoder_and_decoder_cost_three() -> None:
    """Each token passes one of the two, so half of the weights. (Those of cross attention: half of
    the encoder's tokens, for keys and values, and half of the decoder's.)"""
    row = ROWS["T5-Small"]
    length, width = 64, 32
    with torch.device("meta"):
        sizes = width, 4, 4 * width, 0.0
        encoder = nn.TransformerEncoderLayer(*sizes, bias=False)
        decoder = nn.TransformerDecoderLayer(*sizes, bias=False)
        model = nn.Transformer(
            width,
            custom_encoder=nn.TransformerEncoder(encoder, 3, enable_nested_tensor=False),
            custom_decoder=nn.TransformerDecoder(decoder, 3),
        )
        source, target = torch.empty(2, length, 1, width, requires_grad=True)
    linear = linear_layers(trained(model, source, target))
    norms = part(linear, "*norm*").totals.parameters
    weights = linear.totals.parameters - norms
    assert linear.totals.forward == 2 * length * weights * int(row["fwd_flops_per_active_param"])
    assert model_flops(linear) == int(row["mult_for_bwd"]) * linear.totals.forward
