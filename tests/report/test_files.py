"""A ledger in a file: its format, and what is never done to what was there."""

import csv
import json

import pytest

from flopratio.errors import UsageError
from flopratio.ledger import Ledger
from flopratio.report.files import FORMATS, check_file, write
from flopratio.report.view import view
from tests.report.small import small_ledger


def written(path, **words):
    ledger = small_ledger()
    write(ledger, view(ledger), path, **words)
    return path.read_text(encoding="utf-8")


def test_json_has_the_rows_and_gives_the_ledger_back(tmp_path):
    text = written(tmp_path / "ledger.json")
    assert json.loads(text)["schema"] == "flopratio.ledger/1"
    assert Ledger.from_json(text).rows == small_ledger().rows


def test_csv_has_a_line_for_each_row(tmp_path):
    rows = list(csv.DictReader(written(tmp_path / "ledger.csv").splitlines()))
    assert [row["op"] for row in rows] == [row.op for row in small_ledger().rows]
    assert rows[0]["flops"] == "4000000"


def test_markdown_has_the_view(tmp_path):
    assert "| stem.conv | Conv2d |" in written(tmp_path / "LEDGER.MD")


def test_what_is_there_stays_unless_forced(tmp_path):
    path = tmp_path / "ledger.csv"
    path.write_text("mine")
    with pytest.raises(UsageError, match="is there already: --force overwrites it"):
        written(path)
    assert path.read_text() == "mine"
    assert written(path, force=True).startswith("model,")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("ledger.txt", "should end in .json, .csv, .md"),
        ("ledger", "has no extension"),
        ("no/where.json", "there is no directory"),
        ("folder.json", "is a directory"),
    ],
)
def test_a_path_that_will_not_do_is_told_before_anything_is_made(tmp_path, name, said):
    (tmp_path / "folder.json").mkdir()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UsageError, match=said):
        check_file(tmp_path / name, force=True)
    with pytest.raises(UsageError, match=said):
        written(tmp_path / name, force=True)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_format_that_fails_leaves_nothing_behind(tmp_path, monkeypatch):
    def broken(ledger, view):
        raise RuntimeError

    monkeypatch.setitem(FORMATS, ".md", broken)
    with pytest.raises(RuntimeError):
        written(tmp_path / "ledger.md")
    assert list(tmp_path.iterdir()) == []
