"""The figures: one function a figure.

Those of a sweep are written as PNG and SVG, with one panel a model. Their input is a DataFrame of a
sweep's rows, counts as exact Python ints, the keys of the grid between the columns ``model`` and
``forward``; they return the paths written, none where the frame lacks the data. Series differ in
colour, marker and line style, and fills in lightness, so that they can be told apart in grey and by
the colour-blind.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import matplotlib as mpl
from cycler import cycler
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from matplotlib.transforms import ScaledTranslation

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from flopratio.ledger import LayerTotals
    from flopratio.memory import Memory

BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#666666"
"""From Okabe and Ito's palette, which the colour-blind can tell apart."""

PHASES = {"forward": BLUE, "backward": ORANGE, "update": "#D9D9D9"}
MEMORY = {
    "parameters": BLUE,
    "buffers": "#444444",
    "inputs": GREY,
    "optimizer_state": "#56B4E9",
    "gradients": ORANGE,
    "saved_activations": GREEN,
    "temporaries": "#F0E442",
}
SHADES = {"forward": "#FFFFFF", "backward": "#EFEFEF", "update": "#DCDCDC"}
"""Of the phases, behind the memory."""

GRADIENTS = {"forward": BLUE, "grad_input": ORANGE, "grad_weight": "#F6DFA4"}
"""Fills from dark to light."""

STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.prop_cycle": cycler(
        color=[BLUE, RED, GREEN, ORANGE],
        marker=["o", "s", "^", "D"],
        linestyle=["-", "--", "-.", ":"],
    ),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "figure.constrained_layout.use": True,
    "figure.titlesize": 12,
    "figure.titleweight": "bold",
    "font.size": 9,
    "grid.color": "#E4E4E4",
    "legend.frameon": False,
    "lines.markersize": 5,
    "savefig.dpi": 150,
    # The same figure is the same file: no random ids (and no date, below).
    "svg.fonttype": "path",
    "svg.hashsalt": "flopratio",
}

PEAKS = {
    "peak_bytes": "training",
    "checkpointed_peak_bytes": "training, checkpointed",
    "inference_peak_bytes": "inference",
}
"""The columns of a figure of memory, and what they are called in it."""

REFERENCE: dict[str, Any] = {"color": "black", "marker": "", "linestyle": "-", "linewidth": 1}
"""A line that the points are to be compared with."""

PANEL_WIDTH, PANEL_HEIGHT = 4.7, 3.9
"""Inches."""

MAX_SERIES = 4
MAX_BARS = 12
MAX_TICKS = 10
MAX_MARKERS = 20
MIN_NAMED = 0.06
"""The share of a picture's width that a phase's name needs."""
MAX_TITLE = 56
"""Characters that fit above a panel."""

Value = TypeVar("Value")


@dataclass(frozen=True)
class _Panel:
    """One model's rows that have the figure's columns.

    Args:
        keys: the keys of the grid that differ between these rows.
    """

    model: str
    rows: pd.DataFrame
    keys: list[str]


@dataclass(frozen=True)
class _Series:
    """Points that differ in x only, in its order."""

    label: str
    x: list[Any]
    y: list[Any]
    rows: pd.DataFrame


def draw_all(
    frame: pd.DataFrame, directory: Path, layers: Sequence[LayerTotals] | None = None
) -> list[Path]:
    """Draw every figure for which the data are there.

    Args:
        frame: a sweep's rows.
        directory: where the files go; it must exist.
        layers: of one ledger, for the bars of each layer.

    Returns:
        The files written.
    """
    figures = (
        ratio_against_depth,
        ratio_with_update_against_batch,
        saved_bytes_against_batch,
        saved_bytes_against_depth,
        checkpointing_against_depth,
        memory_against_batch,
        memory_against_depth,
        time_ratio_against_flop_ratio,
        share_of_step,
    )
    paths = [path for figure in figures for path in figure(frame, directory)]
    if layers is not None:
        paths += flops_by_layer(layers, directory)
    return paths


# -- the figures ----------------------------------------------------------------------------------


def ratio_against_depth(frame: pd.DataFrame, directory: Path) -> list[Path]:
    """FLOP of backward over forward; the theory, 2 minus the first layer's share, goes through the
    points."""
    panels = _panels(frame, "ratio", "first_layer_share", along="depth")

    def draw(axes: Axes, panel: _Panel) -> None:
        chosen, legend = _choose(panel, "depth", "ratio")
        for series in chosen:
            theory = [2 - share for share in series.rows["first_layer_share"]]
            axes.plot(series.x, series.y, linestyle="", label=series.label)
            axes.plot(series.x, theory, **REFERENCE)
        axes.plot([], [], **REFERENCE, label="2 - first layer's share")
        _scale(axes, panel.rows["depth"])
        _guides(axes, (1, 1.5, 2))
        axes.set_title(_ends(panel, [chosen[0], chosen[-1]]))
        axes.set_xlabel("depth (layers)")
        axes.set_ylabel("FLOP, backward : forward")
        _legend(axes, legend)

    title = "Backward FLOPs climb towards twice forward with depth"
    if not all(_monotonic(panel, "depth", "ratio", rising=True) for panel in panels):
        title = "Backward : forward against depth"
    return _write(directory, "ratio_against_depth", title, panels, draw)


def ratio_with_update_against_batch(frame: pd.DataFrame, directory: Path) -> list[Path]:
    """FLOP of backward and update over forward: the update's part fades as the batch grows."""
    panels = _panels(frame, "ratio_with_update", along="batch")

    def draw(axes: Axes, panel: _Panel) -> None:
        chosen, legend = _choose(panel, "batch", "ratio_with_update")
        for series in chosen:
            axes.plot(series.x, series.y, label=series.label)
        _scale(axes, panel.rows["batch"])
        _guides(axes, (1, 2, 3))
        axes.set_title(_ends(panel, [chosen[0], chosen[-1]]))
        axes.set_xlabel("batch (examples)")
        axes.set_ylabel("FLOP, (backward + update) : forward")
        _legend(axes, legend)

    title = "The update's share of the FLOPs fades as the batch grows"
    if not all(_monotonic(p, "batch", "ratio_with_update", rising=False) for p in panels):
        title = "(Backward + update) : forward against batch"
    return _write(directory, "ratio_with_update_against_batch", title, panels, draw)


def saved_bytes_against_batch(frame: pd.DataFrame, directory: Path) -> list[Path]:
    """Bytes that forward keeps for backward; the legend has the slopes."""
    panels = _panels(frame, "saved_bytes", along="batch")

    def draw(axes: Axes, panel: _Panel) -> None:
        _saved(axes, panel, "batch", "example")
        _scale(axes, panel.rows["batch"])
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set_xlabel("batch (examples)")

    title = _growth(panels, "batch")
    return _write(directory, "saved_bytes_against_batch", title, panels, draw, height=4.5)


def saved_bytes_against_depth(frame: pd.DataFrame, directory: Path) -> list[Path]:
    """Bytes that forward keeps for backward; the legend has the slopes."""
    panels = _panels(frame, "saved_bytes", along="depth")

    def draw(axes: Axes, panel: _Panel) -> None:
        _saved(axes, panel, "depth", "layer")
        axes.set_ylim(bottom=0)
        axes.set_xlabel("depth (layers)")

    title = _growth(panels, "depth")
    return _write(directory, "saved_bytes_against_depth", title, panels, draw, height=4.5)


def checkpointing_against_depth(frame: pd.DataFrame, directory: Path) -> list[Path]:
    """Bytes that forward keeps for backward, with and without the chain of layers in as many
    checkpoints as the root of its length; at the largest of every other key."""
    columns = {
        "saved_bytes": "all kept",
        "checkpointed_saved_bytes": "checkpointed in √n segments",
    }
    panels = _panels(frame, *columns, "checkpointed_recompute", "forward", along="depth")
    deepest = [_series(panel, "depth", "saved_bytes")[-1].rows.iloc[-1] for panel in panels]

    def draw(axes: Axes, panel: _Panel) -> None:
        shown = _columns_against(axes, panel, "depth", columns, "saved activations")
        again = max(
            Fraction(row["checkpointed_recompute"], row["forward"])
            for _, row in shown.rows.iterrows()
        )
        axes.set_title(_at(panel, shown, f"up to {float(again):.2f} forward again"))
        axes.set_ylim(bottom=0)
        axes.set_xlabel("depth (layers)")

    def title() -> str:
        shares = [row["checkpointed_saved_bytes"] / row["saved_bytes"] for row in deepest]
        ends = dict.fromkeys(f"{share:.0%}" for share in (min(shares), max(shares)))
        return f"Checkpointed, the deepest keep {' to '.join(ends)} of the saved activations"

    return _write(directory, "checkpointing_against_depth", title, panels, draw)


def memory_against_batch(frame: pd.DataFrame, directory: Path) -> list[Path]:
    """Peak bytes of training, with and without checkpointing, and of inference; at the largest of
    every other key."""

    def scale(axes: Axes, panel: _Panel) -> None:
        _scale(axes, panel.rows["batch"])
        low, high = axes.get_ylim()
        if high > 10 * low:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")
        else:
            axes.set_ylim(bottom=0)
        axes.set_xlabel("batch (examples)")

    return _memory(frame, directory, "batch", scale)


def memory_against_depth(frame: pd.DataFrame, directory: Path) -> list[Path]:
    """Peak bytes of training, with and without checkpointing, and of inference; at the largest of
    every other key."""

    def scale(axes: Axes, panel: _Panel) -> None:
        axes.set_ylim(bottom=0)
        axes.set_xlabel("depth (layers)")

    return _memory(frame, directory, "depth", scale)


def time_ratio_against_flop_ratio(frame: pd.DataFrame, directory: Path) -> list[Path]:
    """Measured time of backward over forward, with 95% intervals, against that of FLOP."""
    panels = _panels(frame, "ratio", "time_ratio", "time_ratio_low", "time_ratio_high")

    def draw(axes: Axes, panel: _Panel) -> None:
        few = [key for key in panel.keys if panel.rows[key].nunique() <= MAX_SERIES]
        key = "batch" if "batch" in few else next(iter(few), None)
        groups = panel.rows.groupby(key) if key else [("", panel.rows)]
        for value, rows in groups:
            time, low, high = (
                rows[name].astype(float)
                for name in ("time_ratio", "time_ratio_low", "time_ratio_high")
            )
            axes.errorbar(
                rows["ratio"].astype(float),
                time,
                yerr=[time - low, high - time],
                linestyle="",
                markersize=4,
                elinewidth=0.7,
                capsize=1.5,
                alpha=0.8,
                label=f"{key} {value}" if key else "measured",
            )
        ends = [min(panel.rows["ratio"]), max(panel.rows["ratio"])]
        axes.plot(ends, ends, **REFERENCE, label="time as FLOP")
        axes.set_title(
            f"{panel.model}: median time {_median(panel, 'time_ratio'):.2f},"
            f" FLOP {_median(panel, 'ratio'):.2f}"
        )
        axes.set_xlabel("FLOP, backward : forward")
        axes.set_ylabel("time, backward : forward")
        _legend(axes)

    departures = [
        abs(time / flop - 1)
        for panel in panels
        for time, flop in zip(panel.rows["time_ratio"], panel.rows["ratio"], strict=True)
        if flop
    ]
    title = ""
    if departures:
        title = (
            "The time ratio departs from the FLOP ratio by"
            f" {statistics.median(departures):.0%} (median)"
        )
    return _write(directory, "time_ratio_against_flop_ratio", title, panels, draw)


def share_of_step(frame: pd.DataFrame, directory: Path) -> list[Path]:
    """Forward, backward and update as parts of a step's measured time."""
    panels = _panels(frame, "forward_ms", "backward_ms", "update_ms")
    backward: list[float] = []

    def draw(axes: Axes, panel: _Panel) -> None:
        rows = _representative(panel)
        labels = [
            ", ".join(f"{key} {row[key]}" for key in panel.keys) or panel.model
            for _, row in rows.iterrows()
        ]
        steps = [[float(row[f"{phase}_ms"]) for phase in PHASES] for _, row in rows.iterrows()]
        shares = [[time / sum(step) for time in step] for step in steps]
        start = [0.0] * len(shares)
        for index, (phase, fill) in enumerate(PHASES.items()):
            widths = [100 * share[index] for share in shares]
            bars = axes.barh(labels, widths, left=start, color=fill, edgecolor="white", label=phase)
            texts = [f"{width:.0f}%" if width >= 8 else "" for width in widths]
            axes.bar_label(
                bars, texts, label_type="center", color="white" if fill == BLUE else "black"
            )
            start = [a + b for a, b in zip(start, widths, strict=True)]
        backward.extend(share[1] for share in shares)
        axes.invert_yaxis()
        axes.grid(visible=False)
        axes.tick_params(axis="y", length=0)
        axes.set_xlim(0, 100)
        axes.set_title(panel.model)
        axes.set_xlabel("share of the step's time (%)")
        _legend(axes, columns=3)

    def title() -> str:
        ends = dict.fromkeys(f"{share:.0%}" for share in (min(backward), max(backward)))
        return f"Backward takes {' to '.join(ends)} of a step's time"

    return _write(directory, "share_of_step", title, panels, draw)


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
    names = [layer.name or layer.type for layer in shown]

    def draw(axes: Axes, _: None) -> None:
        largest = max(max(layer.forward, layer.grad_input, layer.grad_weight) for layer in shown)
        unit, size = _unit(largest, 1000, ("FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP"))
        # A gap in the axis stands for the layers left out.
        places = [index + (index >= head and left_out > 0) for index in range(len(shown))]
        for offset, (phase, fill) in zip((-0.27, 0, 0.27), GRADIENTS.items(), strict=True):
            axes.barh(
                [place + offset for place in places],
                [getattr(layer, phase) / size for layer in shown],
                height=0.27,
                color=fill,
                edgecolor="black",
                linewidth=0.4,
                label=phase,
            )
        for place, layer in zip(places, shown, strict=True):
            _beside(axes, place, f"{layer.ratio:g} : 1")
        if left_out:
            axes.text(0, head, f" … {left_out} more layers …", va="center", color=GREY)
        axes.set_yticks(places, names)
        axes.margins(y=0.01)
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel(f"FLOP of contractions ({unit})")
        axes.set_title("backward : forward", loc="right")
        _legend(axes, columns=3)

    ratios = {layer.ratio for layer in contractions[1:]}
    title = "FLOPs of each layer"
    if contractions[0].ratio == 1 and ratios == {2.0}:
        title = "The first layer's backward costs its forward, every other's twice that"
    height = 1.4 + 0.4 * (len(shown) + (left_out > 0))
    return _write(directory, "flops_by_layer", title, [None], draw, width=7, height=height)


def memory_timeline(memory: Memory, path: Path, name: str = "") -> None:
    """The bytes alive over a step, by category; the phases shaded, the peak marked and named.

    Every operator of forward and backward has the same width; those of an update are many and
    small, and share a quarter of the picture at most.

    Args:
        path: where to; its extension says the format.
        name: of what was counted, for the title.
    """
    timeline, peak, stretches = memory.timeline(), memory.at_peak, memory.phases()
    unit, size = _bytes(peak.nbytes)
    places = _places(stretches)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.4, 4.6))
        axes = figure.subplots()
        shown = {category: alive for category, alive in timeline.items() if any(alive)}
        axes.stackplot(
            places,
            [[nbytes / size for nbytes in (*alive, alive[-1])] for alive in shown.values()],
            colors=[MEMORY[category] for category in shown],
            labels=[category.replace("_", " ") for category in shown],
            step="post",
            linewidth=0,
        )
        top = 1.12 * peak.nbytes / size
        for phase, records in stretches:
            start, end = places[records.start], places[records.stop]
            axes.axvspan(start, end, color=SHADES[phase], zorder=0, linewidth=0)
            if end - start > MIN_NAMED * places[-1]:
                axes.text((start + end) / 2, top, phase, ha="center", va="bottom", color=GREY)
        middle = (places[peak.record] + places[peak.record + 1]) / 2
        axes.plot([middle], [peak.nbytes / size], marker="v", color=RED, markersize=7, zorder=4)
        left = middle > places[-1] / 2
        operator = f"{peak.op} for {peak.layer}" if peak.layer else peak.op
        axes.annotate(
            f"peak {peak.nbytes / size:#.4g} {unit}: {operator}",
            (middle, peak.nbytes / size),
            xytext=(-7 if left else 7, 5),
            textcoords="offset points",
            ha="right" if left else "left",
        )
        axes.set_xlim(0, places[-1])
        axes.set_ylim(0, top)
        axes.set_xticks([])
        axes.set_xlabel("operators of the step, in order")
        axes.set_ylabel(f"live tensors ({unit})")
        _legend(axes, columns=4)
        largest = max(peak.by_category.items(), key=lambda item: item[1])
        title = f"{name}: " if name else ""
        title += f"{largest[1] / peak.nbytes:.0%} of the peak are {largest[0].replace('_', ' ')}"
        figure.suptitle(title, x=0.01, ha="left")
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def _places(stretches: Sequence[tuple[str, range]]) -> list[float]:
    """Where each record of a step begins, and where the last one ends."""
    widths = {phase: sum(len(r) for p, r in stretches if p == phase) for phase in SHADES}
    others = widths["forward"] + widths["backward"]
    update = min(1.0, others / (3 * widths["update"])) if widths["update"] and others else 1.0
    places = [0.0]
    for phase, records in stretches:
        width = update if phase == "update" else 1.0
        places += [places[-1] + width * (index + 1) for index in range(len(records))]
    return places


# -- the data -------------------------------------------------------------------------------------


def _panels(frame: pd.DataFrame, *columns: str, along: str | None = None) -> list[_Panel]:
    """Each model's rows in which the columns are filled, if ``along`` has several values there."""
    needed = [*columns, along] if along else list(columns)
    if not {"model", *needed} <= set(frame.columns):
        return []
    names = list(frame.columns)
    keys = names[names.index("model") + 1 : names.index("forward")] if "forward" in names else []
    filled = (frame[needed].notna() & (frame[needed] != "")).all(axis=1)
    panels = []
    for model, rows in frame[filled].groupby("model", sort=False):
        differing = [key for key in keys if rows[key].nunique() > 1]
        if along is None or rows[along].nunique() > 1:
            order = sorted(differing, key=lambda key: key == "batch")
            panels.append(_Panel(str(model), rows.sort_values(order) if order else rows, order))
    return panels


def _series(panel: _Panel, x: str, y: str) -> list[_Series]:
    """The lines of y against x: one for each value of the keys that y depends on."""
    others = [key for key in panel.keys if key != x]
    deciding = [key for key in others if _depends(panel.rows, y, key, [x, *others])]
    rows = panel.rows.sort_values([*deciding, x])
    groups = rows.groupby(deciding, sort=False) if deciding else [((), rows)]
    found = []
    for values, group in groups:
        points = group.drop_duplicates(x)
        same = [key for key in others if key not in deciding]
        names = [f"{key} {value}" for key, value in zip(deciding, values, strict=True)]
        label = ", ".join(names) or (f"any {' or '.join(same)}" if same else "counted")
        found.append(_Series(label, list(points[x]), list(points[y]), points))
    return found


def _depends(rows: pd.DataFrame, y: str, key: str, keys: list[str]) -> bool:
    """Whether y differs between rows that differ in ``key`` only."""
    rest = [other for other in keys if other != key]
    groups = [group for _, group in rows.groupby(rest)] if rest else [rows]
    return any(group[y].nunique() > 1 for group in groups)


def _choose(panel: _Panel, x: str, y: str) -> tuple[list[_Series], str]:
    """As many series as can be told apart, and a word on those left out."""
    series = _series(panel, x, y)
    chosen = _spread(series, MAX_SERIES)
    return chosen, f"{len(chosen)} of {len(series)} lines shown" if len(chosen) < len(
        series
    ) else ""


def _spread(values: Sequence[Value], count: int) -> list[Value]:
    """At most ``count`` of the values, evenly spread, with the first and the last."""
    if len(values) <= count:
        return list(values)
    return [values[round(i * (len(values) - 1) / (count - 1))] for i in range(count)]


def _representative(panel: _Panel) -> pd.DataFrame:
    """At most ``MAX_BARS`` rows that span the grid."""
    rows = panel.rows
    for key in panel.keys:
        values = _spread(sorted(rows[key].unique()), 4 if key == "batch" else 3)
        rows = rows[rows[key].isin(values)]
    return rows.iloc[_spread(range(len(rows)), MAX_BARS)]


def _ends(panel: _Panel, series: Sequence[_Series]) -> str:
    """The first and the last value of some series, in words."""
    ends = {s.label: f"{s.y[0]:.3f} → {s.y[-1]:.3f}" for s in series}
    if len(ends) == 1:
        return f"{panel.model}: {next(iter(ends.values()))}"
    words = f"{panel.model}, " + "; ".join(f"{label}: {text}" for label, text in ends.items())
    return words if len(words) <= MAX_TITLE else panel.model


def _monotonic(panel: _Panel, x: str, y: str, *, rising: bool) -> bool:
    return all(
        (a < b) == rising and a != b
        for series in _series(panel, x, y)
        for a, b in pairwise(series.y)
    )


def _median(panel: _Panel, column: str) -> float:
    return statistics.median(float(value) for value in panel.rows[column])


def _slopes(series: _Series) -> set[Fraction]:
    """The exact slopes between neighbouring points; one, if the series is affine."""
    points = list(zip(series.x, series.y, strict=True))
    return {Fraction(d - b, c - a) for (a, b), (c, d) in pairwise(points)}


def _growth(panels: list[_Panel], x: str) -> str:
    """What the points allow to say: two are on a line always."""
    series = [s for panel in panels for s in _series(panel, x, "saved_bytes")]
    affine = all(len(_slopes(s)) == 1 for s in series) and any(len(s.x) > 2 for s in series)
    return f"Saved activations {'are exactly affine in' if affine else 'against'} {x}"


# -- the drawing ----------------------------------------------------------------------------------


def _write(
    directory: Path,
    name: str,
    title: str | Callable[[], str],
    panels: Sequence[Any],
    draw: Callable[[Axes, Any], None],
    *,
    width: float = PANEL_WIDTH,
    height: float = PANEL_HEIGHT,
) -> list[Path]:
    """Draw the panels side by side and write them; ``title`` may be known only afterwards."""
    if not panels:
        return []
    paths = [directory / f"{name}.{extension}" for extension in ("png", "svg")]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width * max(len(panels), 1.3), height))
        for axes, panel in zip(
            figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
        ):
            draw(axes, panel)
        figure.suptitle(title if isinstance(title, str) else title(), x=0.01, ha="left")
        for path in paths:
            figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
            # Laid out once: the second file takes the same places.
            figure.set_layout_engine("none")
    return paths


def _memory(
    frame: pd.DataFrame, directory: Path, x: str, scale: Callable[[Axes, _Panel], None]
) -> list[Path]:
    """A figure of peak bytes against x, whose axes ``scale`` scales and names."""
    panels = _panels(frame, "peak_bytes", "inference_peak_bytes", along=x)
    ratios: list[float] = []

    def draw(axes: Axes, panel: _Panel) -> None:
        shown = _columns_against(axes, panel, x, PEAKS, "peak memory")
        own = [row["peak_bytes"] / row["inference_peak_bytes"] for _, row in shown.rows.iterrows()]
        axes.set_title(_at(panel, shown, f"{min(own):.3g} to {max(own):.3g} x inference"))
        ratios.extend(own)
        scale(axes, panel)

    def title() -> str:
        if min(ratios) <= 1:
            return f"Peak memory of training and inference against {x}"
        return f"Training peaks at {min(ratios):.3g} to {max(ratios):.3g} times inference's memory"

    return _write(directory, f"memory_against_{x}", title, panels, draw)


def _columns_against(
    axes: Axes, panel: _Panel, x: str, columns: Mapping[str, str], quantity: str
) -> _Series:
    """Draw several columns of bytes (column -> its label) of the series of the largest keys, which
    is returned; a column that is not filled there is left out."""
    shown = _series(panel, x, next(iter(columns)))[-1]
    filled = [
        column
        for column in columns
        if column in shown.rows and (shown.rows[column].notna() & (shown.rows[column] != "")).all()
    ]
    unit, size = _bytes(max(max(shown.rows[column]) for column in filled))
    for column in filled:
        axes.plot(
            shown.x,
            [value / size for value in shown.rows[column]],
            label=columns[column],
            markevery=max(1, len(shown.x) // MAX_MARKERS),
        )
    axes.set_ylabel(f"{quantity} ({unit})")
    _legend(axes, columns=3)
    return shown


def _at(panel: _Panel, shown: _Series, said: str) -> str:
    """Which of a panel's series is shown, and what is said of it."""
    where = f"{panel.model}, {shown.label}" if shown.label != "counted" else panel.model
    return f"{where}: {said}"


def _saved(axes: Axes, panel: _Panel, x: str, per: str) -> None:
    chosen, legend = _choose(panel, x, "saved_bytes")
    unit, size = _bytes(max(max(series.y) for series in chosen))
    for series in chosen:
        slope = Fraction(series.y[-1] - series.y[0], series.x[-1] - series.x[0])
        step, step_size = _bytes(slope)
        axes.plot(
            series.x,
            [value / size for value in series.y],
            label=f"{series.label}: {float(slope / step_size):.4g} {step} per {per}",
            markevery=max(1, len(series.x) // MAX_MARKERS),
        )
    axes.set_title(panel.model)
    axes.set_ylabel(f"saved activations ({unit})")
    _legend(axes, legend, columns=1)


def _unit(largest: Any, base: int, names: Sequence[str]) -> tuple[str, int]:
    """The largest unit that does not exceed a value, and its size."""
    power = 0
    while power < len(names) - 1 and largest >= base ** (power + 1):
        power += 1
    return names[power], base**power


def _bytes(largest: Any) -> tuple[str, int]:
    return _unit(largest, 1024, ("B", "KiB", "MiB", "GiB", "TiB", "PiB"))


def _scale(axes: Axes, values: Iterable[Any]) -> None:
    """Doublings are evenly spaced; everything else on a linear axis."""
    distinct = sorted({int(value) for value in values})
    steps = [b / a for a, b in pairwise(distinct) if a > 0]
    if distinct[0] > 0 and statistics.median(steps) >= 1.5:
        axes.set_xscale("log", base=2)
        ticks = _spread(distinct, MAX_TICKS)
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.xaxis.set_minor_locator(NullLocator())


def _guides(axes: Axes, levels: Sequence[float]) -> None:
    """Horizontal lines from 1 to 2, and on where the data reach, named at the right edge."""
    low, high = axes.get_ylim()
    low, high = min(low, 0.95), max(high, 2.05)
    near = [level for level in levels if level <= high + 0.1]
    axes.set_ylim(low, max(high, near[-1] + 0.05))
    for level in near:
        axes.axhline(level, color=GREY, linestyle=(0, (1, 2)), linewidth=1, zorder=1, marker="")
        _beside(axes, level, f"{level:g} : 1")


def _beside(axes: Axes, height: float, text: str) -> None:
    axes.annotate(
        text,
        (1, height),
        xycoords=("axes fraction", "data"),
        xytext=(5, 0),
        textcoords="offset points",
        va="center",
        color=GREY,
    )


def _legend(axes: Axes, title: str = "", columns: int = 2) -> None:
    """Below the axis' label, where no data are."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    axes.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, 0),
        bbox_transform=axes.transAxes + ScaledTranslation(0, -0.42, figure.dpi_scale_trans),
        ncols=columns,
        title=title or None,
        columnspacing=1.2,
    )
