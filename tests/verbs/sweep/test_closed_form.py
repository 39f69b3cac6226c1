"""Grids by closed form, beside traces and the formulas of the built-in networks."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from flopratio.closed_form import Polynomial
from flopratio.errors import UsageError
from flopratio.networks.analytic import analytic_ledger
from flopratio.verbs.formula.entries import Sampled
from flopratio.verbs.sweep import closed_form
from flopratio.verbs.sweep.closed_form import (
    COLUMNS,
    FORMATS,
    GridForm,
    Piece,
    check_directory,
    grid_form,
    hold_against_traces,
    is_for_closed_form,
    write_grid,
)
from flopratio.verbs.sweep.file import COLUMNS as ALL_COLUMNS
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


def test_both_kinds_of_sweep_have_the_same_columns_in_the_same_order() -> None:
    assert [name for name in ALL_COLUMNS if name in COLUMNS] == list(COLUMNS)


class Interrupted(BaseException):
    """As by Ctrl-C."""


@pytest.mark.parametrize("kind", FORMATS)
def test_an_interrupted_sweep_starts_over(
    grid: GridForm, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closed_form, "AT_ONCE", 100)

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


def piece(factor: int, **where: Iterable[int]) -> Piece:
    b, s = Polynomial.of("b"), Polynomial.of("s")
    forms = {"forward": b * s * factor, "grad_input": b * factor, "grad_weight": s * factor}
    forms["backward"] = forms["grad_input"] + forms["grad_weight"]
    return Piece({key: frozenset(values) for key, values in where.items()}, forms)


def made(*pieces: Piece) -> GridForm:
    grid = {"b": (1, 2, 3), "s": tuple(range(1, 8))}
    return GridForm("toy", swept_options(), grid, {}, "float32", list(pieces))


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


def test_where_parts_overlap_the_first_holds() -> None:
    found = made(piece(1, b=(1, 3), s=(2, 3)), piece(10, b=(2, 3), s=(3, 5)))
    columns = found.columns(found.grid)
    expected = []
    for b in (1, 2, 3):
        for s in range(1, 8):
            first, second = b in (1, 3) and s in (2, 3), b in (2, 3) and s in (3, 5)
            expected.append(b * s if first else 10 * b * s if second else None)
            assert found.has_form({"b": b, "s": s}) == (first or second)
    assert columns["forward"].tolist() == expected
    assert columns["status"].tolist() == [value is not None for value in expected]
    ratios = [None if value is None else (b + s) / (b * s) for value, b, s in with_sizes(expected)]
    assert columns["ratio"].tolist() == ratios
    assert columns["update"].tolist() == [None] * 21


def test_a_part_that_others_have_already_changes_nothing() -> None:
    whole = piece(1, b=(1, 2, 3), s=range(1, 8))
    alone, twice = made(whole), made(whole, piece(10, b=(2,), s=(3, 5)))
    for name, column in alone.columns(alone.grid).items():
        assert twice.columns(twice.grid)[name].tolist() == column.tolist()


@pytest.mark.parametrize("factor", [1, 3 * 2**52 + 1, 10**18 + 9, 10**30 + 57])
def test_ratios_are_those_of_the_whole_numbers(factor: int) -> None:
    n = Polynomial.of("s")
    forms = {"forward": n * n * factor, "backward": n * (factor + 1), "update": n * (factor - 1)}
    found = made(Piece({"b": frozenset((1, 2, 3)), "s": frozenset(range(1, 8))}, forms))
    columns = found.columns({"b": (1,), "s": tuple(range(1, 8))})
    sizes = range(1, 8)
    expected = [s * (factor + 1) / (s * s * factor) for s in sizes]
    assert columns["ratio"].tolist() == expected
    with_update = [(s * (factor + 1) + s * (factor - 1)) / (s * s * factor) for s in sizes]
    assert columns["ratio_with_update"].tolist() == with_update


def with_sizes(values: list[Any]) -> list[tuple[Any, int, int]]:
    sizes = [(b, s) for b in (1, 2, 3) for s in range(1, 8)]
    return [(value, b, s) for value, (b, s) in zip(values, sizes, strict=True)]


class Limited:
    """A tracer of a model that takes no more than a thousand."""

    def __init__(self, limit: int, sentence: str) -> None:
        self.limit, self.sentence, self.sampled = limit, sentence, dict[int, bool]()

    def sample(self, point: dict[str, int]) -> Sampled:
        self.sampled[point["s"]] = point["s"] <= self.limit
        if not self.sampled[point["s"]]:
            raise UsageError(self.sentence)
        return Sampled({}, {}, {"n_positions": 1000, "heads": 12})


@pytest.mark.parametrize(
    ("limit", "sentence", "tries"),
    [
        (1000, "a table of 1,000 rows", 4),  # both ends, the limit and what is beyond
        (1000, "too long", 14),
        (777, "a table of 1,000 rows", 14),
    ],
)
def test_where_a_model_ends_is_what_its_sentence_says(
    limit: int, sentence: str, tries: int
) -> None:
    tracer: Any = Limited(limit, sentence)
    values = tuple(range(3, 3000))
    found = GridForm("toy", swept_options(), {"s": values}, {})
    admitted = closed_form._admitted(found, tracer, {}, {"s": values}, "s", values)
    assert admitted == tuple(range(3, limit + 1))
    assert len(tracer.sampled) <= tries
    assert f"up to s={limit:,}" in found.notes[0]


def test_which_grids_are_swept_so() -> None:
    many = {"batch": tuple(range(1, 300))}
    assert is_for_closed_form("hf:gpt2", many, "none")
    assert not is_for_closed_form("hf:gpt2", many, "cpu")
    assert not is_for_closed_form("hf:gpt2", {"batch": (1, 2)}, "none")
    assert not is_for_closed_form(None, many, "none")
    assert not is_for_closed_form("hf:gpt2", {**many, "dtype": ("a", "b")}, "none")
    assert not is_for_closed_form("mlp", many, "none")  # the claims are judged on it
    assert is_for_closed_form("mlp", {"batch": tuple(range(1, 10_002))}, "none")


def test_sizes_of_which_there_is_no_network_are_left_out() -> None:
    widths = tuple(range(61, 70))
    assert closed_form._described("transformer", {"heads": 4}, "width", widths) == (64, 68)
    with pytest.raises(UsageError, match="should be a multiple of heads"):
        closed_form._described("transformer", {"heads": 4}, "width", (65, 66))
