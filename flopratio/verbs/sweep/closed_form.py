"""A sweep by closed form: the whole grid at once from a few traces, and as many fresh ones as one
likes at random points to hold it against."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from flopratio.closed_form import Polynomial
from flopratio.closed_form.grid import LARGEST, chunks, fits_int64, on_grid
from flopratio.errors import UsageError
from flopratio.step.options import StepOptions
from flopratio.text.grammar import Value, format_value
from flopratio.verbs.formula import formula_of
from flopratio.verbs.formula.entries import QUANTITIES
from flopratio.verbs.formula.result import ClosedForm
from flopratio.verbs.formula.trace import Tracer
from flopratio.verbs.sweep.plan import SWEPT_DEFAULTS
from flopratio.version import versions

if TYPE_CHECKING:
    import pyarrow as pa

Array = NDArray[Any]
Grid = dict[str, tuple[int, ...]]

FROM_POINTS = 200
"""Of a grid with fewer points each is traced."""

WHOLE = (
    "forward",
    "grad_input",
    "grad_weight",
    "backward",
    "recompute",
    "update",
    "elementwise_forward",
    "elementwise_backward",
    "elementwise_recompute",
    "parameters",
    "saved_bytes",
)
RATIOS = ("ratio", "ratio_with_update")
COLUMNS = (*WHOLE, *RATIOS, "status")
"""The columns after ``model`` and the KEYs, as in :data:`flopratio.verbs.sweep.file.COLUMNS`; what
holds for all rows stands in environment.json."""

AT_ONCE = 1 << 18
"""Points that are worked out, and written, at a time: memory stays flat."""

FORMATS = ("csv", "parquet")


class Piece(NamedTuple):
    """A part of a grid, and its form there.

    Args:
        where: KEY -> its values, of every KEY.
        forms: quantity -> polynomial.
    """

    where: Mapping[str, frozenset[int]]
    forms: Mapping[str, Polynomial]


@dataclass
class GridForm:
    """The forms of a grid: of all of it, or of its parts.

    Args:
        model, options: whose step it is.
        grid: KEY -> its values, in order; the last varies fastest.
        fixed: the other KEYs that were given.
        pieces: what has a form. Where parts overlap the first holds.
        notes: what has none, a sentence each.
        traces: how many steps were traced.
    """

    model: str
    options: StepOptions
    grid: Grid
    fixed: dict[str, Value]
    pieces: list[Piece] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    traces: int = 0
    verified: int = 0

    @property
    def size(self) -> int:
        return math.prod(map(len, self.grid.values()))

    @cached_property
    def _wide(self) -> frozenset[str]:
        """The columns of Python integers: somewhere in the grid int64 could overflow."""
        return frozenset(
            name
            for piece in self.pieces
            for name in WHOLE
            if name in piece.forms and not fits_int64(piece.forms[name], self.grid)
        )

    def columns(self, part: Mapping[str, Sequence[int]]) -> dict[str, Array]:
        """The columns of a part of the grid, a cell a point, in the order of its points; masked
        where there is none. ``status`` tells whether there is a form."""
        shape = tuple(len(values) for values in part.values())
        done = np.zeros(shape, dtype=bool)
        columns: dict[str, Any] = {}
        for piece in self.pieces:
            chosen = {
                key: [i for i, value in enumerate(values) if value in piece.where[key]]
                for key, values in part.items()
            }
            if not all(chosen.values()):
                continue
            inner = {key: [part[key][i] for i in chosen[key]] for key in part}
            places = np.ix_(*chosen.values())
            fresh = ~done[places]
            is_whole = fresh.all() and fresh.size == done.size
            for name in WHOLE:
                form = piece.forms.get(name)
                if form is None:
                    continue
                if is_whole:
                    whole = on_grid(form, inner)
                    columns[name] = np.ma.masked_array(
                        whole.astype(object) if name in self._wide else whole
                    )
                    continue
                if name not in columns:
                    kind = object if name in self._wide else np.int64
                    columns[name] = np.ma.masked_array(np.zeros(shape, kind), mask=True)
                column = columns[name]
                block = column[places]
                block[fresh] = on_grid(form, inner)[fresh]
                column[places] = block
            done[places] = True
        empty = np.ma.masked_array(np.zeros(shape, np.int64), mask=True)
        columns = {name: columns.get(name, empty) for name in WHOLE}
        columns["ratio"] = _quotient(columns["backward"], columns["forward"])
        with_update = _sum(columns["backward"], columns["update"])
        columns["ratio_with_update"] = _quotient(with_update, columns["forward"])
        columns["status"] = done
        sizes = np.meshgrid(*part.values(), indexing="ij") if part else []
        keys = dict(zip(part, sizes, strict=True))
        return {name: column.reshape(-1) for name, column in {**keys, **columns}.items()}


def _sum(a: Any, b: Any) -> Any:
    """Of two columns; of Python integers where int64 could overflow."""
    small = a.dtype == b.dtype == np.int64 and int(a.max() or 0) + int(b.max() or 0) <= LARGEST
    return a + b if small else a.astype(object) + b


def _quotient(above: Any, below: Any) -> Any:
    return np.ma.divide(above.astype(float), np.ma.masked_equal(below, 0).astype(float))


def is_for_closed_form(
    model: str | None, keys: Mapping[str, Sequence[Value]], measure: str
) -> bool:
    """Whether a grid is swept by closed form: nothing is timed, and it has many points."""
    points = math.prod(map(len, keys.values()))
    several = [values for values in keys.values() if len(values) > 1]
    sizes = all(type(value) is int for values in several for value in values)
    return model is not None and measure == "none" and points > FROM_POINTS and sizes


def grid_form(
    model: str,
    keys: Mapping[str, Sequence[Value]],
    options: StepOptions,
    *,
    progress: Callable[[int], None] = lambda traces: None,
) -> GridForm:
    """The forms of a grid.

    Args:
        keys: KEY -> values.
        progress: called with the number of traces so far.

    Raises:
        UsageError: no part of it has a form, see :func:`flopratio.verbs.formula.formula`.
    """
    fixed = {key: values[0] for key, values in keys.items() if len(values) == 1}
    grid: Grid = {
        key: tuple(value for value in values if type(value) is int)
        for key, values in keys.items()
        if len(values) > 1
    }
    found = GridForm(model, options, grid, fixed)
    tracer = Tracer(model, fixed, options, cached=True)
    _add_pieces(found, tracer, {}, dict(grid), progress)
    found.traces += tracer.traces
    return found


def _add_pieces(
    found: GridForm,
    tracer: Tracer,
    held: dict[str, int],
    grid: Grid,
    progress: Callable[[int], None],
) -> None:
    """Add the pieces of a grid in which some KEYs are held at one value.

    A KEY at 0 or 1 is often another function, and is tried by itself.
    """
    held = {**held, **{key: values[0] for key, values in grid.items() if len(values) == 1}}
    grid = {key: values for key, values in grid.items() if len(values) > 1}
    low = next(
        (
            k
            for k, v in grid.items()
            if sum(x >= 2 for x in v) < len(v) and sum(x >= 2 for x in v) < 2
        ),
        None,
    )
    if low is not None:  # too few others to tell a function by
        for value in grid[low]:
            _add_pieces(found, tracer, {**held, low: value}, _without(grid, low), progress)
        return
    grid = {key: _admitted(found, tracer, held, grid, key, values) for key, values in grid.items()}
    if not grid:
        point = tracer.sample(held)
        forms = {name: Polynomial.constant(0) for name in (*QUANTITIES,)}
        for entry, value in point.entries.items():
            forms[entry.quantity] = forms[entry.quantity] + value
        forms["backward"] = forms["grad_input"] + forms["grad_weight"]
        found.pieces.append(Piece(_region(found.grid, held, {}), forms))
        return
    values = {key: tuple(x for x in each if x >= 2) for key, each in grid.items()}
    closed = formula_of(
        found.model,
        (),
        {**{k: (v,) for k, v in {**found.fixed, **held}.items()}, **values},
        found.options,
        progress=progress,
    )
    found.traces += closed.traces
    found.verified += len(closed.verified_at)
    found.notes += [f"{name}: {why}" for name, why in closed.why_not.items() if name in WHOLE]
    base = closed.fitted_at[0]
    open_values = dict(values)
    apart: list[tuple[str, int]] = []
    for key, each in grid.items():
        for low_value in (x for x in each if x < 2):
            if _holds_at(closed, {**base, key: low_value}):
                open_values[key] = (low_value, *open_values[key])
            else:
                apart.append((key, low_value))
    found.pieces.append(Piece(_region(found.grid, held, open_values), closed.totals))
    for key, value in apart:
        rest = {other: each for other, each in grid.items() if other != key}
        try:
            _add_pieces(found, tracer, {**held, key: value}, rest, progress)
        except UsageError as error:
            found.notes.append(f"{key}={value}: {error}")


def _without(grid: Grid, key: str) -> Grid:
    return {other: values for other, values in grid.items() if other != key}


def _region(
    whole: Grid, held: Mapping[str, int], values: Mapping[str, Sequence[int]]
) -> dict[str, frozenset[int]]:
    return {
        key: frozenset((held[key],)) if key in held else frozenset(values.get(key, each))
        for key, each in whole.items()
    }


def _holds_at(closed: ClosedForm, point: Mapping[str, int]) -> bool:
    try:
        return not list(closed.held_against([point]))
    except UsageError:
        return False


def _admitted(
    found: GridForm,
    tracer: Tracer,
    held: Mapping[str, int],
    grid: Grid,
    key: str,
    values: tuple[int, ...],
) -> tuple[int, ...]:
    """The values of a KEY up to the largest at which the model runs, the others at their least."""
    least = {
        other: min((x for x in each if x >= 2), default=each[0]) for other, each in grid.items()
    }
    reason = ""

    def runs(value: int) -> bool:
        nonlocal reason
        try:
            tracer.sample({**held, **least, key: value})
        except UsageError as error:
            reason = str(error)
            return False
        return True

    ordered = sorted(values)
    if len(set(map(type, values))) != 1 or runs(ordered[-1]) or not runs(least[key]):
        return values
    low, high = ordered.index(least[key]), len(ordered) - 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if runs(ordered[middle]) else (low, middle)
    note = (
        f"{found.model} runs up to {key}={ordered[low]:,}, and refuses {ordered[high]:,}: {reason}"
    )
    if not any(known.startswith(note.partition(":")[0]) for known in found.notes):
        found.notes.append(note)
    admitted = set(ordered[: low + 1])
    return tuple(value for value in values if value in admitted)


def hold_against_traces(
    found: GridForm, number: int, *, seed: int = 0
) -> list[tuple[dict[str, int], str]]:
    """Trace random points of the grid afresh.

    Returns:
        The points that differ, with what differs there; none is as it should be.
    """
    draw = random.Random(seed)
    tracer = Tracer(found.model, found.fixed, found.options, cached=False)
    wrong = []
    for _ in range(number):
        point = {key: draw.choice(values) for key, values in found.grid.items()}
        row = found.columns({key: (value,) for key, value in point.items()})
        try:
            sampled = tracer.sample(point)
        except UsageError as error:
            if row["status"][0]:
                wrong.append((point, f"the model refuses it ({error})"))
            continue
        totals = dict.fromkeys(QUANTITIES, 0)
        for entry, value in sampled.entries.items():
            totals[entry.quantity] += value
        totals["backward"] = totals["grad_input"] + totals["grad_weight"]
        for name in WHOLE:
            ours = row[name][0]
            if ours is np.ma.masked:
                continue
            if int(ours) != totals[name]:
                wrong.append((point, f"{name} {int(ours):,}, traced {totals[name]:,}"))
    return wrong


def write_grid(
    found: GridForm,
    output: Path,
    *,
    kind: str,
    fresh: bool,
    finished: Callable[[int], None] = lambda rows: None,
) -> Path:
    """Write ``sweep.csv`` or ``sweep.parquet``, and ``environment.json`` beside it, part by part.

    Args:
        kind: one of :data:`FORMATS`.
        fresh: overwrite what is there.
        finished: called with the number of rows of each part.

    Raises:
        UsageError: the directory can't be written, or holds a sweep.
    """
    path = output / f"sweep.{kind}"
    if any((output / f"sweep.{each}").exists() for each in FORMATS) and not fresh:
        raise UsageError(
            f"{output} holds a sweep already: choose another directory with -o, or --fresh to "
            "write over it"
        )
    try:
        output.mkdir(parents=True, exist_ok=True)
        with _writer(path, kind) as write:
            for part in chunks(found.grid, AT_ONCE):
                table = _table(found, part)
                write(table)
                finished(table.num_rows)
        text = json.dumps(environment(found), indent=2)
        (output / "environment.json").write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"can't write in {output}: {error.strerror or error}") from error
    return path


def environment(found: GridForm) -> dict[str, Any]:
    """What holds for all rows, and the forms that they come from."""
    return {
        "sweep": {
            "model": found.model,
            "grid": {
                key: f"{values[0]}..{values[-1]}"
                if values == tuple(range(values[0], values[-1] + 1))
                else ",".join(map(str, values))
                for key, values in found.grid.items()
            },
            "settings": {key: format_value(value) for key, value in found.fixed.items()},
            "options": {name: getattr(found.options, name) for name in SWEPT_DEFAULTS},
            "source": "closed form",
        },
        "convention": found.options.convention(),
        "versions": versions(),
        "pieces": [
            {
                "where": {k: [min(v), max(v)] for k, v in piece.where.items()},
                **{name: str(piece.forms[name]) for name in WHOLE if name in piece.forms},
            }
            for piece in found.pieces
        ],
        "notes": found.notes,
    }


class _writer:  # noqa: N801 - a context manager
    def __init__(self, path: Path, kind: str) -> None:
        self.path, self.kind = path, kind
        self.file: Any = None

    def __enter__(self) -> Callable[[Any], None]:
        return self._write

    def _write(self, table: Any) -> None:
        if self.file is None:
            if self.kind == "csv":
                from pyarrow import csv

                options = csv.WriteOptions(quoting_style="none")
                self.file = csv.CSVWriter(str(self.path), table.schema, write_options=options)
            else:
                from pyarrow import parquet

                self.file = parquet.ParquetWriter(str(self.path), table.schema)
        self.file.write_table(table)

    def __exit__(self, *exception: object) -> None:
        if self.file is not None:
            self.file.close()


def _table(found: GridForm, part: Mapping[str, Sequence[int]]) -> pa.Table:
    pa = _arrow()
    columns = found.columns(part)
    rows = len(columns["status"])
    ok = columns.pop("status").astype(np.int8)
    words = pa.DictionaryArray.from_arrays(ok, ["refused", "ok"]).cast(pa.string())
    models = pa.DictionaryArray.from_arrays(np.zeros(rows, np.int8), [found.model])
    arrays = {"model": models.cast(pa.string())}
    for name, column in columns.items():
        mask = np.ma.getmaskarray(column) if isinstance(column, np.ma.MaskedArray) else None
        data = np.asarray(column)
        kind = None
        if data.dtype == object:
            kind = pa.decimal128(38, 0)
            data = (
                np.array([None if m else v for v, m in zip(data, mask, strict=True)], object)
                if mask is not None
                else data
            )
            mask = None
        arrays[name] = pa.array(data, type=kind, mask=mask)
    return pa.table({**arrays, "status": words})


def _arrow() -> Any:
    try:
        import pyarrow
    except ImportError as error:
        raise UsageError(
            "a grid of this size is written by pyarrow, which isn't installed: pip install pyarrow"
        ) from error
    return pyarrow


def every_point(found: GridForm) -> Iterator[dict[str, int]]:
    """The points of a grid, in order."""
    for part in chunks(found.grid, AT_ONCE):
        sizes = np.meshgrid(*part.values(), indexing="ij")
        for values in zip(*(each.reshape(-1).tolist() for each in sizes), strict=True):
            yield dict(zip(part, values, strict=True))
