"""``flopratio diff``: two ledgers, two steps, and what can't be compared."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from flopratio.cli import main

SMALL = "mlp depth=2 width=16 input=8 batch=4"


@pytest.fixture
def ledgers(tmp_path):
    """The files of a step, and of one that is wider."""
    files = []
    for width in (16, 32):
        path = tmp_path / f"{width}.json"
        assert main(["count", "mlp", "depth=2", f"width={width}", "input=8", "-o", str(path)]) == 0
        files.append(str(path))
    return files


def test_equal_steps(capsys, ledgers):
    narrow = ledgers[0]
    assert main(["diff", narrow, narrow]) == 0
    assert capsys.readouterr().out.startswith("UNCHANGED: all figures of")


def test_a_ledger_and_the_same_step_counted_anew(capsys, ledgers):
    assert main(["diff", ledgers[0], "mlp depth=2 width=16 input=8"]) == 0
    assert capsys.readouterr().out.startswith("UNCHANGED")


def test_two_ledgers(capsys, ledgers):
    assert main(["diff", *ledgers, "--top", "1"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("CHANGED: ")
    assert sum(line.startswith("~") for line in lines) == 1
    assert any(line.endswith("--top 0 lists all") for line in lines)
    assert any("width 16 → 32" in line for line in lines)


def test_two_steps_with_options(capsys):
    assert main(["diff", SMALL, f"{SMALL} --optimizer adam", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "flopratio.diff/1"
    assert document["convention"]["optimizer"] == ["none", "adam"]
    assert set(document["totals"]) == {"update"}
    assert document["totals"]["update"][0] == 0
    for layer in document["layers"]["changed"]:
        assert set(layer) == {"name", "type", "update"}


def test_json_is_what_count_says(capsys, ledgers):
    main(["diff", *ledgers, "--json"])
    found = json.loads(capsys.readouterr().out)
    before, after = (json.loads(Path(path).read_text()) for path in ledgers)
    for phase in ("forward", "grad_input", "grad_weight"):
        assert found["totals"][phase] == [before["flops"][phase], after["flops"][phase]]
    for figure, pair in found["memory"].items():
        assert pair == [before["memory"][figure], after["memory"][figure]]


@pytest.mark.parametrize(
    ("suffix", "beginning"),
    [(".json", "{"), (".csv", "sign,layer"), (".md", "**CHANGED"), (".html", "<!DOCTYPE html>")],
)
def test_a_file(capsys, tmp_path, ledgers, suffix, beginning):
    path = tmp_path / f"found{suffix}"
    assert main(["diff", *ledgers, "-o", str(path)]) == 1
    assert capsys.readouterr().out == ""
    assert path.read_text().startswith(beginning)
    assert main(["diff", *ledgers, "-o", str(path)]) == 2
    assert "--force overwrites it" in capsys.readouterr().err


def test_github(capsys, ledgers):
    assert main(["diff", *ledgers, "--format", "github"]) == 1
    text = capsys.readouterr().out
    assert text.startswith("**CHANGED: ")
    assert "<details>" in text


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["mlp"], "Missing argument"),
        (["mlp", "missing.json"], "there is no ledger missing.json: flopratio count MODEL -o"),
        (["mlp", "bad.json"], "bad.json is not JSON"),
        (["mlp", "other.json"], "other.json: not a ledger: it names no schema"),
        (["mlp", "newer.json"], "newer.json: not a ledger: its schema is flopratio.ledger/2"),
        (["mlp", "folder.json"], "there is no model 'folder.json'"),
        (["mlp", "mpl"], "'mpl': there is no model 'mpl'"),
        (["mlp", "mlp bathc=8"], "'mlp bathc=8': mlp has no KEY 'bathc': did you mean 'batch'?"),
        (["mlp", "mlp --bogus"], "'mlp --bogus': No such option: --bogus"),
        (["mlp", "mlp batch=1,2"], "batch has 2 values and a step takes one"),
        (["mlp", "mlp", "--format", "gihtub"], "did you mean 'github'?"),
        (["mlp", "mlp", "-o", "x.txt"], "should end in .json, .csv, .md, .html"),
    ],
)
def test_usage_errors(capsys, tmp_path, monkeypatch, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "other.json").write_text("{}")
    (tmp_path / "newer.json").write_text('{"schema": "flopratio.ledger/2"}')
    (tmp_path / "folder.json").mkdir()
    assert main(["diff", *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert sentence in printed.err
    assert printed.err.count("\n") == 1


def test_two_ledgers_are_read_without_torch(ledgers):
    code = (
        "import sys; from flopratio.cli import main; "
        f"main(['diff', {ledgers[0]!r}, {ledgers[1]!r}, '--format', 'github']); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL).returncode == 0
