"""A profiled step for viewers of traces (https://ui.perfetto.dev, chrome://tracing): its operators
by phase, named by their layers; its kernels; and its memory."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flopratio.errors import UsageError
from flopratio.ledger import PHASES, ROOT, Row
from flopratio.report.trace_events import (
    TraceEvent,
    complete,
    memory_counter,
    process,
    thread,
    trace,
)
from flopratio.report.units import plural
from flopratio.text.files import write_text

if TYPE_CHECKING:
    from flopratio.measure.profiled import StepEvent
    from flopratio.memory import OperatorRun
    from flopratio.verbs.profile import Profile

TRACE_FORMATS = (".json",)
"""What viewers read."""

NO_PHASE = "several phases, or none"
"""The track of what is around operators of several phases, and of what has no layer."""

KERNELS = "kernels"
"""What the tracks of a device's streams are called."""

STREAM = "stream"
"""What the track of an event starts with that ran on a device."""


def write_step_trace(profile: Profile, path: Path) -> None:
    """Write one of the profiled steps.

    Raises:
        UsageError: as :func:`step_trace` says, or the disk refuses.
    """
    write_text(path, json.dumps(step_trace(profile)))


def step_trace(profile: Profile) -> dict[str, Any]:
    """The trace event format: a track for each phase with its operators, named by their layers and
    with their figures; one for each of the device's streams with its kernels; and a counter of the
    bytes of each category of memory. Moments are microseconds since the step began.

    A fused operator that works for two phases is one event, of the first one's track, which names
    both. Memory is what was predicted, at the moments when the host ran; a step that ran other
    operators than the prediction has no counter, and says so.

    Raises:
        UsageError: the profile was read from a file, which keeps no events.
    """
    ledger, step_events = profile.ledger, profile.profiled.events
    if not step_events:
        raise UsageError("a profile from a file keeps no events to trace: profile the step anew")
    names = [_track(event) for event in step_events]
    tracks = {name: number for number, name in enumerate(_in_order(set(names)))}
    events = [process(f"training step of {ledger.model}" if ledger.model else "training step")]
    for name, number in tracks.items():
        events += thread(number, name)
    runs = ledger.memory.operators
    as_predicted = all(_is_of(run, ledger.rows) for run in runs)
    places = [run.row for run in runs] if as_predicted else range(len(ledger.rows))
    rows_of = {
        start: ledger.rows[start:end] for start, end in pairwise([*places, len(ledger.rows)])
    }
    for event, name in zip(step_events, names, strict=True):
        rows = rows_of.get(event.row, []) if event.row is not None else []
        events.append(_event(event, tracks[name], rows))
    about = {"device": profile.roofs.name, **ledger.versions}
    if as_predicted:
        events += memory_counter(ledger.memory, _moments(runs, step_events))
    else:
        about["memory"] = "not shown: the step ran other operators than its prediction"
    return trace(events, **about)


def _is_of(run: OperatorRun, rows: Sequence[Row]) -> bool:
    """Whether an operator that the memory was predicted of is that of its row."""
    if not 0 <= run.row < len(rows):
        return False
    row = rows[run.row]
    return (row.layer, row.op, row.phase) == (run.layer, run.op, run.phase)


def _track(event: StepEvent) -> str:
    """The row of the picture in which an event stands."""
    if event.track.startswith(STREAM):
        return f"{KERNELS}, {event.track}"
    return event.phase or NO_PHASE


def _in_order(tracks: Iterable[str]) -> list[str]:
    """The phases as they run, then the streams, then what has no phase."""
    known = {name: place for place, name in enumerate(PHASES)}
    last = {NO_PHASE: len(known) + 1}
    return sorted(tracks, key=lambda name: ((known | last).get(name, len(known)), name))


def _event(event: StepEvent, thread: int, rows: Sequence[Row]) -> TraceEvent:
    """An operator, by the name of its layer; a kernel, or what is around operators, by its own."""
    layers = dict.fromkeys(row.layer or ROOT for row in rows) or {event.layer or ROOT: None}
    layer = next(iter(layers)) if len(layers) == 1 else plural(len(layers), "layer")
    arguments: dict[str, Any] = {"layer": layer, "phase": event.phase}
    if rows:
        arguments |= {
            "op": rows[0].op,
            "phase": ", ".join(dict.fromkeys(row.phase for row in rows)),
            "FLOP of contractions": sum(row.flops for row in rows),
            "elementwise FLOP": sum(row.elementwise for row in rows),
            "bytes read": sum(row.bytes_read for row in rows),
            "bytes written": sum(row.bytes_written for row in rows),
            "dtype": rows[0].dtype,
        }
    is_operator = bool(rows) and not event.track.startswith(STREAM)
    name = layer if is_operator else event.name
    return complete(thread, name, event.start_us, event.duration_us, arguments)


def _moments(runs: Iterable[OperatorRun], events: Iterable[StepEvent]) -> list[float]:
    """When each record of the memory began: when its operator did on the host. One without an event
    (a view) stands at the end of the one before it."""
    begins: dict[int, tuple[float, float]] = {}
    for event in events:
        if event.row is not None and not event.track.startswith(STREAM):
            begins.setdefault(event.row, (event.start_us, event.start_us + event.duration_us))
    moments: list[float] = []
    end = 0.0
    for run in runs:
        begin, own_end = begins.get(run.row, (end, end))
        moments.append(max(begin, moments[-1] if moments else begin))
        end = max(end, own_end)
    return moments
