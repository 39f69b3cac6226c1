"""The built-in networks by name: what their KEYs may be."""

import pytest

from flopratio.errors import UsageError
from flopratio.formulas import exact
from flopratio.networks.analytic import analyse, analytic_ledger
from flopratio.networks.library import NETWORKS, describe


@pytest.mark.parametrize(
    ("model", "settings", "sentence"),
    [
        ("mpl", {}, "did you mean 'mlp'"),
        ("mlp", {"dept": 3}, "did you mean 'depth'"),
        ("mlp", {"depth": 0}, "at least 1"),
        ("cnn", {"depth": -1}, "at least 0"),
        ("mlp", {"activation": "selu"}, "no activation: did you mean 'silu'"),
        ("mlp", {"batch": "abc"}, "whole number"),
        ("cnn", {"shared": 3}, "true or false"),
        ("mlp", {"hidden": "wide"}, "hidden is sizes of at least 1, such as hidden=300x100"),
        ("mlp", {"hidden": (300, 0)}, "hidden=300x0 will not do"),
        ("mlp", {"hidden": ()}, "will not do"),
        ("mlp", {"hidden": True}, "hidden=true will not do"),
        ("mlp", {"hidden": (3, 2), "width": 5}, "leave out width, or hidden"),
        ("mlp", {"hidden": 3, "width": 5, "depth": 2}, "leave out depth and width, or hidden"),
    ],
)
def test_bad_settings_are_one_sentence(model: str, settings: dict, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence) as caught:
        describe(model, **settings)
    assert "\n" not in str(caught.value)


def test_keys_that_are_left_out_have_their_defaults() -> None:
    network = describe("mlp", depth=7)
    keys = {key: value for key, value in NETWORKS["mlp"].keys.items() if key != "hidden"}
    assert network.settings == {**keys, "depth": 7}
    assert network.input_shape == (64, 784)
    assert network.loss == "cross_entropy"


def test_a_size_may_be_an_array() -> None:
    assert list(describe("mlp", batch=exact([1, 8])).input_shape[0]) == [1, 8]


def test_the_textbooks_network_layer_by_layer() -> None:
    """784 inputs, hidden layers of 300 and 100, 10 classes, batch 64: 2 * 64 * 784 * 300, ..."""
    ledger = analytic_ledger("mlp", hidden=(300, 100), batch=64)
    forward = {layer.name: layer.forward for layer in ledger.layers() if layer.forward}
    assert forward == {
        "first.linear": 30_105_600,
        "hidden.0.linear": 3_840_000,
        "output": 128_000,
    }
    assert ledger.settings["hidden"] == (300, 100)
    assert not ledger.settings.keys() & {"depth", "width"}


@pytest.mark.parametrize(("hidden", "depth"), [((512, 512, 512), 3), (512, 1), ((512,), 1)])
def test_equal_widths_are_a_depth_and_a_width(hidden: object, depth: int) -> None:
    by_width, by_depth = (
        analytic_ledger("mlp", batch=2, **keys)
        for keys in ({"hidden": hidden}, {"depth": depth, "width": 512})
    )
    assert by_width.rows == by_depth.rows
    assert by_width.layers() == by_depth.layers()


def test_widths_may_be_arrays() -> None:
    analysis = analyse(describe("mlp", hidden=(exact([300, 400]), 100), batch=1))
    assert list(analysis.total("forward")) == [
        analyse(describe("mlp", hidden=(width, 100), batch=1)).total("forward")
        for width in (300, 400)
    ]
