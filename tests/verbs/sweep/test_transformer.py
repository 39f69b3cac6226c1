"""The claims about transformers: each can hold and fail, and is left out for other networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from flopratio.errors import UsageError
from flopratio.networks.analytic import analytic_ledger
from flopratio.networks.library import describe
from flopratio.step.options import StepOptions
from flopratio.verbs.sweep import transformer
from flopratio.verbs.sweep.judgement import Claim
from flopratio.verbs.sweep.plan import make_plan, swept_options
from flopratio.verbs.sweep.run import run_plan
from flopratio.verbs.sweep.verdict import judge

Spoil = Callable[[dict[str, Any], dict[str, Any]], None]

SMALL: dict[str, Any] = {"width": (16,), "heads": (4,), "vocabulary": (24,), "batch": (2,)}
GRID = {**SMALL, "depth": (1, 3), "seq": (4, 16, 64)}


def by_formulas(
    model: str, settings: dict[str, Any], options: StepOptions, measure: str
) -> dict[str, Any]:
    """What the claims about transformers look at, by formulas alone."""
    ledger = analytic_ledger(model, **settings, freeze=options.freeze)
    total = ledger.totals
    return {
        "forward": total.forward,
        "backward": total.backward,
        "ratio": ledger.ratio.backward_to_forward,
        "first_layer_share": 0.0,
        "parameters": total.parameters,
        **transformer.columns(ledger),
    }


def claims(
    spoil: Spoil = lambda settings, figures: None,
    freeze: str | None = None,
    model: str = "transformer",
    **keys: tuple[Any, ...],
) -> dict[str, Claim]:
    """The verdict's claims about transformers."""

    def evaluate(model: str, settings: dict[str, Any], *how: Any) -> dict[str, Any]:
        figures = by_formulas(model, settings, *how)
        spoil(settings, figures)
        return figures

    plan = make_plan(model, keys, swept_options(freeze=freeze, optimizer="none"))
    verdict = judge(run_plan(plan, evaluate=evaluate), plan.keys)
    return {one["claim"]: one for one in verdict if one["claim"].startswith("transformer")}


def find(verdict: dict[str, Claim], words: str) -> Claim:
    (claim,) = [claim for text, claim in verdict.items() if words in text]
    return claim


def test_a_sound_sweep() -> None:
    verdict = claims(**GRID)
    assert len(verdict) == 8
    assert all(claim["holds"] for claim in verdict.values())
    for words in ("every projection", "both products", "the head", "as a whole"):
        assert find(verdict, words)["observed"] == "2 at 6 points"
    assert find(verdict, "the embedding: ")["observed"] == "0 at 6 points"
    # Attention 4 S W of 24 W^2 + 4 S W + 2 W V / L: from 4 / (96 + 4 + 12) to 64 / (96 + 64 + 4).
    assert find(verdict, "quadratic")["observed"] == "3.6% to 39.0% at 6 points"


@pytest.mark.parametrize("keys", [{}, {"tied": (False,)}, {"kind": ("encoder",)}])
def test_six_n_d_fails_either_way(keys: dict[str, tuple[Any, ...]]) -> None:
    """Of a short sequence the parameters outside of products are too much, of a long one attention
    is missing."""
    verdict = claims(**{**GRID, "seq": (1, 64), **keys})
    assert all(claim["holds"] for claim in verdict.values())
    low, _, high, *_ = find(verdict, "N all parameters")["observed"].split()
    assert float(low) < 1 < float(high)
    assert find(verdict, "N the weights of products")["holds"]


@pytest.mark.parametrize(
    ("words", "column", "wrong"),
    [
        ("every projection", "projection_ratio", lambda x: 2 - 2**-52),
        ("both products", "attention_ratio", lambda x: 2 + 2**-51),
        ("the head", "head_ratio", lambda x: 1.0),
        ("the embedding: ", "embedding_flops", lambda x: 2),
        ("as a whole", "backward", lambda x: x - 1),
        ("quadratic", "attention_forward", lambda x: x + 1),
        ("quadratic", "forward", lambda x: x + 1),
        ("N the weights of products", "product_weights", lambda x: x + 1),
        ("N all parameters", "six_n_d_ratio", lambda x: 3 - x),
    ],
)
def test_one_wrong_figure_at_one_point_fails_its_claim(
    words: str, column: str, wrong: Callable[[Any], Any]
) -> None:
    def spoil(settings: dict[str, Any], figures: dict[str, Any]) -> None:
        if (settings["depth"], settings["seq"]) == (3, 16):
            figures[column] = wrong(figures[column])

    claim = find(claims(spoil, **GRID), words)
    assert not claim["holds"]
    assert "fails for 1 of" in claim["observed"]


def test_products_that_are_off_by_as_much_are_seen() -> None:
    """One gradient has what another lacks: the layer is 2:1 all the same, its products are not."""
    network = describe("transformer", width=16, heads=4, vocabulary=24, depth=1)
    ledger = analytic_ledger(network)
    first, second, *_ = (
        at
        for at, row in enumerate(ledger.rows)
        if (row.type, row.phase) == ("Attention", "grad_input") and row.flops
    )
    for at, flops in ((first, 4), (second, -4)):
        ledger.rows[at] = ledger.rows[at]._replace(flops=ledger.rows[at].flops + flops)
    (products,) = [layer for layer in ledger.layers() if layer.type == "Attention"]
    assert products.ratio == 2
    assert transformer.columns(ledger)["attention_ratio"] != 2


def test_frozen_layers_and_other_networks_are_under_no_such_claim() -> None:
    assert claims(freeze="embedding", **GRID) == {}
    assert claims(model="mlp", depth=(1, 2)) == {}
    assert transformer.columns(analytic_ledger("cnn", image=33)) == {}


def test_sizes_that_do_not_fit_are_told_before_the_first_point() -> None:
    plan = make_plan("transformer", {"heads": (8, 3)})
    with pytest.raises(UsageError, match=r"transformer heads=3: width=512 should be a multiple"):
        run_plan(plan)
