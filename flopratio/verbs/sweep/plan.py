"""The grid of a sweep: its points, and how each of them is run."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from flopratio.errors import UsageError
from flopratio.step.options import DEFAULTS, LOSSES, StepOptions
from flopratio.text.grammar import (
    MOST_VALUES,
    SPECS,
    Value,
    format_value,
    is_spec,
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
    **{name: default for name, default in DEFAULTS.items() if name != "inference"},
    "optimizer": "sgd",
    "target": "cpu",
}
"""The options of a step that a sweep has (its claims are of training), and their defaults."""

OF_ROWS = ("weight_decay", "freeze", "checkpoint", "accumulate", "amp", "input_grad", "target")
"""The options that stand in each row as they were given."""

MEASURES = ("auto", "cpu", "cuda", "none")
"""Where steps may be timed; ``auto``: on CUDA where there is a device."""


FROM_POINTS = 200
"""Of a grid with fewer points each is traced."""

FROM_POINTS_BUILT_IN = 10_000
"""The same of the built-in networks: the claims of the field are judged on what is traced."""


def is_for_closed_form(
    model: str | None, keys: Mapping[str, Sequence[Value]], measure: str
) -> bool:
    """Whether a grid is swept by closed form: nothing is timed, it has many points, and only sizes
    vary."""
    several = [values for values in keys.values() if len(values) > 1]
    points = math.prod(map(len, several))
    if model is None or measure != "none" or points <= FROM_POINTS:
        return False
    built_in = model in _built_in()
    if not built_in and not is_spec(model):
        return False
    sizes = all(type(value) is int for values in several for value in values)
    return sizes and points > (FROM_POINTS_BUILT_IN if built_in else FROM_POINTS)


class Sweepable(Protocol):
    """What a plan must know of a MODEL."""

    def check(self, model: str, given: Mapping[str, Sequence[Value]]) -> None:
        """Check that it has these KEYs, and that they can have these values.

        Raises:
            UsageError: they can't.
        """

    def settings(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The value of every KEY that has one, where some are given."""


class _Spec:
    """A MODEL that knows its KEYs when it is loaded."""

    def check(self, model: str, given: Mapping[str, Sequence[Value]]) -> None:
        """Only a KEY that can't be told from something else is refused."""
        for key in given:
            if key in ("model", *COLUMNS) or key in DEFAULTS:
                advice = (
                    f"write --{key.replace('_', '-')}"
                    if key in SWEPT_DEFAULTS
                    else "it is a column of sweep.csv; call the argument otherwise"
                )
                raise UsageError(f"{key} can't be a KEY of {model} in a sweep: {advice}")

    def settings(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """As given: the rest are its own affair."""
        return dict(given)


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
    """The options of every step of a sweep: as given, or by default.

    Args:
        given: some of :data:`SWEPT_DEFAULTS`.

    Raises:
        UsageError: a value that an option can't have.
    """
    options = StepOptions(**{**SWEPT_DEFAULTS, **given})
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
        model: a MODEL; None for the default grids, where ``keys`` replace their own.
        keys: KEY -> values; KEYs that are left out take the model's defaults.
        options: of :func:`swept_options`.
        networks: the sweepable ones, by name; those of the library unless given.
        measure: one of :data:`MEASURES`.

    Raises:
        UsageError: an unknown network, KEY (of a built-in network: others are known when they are
            loaded) or value, a grid far too large, or CUDA asked for where there is none.
    """
    networks = _built_in() if networks is None else networks
    options = options or swept_options()
    measure = _resolve(measure)
    keys = dict(keys or {})
    if model is not None and is_spec(model):
        networks = {model: _Spec()}
    elif model is not None and model not in networks:
        raise unknown("model", model, (*networks, *SPECS))
    else:
        loss = str(options.loss)
        if loss != "auto" and keys.setdefault("loss", (loss,)) != (loss,):
            raise UsageError(f"the loss is given twice: drop --loss {loss} or the KEY loss")
    grids: dict[str, dict[str, tuple[Value, ...]]] = {}
    for name, default in (DEFAULT_GRIDS if model is None else {model: {}}).items():
        networks[name].check(name, keys)
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
