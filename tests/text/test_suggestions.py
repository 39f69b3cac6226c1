"""How a sentence ends that is about a name nobody knows."""

import pytest

from flopratio.errors import UsageError
from flopratio.text.suggestions import MOST_LISTED, did_you_mean, not_among, unknown_key

NAMES = ["resnet18", "resnet34", "vgg16"]


@pytest.mark.parametrize(
    ("name", "ending"),
    [
        ("vgg61", ": did you mean 'vgg16'?"),
        ("VGG16", ": did you mean 'vgg16'?"),
        ("resnet19", ": did you mean 'resnet18' or 'resnet34'?"),
        ("qqq", ": there are resnet18, resnet34, vgg16"),
    ],
)
def test_near_names_are_suggested_and_few_are_listed(name, ending):
    assert did_you_mean(name, NAMES) == ending


@pytest.mark.parametrize("name", ["gpu", "GPU", "gpu:1", "nvidia"])
def test_a_name_that_people_have_for_another_means_that(name):
    assert did_you_mean(name, ["cpu", "cuda"]) == ": did you mean 'cuda'?"
    error = not_among("measure", name, ["auto", "cpu", "cuda", "none"])
    assert str(error).endswith("should be one of auto, cpu, cuda, none: did you mean 'cuda'?")


def test_and_nothing_where_there_is_no_such():
    assert did_you_mean("gpu", ["cpu", "tpu"]) == ": did you mean 'tpu' or 'cpu'?"


def test_too_many_names_are_not_listed():
    many = [f"name{n}" for n in range(MOST_LISTED + 1)]
    assert did_you_mean("qqq", many) == ""
    assert did_you_mean("qqq", many[1:]).startswith(": there are name1, ")
    assert did_you_mean("qqq", []) == ""


def test_a_key_that_is_like_no_other_may_be_an_option():
    class SpecialError(UsageError):
        pass

    error = unknown_key("net", "batchsize", {"batch", "depth"}, SpecialError)
    assert type(error) is SpecialError
    assert str(error) == "net has no KEY 'batchsize': did you mean 'batch'?"
    assert error.key is None
    assert unknown_key("net", "optimiser", {"batch", "depth"}, UsageError).key == "optimiser"
