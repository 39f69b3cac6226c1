"""Documents, read back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import flopratio as fr
from flopratio.errors import UsageError
from flopratio.ledger import Ledger
from flopratio.report.page.report import report_markdown, report_page
from flopratio.verbs.saved import read_step
from tests.verbs.profile.small import small_profile


@pytest.fixture(scope="module")
def ledger() -> Ledger:
    return fr.count("mlp", depth=2, width=8, batch=4, optimizer="adamw")


def saved(text: str, tmp_path: Path) -> Path:
    path = tmp_path / "l.json"
    path.write_text(text)
    return path


def test_a_ledger_comes_back_whole(ledger: Ledger, tmp_path: Path) -> None:
    step = read_step(saved(ledger.to_json(), tmp_path))
    assert step.ledger.document() == json.loads(ledger.to_json())
    assert (step.name, step.notes, step.profile, step.prediction) == ("l.json", [], None, None)


def test_without_operators_every_sum_is_the_same(ledger: Ledger, tmp_path: Path) -> None:
    step = read_step(saved(ledger.to_json(rows=False), tmp_path))
    assert step.ledger.layers() == ledger.layers()
    assert step.ledger.phases == ledger.phases
    assert step.ledger.totals == ledger.totals
    assert step.ledger.idle_layers() == ledger.idle_layers()
    assert step.ledger.reconciled is True
    assert len(step.notes) == 1


def test_times_come_back(tmp_path: Path) -> None:
    profile = small_profile()
    step = read_step(saved(profile.to_json(), tmp_path))
    assert step.profile is not None
    assert step.profile.document() == json.loads(profile.to_json())


def test_without_operators_a_profile_is_a_ledger_that_says_so(tmp_path: Path) -> None:
    step = read_step(saved(small_profile().to_json(rows=False), tmp_path))
    assert step.profile is None
    assert any("times are left out" in note for note in step.notes)


def test_a_step_of_ones_own_is_read(tmp_path: Path) -> None:
    import torch

    model = torch.nn.Linear(4, 2)
    with fr.Profiler(model) as profiler:
        model(torch.ones(3, 4)).sum().backward()
    step = read_step(saved(profiler.ledger.to_json(), tmp_path))
    assert step.ledger.totals == profiler.ledger.totals


def test_a_document_without_rows_says_so(ledger: Ledger, tmp_path: Path) -> None:
    empty = {**json.loads(ledger.to_json()), "rows": [], "layers": []}
    step = read_step(saved(json.dumps(empty), tmp_path))
    assert step.notes == ["No operator is in this document: no row."]
    text = report_markdown([step])
    assert "nothing to compare: no operator ran" in text
    assert step.notes[0] in text
    assert step.notes[0] in report_page([step])


DOCUMENT: dict[str, Any] = {"schema": "flopratio.ledger/1", "layers": []}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "is not JSON"),
        ("[]", "it names no schema"),
        ("{}", "should be flopratio.ledger/1"),
        ('{"schema": "flopratio.ledger/2"}', "its schema is flopratio.ledger/2, and should be"),
        ('{"schema": "flopratio.fit/1"}', "its schema is flopratio.fit/1"),
        (json.dumps(DOCUMENT), "a damaged flopratio.ledger/1 document"),
        (json.dumps({**DOCUMENT, "rows": [[1]]}), "a damaged flopratio.ledger/1 document"),
        ("[" * 100_000, "is not JSON"),
    ],
)
def test_what_is_no_ledger_is_told_in_a_sentence(text: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        read_step(saved(text, tmp_path))
    assert says in str(error.value)
    assert "l.json" in str(error.value)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no ledger"):
        read_step(tmp_path / "none.json")
    with pytest.raises(UsageError, match="can't read"):
        read_step(tmp_path)
