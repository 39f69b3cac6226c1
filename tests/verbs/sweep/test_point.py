"""Analytic = executed = peers, at every built-in network; and a broken formula is seen."""

import sys

import pytest

from flopratio.formulas import OPERATORS, Cost
from flopratio.networks.analytic import analytic_ledger
from flopratio.networks.library import describe
from flopratio.step.network import network_step
from flopratio.verbs.compare import compare
from flopratio.verbs.sweep.plan import swept_options
from flopratio.verbs.sweep.point import examine
from flopratio.verbs.traced import trace_step

POINTS = [
    ("mlp", {"depth": 1, "batch": 1}),
    ("mlp", {"depth": 3, "batch": 8, "bias": False}),
    ("mlp", {"hidden": (30, 10), "batch": 8}),
    *(
        ("mlp", {"depth": 2, "batch": 4, "activation": name})
        for name in ("leaky_relu", "gelu", "silu", "tanh", "sigmoid")
    ),
    ("mlp", {"depth": 2, "batch": 4, "loss": "mse"}),
    ("mlp", {"depth": 2, "batch": 4, "loss": "sum"}),
    ("cnn", {"depth": 0, "batch": 2, "image": 33}),
    ("cnn", {"depth": 3, "batch": 2, "image": 33}),
    ("cnn", {"depth": 3, "batch": 2, "image": 33, "shared": False}),
    ("convnet", {"batch": 2, "image": 33}),
    ("linearnet", {"batch": 2, "input": 12}),
    ("onenet", {"batch": 2}),
    *(
        ("transformer", {"width": 16, "heads": 4, "seq": 6, "vocabulary": 24, "batch": 2, **keys})
        for keys in (
            {"depth": 1},
            {"depth": 2, "kv_heads": 4, "positions": "rotary", "norm": "rms", "gated": True},
        )
    ),
]


@pytest.mark.parametrize(("model", "settings"), POINTS, ids=str)
def test_every_source_agrees_to_the_integer(model: str, settings: dict) -> None:
    row = examine(model, settings)
    assert row["executed_equal"] is True
    assert row["saved_equal"] is True
    assert row["fvcore_equal"] is True
    assert row["flop_counter_equal"] is True
    assert row["peak_bytes"] > row["inference_peak_bytes"] > 4 * row["parameters"]
    assert row["checkpointed_saved_bytes"] <= row["saved_bytes"]
    assert row["checkpointed_recompute"] <= row["forward"]


def test_without_fvcore_the_rest_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fvcore", None)
    row = examine("mlp", {"depth": 1, "batch": 2})
    assert row["fvcore_equal"] is None
    assert row["executed_equal"]
    assert row["saved_equal"]
    assert row["flop_counter_equal"]


def test_checkpointing_keeps_what_enters_its_segments() -> None:
    """GIVEN linear, ReLU, linear, ReLU, linear, THEN the two segments of an early linear and ReLU,
    and of the rest, keep their inputs [8, 784] and [8, 512], and the loss its own; all but the last
    linear, whose result nobody asks for, is computed again."""
    row = examine("mlp", {"depth": 2, "batch": 8})
    of_the_loss = 8 * 10 * 4 + 8 * 8 + 4  # log-softmax, target, total weight
    assert row["checkpointed_saved_bytes"] == 8 * (784 + 512) * 4 + of_the_loss
    assert row["checkpointed_recompute"] == 2 * 8 * (784 * 512 + 512 * 512)


def test_checkpointing_lowers_the_peak_of_a_deep_network() -> None:
    row = examine("cnn", {"depth": 16, "batch": 2, "image": 33})
    assert row["inference_peak_bytes"] < row["checkpointed_peak_bytes"] < row["peak_bytes"]


@pytest.mark.parametrize(
    "optimizer",
    ["none", "sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamw"],
)
def test_every_optimizer_is_executed_as_its_formula_says(optimizer: str) -> None:
    assert examine("mlp", {"depth": 2, "batch": 4}, swept_options(optimizer=optimizer))[
        "executed_equal"
    ]


@pytest.mark.parametrize(
    "options",
    [
        {"freeze": "first*"},
        {"freeze": "hidden.0*"},
        {"input_grad": True},
        {"dtype": "bfloat16"},
        {"weight_decay": 0.1, "optimizer": "adamw"},
        {"weight_decay": "loss:0.1"},
        {"weight_decay": "loss:0.1", "freeze": "hidden.0*"},
    ],
    ids=str,
)
def test_frozen_layers_input_gradients_and_half_precision_agree(options: dict) -> None:
    row = examine("mlp", {"depth": 3, "batch": 4}, swept_options(**options))
    assert (row["executed_equal"], row["saved_equal"]) == (True, True)


@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_real_tensors_dispatch_what_fake_ones_do(model: str) -> None:
    small = {"image": 33} if model == "cnn" else {}
    network = describe(model, depth=2, batch=2, **small)
    step = network_step(network, swept_options(optimizer="adam"), "cpu")
    assert compare(analytic_ledger(network, optimizer="adam"), trace_step(step).ledger) == []
    assert all(parameter.grad is None for parameter in step.module.parameters())


def test_a_broken_formula_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    original = OPERATORS["aten.addmm"]

    def broken(*args: object, **kwargs: object) -> Cost:
        cost = original(*args, **kwargs)
        return Cost(cost.flops + 2, cost.elementwise, cost.gradients)

    network = describe("mlp", depth=1, batch=2)
    executed = trace_step(network_step(network, swept_options())).ledger
    monkeypatch.setitem(OPERATORS, "aten.addmm", broken)
    differences = compare(analytic_ledger(network, optimizer="sgd"), executed)
    assert {(d.layer, d.phase, d.nodes) for d in differences} == {
        ("first.linear", "forward", ("aten.addmm",)),
        ("output", "forward", ("aten.addmm",)),
    }
    assert all(d.analytic == d.traced + 2 for d in differences)
