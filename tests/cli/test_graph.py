"""``flopratio graph``: pictures, and sentences where there can be none."""

import json

import pytest

from flopratio.cli import main

SMALL = ["graph", "mlp", "depth=1", "width=8", "input=6", "batch=2"]


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("g.svg", "<svg "),
        ("g.SVG", "<svg "),
        ("g.dot", "digraph {"),
        ("g.mmd", "---\ntitle: "),
        ("g.mermaid", "---\ntitle: "),
    ],
)
def test_a_file_by_its_extension(tmp_path, capsys, name, start):
    path = tmp_path / name
    assert main([*SMALL, "-o", str(path)]) == 0
    assert path.read_text(encoding="utf-8").startswith(start)
    printed = capsys.readouterr()
    assert not printed.out
    assert str(path) in printed.err


def test_it_overwrites_nothing_without_force(tmp_path, capsys):
    path = tmp_path / "g.svg"
    path.write_text("mine", encoding="utf-8")
    assert main([*SMALL, "-o", str(path)]) == 2
    assert capsys.readouterr().err.splitlines() == [
        f"flopratio: {path} is there already: --force overwrites it"
    ]
    assert path.read_text(encoding="utf-8") == "mine"
    assert main([*SMALL, "-o", str(path), "--force"]) == 0
    assert path.read_text(encoding="utf-8").startswith("<svg ")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([*SMALL, "-o", "g.png"], "it should end in .svg, .dot, .mmd, .mermaid"),
        (SMALL, "-o FILE.svg, FILE.dot or FILE.mmd says which"),
        (["graph", "-o", "g.svg"], "graph what? name a MODEL"),
        (["graph", "mlp", "depth=1,2", "-o", "g.svg"], "depth has 2 values and graph takes one"),
        ([*SMALL, "-o", "no/such/g.svg"], "there is no directory no/such"),
        ([*SMALL, "-o", "g.svg", "--depth", "1", "--operators"], "give one of them"),
        ([*SMALL, "-o", "g.svg", "--depth", "-1"], "--depth"),
        (["graph", "mpl", "-o", "g.svg"], "there is no model 'mpl'"),
    ],
)
def test_one_sentence(tmp_path, monkeypatch, capsys, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert sentence in line
    assert not list(tmp_path.iterdir())


def test_one_document(capsys):
    assert main([*SMALL, "--json", "--depth", "1"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "flopratio.graph/1"
    assert document["depth"] == 1
    assert [operator["layer"] for operator in document["operators"]] == ["first", "output", "loss"]
    total = document["totals"]["forward"]
    assert total == sum(operator["figures"]["forward"] for operator in document["operators"])
    assert total == 2 * 2 * 8 * (6 + 10)


def test_a_large_one_folds_and_says_so(tmp_path, capsys):
    path = tmp_path / "g.svg"
    line = ["graph", "mlp", "depth=30", "width=8", "input=6", "batch=2", "-o", str(path)]
    assert main(line) == 0
    assert "operators are folded into" in capsys.readouterr().err
    assert main([*line, "--force", "--operators"]) == 0
    assert "folded" not in capsys.readouterr().err
