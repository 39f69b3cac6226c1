"""``sweep.csv``: appended, cut, resumed, and never another sweep's."""

import copy
import json

import pytest

from flopratio.errors import UsageError
from flopratio.verbs.sweep.file import COLUMNS, make_row, open_sweep

SETTINGS = ("depth", "shared")
FILE_COLUMNS = ("model", *SETTINGS, *COLUMNS)
POINTS = [
    {"model": "cnn", "depth": depth, "shared": True, "freeze": None, "torch": "2"}
    for depth in (1, 2, 3)
]
ENVIRONMENT = {
    "sweep": {"grids": {"cnn": {"depth": "1,2,3"}}, "options": {"measure": "cpu", "loss": "auto"}},
    "versions": {"flopratio": "1", "torch": "2", "numpy": "3"},
    "machine": {"cpu": "abacus", "threads": 2},
}
HUGE = 2**70 + 1


def row(number, **figures):
    return make_row(
        FILE_COLUMNS,
        POINTS[number],
        {"forward": HUGE + number, "ratio": 1 / 3, "status": "ok", **figures},
    )


def write(directory, *rows, environment=ENVIRONMENT, points=POINTS, columns=FILE_COLUMNS):
    """Append rows, and give back those that were there before."""
    with open_sweep(directory, columns, points, environment) as (before, append):
        before = list(before)
        for one in rows:
            append(one)
    return before


def test_rows_read_back_as_they_were_written(tmp_path):
    written = [
        row(0, executed_equal=True, saved_equal=False, forward_ms=1e-7, optimizer="sgd"),
        row(1, time_ratio=float("nan"), status="oom"),
    ]
    write(tmp_path, *written)
    assert write(tmp_path) == written
    assert written[0]["forward"] == HUGE
    assert written[1]["time_ratio"] is None


def test_a_spreadsheet_runs_no_model(tmp_path):
    """And a sweep of such a name resumes."""
    point = {**POINTS[0], "model": "@mine.py:net", "freeze": "-x*"}
    written = make_row(FILE_COLUMNS, point, {"forward": 1, "status": "ok"})
    write(tmp_path, written, points=[point])
    _, line = (tmp_path / "sweep.csv").read_text().splitlines()
    assert line.startswith("'@mine.py:net,1,true,1,")
    assert ",'-x*," in line
    assert write(tmp_path, points=[point]) == [written]


def test_each_row_is_in_the_file_before_the_next_point_runs(tmp_path):
    with open_sweep(tmp_path, FILE_COLUMNS, POINTS, ENVIRONMENT) as (_, append):
        for number in (0, 1):
            append(row(number))
            assert len((tmp_path / "sweep.csv").read_text().splitlines()) == 2 + number


def test_a_figure_that_no_row_has_is_an_error():
    with pytest.raises(KeyError):
        row(0, bogus=1)


@pytest.mark.parametrize("left", range(1, 60, 7))
def test_a_last_line_that_was_cut_is_dropped(tmp_path, left):
    write(tmp_path, row(0))
    path = tmp_path / "sweep.csv"
    whole = path.read_bytes()
    write(tmp_path, row(1))
    both = path.read_bytes()

    path.write_bytes(both[: len(whole) + left])
    assert write(tmp_path) == [row(0)]
    assert path.read_bytes() == whole
    write(tmp_path, row(1))
    assert path.read_bytes() == both


def test_a_last_line_that_was_cut_and_closed_is_dropped(tmp_path):
    write(tmp_path, row(0))
    path = tmp_path / "sweep.csv"
    whole = path.read_bytes()
    path.write_bytes(whole + b"cnn,2,true,118059\n")
    assert write(tmp_path) == [row(0)]
    assert path.read_bytes() == whole


def test_a_header_that_was_cut_starts_over(tmp_path):
    write(tmp_path)
    path = tmp_path / "sweep.csv"
    header = path.read_bytes()
    for left in (0, 3, 40, len(header) - 1):
        path.write_bytes(header[:left])
        assert write(tmp_path) == []
        assert path.read_bytes() == header


def test_a_line_damaged_in_the_middle_is_refused(tmp_path):
    write(tmp_path, row(0), row(1))
    path = tmp_path / "sweep.csv"
    lines = path.read_text().splitlines()
    damaged = "\n".join([lines[0], lines[1][:30], lines[2], ""])
    path.write_text(damaged)
    with pytest.raises(UsageError, match=r"line 2 of .* is damaged"):
        write(tmp_path)
    assert path.read_text() == damaged


def changed(**branches):
    environment = copy.deepcopy(ENVIRONMENT)
    for branch, leaves in branches.items():
        environment[branch] |= leaves
    return environment


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        (changed(sweep={"grids": {"cnn": {"depth": "1,2"}}}), "its depth is 1,2,3, not 1,2"),
        (changed(sweep={"grids": {"mlp": {"width": "1"}}}), "its width is nothing, not 1"),
        (
            changed(sweep={"options": {"measure": "cpu", "loss": "mse"}}),
            "its loss is auto, not mse",
        ),
        (changed(versions={"flopratio": "1.1"}), "its flopratio is 1, not 1.1"),
        (changed(versions={"torch": "2.1"}), "its torch is 2, not 2.1"),
        (changed(machine={"cpu": "slide rule"}), "its cpu is abacus, not slide rule"),
    ],
)
def test_another_sweep_stays(tmp_path, environment, said):
    write(tmp_path, row(0))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UsageError) as error:
        write(tmp_path, row(0), environment=environment)
    assert said in str(error.value)
    assert "--fresh" in str(error.value)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_counts_may_be_resumed_on_another_machine(tmp_path):
    here = changed(sweep={"options": {"measure": "none"}})
    there = {**here, "machine": {"cpu": "slide rule"}}
    write(tmp_path, row(0), environment=here)
    assert write(tmp_path, environment=there) == [row(0)]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("cnn,1,true", "cnn,9,true"),  # another grid
        ("cnn,1,true", "mlp,1,true"),
        (",2,,ok", ",1,,ok"),  # another torch
        ("model,depth", "model,width"),  # another version's columns
        ("status\n", "status,extra\n"),
    ],
)
def test_rows_of_another_sweep_stay(tmp_path, old, new):
    write(tmp_path, row(0), row(1))
    path = tmp_path / "sweep.csv"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(UsageError, match="from another sweep"):
        write(tmp_path)
    assert path.read_text() == text.replace(old, new, 1)


def test_more_rows_than_points_stay(tmp_path):
    write(tmp_path, row(0), row(1))
    with pytest.raises(UsageError, match="from another sweep"):
        write(tmp_path, points=POINTS[:1])


@pytest.mark.parametrize("text", ["hello", "a,b\n1,2\n", "model,depth\ncnn,1\n"])
def test_somebody_elses_file_stays(tmp_path, text):
    path = tmp_path / "sweep.csv"
    path.write_text(text)
    with pytest.raises(UsageError, match="not a sweep that can be resumed"):
        write(tmp_path)
    assert path.read_text() == text
    assert not (tmp_path / "environment.json").exists()


def test_fresh_starts_over(tmp_path):
    path = tmp_path / "sweep.csv"
    path.write_text("a,b\n1,2\n")
    with open_sweep(tmp_path, FILE_COLUMNS, POINTS, ENVIRONMENT, fresh=True) as (rows, append):
        assert rows == []
        append(row(0))
    assert json.loads((tmp_path / "environment.json").read_text()) == ENVIRONMENT
    assert write(tmp_path) == [row(0)]


def test_the_directory_is_made(tmp_path):
    write(tmp_path / "a" / "b", row(0))
    assert (tmp_path / "a" / "b" / "sweep.csv").exists()


def test_a_directory_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="can't write in"):
        write(tmp_path / "file" / "below")


@pytest.mark.parametrize("name", ["file", "new.csv"])
def test_a_file_is_no_directory(tmp_path, name):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="should be a directory, not a file"):
        write(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_directory_may_be_called_like_a_file(tmp_path):
    (tmp_path / "old.csv").mkdir()
    assert write(tmp_path / "old.csv", row(0)) == []
