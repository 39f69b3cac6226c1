"""The trace event format of Chrome and Perfetto, as far as steps are written in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flopratio.memory import Memory

TraceEvent = dict[str, Any]
"""One event; its moment ``ts`` and its length ``dur`` are microseconds."""

PROCESS = 0
"""The number of the only process."""


def trace(events: Sequence[TraceEvent], **about: Any) -> dict[str, Any]:
    """The document of some events: those that name things first, the others as time goes by.

    Args:
        about: what a viewer shows of the whole.
    """
    ordered = sorted(events, key=lambda e: (e["ph"] != "M", e.get("ts", 0), -e.get("dur", 0)))
    return {"traceEvents": ordered, "displayTimeUnit": "ms", "otherData": about}


def process(name: str) -> TraceEvent:
    """What the process is called."""
    return {"name": "process_name", "ph": "M", "pid": PROCESS, "args": {"name": name}}


def thread(number: int, name: str) -> list[TraceEvent]:
    """What a thread, a row of the picture, is called; the rows are in the order of the numbers."""
    named = {"ph": "M", "pid": PROCESS, "tid": number}
    return [
        {**named, "name": "thread_name", "args": {"name": name}},
        {**named, "name": "thread_sort_index", "args": {"sort_index": number}},
    ]


def complete(
    thread: int, name: str, start: float, length: float, arguments: dict[str, Any] | None = None
) -> TraceEvent:
    """Something with a beginning and a length."""
    event = {"name": name, "ph": "X", "pid": PROCESS, "tid": thread, "ts": start, "dur": length}
    return event if arguments is None else {**event, "args": arguments}


def memory_counter(memory: Memory, moments: Sequence[float]) -> Iterator[TraceEvent]:
    """The bytes of each category wherever they change, and a mark at the peak.

    Args:
        moments: when each record of the memory began; none before the one ahead of it.
    """
    timeline = memory.timeline()
    before: dict[str, int] = {}
    for record, moment in enumerate(moments):
        alive = {category: figures[record] for category, figures in timeline.items()}
        if alive != before:
            yield {"name": "live bytes", "ph": "C", "pid": PROCESS, "ts": moment, "args": alive}
            before = alive
    if not moments:
        return
    peak = memory.at_peak
    yield {
        "name": f"peak: {peak.nbytes:,} bytes",
        "ph": "i",
        "s": "g",
        "pid": PROCESS,
        "tid": 0,
        "ts": moments[peak.record],
        "args": peak.by_category,
    }
