"""Kaplan et al., Scaling Laws for Neural Language Models, 2020, table 1: parameters and forward
FLOP a token of a Transformer.

Its convention: 2 FLOP a multiply-add; biases, norms and all arithmetic apart from products left
out; backward twice forward. Two of its rows are not what is executed, and the differences are
asserted: the embedding is a look-up, and "Attn: Mask" is one of attention's two products. (Or both
of them, half of whose scores the causal mask makes idle.)
"""

import pytest

import flopratio as fr
from experiments.literature.gpt import Sizes, tokens, weightless
from experiments.literature.reference import evaluate, rows
from experiments.literature.steps import model_flops, part, trained

PUBLISHED = {row["op"]: row for row in rows("kaplan_table1")}

BATCH = 2

SIZES = [
    {"n_layer": 1, "d_model": 8, "d_ff": 32, "d_attn": 8, "n_ctx": 16, "n_vocab": 50},
    {"n_layer": 3, "d_model": 16, "d_ff": 40, "d_attn": 24, "n_ctx": 10, "n_vocab": 100},
    # GPT-2 XL, the size around which they worked.
    {"n_layer": 48, "d_model": 1600, "d_ff": 6400, "d_attn": 1600, "n_ctx": 1024, "n_vocab": 50257},
]

SizeTable = dict[str, int]


@pytest.fixture(scope="module", params=SIZES, ids=lambda sizes: f"d_model={sizes['d_model']}")
def sizes(request: pytest.FixtureRequest) -> SizeTable:
    found: SizeTable = request.param
    return found


@pytest.fixture(scope="module")
def ledger(sizes: SizeTable) -> fr.Ledger:
    heads = 2
    model = Sizes(
        sizes["n_layer"],
        sizes["d_model"],
        heads,
        sizes["n_vocab"],
        sizes["n_ctx"],
        head_width=sizes["d_attn"] // heads,
        hidden=sizes["d_ff"],
        bias=False,
    )
    return trained(weightless(model), tokens(BATCH, sizes["n_ctx"]))


def printed(op: str, column: str, sizes: SizeTable) -> int:
    """A formula of the table, without the words that follow it."""
    formula = PUBLISHED[op][column].partition(" (")[0].partition(";")[0]
    non_embedding = evaluate(PUBLISHED["Total non-embed"]["params"], **sizes)
    return evaluate(formula, **sizes, d_embd=sizes["d_model"], N=non_embedding)


def a_token(flops: int, sizes: SizeTable) -> int:
    quotient, remainder = divmod(flops, BATCH * sizes["n_ctx"])
    assert remainder == 0
    return quotient


LAYERS = {
    "Attn QKV": "blocks.*.qkv",
    "Attn Project": "blocks.*.projection",
    "FFN": "blocks.*.feed_forward.*",
    "De-embed": "head",
}


@pytest.mark.parametrize("op", LAYERS)
def test_linear_layers(ledger: fr.Ledger, sizes: SizeTable, op: str) -> None:
    found = part(ledger, LAYERS[op]).totals
    assert found.parameters == printed(op, "params", sizes)
    assert a_token(found.forward, sizes) == printed(op, "fwd_flops_per_token", sizes)


def test_the_embedding_is_printed_as_two_products(ledger: fr.Ledger, sizes: SizeTable) -> None:
    """4 d_model: 2 for each of the two rows that are looked up. Executed is their sum: d_model
    additions, and no product."""
    found = part(ledger, "embedding*").totals
    assert found.parameters == printed("Embed", "params", sizes)
    assert found.forward == 0
    executed = a_token(found.elementwise_forward, sizes)
    assert printed("Embed", "fwd_flops_per_token", sizes) - executed == 3 * sizes["d_model"]


def test_attention_is_printed_by_one_of_its_two_products(
    ledger: fr.Ledger, sizes: SizeTable
) -> None:
    rows = part(ledger, "blocks.*.attention").rows
    products = [row.flops for row in rows if row.phase == "forward" and row.flops]
    scores, weighted = sum(products[::2]), sum(products[1::2])
    once = printed("Attn Mask", "fwd_flops_per_token", sizes)
    assert a_token(scores, sizes) == a_token(weighted, sizes) == once


def test_totals(ledger: fr.Ledger, sizes: SizeTable) -> None:
    blocks = part(ledger, "blocks.*")
    norms = part(ledger, "blocks.*norm").totals.parameters
    parameters = blocks.totals.parameters - norms
    assert parameters == printed("Total non-embed", "params", sizes)

    once = printed("Attn Mask", "fwd_flops_per_token", sizes)
    total = printed("Total non-embed", "fwd_flops_per_token", sizes)
    assert a_token(blocks.totals.forward, sizes) - total == once
    # Training: 6 N, without attention's products, two forward and four backward.
    assert a_token(model_flops(blocks), sizes) - 6 * parameters == 3 * 2 * once
