"""``sweep.csv``: one row a point, appended and flushed, resumed where a run ended.

Beside it stands ``environment.json``, which says which sweep it is and what it ran on; a file of
another sweep is never touched.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flopratio.errors import UsageError
from flopratio.text.grammar import Value, format_value
from flopratio.text.spreadsheets import as_text

COLUMNS: Mapping[str, type] = {
    "forward": int,
    "grad_input": int,
    "grad_weight": int,
    "backward": int,
    "recompute": int,
    "update": int,
    "elementwise_forward": int,
    "elementwise_backward": int,
    "elementwise_recompute": int,
    "ratio": float,
    "ratio_with_update": float,
    "first_layer_ratio": float,
    "other_layers_ratio": float,
    "first_layer_share": float,
    "attention_forward": int,
    "attention_ratio": float,
    "projection_ratio": float,
    "head_ratio": float,
    "embedding_flops": int,
    "product_weights": int,
    "six_n_d_ratio": float,
    "minor_share": float,
    "parameters": int,
    "saved_bytes": int,
    "peak_bytes": int,
    "inference_peak_bytes": int,
    "checkpointed_saved_bytes": int,
    "checkpointed_peak_bytes": int,
    "checkpointed_recompute": int,
    "checkpointed_elementwise_recompute": int,
    "forward_ms": float,
    "forward_ms_low": float,
    "forward_ms_high": float,
    "backward_ms": float,
    "backward_ms_low": float,
    "backward_ms_high": float,
    "update_ms": float,
    "update_ms_low": float,
    "update_ms_high": float,
    "time_ratio": float,
    "time_ratio_low": float,
    "time_ratio_high": float,
    "executed_equal": bool,
    "saved_equal": bool,
    "fvcore_equal": bool,
    "flop_counter_equal": bool,
    "not_compared": str,
    "optimizer": str,
    "weight_decay": str,
    "loss": str,
    "freeze": str,
    "checkpoint": str,
    "accumulate": int,
    "amp": str,
    "input_grad": bool,
    "target": str,
    "convention": str,
    "attention": str,
    "device": str,
    "dtype": str,
    "torch": str,
    "flopratio": str,
    "status": str,
}
"""The columns after ``model`` and the KEYs. FLOP and bytes are exact ints, times milliseconds with
the ends of a 95% interval in ``..._low`` and ``..._high``; what does not apply is empty. The
``checkpointed_...`` are those of the same step with its chain of layers in as many checkpoints as
the root of its length (``--checkpoint auto``). ``not_compared`` says why a comparison is empty:
``fvcore_equal: fvcore is not installed``."""

BETWEEN = " | "
"""Stands between the reasons in the column ``not_compared``."""

FILE_SUFFIXES = (".csv", ".html", ".json", ".md", ".png", ".svg")
"""Of names that are meant for a file."""

SweepRow = dict[str, Any]
"""One point's figures by column; None where one does not apply."""

Known = Mapping[str, Value | None]
"""The cells of a row that are known before it runs: ``model``, each KEY that the model has, and
what every row of the sweep shares. They tell whether a line is this sweep's."""


def reasons(row: SweepRow) -> dict[str, str]:
    """Column -> why its comparison was not made at a point."""
    parts = (row["not_compared"] or "").split(BETWEEN)
    return {column: why for column, _, why in (part.partition(": ") for part in parts) if why}


def make_row(columns: Sequence[str], known: Known, figures: Mapping[str, Any]) -> SweepRow:
    """A row with every column of ``columns``, in plain Python types: what its line in the file
    reads back as.

    Raises:
        KeyError: ``figures`` has a column that no row has.
    """
    row: SweepRow = dict.fromkeys(columns)
    for column, value in figures.items():
        missing = value is None or (isinstance(value, float) and not math.isfinite(value))
        row[column] = None if missing else COLUMNS[column](value)
    return row | dict(known)


@contextmanager
def open_sweep(
    directory: Path,
    columns: Sequence[str],
    points: Sequence[Known],
    environment: Mapping[str, Any],
    *,
    fresh: bool = False,
) -> Iterator[tuple[list[SweepRow], Callable[[SweepRow], None]]]:
    """Open the ``sweep.csv`` of a directory, which is made if need be.

    Args:
        columns: of the file, in order.
        points: of the whole sweep, in the order of its rows.
        environment: which sweep it is (``sweep``) and what it runs on (``versions``,
            ``machine``); the same as the file's, or the file is another sweep's.
        fresh: start over, whatever is there.

    Yields:
        The rows that are there, and the function that appends one.

    Raises:
        UsageError: the directory can't be written, or holds another sweep.
    """
    path = directory / "sweep.csv"
    rows: list[SweepRow] = []
    if directory.is_file() or (directory.suffix in FILE_SUFFIXES and not directory.exists()):
        raise UsageError(
            f"{directory} should be a directory, not a file: a sweep writes {path.name}, its "
            "verdict and its plots there"
        )
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if path.exists() and not fresh:
            rows, size = _resume(path, columns, points, environment)
        if rows:
            file = path.open("r+", encoding="utf-8", newline="")
            file.truncate(size)  # a line that was cut goes; its point runs again
            file.seek(size)
        else:
            # Emptied before its environment is replaced: killed in between, it is nobody's.
            file = path.open("w", encoding="utf-8", newline="")
            text = json.dumps(environment, indent=2)
            (directory / "environment.json").write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"can't write in {directory}: {error.strerror or error}") from error
    with file:
        writer = csv.writer(file, lineterminator="\n")
        if not rows:
            writer.writerow(columns)
            file.flush()

        def append(row: SweepRow) -> None:
            writer.writerow([_text(row[column]) for column in columns])
            file.flush()

        yield rows, append


def _text(value: Value | None) -> str:
    text = "" if value is None else format_value(value)
    return as_text(text) if isinstance(value, str) else text


def _resume(
    path: Path,
    columns: Sequence[str],
    points: Sequence[Known],
    environment: Mapping[str, Any],
) -> tuple[list[SweepRow], int]:
    """The finished rows of a file and the bytes that they take, its header included."""
    data = path.read_bytes()
    if data.count(b"\n") <= 1 and b"model,".startswith(data[:6]):
        return [], 0  # no point was ever finished
    advice = "choose another directory with -o, or --fresh to start this one over"
    try:
        before = json.loads((path.parent / "environment.json").read_text(encoding="utf-8"))
        lines = data[: data.rindex(b"\n") + 1].decode().split("\n")[:-1]
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} is not a sweep that can be resumed: {advice}") from error
    if difference := _difference(before, environment):
        raise UsageError(f"{path} is from another sweep ({difference}): {advice}")
    if lines[0] != ",".join(columns) or len(lines) > len(points) + 1:
        raise UsageError(f"{path} is from another sweep (other columns or points): {advice}")
    rows: list[SweepRow] = []
    for number, (line, point) in enumerate(zip(lines[1:], points, strict=False), start=2):
        texts = dict(zip(columns, next(csv.reader([line]), []), strict=False))
        figures = _figures(texts) if len(texts) == len(columns) else None
        if figures is None:
            if number < len(lines):
                raise UsageError(f"line {number} of {path} is damaged: {advice}")
            lines.pop()
            break
        for column in columns:
            if column in point or column not in COLUMNS:
                text = _text(point.get(column))
                if texts[column] != text:
                    raise UsageError(
                        f"{path} is from another sweep (its line {number} has "
                        f"{column}={texts[column]}, not {text}): {advice}"
                    )
        rows.append(make_row(columns, point, figures))
    return rows, len("\n".join([*lines, ""]).encode())


def _figures(texts: Mapping[str, str]) -> dict[str, Any] | None:
    """The figures of a line, by column; None if the line is damaged."""
    if texts["status"] not in ("ok", "oom"):
        return None
    try:
        return {
            column: text == "true" if kind is bool else kind(text)
            for column, kind in COLUMNS.items()
            if (text := texts[column])
        }
    except ValueError:
        return None


def _difference(before: Any, now: Mapping[str, Any]) -> str:
    """The first thing in which two environments are those of different sweeps, in words."""
    then, today = _flat(before), _flat(now)
    for name in [*today, *then]:
        if _decides(name, now) and then.get(name) != today.get(name):
            there, here = then.get(name, "nothing"), today.get(name, "nothing")
            return f"its {name.rpartition('.')[2]} is {there}, not {here}"
    return ""


def _decides(name: str, environment: Mapping[str, Any]) -> bool:
    """Whether rows may not differ in this: times of two machines, for one, are not one sweep."""
    measured = environment["sweep"]["options"]["measure"] != "none"
    return (
        name.startswith("sweep.")
        or name in ("versions.flopratio", "versions.torch")
        or (measured and name.startswith("machine."))
    )


def _flat(tree: Any, prefix: str = "") -> dict[str, str]:
    if not isinstance(tree, dict):
        return {prefix[:-1]: str(tree)}
    return {
        name: leaf
        for key, branch in tree.items()
        for name, leaf in _flat(branch, f"{prefix}{key}.").items()
    }
