"""``flopratio sweep``: what it writes, prints and returns. The engine is a toy."""

import csv
import gc
import json
from types import SimpleNamespace

import pytest

from flopratio.cli import main
from flopratio.networks import library
from flopratio.report import figures
from flopratio.verbs.sweep import point
from flopratio.verbs.sweep.plan import swept_options
from tests import toy


@pytest.fixture(autouse=True)
def engine(monkeypatch):
    """The toy network in the place of the built-in ones, and nothing drawn; a test may put
    another function in."""
    engine = SimpleNamespace(examine=toy.examine, draw_all=lambda frame, directory, layers: [])
    monkeypatch.setattr(library, "NETWORKS", toy.NETWORKS)
    monkeypatch.setattr(point, "examine", lambda *given: engine.examine(*given))
    monkeypatch.setattr(point, "check", lambda *given: None)
    monkeypatch.setattr(figures, "draw_all", lambda *given: engine.draw_all(*given))
    monkeypatch.setattr(point, "layers_of", lambda _, settings, options: [settings["depth"]])
    return engine


@pytest.fixture
def sweep(tmp_path):
    grid = ["toy", "depth=0,1,2", "batch=1,8,64", "--measure", "none", "-o", str(tmp_path)]
    return lambda *words: main(["sweep", *grid, *words])


def test_it_writes_rows_verdict_and_environment(sweep, tmp_path):
    assert sweep() == 0
    with (tmp_path / "sweep.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["depth"], row["batch"], row["forward"]) for row in rows[:2]] == [
        ("0", "1", "128"),
        ("0", "8", "1024"),
    ]
    verdict = json.loads((tmp_path / "verdict.json").read_text())
    assert [*verdict[0]] == ["claim", "expected", "observed", "tolerance", "holds"]
    environment = json.loads((tmp_path / "environment.json").read_text())
    assert environment["sweep"]["grids"] == {"toy": {"depth": "0,1,2", "batch": "1,8,64"}}


@pytest.mark.parametrize(("depths", "shown"), [("0,8,10,11,40", 10), ("50,20,30", 20)])
def test_it_draws_all_rows_and_the_bars_of_a_network_that_can_be_read(
    engine, tmp_path, depths, shown
):
    drawn = []
    engine.draw_all = lambda *arguments: drawn.append(arguments)
    words = ["toy", f"depth={depths}", "--measure", "none", "-o", str(tmp_path)]
    assert main(["sweep", *words]) == 0
    ((frame, directory, layers),) = drawn
    assert list(frame["depth"]) == [int(depth) for depth in depths.split(",")]
    assert frame["forward"].dtype == object
    assert frame["ratio"].dtype == float
    assert directory == tmp_path
    assert layers == [shown]


def test_the_verdict_comes_first_and_the_progress_apart(sweep, capsys):
    sweep()
    printed = capsys.readouterr()
    assert printed.out.startswith("All 18 claims hold: 9 points, in ")
    assert "first layer" in printed.out
    assert "9/9" in printed.err
    assert "9/9" not in printed.out


def test_a_claim_that_fails_exits_1(sweep, engine, capsys):
    def wrong(*point):
        return {**toy.examine(*point), "first_layer_ratio": 2.0}

    engine.examine = wrong
    assert sweep() == 1
    assert capsys.readouterr().out.startswith("1 of 18 claims FAIL: ")


def test_a_comparison_that_could_not_be_made_neither_fails_nor_passes(
    sweep, engine, capsys, tmp_path
):
    missing = {"fvcore_equal": None, "not_compared": "fvcore_equal: fvcore is not installed"}
    engine.examine = lambda *point: {**toy.examine(*point), **missing}
    assert sweep() == 0
    assert capsys.readouterr().out.startswith("All 17 claims hold, 1 left out: 9 points")
    verdict = json.loads((tmp_path / "verdict.json").read_text())
    assert [(c["claim"], c["observed"]) for c in verdict if c["holds"] is None] == [
        (
            "forward = 2 x fvcore's multiply-adds, attention apart",
            "left out: fvcore is not installed",
        )
    ]
    rows = csv.DictReader((tmp_path / "sweep.csv").read_text().splitlines())
    assert {row["fvcore_equal"] for row in rows} == {""}


def test_json_is_one_document(sweep, engine, capsys):
    assert sweep("--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "flopratio.sweep/1"
    assert [row["forward"] for row in document["rows"][:3]] == [128, 1024, 8192]
    assert all(claim["holds"] for claim in document["verdict"])


def test_quiet_and_verbose(sweep, capsys):
    sweep("-q")
    assert capsys.readouterr().err == ""
    sweep("-v", "--fresh")
    assert "toy depth=1 batch=8 ok" in capsys.readouterr().err


def test_options_reach_the_engine(engine, tmp_path):
    asked = []

    def remember(*point):
        asked.extend(point[2:])
        return toy.examine(*point)

    engine.examine = remember
    words = ["--optimizer", "none", "--dtype", "bfloat16", "--freeze", "first.*", "--input-grad"]
    assert main(["sweep", "toy", "--measure", "cpu", *words, "-o", str(tmp_path)]) == 0
    chosen = {"optimizer": "none", "dtype": "bfloat16", "freeze": "first.*", "input_grad": True}
    assert asked == [swept_options(**chosen), "cpu"]


def test_another_grid_in_the_directory_stays(sweep, tmp_path, capsys):
    assert sweep() == 0
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert main(["sweep", "toy", "depth=3", "--measure", "none", "-o", str(tmp_path)]) == 2
    assert "is from another sweep (its depth is 0,1,2, not 3)" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    "words", [["toi"], ["toy", "bach=1"], ["toy", "batch=abc"], ["toy", "batch=-1"]]
)
def test_bad_input_writes_nothing(words, tmp_path, capsys):
    assert main(["sweep", *words, "-o", str(tmp_path / "new")]) == 2
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", ["there.txt", "new.csv", "new.json"])
def test_a_file_in_the_place_of_the_directory_is_refused(name, tmp_path, capsys):
    (tmp_path / "there.txt").write_text("mine")
    assert main(["sweep", "toy", "--measure", "none", "-o", str(tmp_path / name)]) == 2
    printed = capsys.readouterr().err
    assert f"{name} should be a directory, not a file: a sweep writes sweep.csv" in printed
    assert printed.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["there.txt"]
    assert (tmp_path / "there.txt").read_text() == "mine"


def test_a_directory_that_cannot_be_written_runs_nothing(engine, tmp_path, capsys):
    def never(*point):
        raise AssertionError("nothing should run")

    engine.examine = never
    (tmp_path / "file").write_text("")
    assert main(["sweep", "toy", "-o", str(tmp_path / "file" / "below")]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("flopratio: can't write in")
    assert printed.count("\n") == 1


def test_a_grid_by_closed_form_says_how_many_traces_agree(tmp_path, capsys):
    (tmp_path / "net.py").write_text(
        "import torch\n"
        "def limited(batch=2):\n"
        "    if batch > 6: raise ValueError('6 at most')\n"
        "    return torch.nn.Linear(3, 3), torch.empty(batch, 3)\n"
    )
    before = gc.get_threshold()
    words = [f"{tmp_path}/net.py:limited", "batch=2..300", "--measure", "none", "--verify", "9"]
    assert main(["sweep", *words, "-o", str(tmp_path / "swept")]) == 0
    assert "299 points from" in (out := capsys.readouterr().out)
    assert out.endswith("; 5 of 5 fresh traces at random points are equal\n")
    assert gc.get_threshold() == before
