"""The roofline: how close each layer comes to what the device was measured to do at best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.ticker import EngFormatter

from flopratio.report.figures.layer_phases import PHASE_MARKERS, LayerPhase, layer_phases
from flopratio.report.figures.labels import label_points
from flopratio.report.figures.style import GREY, REFERENCE, legend_below, write
from flopratio.report.units import shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from flopratio.hardware import DeviceProfile
    from flopratio.verbs.profile import Profile

RATE = EngFormatter(places=1)
"""Writes a figure with its prefix: ``85.3 G``."""

PLOTTED = ("forward", "grad_input", "grad_weight")
"""The phases whose points are drawn."""

MAX_NAMES = 6
"""How many points are named, of those that took longest."""

MAX_NAME = 26
"""Characters of a layer's name."""


def roofline(profile: Profile, directory: Path) -> list[Path]:
    """FLOP/s of every layer's forward, grad_input and grad_weight against its arithmetic intensity,
    under the roofs that were measured. Both axes are logarithmic; a point's area is its time.

    All arithmetic counts, so that layers without contractions have points too; what computes
    nothing (copies) has none, and its share of the time is said.
    """
    timed = [phase for phase in layer_phases(profile) if phase.phase in PLOTTED and phase.us > 0]
    points = [point for point in timed if point.flops and point.nbytes]
    total = sum(phase.us for phase in timed)
    hardware = profile.prediction.hardware
    roofs = roofs_of(hardware, points)

    def draw(axes: Axes, _: None) -> None:
        axes.set_xscale("log")
        axes.set_yscale("log")
        for phase in PLOTTED:
            colour, marker = PHASE_MARKERS[phase]
            own = [point for point in points if point.phase == phase]
            if own:
                axes.scatter(
                    [point.intensity for point in own],
                    [point.flops_per_s for point in own],
                    s=[14 + 350 * point.us / total for point in own],
                    color=colour,
                    marker=marker,
                    edgecolor="black",
                    linewidth=0.4,
                    alpha=0.8,
                    label=phase,
                    zorder=3,
                )
        _draw_roofs(axes, hardware, roofs)
        axes.set_xlabel("arithmetic intensity (FLOP / byte)")
        axes.set_ylabel("FLOP/s")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_major_formatter(EngFormatter(sep=""))
        axes.set_title(f"{hardware.name}: roofs as measured")
        legend_below(axes, _without_points(points, timed), columns=3)
        slowest = sorted(points, key=lambda point: -point.us)
        named = [(p.intensity, p.flops_per_s, shorten(p.name, MAX_NAME)) for p in slowest]
        label_points(axes, named, MAX_NAMES)

    ideal = sum(_least_us(point, hardware) for point in points)
    share = ideal / sum(point.us for point in points) if points else 0.0
    title = f"Forward and backward run at {share:.0%} of what the roofs allow"
    panels = [None] if points else []
    return write(directory, "roofline", title, panels, draw, width=5.6, height=5.2)


def roofs_of(hardware: DeviceProfile, points: Sequence[LayerPhase]) -> dict[str, float]:
    """FLOP/s of the dtypes that the points' products compute in; TF32's beside float32's, for the
    same products may run in either. All that were measured, if there are no products."""
    used = {dtype for point in points for dtype in point.dtypes}
    if "float32" in used:
        used.add("tf32")
    measured = hardware.flops_per_s
    return {dtype: roof for dtype, roof in measured.items() if dtype in used} or dict(measured)


def _least_us(point: LayerPhase, hardware: DeviceProfile) -> float:
    """The microseconds that a point would take under the roof that binds it."""
    roofs = roofs_of(hardware, [point]) if point.dtypes else {}
    return 1e6 * max(
        point.nbytes / hardware.bytes_per_s, *(point.flops / roof for roof in roofs.values()), 0.0
    )


def _without_points(points: Sequence[LayerPhase], timed: Sequence[LayerPhase]) -> str:
    """What the figure leaves out; empty if that is nothing to speak of."""
    share = 1 - sum(point.us for point in points) / sum(phase.us for phase in timed)
    return f"{share:.0%} of the time computes nothing and has no point" if share >= 0.005 else ""


def _draw_roofs(axes: Axes, hardware: DeviceProfile, roofs: Mapping[str, float]) -> None:
    """Draw the slope of the bandwidth up to the highest roof, every roof from its ridge on, and the
    ridges, with their figures; and make room for them."""
    bandwidth = hardware.bytes_per_s
    ridges = {dtype: roof / bandwidth for dtype, roof in roofs.items()}
    last = max(ridges.values())
    left, right = axes.get_xlim()
    left, right = min(left, min(ridges.values()) / 10), max(right, 20 * last)
    bottom, top = axes.get_ylim()
    bottom, top = min(bottom, bandwidth * left), max(top, 4 * max(roofs.values()))
    axes.plot([left, last], [bandwidth * left, bandwidth * last], **REFERENCE, zorder=2)
    _write(axes, left, bandwidth * left, f"{RATE(bandwidth)}B/s", (20, 0))
    for dtype, roof in roofs.items():
        ridge = ridges[dtype]
        axes.plot([ridge, right], [roof, roof], **REFERENCE, zorder=2)
        axes.vlines(ridge, bottom, roof, color=GREY, linestyle=(0, (1, 2)), linewidth=1)
        _write(axes, right, roof, f"{dtype} {RATE(roof)}FLOP/s", (-2, 3), ha="right")
        _write(axes, ridge, bottom, f"ridge {ridge:.3g}", (3, 3))
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)


def _write(
    axes: Axes, x: float, y: float, text: str, distance: tuple[int, int], **style: Any
) -> None:
    axes.annotate(
        text, (x, y), xytext=distance, textcoords="offset points", color=GREY, fontsize=8, **style
    )
