"""Random command lines: the first few of those that ``make test-fuzz`` runs."""

from __future__ import annotations

import re
from itertools import islice
from pathlib import Path

import pytest
import typer

from flopratio.cli import app
from tests.cli import random_lines
from tests.cli.random_lines import ANCHORS, failures, problem

FEW = 40
CHEAP = [line for line in ANCHORS if line[1].startswith(("good.py", "vision.py", "hf:"))]
"""Of the lines that give the same document each time. They import all that others may import: what
a package does to Python's own lists at its first import is no trace of a line."""


def test_none_ends_badly_or_leaves_a_trace() -> None:
    assert failures(seed=7, count=FEW, anchors=CHEAP) == []


@pytest.mark.parametrize("count", [0, 1])
def test_another_document_for_the_same_line_is_seen(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[list[str]] = []
    monkeypatch.setattr(
        random_lines, "run", lambda line: calls.append(line) or (0, str(len(calls)), "")
    )
    said = failures(seed=7, count=count, anchors=[["count", "mlp"]])
    assert said[-1] == "count mlp\n  other than before all the others"


@pytest.mark.parametrize(
    ("ends", "said"),
    [
        (lambda line: 1 / 0, "ZeroDivisionError"),
        (lambda line: (3, "", ""), "exit code 3"),
        (lambda line: (2, "", ""), "not one sentence"),
        (lambda line: (2, "", "flopratio: one\nflopratio: two\n"), "not one sentence"),
        (lambda line: (2, "{", "flopratio: a sentence\n"), "printed before it failed"),
        (lambda line: (2, "", "flopratio: KeyError: 'x' (--debug shows where)\n"), "bare"),
        (lambda line: (0, "", "Traceback (most recent call last):\n"), "a traceback"),
        (lambda line: (0, "half of {", ""), "no JSON"),
        (lambda line: random_lines.random.seed(3) or (0, "{}", ""), "it leaves other random"),
    ],
)
def test_what_is_bad_is_seen(ends: object, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random_lines, "run", ends)
    assert re.search(said, problem(["count", "mlp", "--json"]))


def test_every_verb_is_drawn(tmp_path: Path) -> None:
    random_lines.write_files(tmp_path)
    drawn = {line[0] for line in islice(random_lines.random_lines(3, tmp_path), 600)}
    commands: dict[str, object] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    assert set(commands) == set(random_lines.VERBS) <= drawn


def test_lines_are_the_same_for_a_seed(tmp_path: Path) -> None:
    random_lines.write_files(tmp_path)
    first, second = (random_lines.random_lines(3, tmp_path) for _ in range(2))
    assert [next(first) for _ in range(50)] == [next(second) for _ in range(50)]
