"""Closed forms of whole models are what texts say of them, each in its own convention, as symbols:
``make test-formula``, for they take minutes. The smaller ones are in
``tests/verbs/formula/test_textbooks.py``.

Papers count products alone, 2 FLOP a multiply-add, and causal attention in full, as the ledger
does.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from experiments.literature import factories
from experiments.literature.reference import rows
from flopratio.step.options import StepOptions
from flopratio.verbs.formula import ClosedForm, formula_of
from tests.verbs.formula.textbooks import (
    ceiling,
    difference,
    key,
    part,
    period,
    same_as_the_formulas,
)

MODELS = Path(factories.__file__)

B, S, V = key("batch"), key("seq"), key("vocabulary")
L, d = key("layers"), key("width")


def form_of(model: str, keys: str, **options: Any) -> ClosedForm:
    values = {name: options.pop(name) for name in ("image",) if name in options}
    return formula_of(model, keys.split(), values, StepOptions(**options), cached=False)


# -- nanoGPT and Megatron-LM ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def gpt() -> ClosedForm:
    model = f"{MODELS}:gpt"
    keys = ("batch", "seq", "layers", "width", "vocabulary")
    return formula_of(model, keys, {"bias": (False,)}, StepOptions(loss="sum"), cached=False)


def test_nanogpt(gpt: ClosedForm) -> None:
    """transformer_sizing.ipynb of karpathy/nanoGPT, line by line, with ``block_size`` S, ``n_embd``
    d, ``n_layer`` L and ``vocab_size`` V; batch 1."""
    ffw_size = 4 * d
    expected = {
        "params/position": d * S,
        "params/token": d * V,
        "params/attention_per_layer": d + d * 3 * d + d**2,  # with its norm
        "params/mlp_per_layer": d + d * ffw_size + ffw_size * d,
        "fwd/attention.kqv": 2 * S * (d * 3 * d),
        "fwd/attention.proj": 2 * S * (d * d),
        "fwd/attention.scores": 2 * S * S * d,
        "fwd/attention.reduce": 2 * S * S * d,
        "fwd/mlp.ffw1": 2 * S * (d * ffw_size),
        "fwd/mlp.ffw2": 2 * S * (ffw_size * d),
        "fwd/lm_head": 2 * S * (d * V),
    }
    expected["params/transformer"] = L * (
        expected["params/attention_per_layer"] + expected["params/mlp_per_layer"]
    )
    expected["params/total"] = (
        expected["params/position"] + expected["params/token"] + expected["params/transformer"] + d
    )
    block = sum(form for name, form in expected.items() if name.startswith(("fwd/att", "fwd/mlp")))
    expected["fwd/total"] = L * block + expected["fwd/lm_head"]
    expected["bwd/total"] = 2 * expected["fwd/total"]
    expected["train/total"] = 3 * expected["fwd/total"]
    # Chowdhery et al.: 6 N + 12 L H Q T a token; N without positions.
    parameters = expected["params/total"] - expected["params/position"]
    expected["train/palm_formula"] = S * (6 * parameters + 12 * L * d * S)

    printed = {row["item"]: int(row["value"]) for row in rows("nanogpt_gpt2_124M")}
    gpt2 = {S: 1024, d: 768, L: 12, V: 50257, B: 1}
    for name, form in expected.items():
        assert form.subs(gpt2) == printed[name], name

    assert difference(gpt["parameters"], expected["params/total"]) == 0
    assert difference(gpt["forward"], B * expected["fwd/total"]) == 0
    assert difference(gpt["backward"], B * expected["bwd/total"]) == 0
    assert difference(gpt["model"], B * expected["train/total"]) == 0
    # 6 N has the norms in it, which no product reads.
    norms = 6 * B * S * (2 * L + 1) * d
    assert difference(gpt["model"], B * expected["train/palm_formula"] - norms) == 0

    layers = {
        "fwd/attention.kqv": "blocks.*.attention.qkv",
        "fwd/attention.proj": "blocks.*.attention.projection",
        "fwd/mlp.ffw1": "blocks.*.feed_forward.first",
        "fwd/mlp.ffw2": "blocks.*.feed_forward.second",
    }
    for name, layer in layers.items():
        assert difference(part(gpt, layer, "forward"), L * B * expected[name]) == 0, name
    assert difference(part(gpt, "head", "forward"), B * expected["fwd/lm_head"]) == 0
    both = expected["fwd/attention.scores"] + expected["fwd/attention.reduce"]
    assert difference(part(gpt, "blocks.*.attention", "forward"), L * B * both) == 0


def test_megatron() -> None:
    """Narayanan et al. 2021, equations 2 and 3: the parameters, but for the last norm's; and the
    FLOP of an iteration in which every layer's forward, but not the head's, runs again."""
    model = f"{MODELS}:gpt"
    keys = ("batch", "seq", "layers", "width", "vocabulary")
    form = formula_of(model, keys, {"recompute": (True,)}, StepOptions(loss="sum"), cached=False)
    parameters = 12 * L * d**2 * (1 + 13 / (12 * d) + (V + S) / (12 * L * d))
    assert difference(form["parameters"], parameters + 2 * d) == 0
    assert difference(form["hardware"], megatron(B, S, L, d, V)) == 0


def megatron(B: Any, s: Any, L: Any, h: Any, V: Any) -> Any:
    """Equation 3: F = 96 B s L h^2 (1 + s / 6h + V / 16Lh)."""
    return 96 * B * s * L * h**2 * (1 + s / (6 * h) + V / (16 * L * h))


# -- transformers ----------------------------------------------------------------------------------


def test_gpt2_of_transformers() -> None:
    """The issue's figures, with fused attention, which evaluates the scores again: 2 B S^2 L d."""
    keys = "batch seq n_layer n_embd vocab_size"
    form = form_of("hf:gpt2", keys, optimizer="adamw")
    L, d, V = key("n_layer"), key("n_embd"), key("vocab_size")
    assert len(form.fitted_at) <= 35
    assert difference(form["forward"], 2 * B * S * d * (12 * L * d + 2 * L * S + V)) == 0
    assert difference(form["grad_input"], 2 * B * S * d * (12 * L * d + 4 * L * S + V)) == 0
    assert difference(form["grad_weight"], 2 * B * S * d * (12 * L * d + V)) == 0
    assert difference(form["recompute"], 2 * B * S**2 * L * d) == 0
    assert difference(form["parameters"], d * (12 * L * d + 13 * L + V + 1026)) == 0
    up = ceiling(S / 32)
    saved = (
        114 * B * L * S * d + 9 * B * S * d + 16 * B * L * S + 1536 * B * L * up
        + 4 * B * S * V + 24 * B * S + 16 * L + 8 * S + 4
    )  # fmt: skip
    assert difference(form["saved_bytes"], saved) == 0
    # Megatron's model FLOP: three quarters of the layers', all of the head's.
    layers_again = 24 * B * S * L * d**2 + 4 * B * S**2 * L * d
    assert difference(form["model"], megatron(B, S, L, d, V) - layers_again) == 0
    # nanoGPT's notebook: the biases of linear layers, which it leaves out, are in no product.
    printed = {row["item"]: int(row["value"]) for row in rows("nanogpt_gpt2_124M")}
    step = form(batch=1, seq=1024, n_layer=12, n_embd=768, vocab_size=50257)
    assert step["forward"] == printed["fwd/total"]
    assert step["backward"] == printed["bwd/total"]
    assert step["model"] == printed["train/total"]

    assert max(point["n_layer"] for point in form.fitted_at) <= 5
    first = form(batch=8, seq=1024, n_layer=12, n_embd=768, vocab_size=50257)
    second = form(batch=2, seq=777, n_layer=36, n_embd=1296, vocab_size=32003)
    assert (first["forward"], first["saved_bytes"]) == (2_333_186_457_600, 10_316_652_740)
    assert (second["forward"], second["saved_bytes"]) == (2_609_394_201_792, 8_486_150_836)
    assert (first["peak"], second["peak"]) == (15_103_573_788, 18_112_088_572)


def test_gpt2_with_its_blocks_again_is_megatrons() -> None:
    """Equation 3 itself: attention in separate products, and every block run again in backward."""
    keys = "batch seq n_layer n_embd vocab_size"
    form = form_of("hf:gpt2", keys, attention="math", checkpoint="transformer.h.*")
    L, d, V = key("n_layer"), key("n_embd"), key("vocab_size")
    assert difference(form["hardware"], megatron(B, S, L, d, V)) == 0


def test_llama_of_transformers() -> None:
    """Chowdhery et al. 2022, appendix B: 6 N + 12 L H Q T a token, where N has no norms and no
    embedding of the input, which are in no product; H Q is the width."""
    form = form_of(
        "hf:llama", "batch seq num_hidden_layers hidden_size intermediate_size vocab_size"
    )
    L, d, m, V = map(key, ("num_hidden_layers", "hidden_size", "intermediate_size", "vocab_size"))
    by_hand = L * (4 * d**2 + 3 * d * m + 2 * d) + 2 * V * d + d
    assert difference(form["parameters"], by_hand) == 0
    N = by_hand - (2 * L + 1) * d - V * d
    assert difference(form["model"], B * S * (6 * N + 12 * L * d * S)) == 0
    assert difference(form["forward"], B * S * (2 * N + 4 * L * d * S)) == 0


def test_palm() -> None:
    """Chowdhery et al. 2022, appendix B, of its own network: attention beside a gated feed-forward
    network, one head of keys and values; N is all parameters but those of the norms."""
    form = form_of(f"{MODELS}:palm", "batch seq layers width heads q vocabulary", loss="sum")
    H, Q = key("heads"), key("q")
    N = L * (2 * d * H * Q + 2 * d * Q + 12 * d**2) + V * d
    assert difference(form["parameters"] - part(form, "*norm", "parameters"), N) == 0
    assert difference(form["model"], B * S * (6 * N + 12 * L * H * Q * S)) == 0
    for row in rows("palm_flops_per_token"):
        sizes = {L: int(row["layers"]), H: int(row["heads"]), d: int(row["d_model"])}
        billions = N.subs({**sizes, Q: int(row["d_head"]), V: 256_000}) / 10**9
        assert abs(billions - float(row["params"]) / 1e9) < 0.005


def test_the_built_in_transformer_is_its_formulas() -> None:
    """With the CPU's attention: CUDA's pads the log-sum-exp that it keeps to rows of 32."""
    keys = "batch seq depth width"
    same_as_the_formulas(form_of("transformer", keys, optimizer="sgd", target="cpu"))


# -- strides that round ----------------------------------------------------------------------------


def test_resnet50_at_every_image() -> None:
    """A quasi-polynomial of period 32, equal to a fresh trace at every image from 33 to 96."""
    images = range(33, 97)
    form = form_of("torchvision:resnet50", "batch", image=tuple(images))
    n, up = key("image"), ceiling
    assert len(form.fitted_at) <= 20
    expected = 128 * B * (
        147 * up(n / 2) ** 2 + 3840 * up(n / 4) ** 2 + 20480 * up(n / 8) ** 2
        + 116736 * up(n / 16) ** 2 + 225280 * up(n / 32) ** 2 + 32000
    )  # fmt: skip
    assert difference(form["forward"], expected) == 0
    assert not list(form.held_against([{"batch": 2 + n % 3, "image": n} for n in images]))
    k = key("k")
    of_32 = expected.subs({B: 1, n: 32 * k})
    assert (of_32 - (162912 * (32 * k) ** 2 + 4096000)).expand() == 0


def test_swin_in_its_windows() -> None:
    """Windows of 7 patches of 4, halved three times: what is padded repeats after 224."""
    form = form_of("torchvision:swin_t", "", image=tuple(range(228, 701)))
    assert len(form.fitted_at) <= 30
    assert not form.refused
    assert not list(form.held_against([{"image": n} for n in (228, 251, 333, 449, 512, 699)]))
    assert period(form["forward"]) == 224
