"""The files of a sweep by closed form: its rows as CSV or Parquet, written part by part, and beside
them what holds for all."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from flopratio.closed_form.grid import chunks
from flopratio.errors import UsageError
from flopratio.step.options import StepOptions
from flopratio.text.grammar import Value, format_value
from flopratio.text.spreadsheets import as_text
from flopratio.verbs.sweep.closed_form import RATIOS, WHOLE, GridForm
from flopratio.verbs.sweep.file import COLUMNS as COLUMN_TYPES
from flopratio.verbs.sweep.plan import SWEPT_DEFAULTS
from flopratio.version import versions

if TYPE_CHECKING:
    import pyarrow as pa

UNKNOWN = (
    "first_layer_ratio",
    "other_layers_ratio",
    "peak_bytes",
    "inference_peak_bytes",
    "forward_ms",
    "backward_ms",
    "update_ms",
    "time_ratio",
)
"""What a sweep tells of a point that is traced, and a closed form doesn't: these are empty."""

SAME = ("device", "dtype", "torch")
"""What all rows have in common."""

COLUMNS = (
    *WHOLE[:-2],
    *RATIOS,
    *UNKNOWN[:2],
    *WHOLE[-2:],
    *UNKNOWN[2:],
    *SAME,
    "status",
)
"""The columns after ``model`` and the KEYs, as in :data:`flopratio.verbs.sweep.file.COLUMNS`; what
else holds for all rows stands in environment.json."""

AT_ONCE = 1 << 18
"""Points that are worked out, and written, at a time: memory stays flat."""

CSV_BATCH = 1 << 14
"""Rows that become text at a time: with pyarrow's 1,024 it takes twice as long."""

REPEATED = 16
"""A column of Parquet is written as a dictionary if each of its values is there so often."""

DIGITS = (38, 76)
"""How many digits pyarrow's decimals may have."""

FORMATS = ("csv", "parquet")

UNFINISHED = ".unfinished"
"""The end of a file's name until all of it is written."""


def check_directory(
    model: str,
    keys: Mapping[str, Sequence[Value]],
    options: StepOptions,
    output: Path,
    *,
    fresh: bool,
) -> None:
    """Check that a directory holds no other sweep, before anything is traced. One that was
    interrupted, or the same one, is written anew: it is a matter of seconds.

    Args:
        fresh: overwrite what is there.

    Raises:
        UsageError: it does.
    """
    if fresh or not any((output / f"sweep.{kind}").exists() for kind in FORMATS):
        return
    advice = "choose another directory with -o, or --fresh to write over it"
    try:
        before = json.loads((output / "environment.json").read_text(encoding="utf-8"))
        there = before["sweep"], before["versions"]["torch"], before["versions"]["flopratio"]
    except (OSError, ValueError, KeyError, TypeError):
        there = None
    now = versions()
    this = json.loads(json.dumps(_identity(model, keys, options)))
    if there != (this, now["torch"], now["flopratio"]):
        raise UsageError(f"{output} holds another sweep already: {advice}")


def write_grid(
    found: GridForm,
    output: Path,
    *,
    kind: str,
    fresh: bool,
    finished: Callable[[int], None] = lambda rows: None,
) -> Path:
    """Write ``sweep.csv`` or ``sweep.parquet``, and ``environment.json`` beside it, part by part.
    Until the last row is there the file has another name: an interrupted sweep leaves none.

    Args:
        kind: one of :data:`FORMATS`.
        fresh: overwrite what is there, if it is another sweep.
        finished: called with the number of rows of each part.

    Raises:
        UsageError: the directory can't be written, or holds another sweep.
    """
    check_directory(found.model, found.keys, found.options, output, fresh=fresh)
    path = output / f"sweep.{kind}"
    unfinished = path.with_name(path.name + UNFINISHED)
    model = as_text(found.model) if kind == "csv" else found.model
    try:
        output.mkdir(parents=True, exist_ok=True)
        for each in FORMATS:  # of a run that was killed
            (output / f"sweep.{each}{UNFINISHED}").unlink(missing_ok=True)
        try:
            with _Writer(found, unfinished, kind) as write:
                for part in chunks(found.grid, AT_ONCE):
                    table = _table(found, part, model)
                    write(table)
                    finished(table.num_rows)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
        for each in FORMATS:  # of the sweep that is replaced
            (output / f"sweep.{each}").unlink(missing_ok=True)
        text = json.dumps(environment(found), indent=2)
        (output / "environment.json").write_text(text + "\n", encoding="utf-8")
        unfinished.replace(path)
    except OSError as error:
        raise UsageError(f"can't write in {output}: {error.strerror or error}") from error
    return path


def _identity(
    model: str, keys: Mapping[str, Sequence[Value]], options: StepOptions
) -> dict[str, Any]:
    """Which sweep it is."""
    grid = {key: values for key, values in keys.items() if len(values) > 1}
    return {
        "model": model,
        "grid": {key: _written(values) for key, values in grid.items()},
        "settings": {key: format_value(keys[key][0]) for key in keys if key not in grid},
        "options": {name: getattr(options, name) for name in SWEPT_DEFAULTS},
        "source": "closed form",
    }


def _written(values: Sequence[Value]) -> str:
    whole = [value for value in values if type(value) is int]
    if len(whole) == len(values) and whole == list(range(whole[0], whole[-1] + 1)):
        return f"{whole[0]}..{whole[-1]}"
    return ",".join(map(str, values))


def environment(found: GridForm) -> dict[str, Any]:
    """What holds for all rows, and the forms that they come from."""
    return {
        "sweep": _identity(found.model, found.keys, found.options),
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


class _Writer:
    """Writes tables one after the other to a file."""

    def __init__(self, found: GridForm, path: Path, kind: str) -> None:
        self.found, self.path, self.kind = found, path, kind
        self.file: Any = None
        self.sink: Any = None

    def __enter__(self) -> Callable[[pa.Table], None]:
        return self._write

    def _write(self, table: pa.Table) -> None:
        if self.file is None:
            self.file = (self._csv if self.kind == "csv" else self._parquet)(table.schema)
        self.file.write_table(table)

    def _csv(self, schema: pa.Schema) -> Any:
        """As in :mod:`flopratio.verbs.sweep.file`: pyarrow would quote each name, and each text."""
        from pyarrow import OSFile, csv

        options = csv.WriteOptions(
            include_header=False,
            batch_size=CSV_BATCH,
            quoting_style="needed" if set(self.found.model) & set('",\r\n') else "none",
        )
        self.sink = OSFile(str(self.path), "wb")
        self.sink.write(",".join(schema.names).encode() + b"\n")
        return csv.CSVWriter(self.sink, schema, write_options=options)

    def _parquet(self, schema: pa.Schema) -> Any:
        """Whole numbers are written by their differences, which are few where the last KEY varies;
        what repeats, as a dictionary; text as text, whatever holds it here."""
        from pyarrow import parquet, types

        found = self.found
        repeated = {
            name
            for name, keys in found.keys_of.items()
            if found.size >= REPEATED * math.prod(len(found.grid[key]) for key in keys)
        }
        as_dictionary = [
            each.name
            for each in schema
            if each.name in repeated or each.name in found.grid or types.is_dictionary(each.type)
        ]
        differences = [
            each.name
            for each in schema
            if types.is_int64(each.type) and each.name not in as_dictionary
        ]
        return parquet.ParquetWriter(
            str(self.path),
            schema,
            use_dictionary=as_dictionary,
            column_encoding=dict.fromkeys(differences, "DELTA_BINARY_PACKED"),
            store_schema=False,
        )

    def __exit__(self, *exception: object) -> None:
        for each in (self.file, self.sink):
            if each is not None:
                each.close()


def constants(found: GridForm) -> dict[str, str]:
    """What all rows have in common, by column."""
    return {
        "model": found.model,
        "device": "fake cpu",
        "dtype": found.dtype,
        "torch": torch.__version__,
    }


def _table(found: GridForm, part: Mapping[str, Sequence[int]], model: str) -> pa.Table:
    import pyarrow as pa

    columns = found.columns(part)
    rows = len(columns["status"])
    zeros = pa.array(np.zeros(rows, np.int8))
    names = ("model", *part, *COLUMNS)
    arrays: dict[str, Any] = {
        name: pa.DictionaryArray.from_arrays(zeros, [value], safe=False)
        for name, value in {**constants(found), "model": model}.items()
    }
    for name in UNKNOWN:
        kind = pa.int64() if COLUMN_TYPES[name] is int else pa.float64()
        arrays[name] = pa.nulls(rows, kind)
    ok = pa.array(columns.pop("status").view(np.int8))
    arrays["status"] = pa.DictionaryArray.from_arrays(ok, ["refused", "ok"], safe=False)
    for name, column in columns.items():
        mask = np.ma.getmaskarray(column) if np.ma.is_masked(column) else None
        data: Any = np.ma.getdata(column)
        kind = _decimal(name, found.bounds[name]) if data.dtype == object else None
        if kind is not None and mask is not None:
            data, mask = np.where(mask, None, data), None
        arrays[name] = pa.array(data, type=kind, mask=mask)
    return pa.table({name: arrays[name] for name in names})


def _decimal(name: str, largest: int) -> pa.DataType:
    """The type of the whole numbers of a column that don't fit 64 bits."""
    import pyarrow as pa

    if largest < 10 ** DIGITS[0]:
        return pa.decimal128(DIGITS[0], 0)
    if largest < 10 ** DIGITS[1]:
        return pa.decimal256(DIGITS[1], 0)
    raise UsageError(
        f"{name} has up to {len(str(largest))} digits in this grid, and a table holds up to "
        f"{DIGITS[1]}: give smaller values"
    )
