"""6·N·D beside the exact count: every FLOP between the two has its reason."""

import pytest

from flopratio.ledger import Ledger, Row, autograd_node
from flopratio.report import token_estimate as reasons
from flopratio.report.token_estimate import token_estimate

TOKENS = 10


def product(layer, op, forward, *, to_input=1, to_weight=1):
    """The rows of one operator, its gradients in multiples of its forward FLOP."""
    node = autograd_node(op)
    return [
        Row(layer, "Linear", op, "", "forward", forward),
        Row(layer, "Linear", "aten.mm", node, "grad_input", to_input * forward),
        Row(layer, "Linear", "aten.mm", node, "grad_weight", to_weight * forward),
    ]


def estimate(rows, parameters, types=None, **convention):
    ledger = Ledger(
        rows,
        parameters=parameters,
        types=types or {},
        settings={"tokens": TOKENS},
        convention=convention,
    )
    found = token_estimate(ledger)
    assert found.estimate + sum(difference.flops for difference in found.differences) == found.exact
    return found, {difference.reason: difference for difference in found.differences}


def test_the_rule_is_exact_for_a_matrix_that_every_token_meets():
    found, differences = estimate(product("up", "aten.mm", 2 * 7 * TOKENS), {"up": 7})
    assert (found.factor, found.estimate, found.exact) == (6, 420, 420)
    assert differences == {}


def test_attention_has_products_without_a_parameter():
    rows = product("a", "aten._scaled_dot_product_flash_attention", 500, to_input=2, to_weight=0)
    _, differences = estimate(rows, {"a": 0})
    assert differences == {reasons.ATTENTION: (reasons.ATTENTION, 1_500, ("a",))}


def test_attention_in_the_layer_of_its_weights_is_told_from_them():
    rows = [
        *product("a", "aten.addmm", 2 * 7 * TOKENS),
        *product("a", "aten.bmm", 500, to_input=2, to_weight=0),
    ]
    _, differences = estimate(rows, {"a": 7})
    assert differences == {reasons.ATTENTION: (reasons.ATTENTION, 1_500, ("a",))}


def test_the_weights_of_a_module_that_did_not_run_are_used_around_it():
    _, differences = estimate(product("a", "aten.addmm", 2 * 7 * TOKENS), {"a": 4, "a.out_proj": 3})
    assert differences == {}


def test_embeddings_are_looked_up_and_a_tied_head_multiplies_them():
    rows = [
        Row("wte", "Embedding", "aten.embedding", "", "forward"),
        *product("head", "aten.mm", 2 * 7 * TOKENS),
    ]
    found, differences = estimate(rows, {"wte": 7, "head": 0})
    assert found.estimate == found.exact == 420
    assert differences[reasons.EMBEDDING].flops == -420
    assert differences[reasons.SHARED].flops == 420


def test_an_embedding_that_never_ran_shares_its_table_with_one_that_did():
    rows = [Row("encoder.embed", "Embedding", "aten.embedding", "", "forward")]
    types = {"shared": "Embedding", "encoder.embed": "Embedding"}
    _, differences = estimate(rows, {"": 0, "shared": 7, "encoder.embed": 0}, types)
    assert differences == {reasons.EMBEDDING: (reasons.EMBEDDING, -140, ("shared",))}


def test_norms_and_biases_multiply_no_token():
    rows = [
        Row("norm", "LayerNorm", "aten.native_layer_norm", "", "forward", elementwise=80),
        *product("up", "aten.addmm", 2 * 6 * TOKENS),
    ]
    _, differences = estimate(rows, {"norm": 2, "up": 7})
    assert differences[reasons.SCALES] == (reasons.SCALES, -120, ("norm",))
    assert differences[reasons.BIASES] == (reasons.BIASES, -60, ("up",))


def test_experts_that_most_tokens_skip():
    rows = product("experts", "aten._grouped_mm", 2 * 6 * TOKENS)  # 1 of 8 experts a token
    _, differences = estimate(rows, {"experts": 48})
    assert differences[reasons.SKIPPED].flops == -6 * 42 * TOKENS


def test_a_layer_that_runs_twice():
    rows = 2 * product("up", "aten.mm", 2 * 7 * TOKENS)
    _, differences = estimate(rows, {"up": 7})
    assert differences[reasons.REPEATED].flops == 420


def test_a_frozen_layer_computes_no_gradient_of_its_weight():
    rows = product("up", "aten.mm", 140, to_weight=0)
    _, differences = estimate(rows, {"up": 7})
    assert differences == {reasons.UNTRAINED: (reasons.UNTRAINED, -140, ("up",))}


def test_inference_is_2_n_d():
    rows = [
        Row("up", "Linear", "aten.mm", "", "forward", 140),
        Row("a", "Attention", "aten.bmm", "", "forward", 500),
    ]
    found, differences = estimate(rows, {"up": 7, "a": 0})
    assert (found.factor, found.estimate, found.exact) == (2, 140, 640)
    assert differences == {reasons.ATTENTION: (reasons.ATTENTION, 500, ("a",))}


def test_every_micro_batch_has_its_tokens():
    rows = 2 * product("up", "aten.mm", 140)
    found, differences = estimate(rows, {"up": 7}, accumulate=2)
    assert (found.tokens, found.estimate, differences) == (20, 840, {})


def test_recompute_is_no_part_of_the_exact_count():
    rows = [*product("up", "aten.mm", 140), Row("up", "Linear", "aten.mm", "", "recompute", 140)]
    found, differences = estimate(rows, {"up": 7})
    assert (found.exact, differences) == (420, {})


@pytest.mark.parametrize("settings", [{}, {"tokens": None}, {"tokens": 0}])
def test_without_tokens_there_is_nothing_to_compare(settings):
    assert token_estimate(Ledger([], settings=settings)) is None
