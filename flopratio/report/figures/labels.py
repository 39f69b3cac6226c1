"""Names beside points, where they cover neither each other nor a point."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from matplotlib.transforms import Bbox

from flopratio.report.figures.style import GREY

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Annotation

Place = tuple[float, float, Literal["left", "center", "right"], Literal["bottom", "center", "top"]]

PLACES: tuple[Place, ...] = (
    (8, 0, "left", "center"),
    (-8, 0, "right", "center"),
    (0, 8, "center", "bottom"),
    (0, -8, "center", "top"),
    (6, 6, "left", "bottom"),
    (-6, 6, "right", "bottom"),
    (6, -6, "left", "top"),
    (-6, -6, "right", "top"),
    (22, 14, "left", "bottom"),
    (-22, 14, "right", "bottom"),
    (22, -14, "left", "top"),
    (-22, -14, "right", "top"),
)
"""Where a name may stand: its distance from the point, in points of 1/72 inch, and its alignment.
From the distant ones a line leads to the point."""

NEAR = 10
"""Of a distance, that needs no line."""


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
    for point, own in zip(points, list(taken), strict=False):
        if len(written) == most:
            break
        others = [box for box in taken if box is not own]
        for place in PLACES if point.kind not in written else ():
            label = _write(axes, point, place)
            box = label.get_window_extent().padded(2 * inch)
            inside = axes.bbox.count_contains(box.corners()) == 4
            if inside and not any(box.overlaps(other) for other in others):
                if abs(place[0]) > NEAR:
                    _lead(axes, point, place)
                taken.append(box)
                written[point.kind] = point.name
                break
            label.remove()
    return list(written.values())


def _write(axes: Axes, point: Label, place: Place) -> Annotation:
    *distance, side, height = place
    return axes.annotate(
        point.name,
        (point.x, point.y),
        xytext=distance,
        textcoords="offset points",
        ha=side,
        va=height,
        fontsize=8,
        zorder=5,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.5},
    )


def _lead(axes: Axes, point: Label, place: Place) -> None:
    """Draw a line from a point to its name."""
    axes.annotate(
        "",
        (point.x, point.y),
        xytext=place[:2],
        textcoords="offset points",
        arrowprops={"arrowstyle": "-", "linewidth": 0.6, "color": GREY, "shrinkA": 0, "shrinkB": 3},
    )
