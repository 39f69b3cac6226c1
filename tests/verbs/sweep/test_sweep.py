"""fr.sweep: values in many forms, resumed, as a frame."""

import numpy as np
import pandas as pd
import pytest

import flopratio as fr
from flopratio.errors import UsageError
from flopratio.networks import library
from flopratio.verbs.sweep import closed_form, point
from flopratio.verbs.sweep.grid_frame import to_frame
from tests import toy
from tests.verbs.sweep.grids import made, piece


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


MODEL = """
import torch
from torch import nn

def odd(batch=2, width=3):
    if width > 30:
        raise ValueError("30 is the most")
    return nn.Linear(width, 4), torch.randn(batch, width)
"""


def test_a_large_grid_is_worked_out_from_the_closed_form(tmp_path):
    (tmp_path / "toy.py").write_text(MODEL)
    model, output = f"{tmp_path}/toy.py:odd", tmp_path / "swept"
    with pytest.warns(UserWarning, match="runs up to width=30, and refuses 31"):
        frame = fr.sweep(model, batch="2..21", width="2..32", output=output, verify=2)
    assert len(frame) == 20 * 31
    runs = frame["width"] <= 30
    assert (frame["status"] == np.where(runs, "ok", "refused")).all()
    assert (frame["forward"] == 2 * 4 * frame["batch"] * frame["width"])[runs].all()
    assert frame["forward"].dtype == "Int64"
    assert frame["forward"][~runs].isna().all()
    assert frame["ratio"].dtype == "float64"
    assert set(frame["ratio"][runs]) == {1.0}
    assert frame["peak_bytes"].isna().all()
    written = pd.read_csv(output / "sweep.csv", dtype={"forward": "Int64", "peak_bytes": "Int64"})
    assert list(written.columns) == list(frame.columns)
    for column in ("model", "batch", "width", "forward", "ratio", "status", "peak_bytes"):
        assert written[column].equals(frame[column].astype(written[column].dtype)), column
    small = fr.sweep(model, batch=[3], width=[5])
    assert small["peak_bytes"][0] > 0  # traced, as each of 200 points or fewer is


def test_a_column_that_could_overflow_has_whole_numbers_of_python():
    found = made(piece(2**62, b=(1, 2, 3), s=range(1, 7)))
    frame = to_frame(found)
    assert frame["forward"].dtype == object
    assert frame["forward"][2 * 7 + 5] == 3 * 6 * 2**62
    assert frame["forward"][6] is None  # s = 7 has no form


def test_a_form_that_a_trace_refutes_is_not_returned(tmp_path, monkeypatch):
    (tmp_path / "toy.py").write_text(MODEL)
    monkeypatch.setattr(
        closed_form, "_differences", lambda found, tracer, at: iter(["forward 2, traced 3"])
    )
    with pytest.raises(UsageError, match=r"batch=\d+ width=\d+ the closed form is not"):
        fr.sweep(f"{tmp_path}/toy.py:odd", batch="2..21", width="2..22", verify=2)
