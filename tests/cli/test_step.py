"""A step as a text, in the grammar of the command line."""

import pytest

from flopratio.cli.step import read_step
from flopratio.errors import UsageError
from flopratio.step.options import DEFAULTS


def test_model_keys_and_options():
    step = read_step("hf:gpt2 seq=1024 --checkpoint 'h.*' --accumulate 2 --input-grad")
    assert step.model == "hf:gpt2"
    assert step.settings == {"seq": 1024}
    assert step.options == DEFAULTS | {"checkpoint": "h.*", "accumulate": 2, "input_grad": True}


def test_the_loss_may_be_a_key():
    assert read_step("mlp loss=mse").options["loss"] == "mse"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "name a MODEL"),
        ("mlp --bogus", "'mlp --bogus': No such option: --bogus"),
        ("mlp --top 3", "No such option: --top"),
        ("mlp --help", "No such option: --help"),
        ("mlp --optimizer", "requires an argument"),
        ("mlp --accumulate 0", "greater than or equal to 1"),
        ("mlp batch=1,2", "batch has 2 values and a step takes one"),
        ("mlp depth", "'depth' is not KEY=VALUE"),
        ("mlp 'x", "No closing quotation"),
        ("mlp loss=mse --loss sum", "the loss is given twice"),
    ],
)
def test_bad_texts(text, sentence):
    with pytest.raises(UsageError, match=sentence):
        read_step(text)
