"""The built-in networks by name: what their KEYs may be."""

import pytest

from flopratio.errors import UsageError
from flopratio.formulas import exact
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
    ],
)
def test_bad_settings_are_one_sentence(model: str, settings: dict, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence) as caught:
        describe(model, **settings)
    assert "\n" not in str(caught.value)


def test_keys_that_are_left_out_have_their_defaults() -> None:
    network = describe("mlp", depth=7)
    assert network.settings == {**NETWORKS["mlp"].keys, "depth": 7}
    assert network.input_shape == (64, 784)
    assert network.loss == "cross_entropy"


def test_a_size_may_be_an_array() -> None:
    assert list(describe("mlp", batch=exact([1, 8])).input_shape[0]) == [1, 8]
