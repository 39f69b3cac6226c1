"""A plan, run: point by point, each appended to ``sweep.csv``, resumed where a run ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flopratio import version
from flopratio.errors import UsageError
from flopratio.step.options import StepOptions
from flopratio.text.grammar import format_value, is_spec
from flopratio.verbs.sweep.file import COLUMNS, Known, SweepRow, make_row, open_sweep
from flopratio.verbs.sweep.plan import OF_ROWS, Plan, Point

if TYPE_CHECKING:
    import pandas as pd

Evaluate = Callable[[str, dict[str, Any], StepOptions, str], Mapping[str, Any]]
"""``evaluate(model, settings, options, measure)`` -> the point's columns, as
:func:`flopratio.verbs.sweep.point.examine` gives them."""


def run_plan(
    plan: Plan,
    *,
    output: Path | None = None,
    fresh: bool = False,
    evaluate: Evaluate | None = None,
    started: Callable[[], None] = lambda: None,
    finished: Callable[[SweepRow], None] = lambda row: None,
) -> list[SweepRow]:
    """Evaluate the points that ``output`` does not hold yet.

    Args:
        output: directory of ``sweep.csv`` and ``environment.json``; each point is appended and
            flushed when it ends, so that a run that was killed is resumed. None: nothing is
            written.
        fresh: start over, whatever ``output`` holds.
        evaluate: gives a point's columns; :func:`flopratio.verbs.sweep.point.examine` unless given.
        started: called when ``output`` has proved fit and the first point is about to run.
        finished: called with each row, those of an earlier run included.

    Returns:
        A row a point, in the plan's order.

    Raises:
        UsageError: ``output`` can't be written, or holds another sweep (which stays); or a point
            can't be run: it is named, and those before it stay.
    """
    if evaluate is None:
        from flopratio.verbs.sweep.point import examine

        evaluate = examine
        _check(plan)
    versions = version.versions()
    shared = {
        **{name: getattr(plan.options, name) for name in OF_ROWS},
        "torch": versions["torch"],
        "flopratio": versions["flopratio"],
    }
    known = [{"model": point.model, **point.settings, **shared} for point in plan.points]
    with _store(plan, known, versions, output, fresh) as (rows, append):
        started()
        for row in rows:
            finished(row)
        for point, cells in list(zip(plan.points, known, strict=True))[len(rows) :]:
            row = make_row(plan.columns, cells, _figures(plan, point, evaluate))
            append(row)
            rows.append(row)
            finished(row)
    return rows


def _check(plan: Plan) -> None:
    """Check every point before the first one runs; of a MODEL that must be built for it the first
    one, by which a slip of its name, of a KEY or of a pattern is seen.

    Raises:
        UsageError: one can't run; it is named.
    """
    from flopratio.verbs.sweep.point import check

    for point in plan.points:
        with _named(plan, point):
            check(point.model, dict(point.settings), plan.options)
        if is_spec(point.model):
            return


@contextmanager
def _named(plan: Plan, point: Point) -> Iterator[None]:
    """An error of the user's becomes one of that point."""
    try:
        yield
    except UsageError as error:
        if isinstance(error, MemoryError):
            raise
        keys = [f"{key}={format_value(point.settings[key])}" for key in plan.grids[point.model]]
        raise UsageError(f"{' '.join([point.model, *keys])}: {error}") from error


def _store(
    plan: Plan,
    known: Sequence[Known],
    versions: dict[str, str],
    output: Path | None,
    fresh: bool,
) -> AbstractContextManager[tuple[list[SweepRow], Callable[[SweepRow], None]]]:
    if output is None:
        return nullcontext(([], lambda row: None))
    from flopratio.measure.hardware import machine

    surroundings = {
        "sweep": {"grids": plan.written_grids(), "options": plan.written_options()},
        "versions": versions,
        "machine": machine("cuda" if plan.measure == "cuda" else "cpu"),
    }
    return open_sweep(output, plan.columns, known, surroundings, fresh=fresh)


def _figures(plan: Plan, point: Point, evaluate: Evaluate) -> dict[str, Any]:
    from flopratio.step.out_of_memory import is_out_of_memory

    def figures(measure: str) -> Mapping[str, Any]:
        with _named(plan, point):
            return evaluate(point.model, dict(point.settings), plan.options, measure)

    try:
        return {"status": "ok", **figures(plan.measure)}
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
    # Out of the handler, whose traceback keeps the step's tensors alive: what can be had without
    # the device is still worth a row.
    counted: dict[str, Any] = {}
    if plan.measure != "none":
        try:
            counted.update(figures("none"))
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        counted["device"] = plan.measure
    return {**counted, "dtype": plan.options.dtype, "status": "oom"}


def to_frame(plan: Plan, rows: Sequence[SweepRow]) -> pd.DataFrame:
    """Rows as a DataFrame: ratios, shares and times as floats, all else as the objects they are."""
    import pandas as pd

    frame = pd.DataFrame(rows, columns=list(plan.columns), dtype=object)
    floats = [column for column, kind in COLUMNS.items() if kind is float]
    return frame.astype(dict.fromkeys(floats, "float64"))
