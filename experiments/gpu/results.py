"""What ``make gpu`` brought back, drawn and judged: ``make gpu-results FROM=DIR TO=results/h200``.

TO gets the rows, the plots, ``claims.json`` (and ``claims.md``, for people), and for each dtype of
the sweep a folder as ``flopratio sweep`` writes it. A folder of ``results/`` takes rows only of the
GPU that it is named after.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.gpu import environment, memory, roofs, sweep
from experiments.gpu.rows import read_rows
from flopratio.cli.sweep import MOST_LAYERS
from flopratio.errors import UsageError
from flopratio.report.figures import draw_all
from flopratio.report.figures.style import REFERENCE, write
from flopratio.verbs.sweep.file import COLUMNS, SweepRow, make_row
from flopratio.verbs.sweep.plan import Plan, Point
from flopratio.verbs.sweep.run import to_frame
from flopratio.verbs.sweep.verdict import Claim, judge

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RESULTS = Path(__file__).parents[2] / "results"
TABLES = ("smoke", "memory", "sweep", "zoo", "counters")

EXACT_MEMORY = ("mlp", "gpt", "llama")
"""Whose memory is to be predicted to the byte."""
STEP_TOLERANCE, RATIO_TOLERANCE, SUM_TOLERANCE = 0.15, 0.10, 0.01
"""How far off the predicted time of a step may be in the median, its ratio, and the sum of the
layers' times."""

EPILOGUE = 0.01
"""What scaling each result of a product adds to it, at most."""

Rows = list[dict[str, str]]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m experiments.gpu.results")
    parser.add_argument("source", type=Path, metavar="FROM")
    parser.add_argument("target", type=Path, metavar="TO")
    arguments = parser.parse_args(argv)
    try:
        claims = collect(arguments.source, arguments.target)
    except UsageError as error:
        print(error, file=sys.stderr)
        return 2
    from rich.console import Console

    from flopratio.report.verdict import verdict_headline, verdict_table

    console = Console()
    console.print(f"{verdict_headline(claims)}, in {arguments.target}", highlight=False)
    console.print(verdict_table(claims))
    return 0


def collect(source: Path, target: Path) -> list[Claim]:
    """Fill TO with what is in FROM.

    Raises:
        UsageError: FROM has no rows, or TO is for those of another device.
    """
    path = source / environment.NAME
    if not path.exists():
        raise UsageError(f"{source} has no {environment.NAME}: it should be a folder of make gpu")
    found = json.loads(path.read_text(encoding="utf-8"))
    tables = {name: read_rows(source / f"{name}.csv") for name in TABLES}
    check_target(target, found, tables)
    target.mkdir(parents=True, exist_ok=True)
    for name in (environment.NAME, roofs.NAME, *(f"{name}.csv" for name in TABLES)):
        if (source / name).exists() and source.resolve() != target.resolve():
            shutil.copyfile(source / name, target / name)
    claims = [
        *smoke_claims(tables["smoke"]),
        *memory_claims(tables["memory"]),
        *zoo_claims(tables["zoo"]),
        *counter_claims(tables["counters"]),
        *draw_sweeps(tables["sweep"], found, target),
    ]
    draw_memory(tables["memory"], target)
    draw_zoo(tables["zoo"], target)
    (target / "claims.json").write_text(json.dumps(claims, indent=2) + "\n", encoding="utf-8")
    (target / "claims.md").write_text(markdown(claims, found), encoding="utf-8")
    return claims


def check_target(target: Path, found: dict[str, Any], tables: dict[str, Rows]) -> None:
    """A folder of the published results is of the GPU that it is named after.

    Raises:
        UsageError: these rows are of another device.
    """
    folder = target.resolve()
    named = folder.name.casefold()
    if not folder.is_relative_to(RESULTS.resolve()) and not is_gpu(named):
        return
    devices = {row["device"] for rows in tables.values() for row in rows}
    devices.add(found.get("gpu") or "cpu")
    wrong = sorted(
        device for device in devices if device == "cpu" or named not in device.casefold().split()
    )
    if wrong:
        raise UsageError(
            f"{target} takes rows of a GPU of that name, and these are of {', '.join(wrong)}: "
            "choose another folder with TO=DIR"
        )


def is_gpu(name: str) -> bool:
    """Whether a folder's name is that of a GPU: ``h200``."""
    from flopratio.allocator import device_profiles

    names = (part for known in device_profiles().values() for part in known.reported_names)
    return name in {word.casefold() for part in names for word in part.split()} - {"nvidia"}


def numbers(rows: Iterable[dict[str, str]], *columns: str) -> list[list[float]]:
    """The figures of the rows that have all of them."""
    return [
        [float(row[column]) for column in columns]
        for row in rows
        if row["status"] == "ok" and all(row[column] for column in columns)
    ]


# -- claims ---------------------------------------------------------------------------------------


def claim(
    text: str, expected: str, observed: str, holds: bool | None, tolerance: float = 0.0
) -> Claim:
    return Claim(claim=text, expected=expected, observed=observed, tolerance=tolerance, holds=holds)


def all_of(
    text: str, expected: str, rows: Rows, holds: Callable[[dict[str, str]], bool], name: str
) -> list[Claim]:
    """That something holds of every row; of those that failed it does not."""
    if not rows:
        return []
    wrong = [row[name] for row in rows if row["status"] != "ok" or not holds(row)]
    observed = f"{len(rows) - len(wrong)} of {len(rows)}"
    if wrong:
        observed += f"; not: {', '.join(dict.fromkeys(wrong))}"
    return [claim(text, expected, observed, not wrong)]


def smoke_claims(rows: Rows) -> list[Claim]:
    steps = [row for row in rows if row["what"] in ("step", "")]
    return [
        *all_of(
            "executed operators are those of the fake trace, in its order",
            "all",
            steps,
            lambda row: row["operators"] == "0",
            "step",
        ),
        *all_of(
            "FLOP of every phase are those of the fake trace",
            "equal",
            steps,
            lambda row: row["flops_equal"] == "True",
            "step",
        ),
        *all_of(
            "saved bytes are those of the fake trace",
            "equal",
            steps,
            lambda row: row["saved_equal"] == "True",
            "step",
        ),
        *all_of(
            "executed steps are reconciled with the law",
            "all",
            steps,
            lambda row: row["reconciled"] == "True",
            "step",
        ),
    ]


def memory_claims(rows: Rows) -> list[Claim]:
    claims = []
    for name in memory.FIGURES:
        column = f"difference_{name}"
        exact = [
            row
            for row in rows
            if row["model"] in EXACT_MEMORY
            and name != "reserved"
            and (row[column] or row["status"] == "failed")
        ]
        claims += all_of(
            f"peak bytes {name} of {', '.join(EXACT_MEMORY)}: predicted = measured",
            "0 bytes off",
            exact,
            lambda row, column=column: int(row[column]) == 0,
            "model",
        )
        shares = [
            abs(off) / total for off, total in numbers(rows, column, f"measured_{name}") if total
        ]
        if shares:
            claims.append(
                claim(
                    f"peak bytes {name}: how far predicted is off, reported only",
                    "",
                    f"median {statistics.median(shares):.3%}, most {max(shares):.2%}, "
                    f"0 in {sum(share == 0 for share in shares)} of {len(shares)} steps",
                    None,
                )
            )
    return claims


def zoo_claims(rows: Rows) -> list[Claim]:
    claims: list[Claim] = []
    for text, column, tolerance in (
        ("predicted time of a step against measured", "step_ms", STEP_TOLERANCE),
        ("predicted ratio of times against measured", "time_ratio", RATIO_TOLERANCE),
    ):
        pairs = numbers(rows, f"predicted_{column}", column)
        if pairs:
            off = [abs(mine / theirs - 1) for mine, theirs in pairs]
            middle = statistics.median(off)
            claims.append(
                claim(
                    text,
                    f"within {tolerance:.0%} in the median",
                    f"median {middle:.1%} off, most {max(off):.0%}, of {len(off)} steps",
                    middle <= tolerance,
                    tolerance,
                )
            )
    with_sum = [row for row in rows if row["attributed"] or row["status"] != "ok"]
    return claims + all_of(
        "times of the layers sum to the profiler's time in kernels",
        f"within {SUM_TOLERANCE:.0%}",
        with_sum,
        lambda row: abs(float(row["attributed"]) - 1) <= SUM_TOLERANCE,
        "model",
    )


def counter_claims(rows: Rows) -> list[Claim]:
    compared = [row for row in rows if row["counted"]]
    whole = [row for row in compared if "odd" not in row["kernel"]]
    return [
        *all_of(
            "FLOP that the tensor cores counted are the ledger's",
            "equal",
            [row for row in whole if row["tensor_cores"] != "0"],
            lambda row: row["counted"] == row["ledger"],
            "kernel",
        ),
        *all_of(
            "FLOP that the ordinary cores counted are the ledger's and those of results",
            f"0 to {EPILOGUE:.0%} more",
            [row for row in whole if row["tensor_cores"] == "0"],
            lambda row: 1 <= float(row["ratio"]) <= 1 + EPILOGUE,
            "kernel",
        ),
    ]


def markdown(claims: Sequence[Claim], found: dict[str, Any]) -> str:
    """The claims as a table, with what they were measured on."""
    marks = {True: "holds", False: "**fails**", None: "reported"}
    on = [f"{found.get('gpu') or found.get('processor')}", f"torch {found['torch']}"]
    on += [f"{name} {found[name]}" for name in ("cuda", "cudnn", "driver") if found.get(name)]
    lines = [f"Measured on {', '.join(on)}; float32 without TF32.", ""]
    lines += ["| claim | expected | observed | |", "| --- | --- | --- | --- |"]
    lines += [
        f"| {one['claim']} | {one['expected']} | {one['observed']} | {marks[one['holds']]} |"
        for one in claims
    ]
    return "\n".join(lines) + "\n"


# -- plots ----------------------------------------------------------------------------------------


def draw_memory(rows: Rows, target: Path) -> list[Path]:
    """Predicted against measured peaks, one panel a figure of the allocator."""
    panels = [
        name for name in memory.FIGURES if numbers(rows, f"predicted_{name}", f"measured_{name}")
    ]

    def draw(axes: Axes, name: str) -> None:
        for precision in memory.PRECISIONS:
            own = [row for row in rows if row["precision"] == precision]
            _points(axes, numbers(own, f"measured_{name}", f"predicted_{name}"), precision)
        _diagonal(axes, f"bytes {name}, measured", "predicted")

    return write(target, "memory", "Peak memory of a step, predicted and measured", panels, draw)


def draw_zoo(rows: Rows, target: Path) -> list[Path]:
    """Predicted against measured times of steps, and their ratios."""
    panels = [
        name for name in ("step_ms", "time_ratio") if numbers(rows, f"predicted_{name}", name)
    ]
    words = {"step_ms": "time of a step in ms", "time_ratio": "backward / forward in time"}

    def draw(axes: Axes, name: str) -> None:
        for precision in dict.fromkeys(row["precision"] for row in rows):
            own = [row for row in rows if row["precision"] == precision]
            _points(axes, numbers(own, name, f"predicted_{name}"), precision)
        _diagonal(axes, f"{words[name]}, measured", "predicted")

    return write(target, "zoo", "Steps of models, predicted and measured", panels, draw)


def _points(axes: Axes, pairs: list[list[float]], label: str) -> None:
    if pairs:
        measured, predicted = zip(*pairs, strict=True)
        axes.plot(measured, predicted, linestyle="", alpha=0.7, label=label)


def _diagonal(axes: Axes, across: str, up: str) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    ends = [
        choose(*limits)
        for choose, limits in (
            (min, [axes.get_xlim()[0], axes.get_ylim()[0]]),
            (max, [axes.get_xlim()[1], axes.get_ylim()[1]]),
        )
    ]
    axes.plot(ends, ends, **REFERENCE, label="equal")
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.legend()


# -- the sweep ------------------------------------------------------------------------------------


def draw_sweeps(rows: Rows, found: dict[str, Any], target: Path) -> list[Claim]:
    """Each dtype's sweep in a folder of its own, as ``flopratio sweep`` leaves it; its verdict."""
    from flopratio.networks.analytic import analytic_ledger

    claims: list[Claim] = []
    for dtype in sweep.DTYPES:
        own = [row for row in rows if row["dtype"] == dtype and row["status"] in ("ok", "oom")]
        if not own:
            continue
        plan = sweep.plan_of(dtype, device="none", small=bool(found.get("small")))
        folder = target / dtype
        folder.mkdir(exist_ok=True)
        points, measured = sweep_rows(plan, own)
        plan = replace(plan, points=tuple(points))
        frame = to_frame(plan, measured)
        frame.to_csv(folder / "sweep.csv", index=False, lineterminator="\n")
        verdict = judge(measured, plan.keys)
        (folder / "verdict.json").write_text(json.dumps(verdict, indent=2) + "\n")
        readable = [point for point in points if depth(point) <= MOST_LAYERS]
        shown = max(readable, key=depth) if readable else min(points, key=depth)
        layers = analytic_ledger(shown.model, **shown.settings).layers()
        draw_all(frame, folder, layers)
        claims += [
            Claim(**{**one, "claim": f"sweep in {dtype}: {one['claim']}"}) for one in verdict
        ]
    return claims


def depth(point: Point) -> int:
    """How many layers a network has, beside those that every one has."""
    return int(point.settings.get("depth", 0))


def sweep_rows(plan: Plan, rows: Rows) -> tuple[list[Point], list[SweepRow]]:
    """The points that were measured, in the plan's order, and their rows."""
    by_key = {(row["model"], row["point"]): row for row in rows}
    points, measured = [], []
    for point in plan.points:
        row = by_key.get((point.model, sweep.written(plan, point)))
        if row is None:
            continue
        figures = {
            column: text == "True" if kind is bool else kind(text)
            for column, kind in COLUMNS.items()
            if (text := row.get(column, ""))
        }
        points.append(point)
        measured.append(make_row(plan.columns, {"model": point.model, **point.settings}, figures))
    return points, measured


if __name__ == "__main__":
    sys.exit(main())
