"""Names beside points."""

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from flopratio.report.figures.labels import Label, label_points
from flopratio.report.figures.style import STYLE


def axes_with(points: list[Label]) -> Axes:
    with mpl.rc_context(STYLE):
        axes = Figure(figsize=(5, 4)).subplots()
        axes.scatter([point.x for point in points], [point.y for point in points])
        axes.margins(0.2)
        return axes


def boxes(axes: Axes) -> list:
    return [text.get_window_extent() for text in axes.texts if text.get_text()]


def test_names_cover_neither_each_other_nor_a_point() -> None:
    points = [
        Label(x / 10, y / 10, f"layer {x}.{y}", f"{x}.{y}") for x in range(6) for y in range(6)
    ]
    axes = axes_with(points)
    written = label_points(axes, points, most=8)
    assert 0 < len(written) <= 8
    named = boxes(axes)
    assert len(named) == len(written)
    for index, box in enumerate(named):
        assert axes.bbox.count_contains(box.corners()) == 4
        assert not any(box.overlaps(other) for other in named[:index])
        places = axes.transData.transform([(point.x, point.y) for point in points])
        assert box.count_contains(places) == 0


def test_of_a_kind_the_first_is_named() -> None:
    points = [Label(n, n, f"h.{n}", "h.*") for n in range(3)] + [Label(0, 2, "head", "head")]
    assert label_points(axes_with(points), points, most=5) == ["h.0", "head"]


def test_where_there_is_no_room_there_is_no_name() -> None:
    points = [Label(n, 0, "a name as wide as the picture, " * 5, str(n)) for n in range(3)]
    axes = axes_with(points)
    assert label_points(axes, points, most=3) == []
    assert boxes(axes) == []
