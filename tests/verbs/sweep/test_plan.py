"""The grid: planned, run, resumed."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import flopratio as fr
from flopratio.errors import UsageError
from flopratio.verbs.sweep.file import COLUMNS
from flopratio.verbs.sweep.plan import Options, plan, run
from tests import toy


def toy_plan(options=None, **keys):
    return plan("toy", keys, options, networks=toy.NETWORKS)


def never(model, settings, **options):
    raise AssertionError("every point is there already")


def settings(grid, *keys):
    return [tuple(point.settings[key] for key in keys) for point in grid.points]


def test_all_combinations_the_last_key_fastest():
    grid = toy_plan(depth=(1, 2), batch=(8, 16))
    assert settings(grid, "depth", "batch") == [(1, 8), (1, 16), (2, 8), (2, 16)]
    assert settings(toy_plan(batch=(8, 16), depth=(1, 2)), "depth", "batch") == [
        (1, 8),
        (2, 8),
        (1, 16),
        (2, 16),
    ]


def test_keys_that_are_left_out_take_their_defaults():
    assert settings(toy_plan(depth=(1,)), "width", "kind", "batch") == [(8, "plain", 4)]
    assert toy_plan().columns == ("model", "depth", "width", "kind", "batch", *COLUMNS)


def test_the_default_grids(monkeypatch):
    monkeypatch.setattr(
        sys.modules["flopratio.verbs.sweep.plan"],
        "DEFAULT_GRIDS",
        {"toy": {"depth": "0,1", "batch": "2"}, "flat": {"batch": "3..4"}},
    )
    grid = plan(networks=toy.NETWORKS)
    assert [(p.model, p.settings.get("depth"), p.settings["batch"]) for p in grid.points] == [
        ("toy", 0, 2),
        ("toy", 1, 2),
        ("flat", None, 3),
        ("flat", None, 4),
    ]
    assert grid.keys == ("depth", "width", "kind", "batch")
    assert {
        p.settings["batch"] for p in plan(None, {"batch": (9,)}, None, toy.NETWORKS).points
    } == {9}
    with pytest.raises(UsageError, match="flat has no KEY 'depth'"):
        plan(None, {"depth": (9,)}, None, toy.NETWORKS)


@pytest.mark.parametrize(
    ("model", "keys", "said"),
    [
        ("toi", {}, "'toi' is no network: did you mean 'toy'?"),
        ("toy", {"batch": (0,)}, "at least 1"),
        ("toy", {"bach": (1,)}, "did you mean 'batch'"),
        ("toy", {"depth": range(2000), "batch": range(1, 2000)}, "3,998,000 points"),
    ],
)
def test_plans_that_are_refused(model, keys, said):
    with pytest.raises(UsageError) as error:
        plan(model, keys, networks=toy.NETWORKS)
    assert said in str(error.value)


def test_choices():
    for name, value in (("optimizer", "sdg"), ("dtype", "int8"), ("measure", "gpu"), ("loss", "x")):
        with pytest.raises(UsageError, match=f"no choice of --{name}"):
            Options(**{name: value})


def test_measuring_on_cuda_needs_cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert toy_plan(Options(measure="auto")).options.measure == "cpu"
    with pytest.raises(UsageError, match="no CUDA device"):
        toy_plan(Options(measure="cuda"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert toy_plan(Options(measure="auto")).options.measure == "cuda"


def test_the_loss_is_a_key_and_an_option():
    networks = {"net": toy.ToyNetwork(keys={"batch": 1, "loss": "mse"}, choices={})}
    grid = plan("net", {}, Options(loss="sum"), networks)
    assert settings(grid, "loss") == [("sum",)]
    assert grid.columns.count("loss") == 1
    assert settings(plan("net", {"loss": ("sum", "mse")}, None, networks), "loss") == [
        ("sum",),
        ("mse",),
    ]
    with pytest.raises(UsageError, match="given twice"):
        plan("net", {"loss": ("mse",)}, Options(loss="sum"), networks)


def test_rows_in_the_plans_order():
    grid = toy_plan(depth=(2, 0), batch=(1,))
    finished = []
    rows = run(grid, evaluate=toy.examine, finished=finished.append)
    assert rows == finished
    assert [row["depth"] for row in rows] == [2, 0]
    assert [row["forward"] for row in rows] == [384, 128]  # 3 and 1 layers of 2 * 1 * 8 * 8
    assert [row["ratio"] for row in rows] == [5 / 3, 1]
    assert [row["status"] for row in rows] == ["ok", "ok"]
    assert all(tuple(row) == grid.columns for row in rows)


def test_only_missing_points_run(tmp_path):
    grid = toy_plan(depth=(0, 1, 2))
    asked = []

    def examine(model, settings, **options):
        asked.append(settings["depth"])
        if len(asked) == 3:
            raise KeyboardInterrupt
        return toy.examine(model, settings, **options)

    with pytest.raises(KeyboardInterrupt):
        run(grid, output=tmp_path, evaluate=examine)
    rows = run(grid, output=tmp_path, evaluate=examine)
    assert asked == [0, 1, 2, 2]
    assert rows == run(grid, evaluate=toy.examine)
    assert run(grid, output=tmp_path, evaluate=never) == rows

    run(grid, output=tmp_path, evaluate=examine, fresh=True)
    assert asked == [0, 1, 2, 2, 0, 1, 2]


KILLED = """
import os, signal, sys
from pathlib import Path
from flopratio.verbs.sweep.plan import plan, run
from tests import toy

output, stop = Path(sys.argv[1]), int(sys.argv[2])

def examine(model, settings, **options):
    if settings["depth"] == stop:
        os.kill(os.getpid(), signal.SIGKILL)
    return toy.examine(model, settings, **options)

grid = plan("toy", {"depth": range(6), "batch": (1, 8)}, networks=toy.NETWORKS)
run(grid, output=output, evaluate=examine)
"""


def test_a_killed_sweep_ends_as_an_undisturbed_one(tmp_path):
    def sweep(directory, stop):
        return subprocess.run(
            [sys.executable, "-c", KILLED, str(tmp_path / directory), str(stop)],
            cwd=Path(__file__).parent.parent,
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
    def examine(model, settings, *, measure, **options):
        if measure == "cpu" and settings["batch"] == 8:
            raise error
        return toy.examine(model, settings, measure=measure, **options)

    grid = toy_plan(Options(measure="cpu"), batch=(4, 8, 16))
    rows = run(grid, output=tmp_path, evaluate=examine)
    assert [row["status"] for row in rows] == ["ok", "oom", "ok"]
    assert [row["forward"] for row in rows] == [1536, 3072, 6144]  # 3 * 2 * batch * 8 * 8
    assert [row["forward_ms"] for row in rows] == [1.0, None, 1.0]
    assert run(grid, output=tmp_path, evaluate=never) == rows


def test_a_point_that_cannot_even_be_counted_is_a_row():
    def examine(model, settings, **options):
        raise MemoryError

    (row,) = run(toy_plan(Options(measure="cpu")), evaluate=examine)
    assert (row["status"], row["device"], row["forward"]) == ("oom", "cpu", None)


def test_other_errors_are_errors():
    def examine(model, settings, **options):
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        run(toy_plan(), evaluate=examine)


@pytest.fixture
def toy_engine(monkeypatch):
    engine = SimpleNamespace(examine=toy.examine, NETWORKS=toy.NETWORKS)
    monkeypatch.setitem(sys.modules, "flopratio.verbs.sweep.point", engine)
    monkeypatch.setitem(sys.modules, "flopratio.networks.library", engine)


def test_the_python_function_takes_values_in_many_forms(toy_engine):
    frame = fr.sweep("toy", depth="0..2", batch=[1, 8], width=np.array([16]), kind="fancy")
    assert list(frame["depth"]) == [0, 0, 1, 1, 2, 2]
    assert list(frame["batch"]) == [1, 8, 1, 8, 1, 8]
    assert set(frame["width"]) == {16}
    assert {type(width) for width in frame["width"]} == {int}
    assert list(fr.sweep("toy", depth=range(2), batch=np.int64(3))["batch"]) == [3, 3]
    with pytest.raises(UsageError, match="did you mean 'batch'"):
        fr.sweep("toy", bach=1)


def test_counts_of_a_frame_cannot_overflow(toy_engine):
    frame = fr.sweep("toy", depth=0, width=2**40, batch=1)
    assert frame["forward"][0] == 2**81
    assert frame["ratio"].dtype == "float64"


def test_the_python_function_resumes_too(toy_engine, tmp_path):
    first = fr.sweep("toy", depth=[0, 1], output=tmp_path)
    assert first.equals(fr.sweep("toy", depth=[0, 1], output=str(tmp_path)))
    with pytest.raises(UsageError, match="another sweep"):
        fr.sweep("toy", depth=[0, 2], output=tmp_path)
    assert list(fr.sweep("toy", depth=[0, 2], output=tmp_path, fresh=True)["depth"]) == [0, 2]
