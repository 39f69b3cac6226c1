"""``flopratio check``: what it prints, writes and returns."""

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from flopratio.cli import main
from flopratio.cli.check import _command
from flopratio.verbs.check import run
from tests.verbs.check.small import small

CASES = """
[cases.same]
model = "mlp depth=1"

[cases.other]
model = "mlp depth=2"
expect = { ratio = "<= 2" }
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A directory with a lock of two cases. What they count, by name, is yielded."""
    counts = {}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run, "count_case", lambda case: counts.get(case.name, small()))
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    (tmp_path / "flopratio.toml").write_text(CASES)
    assert main(["check", "--update"]) == 0
    return counts


@pytest.fixture
def changed(project, capsys):
    capsys.readouterr()
    project["other"] = small(inner=50)
    return project


def test_all_hold(project, capsys):
    capsys.readouterr()
    assert main(["check"]) == 0
    printed = capsys.readouterr()
    assert printed.out == "All 2 cases hold\n"
    assert printed.err == ""
    assert main(["check", "-v"]) == 0
    assert "ok  other: mlp depth=2" in capsys.readouterr().out


def test_a_change_is_told_from_the_headline_to_the_way_out(changed, capsys):
    assert main(["check"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "1 of 2 cases CHANGED"
    assert "CHANGED  other: mlp depth=2" in lines
    (inner,) = [line for line in lines if "inner" in line]
    assert " ".join(inner.split()[1:]) == "inner Linear forward 100 FLOP 50 FLOP -50 FLOP -50%"
    assert lines[-3] == "1 case as in the lock"
    accept = "to accept the counts: flopratio check --update, and commit flopratio.lock.json"
    assert lines[-1] == accept
    assert main(["check", "flopratio.toml", "--case", "other"]) == 1
    command = "flopratio check flopratio.toml --case other --update"
    assert command in capsys.readouterr().out
    assert main(["check", "--update"]) == 0
    said = "1 of 2 cases CHANGED: flopratio.lock.json was written anew"
    assert capsys.readouterr().out.startswith(said)
    assert main(["check"]) == 0


def test_an_expectation_is_nothing_that_an_update_accepts(project, capsys):
    project["other"] = small(inner=20)  # 300 of 120
    assert main(["check", "--update"]) == 1
    assert "ratio is 2.5, expected <= 2" in capsys.readouterr().out
    assert main(["check"]) == 1
    assert "to accept" not in capsys.readouterr().out


def test_a_case_that_cannot_be_counted(project, capsys):
    project["other"] = "there is no such model"
    assert main(["check"]) == 1
    printed = capsys.readouterr().out
    assert "1 of 2 cases FAILED" in printed
    assert "there is no such model" in printed


def test_json(changed, capsys):
    assert main(["check", "--json"]) == 1
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    assert document["schema"] == "flopratio.check/1"
    assert document["headline"] == "1 of 2 cases CHANGED"
    assert printed.err == "flopratio: 1 of 2 cases CHANGED\n"
    assert not document["holds"]
    same, other = document["cases"]
    assert (same["name"], same["states"], same["findings"]) == ("same", ["ok"], [])
    assert other["states"] == ["CHANGED"]
    assert other["difference"]["layers"]["changed"][0]["forward"] == [100, 50]
    assert other["snapshot"]["totals"]["forward"] == 150


def test_github(changed, capsys, tmp_path, monkeypatch):
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    assert main(["check", "--format", "github", "-q"]) == 1
    (line,) = capsys.readouterr().out.splitlines()
    start = "::error file=flopratio.toml,line=5,title=flopratio%3A other CHANGED::"
    assert line.startswith(start)
    assert "inner: forward 100 FLOP → 50 FLOP" in line
    text = summary.read_text()
    assert text.startswith("before\n### ❌ flopratio: 1 of 2 cases CHANGED")
    assert "<details><summary>What changed</summary>" in text
    assert "`same`" in text
    assert "flopratio check --update" in text


def test_github_without_a_summary(project, capsys):
    capsys.readouterr()
    assert main(["check", "--format", "github"]) == 0
    assert capsys.readouterr().out.startswith("### ✅ flopratio: All 2 cases hold")


def test_a_name_ends_no_property_of_an_annotation(project, capsys):
    with open("flopratio.toml", "a") as file:
        file.write('[cases."50%: a,b"]\nmodel = "mlp"\n')
    capsys.readouterr()
    assert main(["check", "--format", "github"]) == 1
    line, *_ = capsys.readouterr().out.splitlines()
    assert "title=flopratio%3A 50%25%3A a%2Cb NEW::" in line


def test_the_way_out_repeats_what_was_asked():
    command = _command(Path("the cases.toml"), ["same", "other"], timing=True)
    assert command == "flopratio check 'the cases.toml' --case same --case other --timing"


def test_junit_holds_no_name_that_xml_cannot(project, capsys):
    with open("flopratio.toml", "a") as file:
        file.write('[cases."a\\u0001b"]\nmodel = "mlp"\n')
    capsys.readouterr()
    assert main(["check", "--format", "junit"]) == 1
    suite = ElementTree.fromstring(capsys.readouterr().out.encode()).find("testsuite")
    assert [test.get("name") for test in suite] == ["same", "other", "a?b"]


def test_junit(changed, capsys):
    changed["same"] = "a\x00 <broken> model"
    assert main(["check", "--format", "junit"]) == 1
    suite = ElementTree.fromstring(capsys.readouterr().out.encode()).find("testsuite")
    counts = {name: suite.get(name) for name in ("tests", "failures", "errors")}
    assert counts == {"tests": "2", "failures": "1", "errors": "1"}
    same, other = suite
    assert same.find("error").text == "a? <broken> model"
    assert other.get("line") == "5"
    assert other.find("failure").get("type") == "CHANGED"
    assert "inner: forward 100 FLOP → 50 FLOP" in other.find("failure").text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--format", "xml"], "format=xml should be one of table, github, junit"),
        (["--format", "junit", "--json"], "are two formats: give one of them"),
        (["--case", "othr"], "there is no case 'othr': did you mean 'other'?"),
        (["none.toml"], "there is no file none.toml"),
    ],
)
def test_usage_errors_are_a_sentence(project, capsys, arguments, said):
    capsys.readouterr()
    assert main(["check", *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert said in printed.err
    assert printed.err.count("\n") == 1


def test_without_a_lock(project, capsys, tmp_path):
    (tmp_path / "flopratio.lock.json").unlink()
    capsys.readouterr()
    assert main(["check"]) == 2
    assert capsys.readouterr().err == (
        "flopratio: there is no flopratio.lock.json to compare with: flopratio check --update "
        "makes it\n"
    )


def test_a_model_that_changes(tmp_path):
    """All of it, as a user runs it: a file of their own, from another directory."""
    (tmp_path / "model.py").write_text(
        "from torch import nn\n\ndef make(width=8):\n    return nn.Linear(width, 4)\n"
    )
    (tmp_path / "pyproject.toml").write_text(
        '[tool.flopratio.cases]\nown = "model.py:make batch=2"\n'
    )

    def check(*arguments):
        command = [sys.executable, "-m", "flopratio", "check", "pyproject.toml", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
        return done.returncode, done.stdout + done.stderr

    assert check("--update")[0] == 0
    model = tmp_path / "model.py"
    model.write_text(model.read_text().replace("width=8", "width=16"))
    code, printed = check()
    assert code == 1
    assert printed.startswith("1 of 1 case CHANGED")
    assert "128 FLOP" in printed
    assert "256 FLOP" in printed
