"""A prediction for people, in every form that a ledger has."""

from __future__ import annotations

import csv
import io
import json

import pytest

from flopratio.hardware import DeviceProfile
from flopratio.ledger import Ledger, Row
from flopratio.report.files import FORMATS
from flopratio.report.prediction import (
    explanation_of,
    lines,
    rich_table,
    seconds_text,
    signed,
    summary,
    tables,
)
from flopratio.report.terminal import page
from flopratio.report.view import VIEWS, View, view
from flopratio.roofline import predict
from tests.report.small import printed, small_ledger

DEVICE = DeviceProfile("a processor", "cpu", {"float32": 1e9}, 1e6, 1e-5)
"""A GFLOP/s, a byte a microsecond, ten of these a launch."""


def a_ledger() -> Ledger:
    ledger = small_ledger()
    ledger.rows = [row._replace(dtype="float32") for row in ledger.rows]
    ledger.rows.append(Row("head", "Linear", "aten.add_", "", "update", 0, 60, 40, 20))
    return ledger


def predicted(ledger: Ledger | None = None, **how) -> View:
    ledger = ledger or a_ledger()
    return view(ledger, **how, prediction=predict(ledger.rows, DEVICE))


def cells(shown: View) -> dict[str, list[str]]:
    assert shown.prediction is not None
    return {name: texts for name, *texts in lines(shown, shown.prediction).body}


def test_times_of_the_layers_and_of_the_step() -> None:
    """``stem.conv``: 4 MFLOP are 4 ms and a launch 0.01; ``head`` 1.51, and an update of 60 bytes,
    0.06 and a launch; ``relu`` reads and writes 80, 0.08, and 120 in backward."""
    shown = predicted()
    assert cells(shown) == {
        "stem.conv": ["4.010", "0", "4.010", "0", "1.000", "1", "arithmetic"],
        "stem.relu": ["0.090", "0.130", "0", "0", "1.444", "", "bandwidth"],
        "head": ["1.510", "1.510", "1.510", "0.070", "2.000", "2", "arithmetic"],
    }
    table = lines(shown, shown.prediction)
    assert table.total == ["total", "5.610", "1.640", "5.520", "0.070", "1.276", "1.273",
                           "arithmetic"]  # fmt: skip
    assert table.heading[1:4] == ["forward\nms", "grad_\ninput\nms", "grad_\nweight\nms"]
    assert table.heading[4] == "update\nms"


@pytest.mark.parametrize("by", VIEWS)
def test_the_lines_are_those_of_the_view(by: str) -> None:
    shown = predicted(by=by)
    assert list(cells(shown)) == [line.name for line in shown.lines]


def test_layers_are_folded_and_left_out_as_in_the_table() -> None:
    shown = predicted(depth=1, top=1)
    (stem,) = cells(shown).items()
    assert stem == ("stem", ["4.100", "0.130", "4.010", "0", "1.010", "1", "arithmetic"])
    assert lines(shown, shown.prediction).total[1] == "5.610"


def test_by_autograd_backward_alone_is_shown() -> None:
    shown = predicted(by="autograd")
    assert lines(shown, shown.prediction).total[1:4] == ["0", "1.640", "5.520"]


def test_a_sentence_says_where_the_time_goes() -> None:
    assert summary(predict(a_ledger().rows, DEVICE)) == [
        "on a processor (cpu), 12.84 ms a step: forward 5.610 ms + backward 7.160 ms "
        "+ update 70.00 µs",
        "bound by 98% arithmetic, 2% bandwidth",
    ]


def test_a_dtype_without_a_roof_is_said() -> None:
    ledger = a_ledger()
    ledger.rows = [row._replace(dtype="bfloat16") for row in ledger.rows]
    *_, said = summary(predict(ledger.rows, DEVICE))
    assert said == (
        "no roof of a processor (cpu) was measured for bfloat16: 12.50 MFLOP of products have the "
        "time of their bytes and launches alone, and take at least that"
    )


def test_a_terminal_shows_times_and_reasons() -> None:
    text = printed(page(a_ledger(), predicted(), width=100), 100)
    assert "predicted on a processor (cpu), 12.84 ms a step" in text
    last = next(line for line in text.splitlines() if line.startswith("predicted time"))
    assert last.split() == ["predicted", "time", "5.610", "7.160", "1.276"]
    first = next(line for line in text.splitlines() if line.startswith("FLOP of products"))
    assert first.split()[-1] == "1.273"


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_it_fits_the_terminal(width: int) -> None:
    shown = page(a_ledger(), predicted(), width=width)
    assert max(map(len, printed(shown, width).splitlines())) <= width


def test_columns_without_room_are_left_out() -> None:
    shown = predicted()
    (times, _) = tables(shown)
    widest = max(map(len, printed(rich_table(times), 200).splitlines()))
    for width in range(40, widest + 1):
        text = printed(rich_table(times, width), 200)
        assert max(map(len, text.splitlines())) <= width
        assert ("bound by" in text) == (width == widest)


def test_the_reasons_that_are_shown_lead_from_one_ratio_to_the_other() -> None:
    explanation = explanation_of(predict(a_ledger().rows, DEVICE))
    assert explanation is not None
    text = printed(page(a_ledger(), predicted(), width=None), 200).splitlines()
    start = next(n for n, line in enumerate(text) if line.startswith("FLOP of products"))
    figures = [float(line.split()[-1]) for line in text[start:] if line[-1:].isdigit()]
    *parts, total = figures
    assert sum(parts) == pytest.approx(total, abs=0.0005 * len(figures))
    assert total == pytest.approx(explanation.time_ratio, abs=0.0005)


def test_the_document_has_it_beside_the_ledger() -> None:
    document = json.loads(FORMATS[".json"](a_ledger(), predicted()))
    predicted_part = document["predicted"]
    assert predicted_part["time_ms"]["forward"] == pytest.approx(5.61)
    assert predicted_part["time_ms"]["step"] == pytest.approx(12.84)
    assert predicted_part["explanation"]["time_ratio"] == pytest.approx(7.16 / 5.61)
    assert [layer["name"] for layer in predicted_part["layers"]] == [
        "stem.conv", "stem.relu", "head",
    ]  # fmt: skip
    assert Ledger.from_json(json.dumps(document)).rows == a_ledger().rows


def test_a_csv_has_a_time_for_each_row() -> None:
    rows = list(csv.DictReader(io.StringIO(FORMATS[".csv"](a_ledger(), predicted()))))
    assert float(rows[0]["predicted_us"]) == pytest.approx(4010)
    assert (rows[0]["bound"], rows[2]["bound"]) == ("compute", "none")
    assert len(rows) == len(a_ledger().rows)


def test_markdown_and_html_have_both_tables() -> None:
    text = FORMATS[".md"](a_ledger(), predicted())
    assert "| stem.conv | 4.010 | 0 | 4.010 | 0 | 1.000 | 1 | arithmetic |" in text
    assert "| layer | forward ms | grad\\_input ms | grad\\_weight ms | update ms |" in text
    assert "| predicted time | 5.610 | 7.160 | 1.276 |" in text
    assert "predicted time" in FORMATS[".html"](a_ledger(), predicted())


@pytest.mark.parametrize("extension", [".json", ".csv", ".md", ".html"])
def test_without_a_device_nothing_is_said(extension: str) -> None:
    assert "predicted" not in FORMATS[extension](a_ledger(), view(a_ledger()))


def test_without_a_backward_there_are_times_and_no_reasons() -> None:
    ledger = a_ledger()
    ledger.rows = [row for row in ledger.rows if row.phase == "forward"]
    assert explanation_of(predict(ledger.rows, DEVICE)) is None
    document = json.loads(FORMATS[".json"](ledger, predicted(ledger)))
    assert document["predicted"]["explanation"] is None
    assert document["predicted"]["time_ratio"] is None
    text = printed(page(ledger, predicted(ledger), width=100), 100)
    assert "predicted on" in text
    assert "why the" not in text


def test_a_ledger_without_rows_is_shown() -> None:
    assert "0 ns a step" in printed(page(Ledger([]), predicted(Ledger([])), width=100), 100)


def test_figures() -> None:
    assert [seconds_text(each) for each in (0.0, 2.5e-9, 1.5e-5, 12.3456)] == [
        "0 ns", "2 ns", "15.00 µs", "12.35 s",
    ]  # fmt: skip
    assert [signed(each) for each in (0.25, -0.25, 0.0, -1e-9)] == [
        "+0.250", "-0.250", "0.000", "0.000",
    ]  # fmt: skip
