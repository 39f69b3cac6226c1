"""fr.sweep: values in many forms, resumed, as a frame."""

import numpy as np
import pytest

import flopratio as fr
from flopratio.errors import UsageError
from flopratio.networks import library
from flopratio.verbs.sweep import point
from tests import toy


@pytest.fixture
def toy_engine(monkeypatch):
    monkeypatch.setattr(library, "NETWORKS", toy.NETWORKS)
    monkeypatch.setattr(point, "examine", toy.examine)
    monkeypatch.setattr(point, "check", lambda *given: None)


def test_the_python_function_takes_values_in_many_forms(toy_engine):
    frame = fr.sweep("toy", depth="0..2", batch=[1, 8], width=np.array([16]), kind="fancy")
    assert list(frame["depth"]) == [0, 0, 1, 1, 2, 2]
    assert list(frame["batch"]) == [1, 8, 1, 8, 1, 8]
    assert set(frame["width"]) == {16}
    assert {type(width) for width in frame["width"]} == {int}
    assert list(fr.sweep("toy", depth=range(2), batch=np.int64(3))["batch"]) == [3, 3]
    with pytest.raises(UsageError, match="did you mean 'batch'"):
        fr.sweep("toy", bach=1)


def test_counts_of_a_frame_cannot_overflow(toy_engine):
    frame = fr.sweep("toy", depth=0, width=2**40, batch=1)
    assert frame["forward"][0] == 2**81
    assert frame["ratio"].dtype == "float64"


def test_the_python_function_resumes_too(toy_engine, tmp_path):
    first = fr.sweep("toy", depth=[0, 1], output=tmp_path)
    assert first.equals(fr.sweep("toy", depth=[0, 1], output=str(tmp_path)))
    with pytest.raises(UsageError, match="another sweep"):
        fr.sweep("toy", depth=[0, 2], output=tmp_path)
    assert list(fr.sweep("toy", depth=[0, 2], output=tmp_path, fresh=True)["depth"]) == [0, 2]
