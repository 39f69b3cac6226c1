"""A sweep of a MODEL that is loaded: what is compared, judged, left out by name, and refused."""

import csv
import json
from pathlib import Path

import pytest

import flopratio as fr
from flopratio.cli import main
from flopratio.verbs.sweep import point
from flopratio.verbs.sweep.file import reasons
from flopratio.verbs.sweep.plan import make_plan, swept_options
from flopratio.verbs.sweep.point import examine
from flopratio.verbs.sweep.run import run_plan
from flopratio.verbs.sweep.verdict import judge

SOURCE = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, width, groups):
        super().__init__()
        self.first = nn.Conv2d(4, 4, 3, groups=groups)
        self.last = nn.Linear(4 * 36, width)

    def forward(self, x):
        return self.last(torch.relu(self.first(x)).flatten(1))


def make(width=8, groups=1, batch=2):
    if width == 7:
        raise ValueError("never 7")
    return Net(width, groups), torch.randn(batch, 4, 8, 8)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.cells = nn.LSTM(4, 5)
        self.output = nn.Linear(5, 2)

    def forward(self, x):
        return self.output(self.cells(x)[0].mean(0))


def recurrent(batch=2):
    return Recurrent(), torch.randn(3, batch, 4)
"""


@pytest.fixture
def own(tmp_path: Path) -> str:
    """The user's own file."""
    path = tmp_path / "net.py"
    path.write_text(SOURCE)
    return str(path)


def verdict(model: str, options=None, **keys) -> dict[str, dict]:
    grid = make_plan(model, keys, options)
    return {claim["claim"]: claim for claim in judge(run_plan(grid), grid.keys)}


def test_the_claims_that_make_sense_are_judged_and_the_others_named(own: str) -> None:
    claims = verdict(f"{own}:make", batch=(2, 4, 8))
    assert {claim for claim, one in claims.items() if one["holds"]} == {
        "the law = executed, in each layer and phase",
        "saved bytes = those that autograd's own hooks see",
        "forward = 2 x fvcore's multiply-adds, attention apart",
        "forward + backward = FlopCounterMode",
        "first layer: backward = forward",
        "forward FLOP are affine in batch",
        "backward FLOP are affine in batch",
        "update FLOP don't depend on batch",
        "saved bytes are affine in batch",
        "training takes more memory than inference, at its peak",
        "checkpointing a chain in the root of its length keeps no more for backward",
        "checkpointing computes at most one forward again",
    }
    left_out = [one for one in claims.values() if not one["holds"]]
    assert len(left_out) == 4
    for one in left_out:
        assert one["holds"] is None
        assert one["observed"].startswith("left out: ")


def test_its_figures_are_those_of_count(own: str) -> None:
    row = examine(f"{own}:make", {"batch": 3}, swept_options(weight_decay=0.1))
    ledger = fr.count(f"{own}:make", 3, optimizer="sgd", weight_decay=0.1, target="cpu")
    total = ledger.totals
    assert row["forward"] == 2 * 3 * (4 * 36 * 4 * 9 + 4 * 36 * 8) == total.forward
    assert row["backward"] == total.backward
    assert row["update"] == 4 * row["parameters"] == total.update
    assert row["saved_bytes"] == total.saved_bytes
    assert row["first_layer_ratio"] == 1
    assert (row["dtype"], row["loss"], row["device"]) == ("float32", "auto", "fake cpu")


@pytest.mark.parametrize(
    ("factory", "keys", "column", "why"),
    [
        ("make", {"groups": 2}, "flop_counter_equal", "the weight gradient of a grouped convolut"),
        ("recurrent", {}, "flop_counter_equal", "has no formula for aten.mkldnn_rnn_layer"),
        ("recurrent", {}, "fvcore_equal", "it skips aten::lstm"),
    ],
)
def test_where_a_peer_is_known_to_be_wrong_it_says_so(
    own: str, factory: str, keys: dict, column: str, why: str
) -> None:
    row = examine(f"{own}:{factory}", {"batch": 2, **keys})
    assert row["executed_equal"]
    assert row[column] is None
    assert why in reasons(row)[column]
    if factory == "recurrent":  # its first layer multiplies data, and its own state
        assert row["first_layer_ratio"] is None


@pytest.mark.parametrize(
    "options",
    [
        {"checkpoint": "first"},
        {"accumulate": 2},
        {"amp": "bf16"},
        {"freeze": "first*"},
        {"weight_decay": "loss:0.1", "optimizer": "adamw"},
        {"dtype": "bf16", "input_grad": True},
    ],
    ids=str,
)
def test_every_option_of_a_step_makes_sense(own: str, options: dict) -> None:
    for model, keys in ((f"{own}:make", {}), ("mlp", {"hidden": (6, 5)})):
        if model == "mlp" and "checkpoint" in options:
            options = {"checkpoint": "first.*"}
        row = examine(model, {"batch": 2, **keys}, swept_options(**options))
        assert row["executed_equal"], reasons(row)
        assert row["saved_equal"] in (True, None)
        assert row["flop_counter_equal"]
        assert row["recompute"] == 0 or "checkpoint" in options


def test_a_measured_point(own: str) -> None:
    row = examine(f"{own}:make", {"batch": 2}, measure="cpu")
    assert row["executed_equal"]
    assert min(row["forward_ms"], row["backward_ms"], row["update_ms"]) > 0
    assert row["device"] == "cpu"


def test_a_point_that_fails_is_named_and_those_before_it_stay(
    own: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "out"
    words = ["sweep", f"{own}:make", "width=4,5,7", "--measure", "none", "-o", str(directory)]
    assert main(words) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert f"{own}:make width=7: " in told
    assert "never 7" in told
    rows = list(csv.DictReader((directory / "sweep.csv").read_text().splitlines()))
    assert [row["width"] for row in rows] == ["4", "5"]

    asked = []
    real = point.examine
    monkeypatch.setattr(point, "examine", lambda *given: asked.append(given) or real(*given))
    assert main(words) == 2  # resumed
    assert [given[1] for given in asked] == [{"width": 7}]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["{own}:make", "widht=3"], "did you mean 'width'"),
        (["{own}:mak"], "make"),
        (["torchvision:resnet1"], "resnet1"),
        (["{own}:make", "--freeze", "firts"], "firts"),
        (["{own}:make", "optimizer=sgd"], "write --optimizer"),
        (["{own}:make", "--inference"], "inference"),
    ],
)
def test_bad_input_writes_nothing(
    own: str, words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [word.format(own=own) for word in words]
    assert main(["sweep", *words, "--measure", "none", "-o", str(tmp_path / "new")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_a_model_of_a_zoo_passes_its_claims(tmp_path: Path) -> None:
    words = ["torchvision:resnet18", "batch=1,2,4", "image=64", "--measure", "none", "-q"]
    assert main(["sweep", *words, "-o", str(tmp_path)]) == 0
    claims = json.loads((tmp_path / "verdict.json").read_text())
    assert sum(claim["holds"] is True for claim in claims) == 12
    assert (tmp_path / "flops_by_layer.png").exists()
    with (tmp_path / "sweep.csv").open() as file:
        assert {row["ratio"] for row in csv.DictReader(file)} != {""}
