"""``flopratio formula``, and ``flopratio sweep`` by closed form, from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import sympy

from flopratio.cli import main, progress

NET = """
from torch import nn

def net(width=8, depth=2):
    layers = [nn.Linear(4, width), *(nn.Linear(width, width) for _ in range(depth))]
    return nn.Sequential(*layers)
"""


@pytest.fixture
def net(tmp_path: Path) -> str:
    (tmp_path / "net.py").write_text(NET)
    return f"{tmp_path / 'net.py'}:net"


def test_json_has_forms_that_sympy_reads(net: str, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["formula", net, "batch", "width", "input=2x4", "--json", "--verify", "2", "-q"]
    assert main(line) == 0
    document = json.loads(capsys.readouterr().out)
    values = {"batch": 3, "width": 7}
    forward = sympy.sympify(document["forward"]).subs(values)
    assert forward == 2 * 3 * (4 * 7 + 2 * 7 * 7)
    assert sympy.sympify(document["parameters"]).subs(values) == 4 * 7 + 7 + 2 * (49 + 7)
    assert document["model"] == net
    assert document["keys"] == ["batch", "width"]
    assert sympy.sympify(f"{document['model_flops']} - ({document['forward']})").equals(
        sympy.sympify(document["backward"])
    )
    assert document["verified_at"]
    assert {"grad_input", "grad_weight", "backward", "update", "saved_bytes"} <= document.keys()


def test_a_log_has_each_trace_where_it_takes_long(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "BETWEEN_LINES_S", 0.0)
    assert main(["formula", "mlp", "batch", "depth=1", "--verify", "1", "--no-cache"]) == 0
    first, *rest = capsys.readouterr().err.splitlines()
    assert first == "flopratio: formula of mlp: 1 step traced"
    assert rest == [f"flopratio: formula of mlp: {n + 2} steps traced" for n in range(len(rest))]
    assert len(rest) > 3


def test_a_question_is_answered(capsys: pytest.CaptureFixture[str]) -> None:
    line = ["formula", "mlp", "batch=8", "depth=2", "--verify", "1", "-q"]
    assert main([*line, "--solve", "parameters = 1e6", "--for", "width", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["there"] <= 10**6 < document["at_next"]
    assert document["next"] == document["largest"] + 1
    assert document["there"] == sympy.sympify(document["form"]).subs("width", document["largest"])
    assert document["largest"] <= document["real"] < document["next"]


def test_a_grid_is_swept_by_closed_form(
    net: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "grid"
    line = ["sweep", net, "batch=1..30", "width=1..20", "input=2x4", "--measure", "none", "-q"]
    assert main([*line, "-o", str(output), "--verify", "2"]) == 0
    assert "600 points from " in capsys.readouterr().out
    header, *rows = (output / "sweep.csv").read_text().splitlines()
    assert len(rows) == 600
    last = dict(zip(header.replace('"', "").split(","), rows[-1].split(","), strict=True))
    assert last["batch"], last["width"] == ("30", "20")
    assert int(last["forward"]) == 2 * 30 * (4 * 20 + 2 * 20 * 20)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "formula of what? name a MODEL and KEYs"),
        (["mlp"], "name KEYs"),
        (["mlp", "bat ch"], "'bat ch' is no KEY"),
        (["mlp", "batch", "--by", "op"], "by=op should be one of total, type, layer"),
        (["mlp", "batch", "--json", "--latex"], "leave one"),
        (["mlp", "--for", "width"], "say --solve 'hardware = 1e24' too"),
        (["mlp", "--solve", "hardware=1e9"], "for which KEY? say --for width"),
        (["mlp", "--solve", "hardwar=1e9", "--for", "width"], "did you mean 'hardware'"),
        (["mlp", "--solve", "1e9", "--for", "width"], "'1e9' is no question"),
        (["mlp", "batch", "--solve", "hardware=1e9", "--for", "width"], "give batch a value"),
        (["mlp", "--solve", "hardware=1e9", "--for", "width", "--latex"], "leave --by, --latex"),
        (
            ["hf:gpt2", "--solve", "peak = 40GiB", "--for", "width", "seq=64"],
            "have no closed form: the moment of the peak, and the allocator's blocks, change from "
            "size to size; it is found by traces: flopratio fit hf:gpt2 seq=64 --key hidden_size "
            "--memory 40GiB\n",
        ),
        (
            ["mlp", "--solve", "peak_reserved=1.5e9", "--for", "depth", "--optimizer", "adamw"],
            ": flopratio fit mlp --optimizer adamw --key depth --memory 1500000000B --figure "
            "peak_reserved\n",
        ),
        (["mlp", "--solve", "peak = 4Gi", "--for", "width"], "Gi in memory=4Gi is no unit"),
        (["mlp", "--solve", "peak = 4z9", "--for", "width"], "peak = 4z9 is no number"),
    ],
)
def test_bad_input_exits_2(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["formula", *words]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1
