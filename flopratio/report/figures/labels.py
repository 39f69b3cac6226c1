"""Names beside points, where they cover neither each other nor a point."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from matplotlib.transforms import Bbox

from flopratio.report.figures.style import GREY

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PLACES = (
    (7, 0, "left", "center"),
    (-7, 0, "right", "center"),
    (0, 7, "center", "bottom"),
    (0, -7, "center", "top"),
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


def label_points(axes: Axes, points: Sequence[tuple[float, float, str]], most: int) -> list[str]:
    """Name as many of the points, in their order, as there is room for.

    The axes must be as they will be shown: limits, scales and everything around them.

    Args:
        points: x, y and name of all that must not be covered; of equal names the first is written.
        most: how many names are enough.

    Returns:
        The names written.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()
    inch = figure.dpi / 72
    places = axes.transData.transform([(x, y) for x, y, _ in points]) if points else []
    taken = [Bbox.from_extents(x - 3, y - 3, x + 3, y + 3).padded(inch) for x, y in places]
    taken += [text.get_window_extent() for text in axes.texts]
    written: list[str] = []
    for (x, y, name), own in zip(points, list(taken), strict=False):
        if len(written) == most or name in written:
            continue
        others = [box for box in taken if box is not own]
        for right, up, side, height in PLACES:
            label = axes.annotate(
                name,
                (x, y),
                xytext=(right, up),
                textcoords="offset points",
                ha=side,
                va=height,
                fontsize=8,
                zorder=5,
            )
            box = label.get_window_extent().padded(2 * inch)
            inside = axes.bbox.count_contains(box.corners()) == 4
            if inside and not any(box.overlaps(other) for other in others):
                if abs(right) > NEAR:
                    _lead(axes, (x, y), (right, up))
                taken.append(box)
                written.append(name)
                break
            label.remove()
    return written


def _lead(axes: Axes, point: tuple[float, float], distance: tuple[float, float]) -> None:
    """Draw a line from a point to its name."""
    axes.annotate(
        "",
        point,
        xytext=distance,
        textcoords="offset points",
        arrowprops={"arrowstyle": "-", "linewidth": 0.6, "color": GREY, "shrinkA": 0, "shrinkB": 3},
    )
