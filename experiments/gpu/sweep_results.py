"""The timed sweeps that came back, as ``flopratio sweep`` leaves one: table, verdict, figures."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from experiments.gpu import sweep
from experiments.gpu.rows import Rows
from flopratio.cli.sweep import MOST_LAYERS
from flopratio.report.figures import draw_all
from flopratio.verbs.sweep.file import COLUMNS, SweepRow, make_row
from flopratio.verbs.sweep.judgement import Claim
from flopratio.verbs.sweep.plan import Plan, Point
from flopratio.verbs.sweep.run import to_frame
from flopratio.verbs.sweep.verdict import judge


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
