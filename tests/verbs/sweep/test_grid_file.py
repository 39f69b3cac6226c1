"""Files of a sweep by closed form: every row, whole numbers of any size, and none of another sweep
or of one that was interrupted."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flopratio.errors import UsageError
from flopratio.verbs.sweep import grid_file
from flopratio.verbs.sweep.closed_form import GridForm
from flopratio.verbs.sweep.file import COLUMNS as ALL_COLUMNS
from flopratio.verbs.sweep.grid_file import COLUMNS, FORMATS, check_directory, write_grid
from flopratio.verbs.sweep.plan import swept_options
from tests.verbs.sweep.grids import KEYS, made, piece


def read(path: Path) -> Any:
    from pyarrow import csv as text
    from pyarrow import parquet

    return text.read_csv(path) if path.suffix == ".csv" else parquet.read_table(path)


@pytest.mark.parametrize("kind", FORMATS)
def test_files_have_a_row_a_point(grid: GridForm, kind: str, tmp_path: Path) -> None:
    path = write_grid(grid, tmp_path, kind=kind, fresh=False)
    table = read(path)
    assert table.num_rows == 600
    assert tuple(table.column_names) == ("model", "batch", "width", *COLUMNS)
    for name, value in (("status", "ok"), ("model", "mlp"), ("dtype", "float32")):
        assert table[name].unique().to_pylist() == [value]
    rows = table.select(["batch", "width"]).to_pylist()
    assert rows == [{"batch": b, "width": w} for b in range(1, 31) for w in range(1, 21)]
    assert table["forward"].to_pylist() == grid.columns(grid.grid)["forward"].tolist()
    assert json.loads((tmp_path / "environment.json").read_text())["sweep"]["model"] == "mlp"


def test_a_spreadsheet_runs_no_model(grid: GridForm, tmp_path: Path) -> None:
    grid = replace(grid, model="@mine.py:net")
    for kind, written in (("csv", "'@mine.py:net"), ("parquet", "@mine.py:net")):
        table = read(write_grid(grid, tmp_path / kind, kind=kind, fresh=False))
        assert table["model"].unique().to_pylist() == [written]


def test_both_kinds_of_sweep_have_the_same_columns_in_the_same_order() -> None:
    assert [name for name in ALL_COLUMNS if name in COLUMNS] == list(COLUMNS)


class Interrupted(BaseException):
    """As by Ctrl-C."""


@pytest.mark.parametrize("kind", FORMATS)
def test_an_interrupted_sweep_starts_over(
    grid: GridForm, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grid_file, "AT_ONCE", 100)

    def interrupt(rows: int) -> None:
        raise Interrupted

    with pytest.raises(Interrupted):
        write_grid(grid, tmp_path, kind=kind, fresh=False, finished=interrupt)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / f"sweep.{kind}.unfinished").write_text("of a run that was killed")
    parts: list[int] = []
    path = write_grid(grid, tmp_path, kind=kind, fresh=False, finished=parts.append)
    assert parts == [100] * 6
    table = read(path)
    assert table.num_rows == 600
    assert table.group_by(["batch", "width"]).aggregate([]).num_rows == 600  # none is there twice
    assert {each.name for each in tmp_path.iterdir()} == {path.name, "environment.json"}


def test_another_sweep_is_not_written_over(grid: GridForm, tmp_path: Path) -> None:
    path = write_grid(grid, tmp_path, kind="csv", fresh=False)
    text = path.read_text()
    assert write_grid(grid, tmp_path, kind="csv", fresh=False).read_text() == text  # the same
    check_directory("mlp", KEYS, swept_options(), tmp_path, fresh=False)
    for model, keys, options in (
        ("mlp", {**KEYS, "depth": (3,)}, swept_options()),
        ("mlp", {**KEYS, "width": (2, 3)}, swept_options()),
        ("cnn", KEYS, swept_options()),
        ("mlp", KEYS, swept_options(optimizer="adam")),
    ):
        with pytest.raises(UsageError, match="holds another sweep already"):
            check_directory(model, keys, options, tmp_path, fresh=False)
        check_directory(model, keys, options, tmp_path, fresh=True)
    (tmp_path / "environment.json").unlink()
    with pytest.raises(UsageError, match="holds another sweep already"):
        write_grid(grid, tmp_path, kind="parquet", fresh=False)
    write_grid(grid, tmp_path, kind="parquet", fresh=True)
    assert not path.exists()


@pytest.mark.parametrize(
    ("factor", "type_"),
    [
        (10**17, "int64"),
        (10**18, "decimal128(38, 0)"),
        (10**30, "decimal128(38, 0)"),
        (10**60, "decimal256(76, 0)"),
    ],
)
@pytest.mark.parametrize("kind", FORMATS)
def test_numbers_of_any_size_are_written_exactly(
    factor: int, type_: str, kind: str, tmp_path: Path
) -> None:
    found = made(piece(factor, b=(1, 2, 3), s=range(2, 8)))
    path = write_grid(found, tmp_path, kind=kind, fresh=False)
    if kind == "csv":
        with path.open(encoding="utf-8", newline="") as file:
            texts = [row["forward"] for row in csv.DictReader(file)]
        forward = [int(text) if text else None for text in texts]
    else:
        table = read(path)
        forward = [None if v is None else int(v) for v in table["forward"].to_pylist()]
        assert str(table.schema.field("forward").type) == type_
    assert forward == [None if s == 1 else b * s * factor for b in (1, 2, 3) for s in range(1, 8)]


def test_numbers_too_large_for_a_table_are_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="forward has up to 81 digits in this grid"):
        write_grid(made(piece(10**80, b=(1, 2), s=(3,))), tmp_path, kind="csv", fresh=False)
    assert list(tmp_path.iterdir()) == []
