"""The lock: what it holds, when it is written, and what is wrong with those that can't be read."""

import json
from dataclasses import replace

import pytest

from flopratio.errors import UsageError
from flopratio.step.written import WrittenStep
from flopratio.verbs.check.lock import (
    SCHEMA,
    Locked,
    is_packaged,
    lock_text,
    locked_form,
    read_lock,
    write_lock,
)
from flopratio.version import __version__
from tests.verbs.check.small import small


@pytest.fixture
def path(tmp_path):
    return tmp_path / "flopratio.lock.json"


def test_what_is_written_is_read(path):
    cases = {
        "b": Locked("toy", (small("2.8.0"), small(inner=7)), {"cpu": (1.9, 2.0, 2.1)}),
        "a": Locked("toy batch=2", (small(),)),
    }
    assert write_lock(path, cases)
    assert read_lock(path) == cases
    assert not write_lock(path, cases)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_the_order_of_the_cases_is_theirs_by_name():
    one, other = Locked("one", (small(),)), Locked("other", (small(),))
    text = lock_text({"one": one, "other": other})
    assert text == lock_text({"other": other, "one": one})
    assert json.loads(text)["schema"] == SCHEMA


def test_a_layer_is_a_line():
    lines = lock_text({"toy": Locked("toy", (small(),))}).splitlines()
    (first,) = [line.strip() for line in lines if '"first"' in line]
    counts = '"forward": 100, "grad_weight": 100, "parameters": 6, "saved_bytes": 40'
    assert first == f'"first": {{"type": "Linear", {counts}}},'
    changed = lock_text({"toy": Locked("toy", (small(inner=50),))}).splitlines()
    differing = [line.split(":")[0].strip() for line in changed if line not in lines]
    assert differing == ['"forward"', '"inner"']


def test_there_is_none(path):
    assert read_lock(path) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is damaged: Expecting property name"),
        ("", "at line 1, column 1"),
        ("[]", "is no lock of flopratio"),
        ('{"schema": "other/1"}', "is no lock of flopratio"),
        ('{"schema": "flopratio.lock/2"}', "was written by a newer flopratio"),
        ('{"schema": "flopratio.lock/1"}', "is damaged: KeyError 'cases'"),
        ('{"schema": "flopratio.lock/1", "cases": {"a": {"step": "mlp"}}}', "is damaged: KeyError"),
        ('{"schema": "flopratio.lock/1", "cases": {"a": 3}}', "is damaged"),
        ('{"schema": "flopratio.lock/1", "cases": {"a": {"step": "", "counts": [{}]}}}', "damaged"),
        ("{\n<<<<<<< HEAD\n 1\n=======\n 2\n>>>>>>> x\n}", "merge-conflict markers at line 2"),
    ],
)
def test_what_cannot_be_read_is_a_sentence(path, text, said):
    path.write_text(text)
    with pytest.raises(UsageError) as error:
        read_lock(path)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_only_the_versions_that_matter_are_locked():
    counted = replace(small(), versions={"torch": "2.13.0+cpu", "python": "3.11.7", "numpy": "2"})
    form = locked_form(WrittenStep("hf:gpt2"), counted)
    assert list(form.versions) == ["flopratio", "torch", "transformers"]
    assert form.versions["torch"] == "2.13.0"
    assert form.versions["flopratio"] == __version__
    assert list(locked_form(WrittenStep("mlp"), counted).versions) == ["flopratio", "torch"]
    assert list(locked_form(WrittenStep("a.py:f"), counted).versions) == ["flopratio", "torch"]


@pytest.mark.parametrize(
    ("model", "packaged"),
    [
        ("mlp", True),
        ("torchvision:resnet18", True),
        ("hf:gpt2", True),
        ("hf:./my/config.json", False),
        ("model.py:make", False),
        ("package.module:make", False),
    ],
)
def test_whose_code_the_versions_tell(model, packaged):
    assert is_packaged(WrittenStep(model)) == packaged


# -- accepting -------------------------------------------------------------------------------------


def test_an_equal_count_of_another_torch_changes_nothing():
    locked = Locked("toy", (small("2.13.0"),))
    assert locked.accepting("toy", small("2.15.0")) is locked


def test_another_count_of_another_torch_is_a_further_one():
    locked = Locked("toy", (small("2.13.0"),)).accepting("toy", small("2.8.0", inner=7))
    assert [count.versions["torch"] for count in locked.counts] == ["2.8.0", "2.13.0"]
    assert locked.nearest(small("2.11.0")).versions["torch"] == "2.13.0"  # which is equal
    assert locked.nearest(small("2.9.1", inner=9)).versions["torch"] == "2.8.0"
    assert locked.nearest(small("2.15.0", inner=9)).versions["torch"] == "2.13.0"


def test_a_torch_is_nearer_than_one_of_another_major_version():
    locked = Locked("toy", (small("2.1.0", inner=7), small("3.9.0")))
    assert locked.nearest(small("2.9.0", inner=9)).versions["torch"] == "2.1.0"


def test_another_count_of_the_same_torch_replaces_all():
    locked = Locked("toy", (small("2.8.0", inner=7), small("2.13.0")), {"cpu": (1.0, 1.0, 1.0)})
    accepted = locked.accepting("toy", small("2.13.1", inner=50))
    assert accepted == Locked("toy", (small("2.13.1", inner=50),))


def test_another_step_replaces_all():
    locked = Locked("toy", (small("2.13.0"),)).accepting("toy batch=3", small("2.15.0"))
    assert locked == Locked("toy batch=3", (small("2.15.0"),))
