"""Stage 3: the default sweep, timed on the device in float32 and in bfloat16."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from experiments.gpu.cases import sizes
from experiments.gpu.rows import ABOUT, Run, run_rows
from flopratio.verbs.sweep.plan import Plan, Point, make_plan, swept_options
from flopratio.verbs.sweep.run import run_plan

DTYPES = ("float32", "bfloat16")
KEYS = ("dtype", "model", "point")


def plan_of(dtype: str, *, device: str, small: bool = False) -> Plan:
    """The sweep in one dtype: the default grids, or the rehearsal's."""
    options = swept_options(dtype=dtype)
    if small:
        return make_plan(
            "mlp", {"depth": (1, 2), "batch": (2,), "width": (32,)}, options, measure=device
        )
    return make_plan(None, None, options, measure=device)


def written(plan: Plan, point: Point) -> str:
    """The KEYs of a point."""
    return sizes({key: point.settings[key] for key in plan.grids[point.model]})


def run(run: Run) -> bool:
    """``sweep.csv``: a sweep's columns, of both dtypes."""
    plans = [plan_of(dtype, device=run.device.type, small=run.small) for dtype in DTYPES]
    columns = [name for name in plans[0].columns if name not in (*KEYS, *ABOUT)]
    return run_rows(run, "sweep", KEYS, columns, _work(plans))


def _work(plans: list[Plan]) -> Iterator[Any]:
    for plan in plans:
        for point in plan.points:
            key = (str(plan.options.dtype), point.model, written(plan, point))
            yield key, lambda plan=plan, point=point: [_row(plan, point)]


def _row(plan: Plan, point: Point) -> dict[str, Any]:
    (row,) = run_plan(replace(plan, points=(point,)))
    known = (*KEYS, *(name for name in ABOUT if name != "status"))
    return {name: value for name, value in row.items() if name not in known and value is not None}
