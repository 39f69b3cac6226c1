"""Grids by closed form, beside traces and the formulas of the built-in networks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flopratio.errors import UsageError
from flopratio.networks.analytic import analytic_ledger
from flopratio.verbs.sweep.closed_form import (
    GridForm,
    grid_form,
    hold_against_traces,
    is_for_closed_form,
    write_grid,
)
from flopratio.verbs.sweep.plan import swept_options

KEYS = {"depth": (2,), "batch": tuple(range(1, 31)), "width": tuple(range(1, 21))}


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> GridForm:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLOPRATIO_CACHE", str(tmp_path_factory.mktemp("cache")))
        return grid_form("mlp", KEYS, swept_options())


def test_every_row_is_the_formulas(grid: GridForm) -> None:
    assert grid.size == 600
    columns = grid.columns(grid.grid)
    for place in (0, 1, 19, 20, 331, 599):
        batch, width = int(columns["batch"][place]), int(columns["width"][place])
        totals = analytic_ledger("mlp", depth=2, batch=batch, width=width, optimizer="sgd").totals
        for name in ("forward", "grad_input", "grad_weight", "update", "parameters", "saved_bytes"):
            assert columns[name][place] == getattr(totals, name), (name, batch, width)
        assert columns["ratio"][place] == totals.ratio
        assert columns["status"][place]


def test_fresh_traces_agree(grid: GridForm) -> None:
    assert hold_against_traces(grid, 2) == []


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_files_have_a_row_a_point(grid: GridForm, kind: str, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    from pyarrow import csv, parquet

    path = write_grid(grid, tmp_path, kind=kind, fresh=False)
    table = csv.read_csv(path) if kind == "csv" else parquet.read_table(path)
    assert table.num_rows == 600
    assert table.column_names[:3] == ["model", "batch", "width"]
    assert table["status"].unique().to_pylist() == ["ok"]
    rows = table.select(["batch", "width"]).to_pylist()
    assert rows[:2] == [{"batch": 1, "width": 1}, {"batch": 1, "width": 2}]
    assert json.loads((tmp_path / "environment.json").read_text())["sweep"]["model"] == "mlp"
    with pytest.raises(UsageError, match="holds a sweep already"):
        write_grid(grid, tmp_path, kind=kind, fresh=False)


def test_which_grids_are_swept_so() -> None:
    many = {"batch": tuple(range(1, 300))}
    assert is_for_closed_form("hf:gpt2", many, "none")
    assert not is_for_closed_form("hf:gpt2", many, "cpu")
    assert not is_for_closed_form("hf:gpt2", {"batch": (1, 2)}, "none")
    assert not is_for_closed_form(None, many, "none")
    assert not is_for_closed_form("hf:gpt2", {**many, "dtype": ("a", "b")}, "none")
