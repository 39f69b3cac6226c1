"""Rows that are measured one after another, each on disk as soon as it ends, so that a run that was
stopped or killed goes on with the next one."""

from __future__ import annotations

import csv
import gc
import io
import json
import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from flopratio.errors import UsageError, message_of

Key = tuple[str, ...]
Row = Mapping[str, Any]
Work = Callable[[], Iterable[Row]]
"""Measures what belongs to one key: the rows of it, without the key's columns."""
Rows = list[dict[str, str]]
"""As they are read back: texts."""

ABOUT = ("device", "seconds", "status", "reason")
"""The last columns of every table. ``status`` is ``ok``, or ``failed`` with its ``reason``."""

LONGEST_REASON = 300


class Renew(Exception):  # noqa: N818 - no error
    """The device takes no more work from this process: a fresh one goes on with the next row."""


@dataclass
class Run:
    """One run of a stage.

    Args:
        directory: where the files are.
        device: where the steps run.
        device_name: as the rows tell it: ``NVIDIA H200``, or ``cpu``.
        target: what the steps are predicted for: the GPU by its name where it is known, else
            ``cuda``; or ``cpu``.
        small: whether sizes are those of the rehearsal.
        seconds: after which no further row is begun.
        again: whether rows that failed are run once more.
    """

    directory: Path
    device: torch.device
    device_name: str = "cpu"
    target: str = "cpu"
    small: bool = False
    seconds: float = float("inf")
    again: bool = False
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self._start = self.clock()

    @property
    def on_cuda(self) -> bool:
        return self.device.type == "cuda"

    @property
    def marker(self) -> Path:
        """Says which row runs; it is there after a run only if that row ended the process."""
        return self.directory / "running.json"

    def left(self) -> float:
        """Seconds."""
        return self.seconds - (self.clock() - self._start)

    def say(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)


def run_rows(
    run: Run,
    name: str,
    keys: Sequence[str],
    columns: Sequence[str],
    work: Iterable[tuple[Key, Work]],
) -> bool:
    """Work through the keys that ``name.csv`` does not have yet.

    Args:
        keys: the columns that a key consists of.
        columns: the others, without :data:`ABOUT`.

    Returns:
        Whether all is done: False if the time did not suffice.

    Raises:
        Renew: the rest is for another process.
        UsageError: there is a file of that name with other columns.
    """
    table = _Table(run, name, [*keys, *columns, *ABOUT], len(keys))
    longest = 0.0
    for key, measure in work:
        if key in table.done:
            continue
        if run.left() < 1.2 * longest or run.left() <= 0:
            run.say(f"{name}: no time for more; the next run goes on at {' '.join(key)}")
            return False
        start = run.clock()
        rows, is_broken = _measured(run, name, key, measure)
        seconds = run.clock() - start
        longest = max(longest, seconds)
        about = {"device": run.device_name, "seconds": round(seconds, 2)}
        table.append([{**dict(zip(keys, key, strict=True)), **about, **row} for row in rows])
        last = dict(rows[-1])
        run.say(f"{name}: {' '.join(key)}: {last['status']} {last.get('reason', '')}".rstrip())
        if is_broken:
            raise Renew
    return True


def _measured(run: Run, name: str, key: Key, measure: Work) -> tuple[list[Row], bool]:
    """The rows of a key, and whether the device is of no more use to this process."""
    run.marker.write_text(json.dumps([name, *key]), encoding="utf-8")
    try:
        rows: list[Row] = [{"status": "ok", "reason": "", **row} for row in measure()]
        is_broken = False
    except Exception as error:
        rows = [{"status": "failed", "reason": reason_of(error)}]
        # What has failed in a kernel fails ever after; to have run out of memory does not.
        is_broken = "CUDA error" in str(error) and "out of memory" not in str(error)
    finally:
        run.marker.unlink()
    # Out of the handler, whose traceback holds the step's tensors.
    gc.collect()
    if run.on_cuda and not is_broken:
        torch.cuda.empty_cache()
    return rows, is_broken


def reason_of(error: BaseException) -> str:
    """Why something failed, in a line without paths."""
    lines = message_of(error).strip().splitlines() or [""]
    text = re.sub(r"(?:/[^/\s'\"]+)+/", "", lines[0])
    named = text if isinstance(error, UsageError) else f"{type(error).__name__}: {text}"
    return named[:LONGEST_REASON]


class _Table:
    """A CSV that grows.

    Attributes:
        done: the keys of which it has rows.
    """

    def __init__(self, run: Run, name: str, columns: Sequence[str], keys: int) -> None:
        self._path = run.directory / f"{name}.csv"
        self._columns = list(columns)
        rows = read_rows(self._path)
        if rows and list(rows[0]) != self._columns:
            raise UsageError(
                f"{self._path.name} there has other columns, of another version: choose another "
                "folder with -o"
            )
        if run.again:
            failed = {tuple(row.values())[:keys] for row in rows if row["status"] == "failed"}
            rows = [row for row in rows if tuple(row.values())[:keys] not in failed]
        fresh = self._path.with_suffix(".tmp")
        fresh.write_text(self._text(rows, header=True), encoding="utf-8")
        fresh.replace(self._path)
        self.done = {tuple(row.values())[:keys] for row in rows}
        self._note_crash(run, name, keys)

    def _note_crash(self, run: Run, name: str, keys: int) -> None:
        """The row that ended an earlier process gets its reason."""
        if not run.marker.exists():
            return
        which, *key = json.loads(run.marker.read_text(encoding="utf-8"))
        if which != name:
            return
        reason = "the process ended in the midst of it; --again tries it once more"
        cells = dict(zip(self._columns[:keys], key, strict=True))
        self.append([{**cells, "device": run.device_name, "status": "failed", "reason": reason}])
        self.done.add(tuple(key))
        run.marker.unlink()

    def append(self, rows: Iterable[Row]) -> None:
        with self._path.open("a", encoding="utf-8", newline="") as file:
            file.write(self._text(rows))

    def _text(self, rows: Iterable[Row], *, header: bool = False) -> str:
        text = io.StringIO()
        writer = csv.DictWriter(text, self._columns, restval="", lineterminator="\n")
        if header:
            writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()


def read_rows(path: Path) -> Rows:
    """The rows of a table, as texts; none if there is no such file. A last line that was cut off is
    left out."""
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    return list(csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1], newline="")))


def numbers(rows: Iterable[dict[str, str]], *columns: str) -> list[list[float]]:
    """The figures of the rows that have all of them."""
    return [
        [float(row[column]) for column in columns]
        for row in rows
        if row["status"] == "ok" and all(row[column] for column in columns)
    ]
