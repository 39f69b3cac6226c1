"""Each claim can hold, fail, and be left out where the sweep can't test it."""

import pytest

from flopratio.verbs.sweep.plan import make_plan, swept_options
from flopratio.verbs.sweep.run import run_plan
from flopratio.verbs.sweep.verdict import judge
from tests import toy


def sweep(options=None, break_row=None, measure="none", **keys):
    """The verdict on a sweep of the toy network; ``break_row`` may spoil a point's figures."""

    def examine(model, settings, *how):
        figures = toy.examine(model, settings, *how)
        if break_row is not None:
            break_row(settings, figures)
        return figures

    grid = make_plan("toy", keys, options, networks=toy.NETWORKS, measure=measure)
    rows = run_plan(grid, evaluate=examine)
    return {claim["claim"]: claim for claim in judge(rows, grid.keys)}


def find(claims, words):
    (claim,) = [claim for text, claim in claims.items() if words in text]
    return claim


GRID = {"depth": (0, 1, 2, 5), "batch": (1, 8, 64)}


def test_a_sound_sweep():
    claims = sweep(**GRID)
    assert len(claims) == 18
    assert all(claim["holds"] for claim in claims.values())
    assert find(claims, "first layer: ")["observed"] == "1 at 12 points"
    assert find(claims, "every other")["observed"] == "2 at 9 points"  # none at depth 0
    assert find(claims, "2 - first")["observed"] == "1.0000 to 1.8333 at 12 points"
    assert find(claims, "climbs")["observed"] == "1.0000 to 1.8333 at 12 points"
    assert find(claims, "forward FLOP are linear")["observed"] == "128 to 768 at 12 points"
    # 4 bytes x (1 + depth) layers x width 8, and 4 bytes x batch x width 8
    assert find(claims, "affine in batch")["observed"] == "32 to 192 at 12 points"
    assert find(claims, "affine in depth")["observed"] == "32 to 2,048 at 12 points"
    # 2 * 64 + 64 * 8 numbers for 64 + 64 * 8 at depth 0; 2 * 384 + 6 * 64 * 8 for 384 + 64 * 8 at 5
    assert find(claims, "than inference")["observed"] == "1.11 to 4.29 at 12 points"
    assert find(claims, "no more for backward")["observed"] == "17% to 100% at 12 points"
    assert find(claims, "forward again")["observed"] == "0.00 to 0.83 at 12 points"


@pytest.mark.parametrize(
    ("words", "column", "wrong"),
    [
        ("first layer: ", "first_layer_ratio", lambda x: 1 + 2**-52),
        ("every other", "other_layers_ratio", lambda x: 2 - 2**-52),
        ("minor share", "minor_share", lambda x: 0.02),
        ("2 - first", "backward", lambda x: x + 1),
        ("climbs with depth", "backward", lambda x: x // 2),
        ("forward FLOP are linear", "forward", lambda x: x + 1),
        ("backward FLOP are linear", "backward", lambda x: x - 1),
        ("update FLOP don't depend", "update", lambda x: x + 1),
        ("twice the parameters", "update", lambda x: x - 1),
        ("affine in batch", "saved_bytes", lambda x: x + 1),
        ("affine in depth", "saved_bytes", lambda x: x - 1),
        ("than inference", "peak_bytes", lambda x: 0),
        ("no more for backward", "checkpointed_saved_bytes", lambda x: 3 * x + 1),
        ("one forward again", "checkpointed_recompute", lambda x: x * 3 // 2 + 1),
        ("counted = executed", "executed_equal", lambda x: False),
        ("autograd's own hooks", "saved_equal", lambda x: False),
    ],
)
def test_one_wrong_figure_at_one_point_fails_its_claim(words, column, wrong):
    def spoil(settings, figures):
        if (settings["depth"], settings["batch"]) == (2, 8):
            figures[column] = wrong(figures[column])

    claims = sweep(break_row=spoil, **GRID)
    claim = find(claims, words)
    assert not claim["holds"]
    assert "fails for 1 of" in claim["observed"]
    assert "depth=2" in claim["observed"] or "batch=8" in claim["observed"]


@pytest.mark.parametrize("column", ["fvcore_equal", "flop_counter_equal"])
def test_peers_are_judged_where_they_apply(column):
    def spoil(settings, figures):
        figures[column] = None if settings["depth"] == 0 else settings["batch"] < 64

    words = {"fvcore_equal": "fvcore", "flop_counter_equal": "FlopCounterMode"}[column]
    assert not find(sweep(break_row=spoil, **GRID), words)["holds"]
    small = sweep(break_row=spoil, depth=(0, 1), batch=(1, 8))
    assert find(small, words)["observed"] == "equal at 2 points"


def test_a_comparison_that_could_not_be_made_is_named_and_neither_passes_nor_fails():
    missing = {"fvcore_equal": None, "not_compared": "fvcore_equal: fvcore is not installed"}
    claim = find(sweep(break_row=lambda _, figures: figures.update(missing)), "fvcore")
    assert claim["observed"] == "left out: fvcore is not installed"
    assert claim["holds"] is None


def test_the_law_is_checked_to_the_last_flop():
    """One FLOP in 2**50 is seen."""

    def examine(extra):
        def scale(settings, figures):
            figures["forward"], figures["backward"] = 2**50, 2**51 - 2**40 + extra
            figures["first_layer_share"] = 2**40 / 2**50

        return find(sweep(break_row=scale, depth=(1,)), "2 - first")["holds"]

    assert examine(0)
    assert not examine(1)
    assert not examine(-1)


def test_what_the_grid_cannot_test_is_left_out():
    one = sweep(depth=(2,), batch=(8,))
    for words in ("climbs", "linear in", "affine", "don't depend"):
        assert not any(words in text for text in one)
    two = sweep(depth=(1, 2), batch=(8, 16))
    assert any("climbs" in text for text in two)
    assert not any("affine" in text for text in two)  # two points always lie on a line
    assert not any("every other" in text for text in sweep(depth=(0,)))


def test_lines_are_of_points_that_differ_in_one_key_alone():
    """Widths are swept too; along batch and depth each width is a line of its own."""
    claims = sweep(width=(8, 16), kind=("plain", "fancy"), **GRID)
    assert all(claim["holds"] for claim in claims.values())
    for words in ("climbs", "forward FLOP are linear", "affine in batch", "affine in depth"):
        assert find(claims, words)["observed"].endswith(f"at {2 * 2 * 12} points")


def test_lines_are_sorted():
    claims = sweep(depth=(5, 0, 2, 1), batch=(64, 1, 8))
    assert all(claim["holds"] for claim in claims.values())


def test_a_point_is_named_by_what_varies():
    def spoil(settings, figures):
        figures["saved_equal"] = settings["depth"] != 2 or settings["batch"] != 8

    observed = find(sweep(break_row=spoil, **GRID), "autograd")["observed"]
    assert observed == "different at toy depth=2 batch=8; fails for 1 of 12"


def test_with_the_inputs_gradient_the_first_layer_is_2_to_1_too():
    claims = sweep(swept_options(input_grad=True), **GRID)
    assert all(claim["holds"] for claim in claims.values())
    assert find(claims, "first layer: ")["expected"] == "2"
    assert find(claims, "network")["claim"].startswith("network: backward = 2 x forward")


def test_frozen_layers_are_under_no_law_of_trained_ones():
    claims = sweep(swept_options(freeze="first.*"), **GRID)
    for words in ("first layer: ", "every other", "network", "twice the parameters"):
        assert not any(words in text for text in claims)
    assert any("counted = executed" in text for text in claims)
    assert any("linear in batch" in text for text in claims)


def test_what_attention_computes_again_anyway_is_not_the_checkpoints():
    """GIVEN a whole forward again, and half a forward in attention's own backward."""

    def spoil(plain, checkpointed):
        def figures(settings, figures):
            figures["recompute"] = plain * figures["forward"] // 2
            figures["checkpointed_recompute"] = checkpointed * figures["forward"] // 2

        return find(sweep(break_row=figures, depth=(1,)), "one forward again")

    assert spoil(1, 3)["observed"] == "1.00 at 1 points"
    assert spoil(1, 3)["holds"]
    assert not spoil(0, 3)["holds"]


def test_without_an_optimizer_nothing_is_said_about_updates():
    assert not any("update" in text for text in sweep(swept_options(optimizer="none"), **GRID))


def test_points_that_ran_out_of_memory_say_what_they_can():
    def spoil(settings, figures):
        if settings["batch"] == 8:
            raise MemoryError

    claims = sweep(measure="cpu", break_row=spoil, **GRID)
    assert find(claims, "first layer: ")["observed"] == "1 at 8 points"
    assert all(claim["holds"] for claim in claims.values())
    assert sweep(break_row=lambda settings, figures: figures.clear(), **GRID) == {}


def test_times_are_reported_beside_the_flop():
    claims = sweep(measure="cpu", **GRID)
    ratio = find(claims, "in time")
    assert ratio["expected"] == "beside 1.00 to 1.83 in FLOP"
    assert ratio["observed"] == "median 1.50 [1.40, 1.60]; 1.50 at 12 points"
    assert ratio["holds"]
    # The update is under 1% of FLOP at batch 64 alone: 2 of 2 + 4..6 * 64.
    share = find(claims, "most of the time")
    assert share["observed"] == "forward 38%, backward 58%, update 4% at 4 points"
    assert share["holds"]


def test_a_point_without_its_time_is_missed():
    def spoil(settings, figures):
        if settings["depth"] == 5:
            figures["time_ratio_low"] = float("nan")

    assert not find(sweep(measure="cpu", break_row=spoil, **GRID), "in time")["holds"]


def test_a_step_that_is_mostly_update_refutes_the_share():
    def spoil(settings, figures):
        figures["update_ms"] = 3.0

    claims = sweep(measure="cpu", break_row=spoil, **GRID)
    assert not find(claims, "most of the time")["holds"]
