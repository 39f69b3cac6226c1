"""The built-in transformer: its formulas and its executed step, row by row; what its KEYs mean."""

from __future__ import annotations

from typing import Any

import pytest
import sympy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import flopratio as fr
from flopratio.errors import UsageError
from flopratio.formulas import exact
from flopratio.ledger import Ledger
from flopratio.networks.analytic import KERNELS_DIFFER, Analysis, analyse, analytic_ledger
from flopratio.networks.library import NETWORKS, describe
from flopratio.networks.modules import batch_of, build, build_loss
from flopratio.step.network import network_step
from flopratio.verbs.compare import compare
from flopratio.verbs.sweep.plan import swept_options
from flopratio.verbs.traced import trace_step
from flopratio.version import torch_release

SMALL = {"depth": 2, "width": 16, "heads": 4, "vocabulary": 24, "seq": 6, "batch": 2}

LLAMA = {
    "norm": "rms",
    "positions": "rotary",
    "gated": True,
    "activation": "silu",
    "tied": False,
    "bias": False,
    "kv_heads": 2,
}


def saved(ledger: Ledger) -> dict[str, int]:
    return {layer.name: layer.saved_bytes for layer in ledger.layers() if layer.saved_bytes}


def check_agreement(keys: dict[str, Any], **options: Any) -> Ledger:
    """Formulas and executed step agree in each layer, phase and operator, and to the byte."""
    network = describe("transformer", **{**SMALL, **keys})
    executed = trace_step(network_step(network, swept_options(**options))).ledger
    analytic = analytic_ledger(network, **{"optimizer": "sgd", **options})
    if executed.convention["attention"] == "flash":
        assert compare(analytic, executed) == []
        assert saved(analytic) == saved(executed)
    else:
        grouped = network.settings["kv_heads"] not in (0, network.settings["heads"])
        assert torch_release() < (2, 11)
        assert grouped
        assert compare(analytic, executed, by_law=KERNELS_DIFFER) == []
    assert analytic.totals.parameters == executed.totals.parameters
    assert executed.reconciled
    assert executed.uncounted_ops == {}
    return analytic


CHOICES = {
    key: st.sampled_from(words) for key, words in NETWORKS["transformer"].choices.items()
} | {key: st.booleans() for key in ("tied", "bias", "gated")}


@st.composite
def configurations(draw: st.DrawFn) -> dict[str, Any]:
    kv_heads, groups, pairs = (draw(st.integers(1, 3)) for _ in range(3))
    heads = kv_heads * groups
    return {
        "depth": draw(st.integers(1, 3)),
        "width": heads * 2 * pairs,
        "heads": heads,
        "kv_heads": draw(st.sampled_from([0, kv_heads])),
        "feed_forward": draw(st.integers(0, 9)),
        "vocabulary": draw(st.integers(1, 9)),
        "seq": draw(st.integers(1, 9)),
        "batch": draw(st.integers(1, 3)),
        **{key: draw(choice) for key, choice in CHOICES.items()},
    }


@settings(max_examples=12, deadline=None)
@given(configurations())
def test_formulas_and_execution_agree_row_by_row(keys: dict[str, Any]) -> None:
    check_agreement(keys)


@pytest.mark.parametrize("keys", [{}, LLAMA], ids=["gpt", "llama"])
@pytest.mark.parametrize(
    "freeze",
    [
        "embedding",
        "layers",
        "layers.0*",
        "layers.*.attention.query",
        "layers.1.attention.[kv]*",
        "*norm*",
        "[lep]*",
    ],
)
def test_frozen_parts_agree(keys: dict[str, Any], freeze: str) -> None:
    check_agreement(keys, freeze=freeze)


@pytest.mark.parametrize("keys", [{}, LLAMA], ids=["gpt", "llama"])
@pytest.mark.parametrize("options", [{"dtype": "bfloat16"}, {"optimizer": "adamw"}], ids=str)
def test_half_precision_and_other_updates_agree(
    keys: dict[str, Any], options: dict[str, Any]
) -> None:
    check_agreement(keys, **options)


def test_real_tensors_dispatch_what_fake_ones_do() -> None:
    network = describe("transformer", **{**SMALL, **LLAMA, "kv_heads": 4})
    executed = trace_step(network_step(network, swept_options(), "cpu")).ledger
    analytic = analytic_ledger(network, optimizer="sgd")
    assert compare(analytic, executed) == []
    assert saved(analytic) == saved(executed)


class TestTheLaw:
    @pytest.mark.parametrize("keys", [{}, LLAMA, {"kind": "encoder"}], ids=["gpt", "llama", "bert"])
    def test_everything_is_two_to_one_but_the_embedding_which_is_nothing(
        self, keys: dict[str, Any]
    ) -> None:
        ledger = analytic_ledger("transformer", **{**SMALL, **keys})
        embedding, *others = ledger.layers()
        assert (embedding.name, embedding.forward, embedding.backward) == ("embedding", 0, 0)
        assert embedding.elementwise_backward > 0
        products = [layer for layer in others if layer.forward]
        assert {layer.type for layer in products} == {"Linear", "Attention"}
        assert all(layer.backward == 2 * layer.forward for layer in products)

    def test_both_products_of_attention_have_two_gradients_each(self) -> None:
        """Q K.T: 2 * 2 * 6 * 4 * 6 * 4 FLOP of batch, positions, heads, keys and width of a head,
        and P V as many."""
        rows = analytic_ledger("transformer", **SMALL).rows
        of_attention = [row for row in rows if row.layer == "layers.0.attention.products"]
        assert sum(row.flops for row in of_attention if row.phase == "forward") == 2 * 2_304
        gradients = [row.flops for row in of_attention if row.phase == "grad_input" and row.flops]
        assert gradients == [2_304] * 4
        assert [row.flops for row in of_attention if row.phase == "recompute"] == [2_304]

    def test_a_tied_head_sums_two_gradients_of_its_weight(self) -> None:
        """GIVEN a table of 24 rows of 16, read by the embedding and by the head."""

        def additions(tied: bool) -> list[int]:
            rows = analytic_ledger("transformer", **SMALL, tied=tied).rows
            chosen = [row for row in rows if row.layer == "embedding" and row.op == "aten.add"]
            return [row.elementwise for row in chosen]

        assert (additions(True), additions(False)) == ([24 * 16], [])
        tied, own = (analytic_ledger("transformer", **SMALL, tied=tied) for tied in (True, False))
        assert own.totals.parameters - tied.totals.parameters == 24 * 16
        assert own.totals.forward == tied.totals.forward

    def test_a_residual_connection_sums_two_gradients_of_what_enters_it(self) -> None:
        rows = analytic_ledger("transformer", **SMALL).rows
        sums = {
            row.layer: row.elementwise
            for row in rows
            if (row.op, row.autograd, row.phase) == ("aten.add", "", "grad_input")
        }
        at = ("attention.norm", "feed_forward.norm", "attention.query", "attention.key")
        assert sums == {f"layers.{block}.{name}": 2 * 6 * 16 for block in (0, 1) for name in at}

    def test_frozen_embeddings_make_the_first_projections_first_layers(self) -> None:
        ledger = analytic_ledger(
            "transformer", **SMALL, tied=False, positions="none", freeze="embedding"
        )
        layers = {layer.name: layer for layer in ledger.layers()}
        # A norm with weights stands before them, which asks for its gradient.
        assert layers["layers.0.attention.query"].ratio == 2.0
        assert layers["layers.0.attention.norm"].elementwise_backward > 0


SIZES = ("depth", "width", "heads", "kv_heads", "feed_forward", "vocabulary", "seq", "batch")
POINT = dict(zip(SIZES, (5, 48, 6, 3, 100, 77, 9, 3), strict=True))


class TestManyPointsAtOnce:
    @staticmethod
    def figures(analysis: Analysis) -> list[Any]:
        return [
            *map(analysis.total, ("forward", "grad_input", "grad_weight", "recompute")),
            analysis.total("update", of="elementwise"),
            analysis.total("forward", "grad_input", "grad_weight", of="elementwise"),
            analysis.total("forward", of="saved_bytes"),
            sum(tensor.numel * times for _, tensor, times in analysis.parameters),
            analysis.state_bytes,
        ]

    @pytest.mark.parametrize("keys", [{}, {**LLAMA, "kv_heads": 3}], ids=["gpt", "llama"])
    @pytest.mark.parametrize("freeze", [None, "embedding"])
    def test_symbols_and_arrays_give_what_single_points_give(
        self, keys: dict[str, Any], freeze: str | None
    ) -> None:
        def figures(sizes: dict[str, Any]) -> list[Any]:
            network = describe("transformer", **{**keys, **sizes})
            return self.figures(analyse(network, optimizer="adam", freeze=freeze))

        point = figures(POINT)
        assert min(point) > 0
        symbols = {key: sympy.Symbol(key, positive=True, integer=True) for key in SIZES}
        at = {symbols[key]: size for key, size in POINT.items()}
        assert [sympy.sympify(figure).subs(at) for figure in figures(symbols)] == point
        arrays = {key: exact([size, 2 * size]) for key, size in POINT.items()}
        double = {key: 2 * size for key, size in POINT.items()}
        many = figures(arrays)
        assert [figure[0] for figure in many] == point
        assert [figure[1] for figure in many] == figures(double)

    def test_the_closed_form_of_forward(self) -> None:
        """24 L B S W^2 of the projections, 4 L B S^2 W of attention, 2 B S W V of the head."""
        depth, width, vocabulary, seq, batch = sympy.symbols("L W V S B", positive=True)
        sizes = {"depth": depth, "width": width, "vocabulary": vocabulary, "seq": seq}
        analysis = analyse(describe("transformer", **sizes, batch=batch))
        tokens = batch * seq
        expected = tokens * (depth * (24 * width**2 + 4 * seq * width) + 2 * width * vocabulary)
        assert sympy.expand(analysis.total("forward") - expected) == 0

    def test_a_middle_that_some_points_lack_is_one_sentence(self) -> None:
        with pytest.raises(UsageError, match="what follows middle costs otherwise"):
            analyse(describe("cnn", depth=exact([0, 1]), image=33))

    @pytest.mark.parametrize("shared", [True, False])
    def test_rounds_that_differ_from_the_first_one_are_told_apart(self, shared: bool) -> None:
        """The first convolution of the middle keeps what the pooling gave; the others read what a
        ReLU keeps already. And a weight that is shared gets a gradient more with each round."""
        depth = sympy.Symbol("depth", positive=True, integer=True)
        options: dict[str, Any] = {"image": 33, "shared": shared}
        of_symbol = self.figures(analyse(describe("cnn", depth=depth, **options), optimizer="sgd"))
        for value in (1, 2, 7):
            at_point = self.figures(
                analyse(describe("cnn", depth=value, **options), optimizer="sgd")
            )
            assert [sympy.sympify(figure).subs(depth, value) for figure in of_symbol] == at_point


class TestTheModule:
    @pytest.mark.parametrize("keys", [{}, LLAMA, {"kind": "encoder"}, {"positions": "sinusoidal"}])
    def test_it_has_the_ledgers_layers_and_computes(self, keys: dict[str, Any]) -> None:
        network = describe("transformer", **{**SMALL, **keys})
        module, (x, target) = build(network), batch_of(network)
        output = module(x)
        assert output.shape == (2, 6, 24)
        build_loss(network)(output, target).backward()
        assert all(parameter.grad is not None for parameter in module.parameters())
        modules = dict(module.named_modules())
        for name, kind in analytic_ledger(network).types.items():
            if name != "loss":
                assert type(modules[name]).__name__ == kind

    @pytest.mark.parametrize(
        ("keys", "changes"),
        [
            ({"kind": "decoder"}, [False] * 3 + [True] * 3),
            ({"kind": "encoder"}, [True] * 6),
            ({"kind": "decoder", "positions": "rotary"}, [False] * 3 + [True] * 3),
        ],
    )
    def test_a_decoder_sees_no_later_token(self, keys: dict[str, Any], changes: list[bool]) -> None:
        module = build(describe("transformer", **{**SMALL, **keys, "batch": 1}))
        x = torch.tensor([[1, 2, 3, 4, 5, 6]])
        other = torch.tensor([[1, 2, 3, 7, 5, 6]])
        differs = (module(x) - module(other)).abs().amax(-1)[0] > 1e-6
        assert differs.tolist() == changes

    def test_rotary_scores_depend_on_distance_alone(self) -> None:
        """Turned by their positions, the same query and key score alike at equal distance."""
        network = describe("transformer", **SMALL, positions="rotary")
        attention = build(network).get_submodule("layers.0.attention.products")
        query, key = (torch.randn(4).expand(1, 1, 6, 4) for _ in range(2))
        scores = (attention._rotated(query) @ attention._rotated(key).transpose(-1, -2))[0, 0]
        for distance in range(-5, 6):
            assert scores.diagonal(distance).std(correction=0) < 1e-5
        assert scores.diagonal(0)[0] != pytest.approx(float(scores.diagonal(1)[0]), abs=1e-4)

    def test_blocks_are_modules_that_a_checkpoint_takes_one_by_one(self) -> None:
        plain = fr.count("transformer", **SMALL, target="cpu")
        chosen = fr.count("transformer", **SMALL, target="cpu", checkpoint="layers.*")
        auto = fr.count("transformer", **SMALL, target="cpu", checkpoint="auto:2")
        for ledger in (chosen, auto):
            assert ledger.totals.backward == plain.totals.backward
            assert 0 < ledger.totals.recompute <= plain.totals.forward
            assert ledger.memory["saved_activations"] < plain.memory["saved_activations"]
        assert chosen.memory["saved_activations"] == auto.memory["saved_activations"]


class TestCount:
    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"target": "cpu"},
            {"attention": "math"},
            {"dtype": "bf16"},
            {"inference": True},
            {"freeze": "layers.0"},
            {"input_grad": True},
        ],
        ids=str,
    )
    @pytest.mark.parametrize("keys", [{}, LLAMA], ids=["gpt", "llama"])
    def test_the_law_holds_whatever_the_kernels(
        self, keys: dict[str, Any], options: dict[str, Any]
    ) -> None:
        ledger = fr.count("transformer", **{**SMALL, "depth": 1, **keys, **options})
        assert ledger.reconciled
        assert ledger.mismatches == ledger.saved_mismatches == []

    def test_tokens_have_no_gradient(self) -> None:
        plain, asked = (
            fr.count("transformer", **SMALL, target="cpu", input_grad=asked)
            for asked in (False, True)
        )
        assert plain.totals == asked.totals

    def test_a_broken_formula_is_seen(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from flopratio.networks import analytic

        original = analytic.LAYERS["Attention"]
        monkeypatch.setitem(
            analytic.LAYERS, "Attention", lambda *x, **sizes: original(*x, **{**sizes, "heads": 5})
        )
        ledger = fr.count("transformer", **SMALL)
        layers = {mismatch.layer for mismatch in ledger.mismatches}
        assert layers == {"layers.0.attention.products", "layers.1.attention.products"}

    def test_a_wider_head_of_cudas_is_its_own_affair(self) -> None:
        """A head of 4 is padded to 8 by flash attention, which then computes twice as much."""
        padded = fr.count("transformer", **SMALL, dtype="bf16")
        plain = fr.count("transformer", **SMALL, dtype="bf16", target="cpu")
        assert padded.reconciled
        assert padded.totals.forward - plain.totals.forward == 2 * 2 * 2_304


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"heads": 3}, "width=512 should be a multiple of heads=3"),
        ({"kv_heads": 3}, "heads=8 should be a multiple of kv_heads=3"),
        ({"width": 24, "positions": "rotary"}, "should be a multiple of 2"),
        ({"kind": "decode"}, "'decode' is no kind: did you mean 'decoder'"),
        ({"positions": "alibi"}, "'alibi' is no positions"),
        ({"heads": 0}, "at least 1"),
        ({"image": 8}, "image"),
    ],
)
def test_bad_keys_are_one_sentence(keys: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence) as caught:
        describe("transformer", **keys)
    assert "\n" not in str(caught.value)
