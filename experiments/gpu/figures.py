"""Pictures of what was predicted beside what was measured."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from experiments.gpu import memory
from experiments.gpu.rows import Rows, numbers
from flopratio.report.figures.style import REFERENCE, write

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_memory(rows: Rows, target: Path) -> list[Path]:
    """Predicted against measured peaks, one panel a figure of the allocator."""
    panels = [
        name for name in memory.FIGURES if numbers(rows, f"predicted_{name}", f"measured_{name}")
    ]

    def draw(axes: Axes, name: str) -> None:
        for precision in memory.PRECISIONS:
            own = [row for row in rows if row["precision"] == precision]
            _points(axes, numbers(own, f"measured_{name}", f"predicted_{name}"), precision)
        _diagonal(axes, f"bytes {name}, measured", "predicted")

    return write(target, "memory", "Peak memory of a step, predicted and measured", panels, draw)


def draw_zoo(rows: Rows, target: Path) -> list[Path]:
    """Predicted against measured times of steps, and their ratios."""
    panels = [
        name for name in ("step_ms", "time_ratio") if numbers(rows, f"predicted_{name}", name)
    ]
    words = {"step_ms": "time of a step in ms", "time_ratio": "backward / forward in time"}

    def draw(axes: Axes, name: str) -> None:
        for precision in dict.fromkeys(row["precision"] for row in rows):
            own = [row for row in rows if row["precision"] == precision]
            _points(axes, numbers(own, name, f"predicted_{name}"), precision)
        _diagonal(axes, f"{words[name]}, measured", "predicted")

    return write(target, "zoo", "Steps of models, predicted and measured", panels, draw)


def _points(axes: Axes, pairs: list[list[float]], label: str) -> None:
    if pairs:
        measured, predicted = zip(*pairs, strict=True)
        axes.plot(measured, predicted, linestyle="", alpha=0.7, label=label)


def _diagonal(axes: Axes, across: str, up: str) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    ends = [
        choose(*limits)
        for choose, limits in (
            (min, [axes.get_xlim()[0], axes.get_ylim()[0]]),
            (max, [axes.get_xlim()[1], axes.get_ylim()[1]]),
        )
    ]
    axes.plot(ends, ends, **REFERENCE, label="equal")
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.legend()
