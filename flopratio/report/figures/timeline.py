"""The memory of one step over its operators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
from matplotlib.figure import Figure

from flopratio.report.figures.style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    RED,
    STYLE,
    legend_below,
    plain,
    save,
)
from flopratio.report.units import Kind, choose

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from flopratio.memory import Memory

CATEGORY_FILLS = {
    "parameters": BLUE,
    "buffers": "#444444",
    "inputs": GREY,
    "optimizer_state": "#56B4E9",
    "gradients": ORANGE,
    "saved_activations": GREEN,
    "temporaries": "#F0E442",
}
"""A fill for each of :data:`flopratio.memory.CATEGORIES`."""

PHASE_SHADES = {"forward": "#FFFFFF", "backward": "#EFEFEF", "update": "#DCDCDC"}
"""The background of each of :data:`flopratio.memory.STEP_PHASES`."""

MIN_NAMED = 0.06
"""The share of a picture's width that a phase's name needs."""


def memory_timeline(memory: Memory, path: Path, name: str = "") -> None:
    """Write the picture of :func:`timeline_figure`.

    Args:
        path: where to; its extension says the format.
    """
    figure = timeline_figure(memory, name)
    with mpl.rc_context(STYLE):
        save(figure, path)


def timeline_figure(memory: Memory, name: str = "") -> Figure:
    """The bytes alive over a step, by category; the phases shaded, the peak marked and named.

    Every operator of forward and backward has the same width; those of an update are many and
    small, and share a quarter of the picture at most.

    Args:
        name: of what was counted, for the title.
    """
    timeline, peak, stretches = memory.timeline(), memory.at_peak, memory.phases()
    unit = choose([peak.nbytes], Kind.BYTES)
    places = _places(stretches)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.4, 4.6))
        axes = figure.subplots()
        shown = {category: alive for category, alive in timeline.items() if any(alive)}
        _stack(axes, places, shown, unit.size)
        top = 1.12 * peak.nbytes / unit.size
        for phase, records in stretches:
            start, end = places[records.start], places[records.stop]
            axes.axvspan(start, end, color=PHASE_SHADES[phase], zorder=0, linewidth=0)
            if end - start > MIN_NAMED * places[-1]:
                axes.text((start + end) / 2, top, phase, ha="center", va="bottom", color=GREY)
        middle = (places[peak.record] + places[peak.record + 1]) / 2
        height = peak.nbytes / unit.size
        axes.plot([middle], [height], marker="v", color=RED, markersize=7, zorder=4)
        left = middle > places[-1] / 2
        operator = plain(f"{peak.op} for {peak.layer}" if peak.layer else peak.op)
        axes.annotate(
            f"peak {height:#.4g} {unit.name}: {operator}",
            (middle, height),
            xytext=(-7 if left else 7, 5),
            textcoords="offset points",
            ha="right" if left else "left",
        )
        axes.set_xlim(0, places[-1])
        axes.set_ylim(0, top)
        axes.set_xticks([])
        axes.set_xlabel("operators of the step, in order")
        axes.set_ylabel(f"live tensors ({unit.name})")
        legend_below(axes, columns=4)
        largest = max(peak.by_category.items(), key=lambda item: item[1])
        title = f"{plain(name)}: " if name else ""
        title += f"{largest[1] / peak.nbytes:.0%} of the peak are {largest[0].replace('_', ' ')}"
        figure.suptitle(title, x=0.01, ha="left")
    return figure


def _stack(
    axes: Axes, places: Sequence[float], alive: Mapping[str, Sequence[int]], unit: float
) -> None:
    """Pile the categories up. Each is one area from zero to its upper edge, the lower ones in
    front, with a corner only where that edge moves: far fewer points than bands of two edges have.
    """
    edge = [0] * (len(places) - 1)
    for index, (category, nbytes) in enumerate(alive.items()):
        edge = [below + own for below, own in zip(edge, nbytes, strict=True)]
        moves = [place for place, (old, new) in enumerate(pairwise([None, *edge])) if old != new]
        axes.fill_between(
            [*(places[place] for place in moves), places[-1]],
            [*(edge[place] / unit for place in moves), edge[-1] / unit],
            step="post",
            color=CATEGORY_FILLS[category],
            label=category.replace("_", " "),
            linewidth=0,
            zorder=2 - index / len(alive),
        )


def _places(stretches: Sequence[tuple[str, range]]) -> list[float]:
    """Where each record of a step begins, and where the last one ends."""
    widths = {phase: sum(len(r) for p, r in stretches if p == phase) for phase in PHASE_SHADES}
    others = widths["forward"] + widths["backward"]
    update = min(1.0, others / (3 * widths["update"])) if widths["update"] and others else 1.0
    places = [0.0]
    for phase, records in stretches:
        width = update if phase == "update" else 1.0
        places += [places[-1] + width * (index + 1) for index in range(len(records))]
    return places
