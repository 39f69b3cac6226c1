"""nanoGPT's transformer_sizing.ipynb: parameters and FLOP of GPT-2 124M, one sequence of 1024.

Its convention is the ledger's own: matrix products only, 2 FLOP a multiply-add, causal attention in
full, the logits of all positions.
"""

import pytest

import flopratio as fr
from experiments.literature.gpt import GPT, Sizes, tokens, weightless
from experiments.literature.reference import rows
from experiments.literature.steps import model_flops, part, trained
from flopratio.formulas.optimizer import STEP_BYTES

LAYERS, WIDTH, HEADS, CONTEXT = 12, 768, 12, 1024
GPT2 = Sizes(LAYERS, WIDTH, HEADS, vocabulary=50257, context=CONTEXT, bias=False)

PUBLISHED = {row["item"]: int(row["value"]) for row in rows("nanogpt_gpt2_124M")}


@pytest.fixture(scope="module")
def model() -> GPT:
    return weightless(GPT2)


@pytest.fixture(scope="module")
def ledger(model: GPT) -> fr.Ledger:
    return trained(model, tokens(1, CONTEXT))


# The notebook counts the norm that precedes attention or feed-forward as a part of it.
PARAMETERS = {
    "position": "embedding.positions",
    "token": "embedding.tokens",
    "attention_per_layer": "blocks.0.attention*",
    "mlp_per_layer": "blocks.0.feed_forward*",
    "block": "blocks.0.*",
    "transformer": "blocks.*",
    "total": "*",
}

FORWARD = {
    "attention.kqv": "blocks.0.attention.qkv",
    "attention.proj": "blocks.0.attention.projection",
    "attention": "blocks.0.attention*",
    "mlp.ffw1": "blocks.0.feed_forward.first",
    "mlp.ffw2": "blocks.0.feed_forward.second",
    "mlp": "blocks.0.feed_forward*",
    "block": "blocks.0.*",
    "transformer": "blocks.*",
    "lm_head": "head",
    "total": "*",
}


@pytest.mark.parametrize("item", PARAMETERS)
def test_parameters(ledger: fr.Ledger, item: str) -> None:
    found = part(ledger, PARAMETERS[item]).totals.parameters
    assert found == PUBLISHED[f"params/{item}"]


@pytest.mark.parametrize("item", FORWARD)
def test_forward(ledger: fr.Ledger, item: str) -> None:
    assert part(ledger, FORWARD[item]).totals.forward == PUBLISHED[f"fwd/{item}"]


def test_forward_of_the_two_products_of_attention(ledger: fr.Ledger) -> None:
    products = part(ledger, "blocks.0.attention").rows
    scores, weighted = (row.flops for row in products if row.phase == "forward" and row.flops)
    assert scores == PUBLISHED["fwd/attention.scores"]
    assert weighted == PUBLISHED["fwd/attention.reduce"]


def test_backward_is_twice_forward(ledger: fr.Ledger) -> None:
    assert ledger.totals.backward == PUBLISHED["bwd/total"] == 2 * PUBLISHED["fwd/total"]
    assert model_flops(ledger) == PUBLISHED["train/total"]


def test_the_palm_formula_counts_the_norms_as_products(ledger: fr.Ledger) -> None:
    """6 N + 12 L H Q T a token, N all parameters but the positions': those of the norms are no
    operands of a product, and make all of the difference."""
    everything = ledger.totals.parameters - part(ledger, "*.positions").totals.parameters
    attention = 12 * LAYERS * WIDTH * CONTEXT
    assert CONTEXT * (6 * everything + attention) == PUBLISHED["train/palm_formula"]

    norms = part(ledger, "*norm").totals.parameters
    assert norms == (2 * LAYERS + 1) * WIDTH
    assert PUBLISHED["train/palm_formula"] - model_flops(ledger) == 6 * CONTEXT * norms


def test_a_checkpoint_holds_parameters_and_two_moments(model: GPT) -> None:
    """12 bytes a parameter. The file that the notebook measured is larger by the causal masks,
    which that version of the model kept as buffers, and by what torch.save writes around the
    numbers, which is no part of a training step."""
    memory = fr.count(model, tokens(1, CONTEXT), optimizer="adamw").memory
    steps = STEP_BYTES * len(list(model.parameters()))
    saved = memory["parameters"] + memory["optimizer_state"] - steps
    assert saved == PUBLISHED["checkpoint_bytes_estimated_12_per_param"]

    written_around = 86_750
    measured = saved + memory["buffers"] + written_around
    assert measured == PUBLISHED["checkpoint_bytes_measured"]
    assert memory["buffers"] == 4 * LAYERS * CONTEXT**2


def test_every_line_is_tested() -> None:
    tested = {f"params/{item}" for item in PARAMETERS} | {f"fwd/{item}" for item in FORWARD}
    tested |= {"fwd/attention.scores", "fwd/attention.reduce", "bwd/total", "train/total"}
    tested |= {"train/palm_formula", "checkpoint_bytes_measured"}
    assert tested | {"checkpoint_bytes_estimated_12_per_param"} == set(PUBLISHED)
