"""The built-in networks written once more in JAX: the contractions of ``value_and_grad``, read off
its jaxpr, are the ledger's; and what XLA's ``cost_analysis`` counts otherwise."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pandas as pd

try:
    import jax
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("this arbiter is JAX: pip install '.[arbiters]'") from error

import flopratio as fr
from experiments.arbiters import jaxpr, xla
from experiments.arbiters.jax_networks import NETWORKS
from experiments.claims import Claim, conclude, panels
from flopratio.report.figures.style import BLUE, ORANGE, PALE_GREY, PALE_ORANGE, REFERENCE

STEP = ("freeze", "input_grad")
"""The keywords that say how a step is run."""

GRID: tuple[tuple[str, dict[str, Any]], ...] = (
    ("mlp", {"depth": 1, "batch": 1}),
    ("mlp", {"depth": 1, "width": 7, "input": 3, "classes": 2, "batch": 5}),
    ("mlp", {"depth": 2, "width": 512, "batch": 8}),
    ("mlp", {"depth": 4, "width": 64, "batch": 64, "bias": False}),
    ("mlp", {"depth": 4, "width": 64, "batch": 8, "activation": "gelu", "loss": "mse"}),
    ("mlp", {"depth": 4, "width": 64, "batch": 8, "activation": "tanh", "loss": "sum"}),
    ("mlp", {"depth": 4, "width": 64, "batch": 8, "input_grad": True}),
    ("mlp", {"depth": 4, "width": 64, "batch": 8, "freeze": "first*"}),
    ("mlp", {"depth": 4, "width": 64, "batch": 8, "freeze": "hidden.1*"}),
    ("mlp", {"depth": 4, "width": 64, "batch": 8, "freeze": "output*"}),
    ("mlp", {"depth": 16, "width": 128, "batch": 1}),
    ("mlp", {"depth": 16, "width": 128, "batch": 32, "scan": True}),
    ("mlp", {"depth": 100, "width": 32, "batch": 8, "scan": True}),
    ("cnn", {"depth": 0, "image": 32, "batch": 1}),
    ("cnn", {"depth": 2, "image": 5, "batch": 2}),
    ("cnn", {"depth": 3, "image": 33, "batch": 1}),
    ("cnn", {"depth": 3, "image": 33, "batch": 1, "shared": False}),
    ("cnn", {"depth": 3, "image": 32, "batch": 1, "shared": False, "freeze": "middle.1*"}),
    ("cnn", {"depth": 3, "image": 32, "batch": 1, "freeze": "first*"}),
    ("cnn", {"depth": 3, "image": 32, "batch": 1, "input_grad": True}),
    ("cnn", {"depth": 10, "image": 64, "batch": 4, "loss": "mse"}),
    ("cnn", {"depth": 10, "image": 224, "batch": 64}),
    ("cnn", {"depth": 10, "image": 32, "batch": 1, "scan": True}),
    ("cnn", {"depth": 100, "image": 32, "batch": 1, "scan": True, "shared": False}),
    ("convnet", {"image": 32, "batch": 1}),
    ("convnet", {"image": 225, "batch": 8}),
)

TRANSFORMERS: tuple[dict[str, Any], ...] = (
    {"depth": 1, "batch": 1},
    {"depth": 3, "batch": 2, "seq": 32},
    {"depth": 2, "batch": 2, "kind": "encoder", "positions": "sinusoidal", "loss": "mse"},
    {"depth": 2, "batch": 2, "kv_heads": 2, "tied": False, "bias": False},
    {
        "depth": 2,
        "batch": 2,
        "kv_heads": 1,
        "gated": True,
        "activation": "silu",
        "norm": "rms",
        "positions": "rotary",
        "tied": False,
        "bias": False,
    },
    {"depth": 2, "batch": 2, "freeze": "layers.0*"},
    {"depth": 2, "batch": 2, "freeze": "embedding*"},
    {"depth": 12, "batch": 1, "scan": True},
)
SMALL = {"width": 32, "heads": 4, "vocabulary": 100, "seq": 16, "activation": "relu"}
"""What a transformer has where nothing else is said."""


def cases() -> list[tuple[str, dict[str, Any]]]:
    small = [settings | (SMALL | settings) for settings in TRANSFORMERS]
    return [*GRID, *(("transformer", settings) for settings in small)]


def by_ledger(model: str, settings: Mapping[str, Any], *, rounds_in_one: bool) -> jaxpr.Counts:
    """(layer, phase) -> FLOP.

    Args:
        rounds_in_one: whether repeated layers are one, without a number.
    """
    counts: Counter[tuple[str, str]] = Counter()
    for layer in fr.count(model, **settings).layers():
        name = re.sub(r"\.\d+\b", "", layer.name) if rounds_in_one else layer.name
        for phase in jaxpr.PHASES:
            counts[name, phase] += getattr(layer, phase)
    return +counts


def compare(model: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """One network: the jaxpr's count, the ledger's, and XLA's with what it is made of."""
    settings = {key: value for key, value in given.items() if key not in (*STEP, "scan")}
    options = {key: given[key] for key in STEP if key in given}
    is_loop = given.get("scan", False)
    network = NETWORKS[model](**settings, scan=True) if is_loop else NETWORKS[model](**settings)
    ours = by_ledger(model, {**settings, **options}, rounds_in_one=is_loop)
    theirs = jaxpr.count(network, **options)
    function, shapes = jaxpr.step(network, **options)
    made_of = xla.explain(jax.make_jaxpr(function)(*shapes).jaxpr)
    by_xla = xla.cost_analysis(function, shapes)
    figures = {*ours, *theirs}
    row: dict[str, Any] = {
        "model": model,
        "settings": " ".join(f"{key}={value}" for key, value in given.items()),
        "figures": len(figures),
        "figures_equal": sum(ours.get(each, 0) == theirs.get(each, 0) for each in figures),
    }
    for source, counts in (("jaxpr", theirs), ("ledger", ours)):
        for phase in jaxpr.PHASES:
            row[f"{source}_{phase}"] = sum(n for (_, of), n in counts.items() if of == phase)
    return row | {
        "contractions": sum(ours.values()),
        "padding_taps": made_of.padding,
        "later_rounds": made_of.loops,
        "elementwise_of_xla": made_of.elementwise,
        "explained": sum(ours.values()) - made_of.padding - made_of.loops + made_of.elementwise,
        "xla": by_xla,
        "xla_rounds": by_xla > xla.EXACT_BELOW,
    }


FAMILIES = {"mlp": ("mlp",), "cnn": ("cnn", "convnet"), "transformer": ("transformer",)}

DIFFERENCES = {
    ("mlp", "depth=2 width=512 batch=8"): "XLA counts elementwise work too: {elementwise_of_xla:,}",
    ("cnn", "depth=3 image=33 batch=1"): "XLA leaves out the taps on padding ({padding_taps:,}), "
    "and counts elementwise work ({elementwise_of_xla:,})",
    ("mlp", "depth=100 width=32 batch=8 scan=True"): "XLA counts a loop's first round alone: "
    "{later_rounds:,} are in the others; and elementwise work ({elementwise_of_xla:,})",
}
"""Networks for which XLA's figure is told -> why it isn't the contractions'."""


def name_of(row: Mapping[str, Any]) -> str:
    return f"{row['model']} {row['settings']}"


def claims_of(frame: pd.DataFrame) -> list[Claim]:
    claims = []
    for family, models in FAMILIES.items():
        some = frame[frame["model"].isin(models)]
        claims.append(
            Claim(
                f"{family}, {len(some)} networks: a layer's contractions of a phase, equal",
                "JAX, jaxpr of value_and_grad",
                int(some["figures"].sum()),
                int(some["figures_equal"].sum()),
            )
        )
    exact = frame[~frame["xla_rounds"]]
    claims.append(
        Claim(
            "cost_analysis is contractions - taps on padding - later rounds of loops + elementwise "
            "work, to the integer: networks below 2^24, where its float32 is exact",
            "XLA, cost_analysis",
            len(exact),
            int((exact["xla"] == exact["explained"]).sum()),
        )
    )
    for (model, settings), reason in DIFFERENCES.items():
        row = frame[(frame["model"] == model) & (frame["settings"] == settings)].iloc[0].to_dict()
        claims.append(
            Claim(
                f"the contractions of {name_of(row)}",
                "XLA, cost_analysis",
                row["xla"],
                row["contractions"],
                reason.format(**row),
            )
        )
    return claims


def draw_equal(frame: pd.DataFrame, axes: Any) -> None:
    """The step's contractions by both."""
    ends = [frame["contractions"].min() / 2, frame["contractions"].max() * 2]
    axes.plot(ends, ends, **REFERENCE, label="equal")
    for (family, models), marker in zip(FAMILIES.items(), "os^", strict=True):
        some = frame[frame["model"].isin(models)]
        theirs = some[[f"jaxpr_{phase}" for phase in jaxpr.PHASES]].sum(axis=1)
        axes.plot(some["contractions"], theirs, linestyle="", marker=marker, label=family)
    axes.set(xscale="log", yscale="log", xlabel="FLOP by the ledger", ylabel="FLOP by the jaxpr")
    axes.set_title("Contractions of a step")
    axes.legend()


def draw_xla(frame: pd.DataFrame, axes: Any) -> None:
    """What XLA counts of them, and beside them."""
    shown = frame[~frame["xla_rounds"]].iloc[::-1]
    shares = {
        "on data": (shown["contractions"] - shown["padding_taps"] - shown["later_rounds"], BLUE),
        "taps on padding: left out": (shown["padding_taps"], PALE_ORANGE),
        "later rounds of loops: left out": (shown["later_rounds"], PALE_GREY),
        "elementwise: counted too": (shown["elementwise_of_xla"], ORANGE),
    }
    names = [name_of(row) for row in shown.to_dict("records")]
    start = pd.Series(0.0, index=shown.index)
    for label, (flops, colour) in shares.items():
        width = flops / shown["contractions"]
        axes.barh(range(len(shown)), width, left=start, color=colour, label=label, edgecolor="grey")
        start = start + width
    axes.axvline(1, **REFERENCE)
    axes.set_yticks(range(len(shown)), [name[:50] for name in names], fontsize=6)
    axes.set_xlabel("share of the contractions")
    axes.set_title("XLA's cost_analysis of the same step")
    axes.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2)


def main() -> None:
    frame = pd.DataFrame([compare(model, settings) for model, settings in cases()])
    conclude(
        "arbiters_jax",
        frame,
        panels(
            "Counted once more, in JAX",
            lambda axes: draw_equal(frame, axes),
            lambda axes: draw_xla(frame, axes),
            height=5.2,
            width=6,
        ),
        claims_of(frame),
    )
