"""What a document of the trace event format must be for Perfetto and Chrome to read it:
https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU"""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

REQUIRED = {
    "M": {"name", "ph", "pid", "args"},
    "X": {"name", "ph", "pid", "tid", "ts", "dur"},
    "C": {"name", "ph", "pid", "ts", "args"},
    "i": {"name", "ph", "pid", "tid", "ts", "s"},
}
"""The keys of each kind of event: names, complete events, counters, instants."""


def check_trace(document: dict[str, Any]) -> None:
    """Check a document: keys, types, the order of time, names of tracks, nesting within a track."""
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    events = document["traceEvents"]
    for event in events:
        assert REQUIRED[event["ph"]] <= set(event), event
        assert isinstance(event["name"], str)
        assert event["name"] != ""
    timed = [event for event in events if event["ph"] != "M"]
    assert all(event["ts"] >= 0 for event in timed)
    assert [event["ts"] for event in timed] == sorted(event["ts"] for event in timed)
    assert events[len(events) - len(timed) :] == timed
    for event in events:
        if event["ph"] == "C":
            assert all(isinstance(value, int) and value >= 0 for value in event["args"].values())
    named = {event["tid"] for event in events if event["name"] == "thread_name"}
    tracks = defaultdict(list)
    for event in timed:
        if event["ph"] == "X":
            assert event["dur"] >= 0
            tracks[event["tid"]].append(event)
    assert set(tracks) <= named
    for track in tracks.values():
        _check_nesting(track)


def _check_nesting(track: list[dict[str, Any]]) -> None:
    """Of two complete events of a track one is in the other, or they are apart."""
    open_until: list[float] = []
    for event in sorted(track, key=lambda event: (event["ts"], -event["dur"])):
        while open_until and open_until[-1] <= event["ts"]:
            open_until.pop()
        end = event["ts"] + event["dur"]
        assert not open_until or end <= open_until[-1] + 1e-6, event
        open_until.append(end)


def tracks(document: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Name of a track -> its events."""
    events = document["traceEvents"]
    names = {e["tid"]: e["args"]["name"] for e in events if e["name"] == "thread_name"}
    return {
        name: [e for e in events if e["ph"] == "X" and e["tid"] == number]
        for number, name in sorted(names.items())
    }
