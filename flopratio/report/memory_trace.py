"""A step's memory for viewers: Perfetto's and Chrome's trace, and the snapshot of PyTorch's own
visualiser (https://pytorch.org/memory_viz)."""

from __future__ import annotations

import json
import pickle
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flopratio.ledger import ROOT
from flopratio.report.trace_events import complete, memory_counter, process, thread, trace

if TYPE_CHECKING:
    from flopratio.memory import Memory

MEMORY_FORMATS = (".json", ".pickle")
"""``.json`` for Perfetto and chrome://tracing, ``.pickle`` for PyTorch's visualiser."""


def write_memory_trace(memory: Memory, path: Path) -> None:
    """Write a step's memory in the format that the extension names."""
    if path.suffix.lower() == ".pickle":
        path.write_bytes(pickle.dumps(snapshot(memory)))
    else:
        path.write_text(json.dumps(chrome_trace(memory)), encoding="utf-8")


def chrome_trace(memory: Memory) -> dict[str, Any]:
    """The trace event format: a counter of the bytes of each category, and above it the phases, the
    layers and the operators. An operator takes one tick of the clock, for there is no time."""
    events = [process("training step")]
    operators = memory.operators
    tracks: list[tuple[str, list[str]]] = [
        ("phases", [phase for phase, records in memory.phases() for _ in records]),
        ("layers", [row.layer or ROOT for row in operators]),
    ]
    for number, (track, names) in enumerate(tracks):
        events += thread(number, track)
        start = 0
        for name, run in groupby(names):
            length = len(list(run))
            events.append(complete(number, name, start, length))
            start += length
    events += thread(len(tracks), "operators")
    for index, row in enumerate(operators):
        arguments = {"layer": row.layer, "phase": row.phase}
        events.append(complete(len(tracks), row.op, index, 1, arguments))
    events += memory_counter(memory, range(len(operators)))
    return trace(events)


def snapshot(memory: Memory) -> dict[str, Any]:
    """What ``torch.cuda.memory._snapshot()`` returns, as far as the visualiser looks at it. The
    stack of an allocation is its operator, its layer and its category; each block has an address of
    its own."""
    blocks = {block.number: block for block in memory.blocks}
    addresses: dict[int, int] = {}
    end = 1 << 32  # any will do, but 0 means none
    trace = []
    for event in memory.events():
        if event.nbytes == 0:
            continue
        if event.kind == "alloc":
            addresses[event.block] = end
            end += event.nbytes
        block = blocks[event.block]
        frames = [
            {"filename": "operator", "line": 0, "name": block.op or "(before the step)"},
            {"filename": "layer", "line": 0, "name": block.layer or ROOT},
            {"filename": "category", "line": 0, "name": block.category},
        ]
        trace.append(
            {
                "action": "alloc" if event.kind == "alloc" else "free_completed",
                "addr": addresses[event.block],
                "size": event.nbytes,
                "stream": 0,
                "time_us": event.record + 1,
                "frames": frames,
            }
        )
    return {"segments": [], "device_traces": [trace]}
