"""The roofline: how close each layer comes to what the device was measured to do at best."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.ticker import EngFormatter

from flopratio.report.figures.labels import label_points
from flopratio.report.figures.style import (
    GREY,
    REFERENCE,
    drawn,
    legend_below,
    plain,
    write_beside,
    write_figure,
)
from flopratio.report.figures.timed import PHASE_MARKERS, Point, points_of
from flopratio.verbs.profile.groups import BACKWARD

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from flopratio.hardware import DeviceProfile
    from flopratio.verbs.profile import Profile

RATE = EngFormatter(places=1)
"""Writes a rate with its prefix: ``85.3 G``."""

PLOTTED = ("forward", "grad_input", "grad_weight")
"""The phases whose points are drawn."""

MAX_NAMES = 6
"""How many points are named, of those that took longest."""


def roofline(profile: Profile, directory: Path) -> list[Path]:
    """Write the picture of :func:`roofline_figure`."""
    return write_figure(directory, "roofline", roofline_figure(profile))


def roofline_figure(profile: Profile) -> Figure | None:
    """FLOP/s of every layer's forward, grad_input and grad_weight against its arithmetic intensity,
    under the roofs that were measured. Both axes are logarithmic; a point's area is its time.

    All arithmetic counts, so that layers without contractions have points too; what computes
    nothing (copies), or is not known to which phase it belongs, has none, and its share of the time
    is said.
    """
    total = profile.total.ms("forward", *BACKWARD)
    points = [
        point
        for point in points_of(profile)
        if point.phase in PLOTTED and point.work.ms and _flops(point) and point.work.nbytes
    ]

    most = max((point.work.ms for point in points), default=0.0)

    def draw(axes: Axes, _: None) -> None:
        axes.set_xscale("log")
        axes.set_yscale("log")
        for phase in PLOTTED:
            own = [point for point in points if point.phase == phase]
            colour, marker = PHASE_MARKERS[phase]
            axes.scatter(
                [intensity(point) for point in own],
                [flops_per_s(point) for point in own],
                s=[14 + 130 * point.work.ms / most for point in own],
                color=colour,
                marker=marker,
                edgecolor="black",
                linewidth=0.4,
                alpha=0.8,
                label=phase if own else None,
                zorder=3,
            )
        _draw_roofs(axes, profile.roofs, roofs_of(profile))
        axes.set_xlabel("arithmetic intensity (FLOP / byte)")
        axes.set_ylabel("FLOP/s")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_major_formatter(EngFormatter(sep=""))
        axes.set_title(plain(f"{profile.roofs.name}: roofs as measured"))
        without = 1 - sum(point.work.ms for point in points) / total
        note = f"{without:.0%} of the time has no point: copies and the like"
        legend_below(axes, note if without >= 0.005 else "", columns=3)
        slowest = sorted(points, key=lambda point: -point.work.ms)
        named = [point.label(intensity(point), flops_per_s(point)) for point in slowest]
        label_points(axes, named, MAX_NAMES)

    title = "Each layer under the roofs of the device"
    if profile.mfu is not None:
        title = f"The step uses {profile.mfu:.0%} of the roof of its products (MFU)"
    panels = [None] if points else []
    return drawn(title, panels, draw, width=5.6, height=5.2)


def intensity(point: Point) -> float:
    """FLOP of all arithmetic for each byte read or written."""
    return _flops(point) / point.work.nbytes


def flops_per_s(point: Point) -> float:
    """Achieved, of all arithmetic."""
    return 1e3 * _flops(point) / point.work.ms


def _flops(point: Point) -> int:
    return point.work.flops + point.work.elementwise


def roofs_of(profile: Profile) -> dict[str, float]:
    """The roofs of the dtypes that the step's products compute in, as far as they were measured;
    TF32's beside float32's, in which products of float32 may run. All, if there are no products."""
    used = {row.dtype for row in profile.ledger.rows if row.flops}
    if "float32" in used:
        used.add("tf32")
    measured = profile.roofs.flops_per_s
    return {dtype: roof for dtype, roof in measured.items() if dtype in used} or measured


def _draw_roofs(axes: Axes, device: DeviceProfile, roofs: Mapping[str, float]) -> None:
    """Draw the slope of the bandwidth up to the highest roof, every roof from its ridge on, and the
    ridges, with their figures; and make room for them."""
    bandwidth = device.bytes_per_s
    ridges = {dtype: roof / bandwidth for dtype, roof in roofs.items()}
    last = max(ridges.values())
    left, right = axes.get_xlim()
    left, right = min(left, min(ridges.values()) / 10), max(right, 20 * last)
    bottom, top = axes.get_ylim()
    bottom, top = min(bottom, bandwidth * left), max(top, 4 * max(roofs.values()))
    axes.plot([left, last], [bandwidth * left, bandwidth * last], **REFERENCE, zorder=2)
    place = last * (left / last) ** 0.25  # few points are so near the ridge and above the slope
    _write(axes, place, bandwidth * place, f"{RATE(bandwidth)}B/s", (-5, 3), ha="right")
    for dtype, roof in roofs.items():
        ridge = ridges[dtype]
        axes.plot([ridge, right], [roof, roof], **REFERENCE, zorder=2)
        axes.vlines(ridge, bottom, roof, color=GREY, linestyle=(0, (1, 2)), linewidth=1)
        write_beside(axes, roof, f"{dtype}\n{RATE(roof)}FLOP/s")
        _write(axes, ridge, bottom, f"ridge {ridge:.3g}", (3, 3))
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)


def _write(
    axes: Axes, x: float, y: float, text: str, distance: tuple[int, int], **style: Any
) -> None:
    axes.annotate(
        text, (x, y), xytext=distance, textcoords="offset points", color=GREY, fontsize=8, **style
    )
