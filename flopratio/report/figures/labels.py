"""Names beside points, where they cover neither each other nor a point."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from matplotlib.transforms import Bbox

from flopratio.report.figures.style import GREY, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Annotation


class Side(NamedTuple):
    """Where a name stands beside its point.

    ``right`` and ``up`` are its distance, in points of 1/72 inch; ``ha`` and ``va`` say which part
    of the name is there.
    """

    right: float
    up: float
    ha: Literal["left", "center", "right"]
    va: Literal["bottom", "center", "top"]


PLACES = (
    Side(8, 0, "left", "center"),
    Side(-8, 0, "right", "center"),
    Side(0, 8, "center", "bottom"),
    Side(0, -8, "center", "top"),
    Side(6, 6, "left", "bottom"),
    Side(-6, 6, "right", "bottom"),
    Side(6, -6, "left", "top"),
    Side(-6, -6, "right", "top"),
    Side(22, 14, "left", "bottom"),
    Side(-22, 14, "right", "bottom"),
    Side(22, -14, "left", "top"),
    Side(-22, -14, "right", "top"),
)
"""Where a name may stand, the best first."""

ALIGNED = {"left": 0.0, "bottom": 0.0, "center": 0.5, "right": 1.0, "top": 1.0}
"""How much of a name lies before its place."""

NEAR = 10
"""Points of a distance that needs no line to the point."""

LINE = {"arrowstyle": "-", "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3}


class Label(NamedTuple):
    """A point and its name."""

    x: float
    y: float
    name: str
    kind: str
    """Of points of one kind the first is named."""


def label_points(axes: Axes, points: Sequence[Label], most: int) -> list[str]:
    """Name as many of the points, in their order, as there is room for.

    The axes must be as they will be shown: limits, scales and everything around them.

    Args:
        points: all that must not be covered.
        most: how many names are enough.

    Returns:
        The names written.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()
    inch = figure.dpi / 72
    places = axes.transData.transform([(point.x, point.y) for point in points])
    taken = [Bbox.from_extents(x, y, x, y).padded(5 * inch) for x, y in places]
    taken += [text.get_window_extent() for text in axes.texts]
    written: dict[str, str] = {}
    for number, (point, place) in enumerate(zip(points, places, strict=True)):
        if len(written) == most:
            break
        if point.kind in written:
            continue
        others = taken[:number] + taken[number + 1 :]
        label = _write(axes, point)
        size = label.get_window_extent().size
        for side in PLACES:
            box = _box(place, size, side, inch)
            inside = axes.bbox.count_contains(box.corners()) == 4
            if inside and box.count_overlaps(others) == 0:
                _move(axes, label, side)
                taken.append(box)
                written[point.kind] = point.name
                break
        else:
            label.remove()
    return list(written.values())


def _box(point: Sequence[float], size: Sequence[float], side: Side, inch: float) -> Bbox:
    """Where a name of this size would stand, with a margin."""
    left = point[0] + inch * side.right - size[0] * ALIGNED[side.ha]
    bottom = point[1] + inch * side.up - size[1] * ALIGNED[side.va]
    return Bbox.from_bounds(left, bottom, *size).padded(2 * inch)


def _write(axes: Axes, point: Label) -> Annotation:
    return axes.annotate(
        plain(point.name),
        (point.x, point.y),
        xytext=(0, 0),
        textcoords="offset points",
        fontsize=8,
        zorder=5,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.5},
    )


def _move(axes: Axes, label: Annotation, side: Side) -> None:
    """Put a name beside its point; from far away a line leads there."""
    label.set_position((side.right, side.up))
    label.set(ha=side.ha, va=side.va)
    if abs(side.right) > NEAR:
        axes.annotate(
            "",
            label.xy,
            xytext=(side.right, side.up),
            textcoords="offset points",
            arrowprops={**LINE, "color": GREY},
        )
