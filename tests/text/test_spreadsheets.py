"""No cell of a CSV file runs in a spreadsheet."""

import csv
import io

import pytest
import torch
from torch import nn

import flopratio as fr
from flopratio.report import difference
from flopratio.snapshot import Snapshot
from flopratio.text.spreadsheets import as_text
from flopratio.verbs.diff import difference as difference_of


@pytest.mark.parametrize("cell", ["=cmd()", "+1", "-2+3|cmd", "@SUM(A1)", "\t=1", "\r=1"])
def test_a_formula_becomes_a_text(cell: str) -> None:
    assert as_text(cell) == f"'{cell}"


@pytest.mark.parametrize("cell", ["", "layer1.0", "(model)", "a=b", "'=1", "1-2"])
def test_a_text_stays_what_it_is(cell: str) -> None:
    assert as_text(cell) == cell


def test_the_names_of_a_model_are_texts() -> None:
    class Commands(nn.Sequential):
        pass

    Commands.__name__ = "=model()"
    model = Commands()
    model.add_module("=cmd()", nn.Linear(4, 4))
    model.add_module("ordinary", nn.Linear(4, 4))
    ledger = fr.count(model, torch.empty(2, 4))
    rows = list(csv.DictReader(io.StringIO(ledger.to_csv())))
    assert {row["model"] for row in rows} == {"'=model()"}
    assert {"'=cmd()", "ordinary"} <= {row["layer"] for row in rows}
    assert not {row["layer"][:1] for row in rows} & {"=", "+", "-", "@"}
    assert "=cmd()" in ledger.to_json()  # what a program reads is as it was
    other = fr.count(nn.Linear(5, 3), torch.empty(2, 5))
    found = difference_of(Snapshot.of(ledger), Snapshot.of(other))
    layers = [row["layer"] for row in csv.DictReader(io.StringIO(difference.to_csv(found)))]
    assert "'=cmd()" in layers
    assert "=cmd()" not in layers
