"""The FLOP of each layer as bars."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flopratio.report.figures.style import (
    GREY,
    MAX_BARS,
    PHASE_COLOURS,
    legend_below,
    plain,
    write,
    write_beside,
)
from flopratio.report.units import Kind, choose

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from flopratio.ledger import LayerTotals

GRADIENT_FILLS = {phase: PHASE_COLOURS[phase] for phase in ("forward", "grad_input", "grad_weight")}
"""Fills of the bars of a layer, from dark to light."""


def flops_by_layer(layers: Sequence[LayerTotals], directory: Path) -> list[Path]:
    """FLOP of forward, grad_input and grad_weight of every layer with a contraction.

    Args:
        layers: of a ledger; of more than 12 the first and the last ones are shown.
    """
    contractions = [layer for layer in layers if layer.forward]
    if not contractions:
        return []
    left_out = max(0, len(contractions) - MAX_BARS)
    head = (len(contractions) - left_out + 1) // 2
    shown = [*contractions[:head], *contractions[head + left_out :]]
    names = [plain(layer.name or layer.type) for layer in shown]

    def draw(axes: Axes, _: None) -> None:
        flops = [getattr(layer, phase) for layer in shown for phase in GRADIENT_FILLS]
        unit = choose(flops, Kind.FLOP)
        # A gap in the axis stands for the layers left out.
        places = [index + (index >= head and left_out > 0) for index in range(len(shown))]
        for offset, (phase, fill) in zip((-0.27, 0, 0.27), GRADIENT_FILLS.items(), strict=True):
            axes.barh(
                [place + offset for place in places],
                [getattr(layer, phase) / unit.size for layer in shown],
                height=0.27,
                color=fill,
                edgecolor="black",
                linewidth=0.4,
                label=phase,
            )
        for place, layer in zip(places, shown, strict=True):
            write_beside(axes, place, f"{layer.ratio:g} : 1")
        if left_out:
            axes.text(0, head, f" … {left_out} more layers …", va="center", color=GREY)
        axes.set_yticks(places, names)
        axes.margins(y=0.01)
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel(f"FLOP of contractions ({unit.name})")
        axes.set_title("backward : forward", loc="right")
        legend_below(axes, columns=3)

    ratios = {layer.ratio for layer in contractions[1:]}
    title = "FLOPs of each layer"
    if contractions[0].ratio == 1 and ratios == {2.0}:
        title = "The first layer's backward costs its forward, every other's twice that"
    height = 1.4 + 0.4 * (len(shown) + (left_out > 0))
    return write(directory, "flops_by_layer", title, [None], draw, width=7, height=height)
