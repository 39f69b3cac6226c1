"""Each layer's share of a step's time beside its share of the FLOPs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from flopratio.ledger import ROOT
from flopratio.report.figures.folding import fold
from flopratio.report.figures.style import GREY, MAX_BARS, drawn, legend_below, plain, write_figure
from flopratio.report.figures.timed import PHASE_BARS, PHASE_NAMES
from flopratio.report.units import shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from flopratio.verbs.profile import Group, Profile, Work

MAX_NAME = 30
"""Characters of a layer's name."""

BAR = 0.36
"""How thick a bar is; a layer has two."""

BAR_NAMES = {"time": "time", "flops": "FLOP"}


class Share(NamedTuple):
    """The percent of a step's time and of its FLOP that some layers have in each phase."""

    time: dict[str, float]
    flops: dict[str, float]


def layer_times(profile: Profile, directory: Path) -> list[Path]:
    """Write the picture of :func:`layer_times_figure`."""
    return write_figure(directory, "layer_times", layer_times_figure(profile))


def layer_times_figure(profile: Profile) -> Figure | None:
    """For each layer a bar of its time and one of its FLOP, of all arithmetic, both divided by
    phase and in percent of the step; layers of one module, or of the same place in a repeated
    block, together if there are many."""
    layers = profile.layers()
    each = shares(layers, {layer.name: layer.name for layer in layers})
    weights = {
        name: max(sum(share.time.values()), sum(share.flops.values()))
        for name, share in each.items()
    }
    shown = shares(layers, fold(weights, MAX_BARS))

    def draw(axes: Axes, _: None) -> None:
        for offset, field in ((-BAR / 2, "time"), (BAR / 2, "flops")):
            _draw_bars(axes, offset, field, [getattr(share, field) for share in shown.values()])
        names = [plain(shorten(name or ROOT, MAX_NAME)) for name in shown]
        axes.set_yticks(range(len(names)), names)
        axes.margins(x=0.12, y=0.02)
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("share of the step (%)")
        axes.set_title(plain(f"{profile.ledger.model or 'step'} on {profile.roofs.name}"))
        legend_below(axes, columns=3)

    apart = sum(
        abs(sum(share.time.values()) - sum(share.flops.values())) / 2 for share in each.values()
    )
    title = f"{apart:.0f}% of the step's time is in other layers than its FLOPs"
    panels = [None] if profile.total.total.ms else []
    height = 1.9 + 0.45 * len(shown)
    return drawn(title, panels, draw, width=5.6, height=height)


def shares(layers: Sequence[Group], folding: Mapping[str, str]) -> dict[str, Share]:
    """The shares of groups of layers.

    Args:
        folding: layer -> the group that it is in.
    """
    total_ms = sum(layer.total.ms for layer in layers) or 1
    total_flops = sum(_flops(layer.total) for layer in layers) or 1
    found = {name: Share(defaultdict(float), defaultdict(float)) for name in folding.values()}
    for layer in layers:
        own = found[folding[layer.name]]
        for phase, work in layer.phases.items():
            own.time[phase] += 100 * work.ms / total_ms
            own.flops[phase] += 100 * _flops(work) / total_flops
    return found


def _flops(work: Work) -> int:
    return work.flops + work.elementwise


def _draw_bars(
    axes: Axes, offset: float, field: str, groups: Sequence[Mapping[str, float]]
) -> None:
    """Draw a bar for each group, divided by phase, with its length and what it is at the end."""
    places = [place + offset for place in range(len(groups))]
    ends = [0.0] * len(groups)
    for phase, fill in PHASE_BARS.items():
        widths = [group.get(phase, 0.0) for group in groups]
        if any(widths):
            axes.barh(
                places,
                widths,
                left=ends,
                height=BAR,
                edgecolor="black",
                linewidth=0.4,
                label=PHASE_NAMES.get(phase, phase) if field == "time" else None,
                **fill,
            )
        ends = [end + width for end, width in zip(ends, widths, strict=True)]
    for place, end in zip(places, ends, strict=True):
        axes.annotate(
            f"{BAR_NAMES[field]} {end:.0f}%" if end >= 0.5 else f"{BAR_NAMES[field]} <1%",
            (end, place),
            xytext=(3, 0),
            textcoords="offset points",
            va="center",
            fontsize=7,
            color=GREY,
        )
