"""The grid of a sweep: its points, and how each of them is run."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from flopratio.errors import UsageError
from flopratio.step.options import LOSSES, StepOptions
from flopratio.text.grammar import (
    MOST_VALUES,
    Value,
    check_keys,
    format_value,
    parse_values,
    unknown,
)
from flopratio.text.suggestions import not_among
from flopratio.verbs.sweep.file import COLUMNS

DEFAULT_GRIDS: Mapping[str, Mapping[str, str]] = {
    "mlp": {"depth": "1..64*2", "batch": "1,8,64,512"},
    "cnn": {"depth": "0,1,2,3,5,8,10,15,20,30,40,50,65,80,100", "batch": "1,64", "image": "64"},
    "transformer": {"depth": "1,2,4", "seq": "64,256,1024", "batch": "1", "vocabulary": "1024"},
}

SWEPT_DEFAULTS: Mapping[str, Any] = {
    "loss": "auto",
    "optimizer": "sgd",
    "weight_decay": None,
    "dtype": "float32",
    "freeze": None,
    "input_grad": False,
}
"""The options of a step that a sweep has (those that the formulas of the built-in networks know),
and their defaults."""

MEASURES = ("auto", "cpu", "cuda", "none")
"""Where steps may be timed; ``auto``: on CUDA where there is a device."""


class Sweepable(Protocol):
    """What a plan must know of a network."""

    @property
    def keys(self) -> Mapping[str, Any]:
        """Each KEY and its default."""

    @property
    def minimum(self) -> Mapping[str, int]:
        """Smallest legal value of a KEY, where it isn't 1."""

    @property
    def choices(self) -> Mapping[str, Sequence[str]]:
        """The words that a KEY may be, where they are listed."""

    def settings(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The value of every KEY that has one, where some are given."""


class Point(NamedTuple):
    """One network of one size: every KEY has its value."""

    model: str
    settings: dict[str, Value]


@dataclass(frozen=True)
class Plan:
    """A sweep before it runs.

    Args:
        points: in the order of the rows.
        keys: the KEYs of all its models.
        measure: where each step is timed: ``none``, ``cpu`` or ``cuda``.
        options: of every step.
        grids: model -> KEY -> values, as the user gave them.
    """

    points: tuple[Point, ...]
    keys: tuple[str, ...]
    measure: str
    options: StepOptions
    grids: dict[str, dict[str, tuple[Value, ...]]]

    def written_grids(self) -> dict[str, dict[str, str]]:
        """The grids in the words of the grammar."""
        return {
            model: {key: ",".join(map(format_value, values)) for key, values in grid.items()}
            for model, grid in self.grids.items()
        }

    def written_options(self) -> dict[str, Any]:
        """What was chosen, by name."""
        chosen = {name: getattr(self.options, name) for name in SWEPT_DEFAULTS}
        return {"measure": self.measure, **chosen}

    @property
    def columns(self) -> tuple[str, ...]:
        return ("model", *(key for key in self.keys if key not in COLUMNS), *COLUMNS)


def swept_options(**given: Any) -> StepOptions:
    """The options of every step of a sweep: as given, or by default. It is run as on the CPU.

    Args:
        given: some of :data:`SWEPT_DEFAULTS`.

    Raises:
        UsageError: a value that an option can't have.
    """
    options = StepOptions(target="cpu", **{**SWEPT_DEFAULTS, **given})
    if not isinstance(options.loss, str):
        raise not_among("loss", options.loss, LOSSES)
    return options


def make_plan(
    model: str | None = None,
    keys: Mapping[str, Sequence[Value]] | None = None,
    options: StepOptions | None = None,
    networks: Mapping[str, Sweepable] | None = None,
    *,
    measure: str = "none",
) -> Plan:
    """The grid of all combinations of the values of ``keys``; the last key varies fastest.

    Args:
        model: a built-in network; None for the default grids, where ``keys`` replace their own.
        keys: KEY -> values; KEYs that are left out take the network's defaults.
        options: of :func:`swept_options`.
        networks: the sweepable ones, by name; those of the library unless given.
        measure: one of :data:`MEASURES`.

    Raises:
        UsageError: an unknown network or KEY, an illegal value, a grid far too large, or CUDA
            asked for where there is none.
    """
    networks = _built_in() if networks is None else networks
    options = options or swept_options()
    measure = _resolve(measure)
    keys = dict(keys or {})
    loss = str(options.loss)
    if loss != "auto" and keys.setdefault("loss", (loss,)) != (loss,):
        raise UsageError(f"the loss is given twice: drop --loss {loss} or the KEY loss")
    if model is not None and model not in networks:
        if ":" in model:
            raise UsageError(
                f"sweep takes the built-in networks for now ({', '.join(networks)}): count "
                f"{model} point by point, as in flopratio count {model} batch=8"
            )
        raise unknown("network", model, networks)
    grids: dict[str, dict[str, tuple[Value, ...]]] = {}
    for name, default in (DEFAULT_GRIDS if model is None else {model: {}}).items():
        network = networks[name]
        check_keys(name, keys, network.keys, network.minimum, network.choices)
        grids[name] = {key: parse_values(key, text) for key, text in default.items()}
        grids[name] |= {key: tuple(values) for key, values in keys.items()}
    size = sum(math.prod(map(len, grid.values())) for grid in grids.values())
    if size > MOST_VALUES:
        raise UsageError(f"the grid has {size:,} points: at most {MOST_VALUES:,} will do")
    points = tuple(
        Point(name, networks[name].settings(dict(zip(grid, values, strict=True))))
        for name, grid in grids.items()
        for values in itertools.product(*grid.values())
    )
    return Plan(
        points=points,
        keys=tuple(dict.fromkeys(key for point in points for key in point.settings)),
        measure=measure,
        options=options,
        grids=grids,
    )


def _built_in() -> Mapping[str, Sweepable]:
    from flopratio.networks.library import NETWORKS

    return NETWORKS


def _resolve(measure: str) -> str:
    if measure not in MEASURES:
        raise not_among("measure", measure, MEASURES)
    if measure in ("none", "cpu"):
        return measure
    import torch

    available = torch.cuda.is_available()
    if measure == "cuda" and not available:
        raise UsageError("torch finds no CUDA device to measure on: use --measure cpu or none")
    return "cuda" if available else "cpu"
