"""``flopratio profile``: what it prints, writes and returns."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import flopratio as fr
from flopratio.cli import main
from flopratio.cli.profile import BUDGET_S, REPEATS
from flopratio.hardware import write
from flopratio.verbs import profile as verb
from tests.report.trace_format import check_trace, tracks
from tests.verbs.profile.small import ROOFS, small_profile


class Verb:
    """Gives :attr:`profile` and remembers what it was asked for."""

    def __init__(self) -> None:
        self.profile = small_profile()

    def __call__(self, model: str, **words: Any) -> fr.Profile:
        self.model, self.words = model, words
        return self.profile


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Verb:
    asked = Verb()
    monkeypatch.setattr(verb, "profile", asked)
    return asked


def test_a_step_that_is_really_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    roofs = tmp_path / "roofs.json"
    write(ROOFS, roofs)
    step = ["profile", "mlp", "depth=1", "width=8", "batch=4", "--optimizer", "sgd"]
    few = ["--repeats", "3", "--budget", "0.01", "--roofs", str(roofs)]
    assert main([*step, *few, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "flopratio.ledger/1"
    assert set(document["time_ms"]) >= {"forward", "backward", "update", "step"}
    assert document["operator_differences"] == []
    assert document["settings"]["batch"] == 4
    assert "rows" not in document
    for layer in document["layers"]:
        assert {"forward_ms", "grad_input_ms", "grad_weight_ms", "backward_ms"} <= layer.keys()


def test_it_prints_the_table_the_ratios_and_the_explanation(
    asked: Verb, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["profile", "toy"]) == 0
    printed = capsys.readouterr().out
    assert "stem.conv  Conv2d   70.0%" in printed
    assert "1.500 in time, as measured [1.400, 1.600]" in printed
    assert "why the measured ratio is not that of FLOPs" in printed


def test_what_it_asks_for(asked: Verb) -> None:
    words = ["--device", "cuda:1", "--repeats", "7", "--budget", "3", "--roofs", "fresh"]
    assert main(["profile", "mlp", "batch=8", *words, "--amp", "bf16", "--accumulate", "2"]) == 0
    assert asked.model == "mlp"
    told = {name: asked.words[name] for name in ("device", "repeats", "budget_s", "roofs")}
    assert told == {"device": "cuda:1", "repeats": 7, "budget_s": 3.0, "roofs": "fresh"}
    assert asked.words["batch"] == 8
    assert asked.words["amp"] == "bf16"
    assert asked.words["accumulate"] == 2
    assert "target" not in asked.words


def test_the_defaults_are_the_verbs() -> None:
    assert (REPEATS, BUDGET_S) == (verb.REPEATS, verb.BUDGET_S)


def test_a_view(asked: Verb, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", "toy", "--by", "phase", "--top", "2"]) == 0
    printed = capsys.readouterr().out
    assert "grad_input" in printed
    assert "… and 2 more phases" in printed


def test_a_file_can_be_read_back(
    asked: Verb, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "p.json"
    assert main(["profile", "toy", "-o", str(path)]) == 0
    printed = capsys.readouterr()
    assert printed.out == ""
    assert str(path) in printed.err
    assert "it was cold" in printed.err
    read = fr.Profile.from_json(path.read_text(encoding="utf-8"))
    assert read.to_json() == asked.profile.to_json()
    assert main(["profile", "toy", "-o", str(path)]) == 2
    assert main(["profile", "toy", "-o", str(path), "--force", "-q"]) == 0


def test_pictures_and_a_trace_of_a_step_that_is_really_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    roofs, plots, trace = tmp_path / "roofs.json", tmp_path / "new" / "plots", tmp_path / "t.json"
    write(ROOFS, roofs)
    step = ["profile", "mlp", "depth=1", "width=8", "batch=4", "--optimizer", "adam"]
    few = ["--repeats", "3", "--budget", "0.01", "--roofs", str(roofs)]
    wanted = ["--plots", str(plots), "--trace", str(trace)]
    assert main([*step, *few, *wanted]) == 0
    printed = capsys.readouterr()
    names = {
        f"{name}.{extension}"
        for name in ("roofline", "layer_times", "predicted_against_measured")
        for extension in ("png", "svg")
    }
    assert {path.name for path in plots.iterdir()} == names
    assert {Path(line).name for line in printed.err.splitlines()} >= {*names, "t.json"}
    document = json.loads(trace.read_text(encoding="utf-8"))
    check_trace(document)
    phases = ("forward", "grad_input", "grad_weight", "update")
    assert set(phases) < set(tracks(document))
    assert [event for event in document["traceEvents"] if event["ph"] == "C"]
    assert main([*step, *few, *wanted]) == 2
    assert "is there already: --force overwrites it" in capsys.readouterr().err
    assert main([*step, *few, "--plots", str(plots)]) == 2
    assert "plots holds layer_times.png already: --force" in capsys.readouterr().err


def test_what_was_measured_before_an_interrupt_is_printed(
    asked: Verb, capsys: pytest.CaptureFixture[str]
) -> None:
    asked.profile = replace(asked.profile, interrupted=True)
    assert main(["profile", "toy"]) == 130
    printed = capsys.readouterr()
    assert "stem.conv" in printed.out
    assert printed.err.endswith("flopratio: interrupted\n")


def test_what_was_not_measured_is_not_drawn(
    asked: Verb, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    timing = replace(asked.profile.timing, profiled=None)
    rows = [row._replace(time_us=None) for row in asked.profile.ledger.rows]
    ledger = replace(asked.profile.ledger, rows=rows)
    asked.profile = replace(asked.profile, timing=timing, ledger=ledger, interrupted=True)
    trace, plots = tmp_path / "t.json", tmp_path / "plots"
    assert main(["profile", "toy", "--trace", str(trace), "--plots", str(plots)]) == 130
    assert f"no step was profiled: {trace} is not written" in capsys.readouterr().err
    assert not trace.exists()
    assert list(plots.iterdir()) == []


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (["profile"], "profile what? name a MODEL"),
        (["profile", "mlp", "batch=1,2"], "batch has 2 values and profile takes one"),
        (["profile", "mlp", "device=cuda"], "device is no KEY of a model: write --device"),
        (["profile", "mlp", "--by", "layers"], "'layers' is no view"),
        (["profile", "mlp", "--plots", "p.png"], "p.png should be a directory"),
        (["profile", "mlp", "--trace", "t.txt"], "it should end in .json"),
        (["profile", "mlp", "--by", "autograd"], "'autograd' is no view"),
        (["profile", "mlp", "--sort", "slow"], "'slow' is no column"),
        (
            ["profile", "mlp", "--device", "gpu"],
            "device=gpu should be one of cpu, cuda: did you mean 'cuda'?",
        ),
        (["profile", "mlp", "--roofs", "nowhere.json"], "nowhere.json"),
        (["profile", "mlp", "--target", "cpu"], "of where it runs: --device says where."),
        (["profile", "mlp", "-o", "there.txt"], "ends in .txt: it should end in .json"),
    ],
)
def test_what_it_refuses_in_one_sentence(
    line: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(line) == 2
    error = capsys.readouterr().err
    assert says in error
    assert len(error.splitlines()) == 1
