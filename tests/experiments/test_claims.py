"""The experiments: each has its rows and files in results/, the quick ones give them again, and
writing one keeps the rows of the others."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pandas as pd
import pytest

from experiments.__main__ import main, summary
from experiments.claims import (
    COLUMNS,
    RESULTS,
    Claim,
    changed_claims,
    conclude,
    panels,
    read_claims,
    results_in,
)
from experiments.listed import EXPERIMENTS, ORDER
from experiments.run import attempt, run
from flopratio.version import versions

QUICK = [each.name for each in EXPERIMENTS.values() if each.seconds <= 5 and not each.alone]
COMMITTED = read_claims(RESULTS)
SCRIPTS = RESULTS.parent / "experiments"


def test_every_experiment_is_listed_and_has_its_results() -> None:
    scripts = {
        path.stem for path in SCRIPTS.glob("*.py") if "\ndef main() -> None:" in path.read_text()
    }
    assert scripts == set(EXPERIMENTS)
    assert len({each.name for each in ORDER}) == len(ORDER)
    assert {row["experiment"] for row in COMMITTED} == set(EXPERIMENTS)
    for name in EXPERIMENTS:
        assert (RESULTS / f"{name}.csv").exists()


def test_the_rows_stand_in_the_order_of_the_list() -> None:
    names = list(dict.fromkeys(row["experiment"] for row in COMMITTED))
    assert names == list(EXPERIMENTS)
    assert all(list(row) == COLUMNS for row in COMMITTED)


def test_a_claim_has_a_source_and_if_it_differs_a_reason() -> None:
    assert len({(row["experiment"], row["claim"]) for row in COMMITTED}) == len(COMMITTED)
    for row in COMMITTED:
        assert row["claim"]
        assert row["source"]
        assert bool(row["reason"]) == (row["verdict"] == "not reproduced")
        assert bool(row["difference"]) == (row["verdict"] == "not reproduced")


@pytest.mark.skipif(
    versions()["torch"].partition("+")[0] != "2.13.0", reason="the results are of torch 2.13"
)
@pytest.mark.parametrize("name", QUICK)
def test_a_second_run_gives_the_same(name: str, tmp_path: Path) -> None:
    run(name, tmp_path)
    assert changed_claims(RESULTS, tmp_path, {name}) == []
    for kind in ("csv", "svg"):
        assert (tmp_path / f"{name}.{kind}").read_text() == (RESULTS / f"{name}.{kind}").read_text()
    assert (tmp_path / f"{name}.png").exists()


def test_there_are_quick_ones() -> None:
    assert len(QUICK) >= 2


# -- writing --------------------------------------------------------------------------------------


def claim(text: str, ours: int = 2, **others: bool) -> Claim:
    return Claim(text, "somebody", 2, ours, reason="counted otherwise", **others)


def test_an_experiment_replaces_its_own_rows_only(tmp_path: Path) -> None:
    frame = pd.DataFrame({"width": [1, 2]})
    with results_in(tmp_path / "new"):
        conclude("optimizers", frame, None, [claim("a"), claim("b")])
        conclude("depth", frame, None, [claim("c")])
        conclude("optimizers", frame, None, [claim("a", 3)])
    rows = read_claims(tmp_path / "new")
    assert [(row["experiment"], row["claim"], row["ours"]) for row in rows] == [
        ("depth", "c", "2"),
        ("optimizers", "a", "3"),
    ]
    assert (tmp_path / "new" / "depth.csv").read_text() == "width\n1\n2\n"
    assert summary(rows) == "2 claims: 1 reproduced, 1 not reproduced"


def test_a_picture_has_the_experiments_name(tmp_path: Path) -> None:
    draw = panels("A title", lambda axes: axes.plot([1, 2]), lambda axes: axes.plot([2, 1]))
    with results_in(tmp_path):
        conclude("depth", pd.DataFrame({"x": [1]}), draw, [claim("a")])
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "claims.csv",
        "depth.csv",
        "depth.png",
        "depth.svg",
    ]


def test_changed_claims_are_told(tmp_path: Path) -> None:
    write = partial(conclude, "depth", pd.DataFrame({"x": [1]}), None)
    before, after = tmp_path / "before", tmp_path / "after"
    with results_in(before):
        write([claim("a"), claim("b"), claim("timed", measured=True)])
    assert changed_claims(before, before, {"depth"}) == []
    with results_in(after):
        write([claim("a", 3), claim("c"), claim("timed", 5, measured=True)])
    assert changed_claims(before, after, {"optimizers"}) == []
    assert changed_claims(before, after, {"depth"}) == [
        "depth: a: ours was '2' and is '3'",
        "depth: a: difference was '' and is '+50%'",
        "depth: a: verdict was 'reproduced' and is 'not reproduced'",
        "depth: a: reason was '' and is 'counted otherwise'",
        f"depth: b: only in {before}",
        f"depth: c: only in {after}",
    ]


# -- running --------------------------------------------------------------------------------------


def test_what_goes_wrong_is_told(tmp_path: Path) -> None:
    seconds, error = attempt("no_such_experiment", tmp_path)
    assert seconds == 0
    assert "No module named 'experiments.no_such_experiment'" in error


def test_an_unknown_name_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["deapth"])
    assert exit_.value.code == 2
    assert "there is no deapth; there are first_layer, depth, " in capsys.readouterr().err
