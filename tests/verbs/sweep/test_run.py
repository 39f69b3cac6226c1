"""A plan: run, killed, resumed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from flopratio.errors import UsageError
from flopratio.verbs.sweep import point
from flopratio.verbs.sweep.plan import make_plan, swept_options
from flopratio.verbs.sweep.run import run_plan
from tests import toy


def toy_plan(measure="none", **keys):
    return make_plan("toy", keys, networks=toy.NETWORKS, measure=measure)


def never(model, settings, options, measure):
    raise AssertionError("every point is there already")


def test_rows_in_the_plans_order():
    grid = toy_plan(depth=(2, 0), batch=(1,))
    finished = []
    rows = run_plan(grid, evaluate=toy.examine, finished=finished.append)
    assert rows == finished
    assert [row["depth"] for row in rows] == [2, 0]
    assert [row["forward"] for row in rows] == [384, 128]  # 3 and 1 layers of 2 * 1 * 8 * 8
    assert [row["ratio"] for row in rows] == [5 / 3, 1]
    assert [row["status"] for row in rows] == ["ok", "ok"]
    assert all(tuple(row) == grid.columns for row in rows)


def test_only_missing_points_run(tmp_path):
    grid = toy_plan(depth=(0, 1, 2))
    asked = []

    def examine(model, settings, options, measure):
        asked.append(settings["depth"])
        if len(asked) == 3:
            raise KeyboardInterrupt
        return toy.examine(model, settings, options, measure)

    with pytest.raises(KeyboardInterrupt):
        run_plan(grid, output=tmp_path, evaluate=examine)
    rows = run_plan(grid, output=tmp_path, evaluate=examine)
    assert asked == [0, 1, 2, 2]
    assert rows == run_plan(grid, evaluate=toy.examine)
    assert run_plan(grid, output=tmp_path, evaluate=never) == rows

    run_plan(grid, output=tmp_path, evaluate=examine, fresh=True)
    assert asked == [0, 1, 2, 2, 0, 1, 2]


@pytest.mark.parametrize(
    ("model", "keys", "freeze", "said"),
    [
        (None, {}, "hidden.1", "mlp depth=1 batch=1: freeze=hidden.1 matches no module or"),
        (None, {}, "first.linear", "cnn depth=0 batch=1 image=64: freeze=first.linear matches no"),
        ("mlp", {"depth": (2,)}, "*", r"mlp depth=2: freeze=\* leaves nothing to train"),
    ],
)
def test_what_no_point_could_run_with_is_told_before_the_first(
    model, keys, freeze, said, monkeypatch, tmp_path
):
    monkeypatch.setattr(point, "examine", never)
    grid = make_plan(model, keys, swept_options(freeze=freeze), measure="none")
    with pytest.raises(UsageError, match=said):
        run_plan(grid, output=tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_pattern_that_every_point_knows_lets_them_run(monkeypatch):
    monkeypatch.setattr(point, "examine", toy.examine)
    options = swept_options(freeze="hidden.0.*")
    grid = make_plan("mlp", {"depth": (2, 3)}, options, measure="none")
    assert [row["status"] for row in run_plan(grid)] == ["ok", "ok"]


KILLED = """
import os, signal, sys
from pathlib import Path
from flopratio.errors import UsageError
from flopratio.verbs.sweep import point
from flopratio.verbs.sweep.plan import make_plan, swept_options
from flopratio.verbs.sweep.run import run_plan
from tests import toy

output, stop = Path(sys.argv[1]), int(sys.argv[2])

def examine(model, settings, options, measure):
    if settings["depth"] == stop:
        os.kill(os.getpid(), signal.SIGKILL)
    return toy.examine(model, settings, options, measure)

grid = make_plan("toy", {"depth": range(6), "batch": (1, 8)}, networks=toy.NETWORKS)
run_plan(grid, output=output, evaluate=examine)
"""


def test_a_killed_sweep_ends_as_an_undisturbed_one(tmp_path):
    def sweep(directory, stop):
        return subprocess.run(
            [sys.executable, "-c", KILLED, str(tmp_path / directory), str(stop)],
            cwd=Path(__file__).parents[3],
            check=False,
        ).returncode

    assert sweep("killed", stop=3) == -signal.SIGKILL
    killed = tmp_path / "killed" / "sweep.csv"
    assert len(killed.read_text().splitlines()) == 1 + 2 * 3
    with killed.open("rb+") as file:  # as if it had died within a write
        file.seek(-20, os.SEEK_END)
        file.truncate()
    assert sweep("killed", stop=-1) == 0
    assert sweep("undisturbed", stop=-1) == 0
    assert killed.read_bytes() == (tmp_path / "undisturbed" / "sweep.csv").read_bytes()


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to"),
    ],
)
def test_a_point_that_runs_out_of_memory_is_a_row(tmp_path, error):
    def examine(model, settings, options, measure):
        if measure == "cpu" and settings["batch"] == 8:
            raise error
        return toy.examine(model, settings, options, measure)

    grid = toy_plan(measure="cpu", batch=(4, 8, 16))
    rows = run_plan(grid, output=tmp_path, evaluate=examine)
    assert [row["status"] for row in rows] == ["ok", "oom", "ok"]
    assert [row["forward"] for row in rows] == [1536, 3072, 6144]  # 3 * 2 * batch * 8 * 8
    assert [row["forward_ms"] for row in rows] == [1.0, None, 1.0]
    assert run_plan(grid, output=tmp_path, evaluate=never) == rows


def test_a_point_that_cannot_even_be_counted_is_a_row():
    def examine(model, settings, options, measure):
        raise MemoryError

    (row,) = run_plan(toy_plan(measure="cpu"), evaluate=examine)
    assert (row["status"], row["device"], row["forward"]) == ("oom", "cpu", None)


def test_other_errors_are_errors():
    def examine(model, settings, options, measure):
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        run_plan(toy_plan(), evaluate=examine)
