"""The grid: plan its points, run them, append each to ``sweep.csv``, resume where a run ended."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from flopratio import version
from flopratio.errors import UsageError
from flopratio.text.grammar import (
    MOST_VALUES,
    Value,
    check_keys,
    format_value,
    parse_values,
    unknown,
)
from flopratio.verbs.sweep.file import COLUMNS, Known, Row, make_row, open_sweep

if TYPE_CHECKING:
    import pandas as pd

DEFAULT_GRIDS: Mapping[str, Mapping[str, str]] = {
    "mlp": {"depth": "1..64*2", "batch": "1,8,64,512"},
    "cnn": {"depth": "0,1,2,3,5,8,10,15,20,30,40,50,65,80,100", "batch": "1,64", "image": "64"},
}

CHOICES: Mapping[str, tuple[str, ...]] = {
    "measure": ("auto", "cpu", "cuda", "none"),
    "loss": ("auto", "cross_entropy", "mse", "sum"),
    "optimizer": ("none", "sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamw"),
    "dtype": ("float32", "float64", "bfloat16", "float16"),
}

Evaluate = Callable[..., Mapping[str, Any]]
"""``evaluate(model, settings, *, measure, loss, optimizer, dtype, freeze, input_grad)`` -> the
point's columns, as :func:`flopratio.verbs.sweep.point.examine` gives them."""


class Network(Protocol):
    """What a plan must know of a sweepable network."""

    @property
    def keys(self) -> Mapping[str, Any]:
        """Each KEY and its default."""

    @property
    def minimum(self) -> Mapping[str, int]:
        """Smallest legal value of a KEY, where it isn't 1."""

    @property
    def choices(self) -> Mapping[str, Sequence[str]]:
        """The words that a KEY may be, where they are listed."""


@dataclass(frozen=True)
class Options:
    """How every point of a sweep is run; ``measure=auto`` is ``cuda`` where there is a device.

    Raises:
        UsageError: one is not among its :data:`CHOICES`.
    """

    measure: str = "none"
    loss: str = "auto"
    optimizer: str = "sgd"
    dtype: str = "float32"
    freeze: str | None = None
    input_grad: bool = False

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise unknown(f"choice of --{name}", getattr(self, name), choices)


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
        options: with ``measure`` resolved.
        grids: model -> KEY -> values, as the user gave them.
    """

    points: tuple[Point, ...]
    keys: tuple[str, ...]
    options: Options
    grids: dict[str, dict[str, tuple[Value, ...]]]

    def describe(self) -> dict[str, dict[str, str]]:
        """The grids in the words of the grammar."""
        return {
            model: {key: ",".join(map(format_value, values)) for key, values in grid.items()}
            for model, grid in self.grids.items()
        }

    @property
    def columns(self) -> tuple[str, ...]:
        return ("model", *(key for key in self.keys if key not in COLUMNS), *COLUMNS)


def plan(
    model: str | None = None,
    keys: Mapping[str, Sequence[Value]] | None = None,
    options: Options | None = None,
    networks: Mapping[str, Network] | None = None,
) -> Plan:
    """The grid of all combinations of the values of ``keys``; the last key varies fastest.

    Args:
        model: a built-in network; None for the default grids, where ``keys`` replace their own.
        keys: KEY -> values; KEYs that are left out take the network's defaults.
        networks: the sweepable ones, by name; those of the library unless given.

    Raises:
        UsageError: an unknown network or KEY, an illegal value, a grid far too large, or CUDA
            asked for where there is none.
    """
    networks = _built_in() if networks is None else networks
    options = options or Options()
    keys = dict(keys or {})
    if options.loss != "auto" and keys.setdefault("loss", (options.loss,)) != (options.loss,):
        raise UsageError(f"the loss is given twice: drop --loss {options.loss} or the KEY loss")
    if model is not None and model not in networks:
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
    return Plan(
        points=tuple(
            Point(name, {**networks[name].keys, **dict(zip(grid, values, strict=True))})
            for name, grid in grids.items()
            for values in itertools.product(*grid.values())
        ),
        keys=tuple(dict.fromkeys(key for name in grids for key in networks[name].keys)),
        options=replace(options, measure=_resolve(options.measure)),
        grids=grids,
    )


def _built_in() -> Mapping[str, Network]:
    from flopratio.networks.library import NETWORKS

    return NETWORKS


def _resolve(measure: str) -> str:
    if measure in ("none", "cpu"):
        return measure
    import torch

    available = torch.cuda.is_available()
    if measure == "cuda" and not available:
        raise UsageError("torch finds no CUDA device to measure on: use --measure cpu or none")
    return "cuda" if available else "cpu"


def run(
    plan: Plan,
    *,
    output: Path | None = None,
    fresh: bool = False,
    evaluate: Evaluate | None = None,
    started: Callable[[], None] = lambda: None,
    finished: Callable[[Row], None] = lambda row: None,
) -> list[Row]:
    """Evaluate the points that ``output`` does not hold yet.

    Args:
        output: directory of ``sweep.csv`` and ``environment.json``; each point is appended and
            flushed when it ends, so that a run that was killed is resumed. None: nothing is
            written.
        fresh: start over, whatever ``output`` holds.
        evaluate: gives a point's columns; :func:`flopratio.verbs.sweep.point.examine` unless given.
        started: called when ``output`` has proved fit and the first point is about to run.
        finished: called with each row, those of an earlier run included.

    Returns:
        A row a point, in the plan's order.

    Raises:
        UsageError: ``output`` can't be written, or holds another sweep (which stays).
    """
    if evaluate is None:
        from flopratio.verbs.sweep.point import examine

        evaluate = examine
    versions = version.versions()
    shared = {
        "freeze": plan.options.freeze,
        "input_grad": plan.options.input_grad,
        "torch": versions["torch"],
        "flopratio": versions["flopratio"],
    }
    known = [{"model": point.model, **point.settings, **shared} for point in plan.points]
    with _store(plan, known, versions, output, fresh) as (rows, append):
        started()
        for row in rows:
            finished(row)
        for point, cells in list(zip(plan.points, known, strict=True))[len(rows) :]:
            row = make_row(plan.columns, cells, _figures(point, plan.options, evaluate))
            append(row)
            rows.append(row)
            finished(row)
    return rows


def _store(
    plan: Plan,
    known: Sequence[Known],
    versions: dict[str, str],
    output: Path | None,
    fresh: bool,
) -> AbstractContextManager[tuple[list[Row], Callable[[Row], None]]]:
    if output is None:
        return nullcontext(([], lambda row: None))
    from flopratio.measure.hardware import machine

    options = plan.options
    surroundings = {
        "sweep": {"grids": plan.describe(), "options": asdict(options)},
        "versions": versions,
        "machine": machine("cuda" if options.measure == "cuda" else "cpu"),
    }
    return open_sweep(output, plan.columns, known, surroundings, fresh=fresh)


def _figures(point: Point, options: Options, evaluate: Evaluate) -> dict[str, Any]:
    try:
        return {"status": "ok", **evaluate(point.model, dict(point.settings), **asdict(options))}
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
    # Out of the handler, whose traceback keeps the step's tensors alive: what can be had without
    # the device is still worth a row.
    figures: dict[str, Any] = {}
    if options.measure != "none":
        without = asdict(replace(options, measure="none"))
        try:
            figures.update(evaluate(point.model, dict(point.settings), **without))
        except (MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
        figures["device"] = options.measure
    return {**figures, "dtype": options.dtype, "status": "oom"}


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether a device, or the host (whose allocator has no error class of its own), ran out."""
    import torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return (
        re.search(r"DefaultCPUAllocator|can't allocate memory|out of memory", str(error))
        is not None
    )


def sweep(
    model: str | None = None,
    *,
    output: str | Path | None = None,
    measure: str = "none",
    loss: str = "auto",
    optimizer: str = "sgd",
    dtype: str = "float32",
    freeze: str | None = None,
    input_grad: bool = False,
    fresh: bool = False,
    **keys: Value | Iterable[Value],
) -> pd.DataFrame:
    """Run a training step of ``model`` at every point of a grid.

    Args:
        model: a built-in network; None for the default grids.
        output: directory for ``sweep.csv`` and ``environment.json``, resumed if they are there.
        measure: also time the steps on ``cpu``, ``cuda``, or on ``auto``, the better of the two.
        fresh: start over, whatever ``output`` holds.
        keys: a value, several of them, or a grammar string such as ``"1..64*2"``, by KEY.

    Returns:
        A row a point; FLOP and bytes are Python ints, which can't overflow.

    Raises:
        UsageError: see :func:`plan` and :func:`run`.
    """
    options = Options(measure, loss, optimizer, dtype, freeze, input_grad)
    grid = plan(model, {key: _values(key, value) for key, value in keys.items()}, options)
    rows = run(grid, output=None if output is None else Path(output), fresh=fresh)
    return to_frame(grid, rows)


def to_frame(plan: Plan, rows: Sequence[Row]) -> pd.DataFrame:
    """Rows as a DataFrame: ratios, shares and times as floats, all else as the objects they are."""
    import pandas as pd

    frame = pd.DataFrame(rows, columns=list(plan.columns), dtype=object)
    floats = [column for column, kind in COLUMNS.items() if kind is float]
    return frame.astype(dict.fromkeys(floats, "float64"))


def _values(key: str, value: Value | Iterable[Value]) -> tuple[Value, ...]:
    if isinstance(value, str):
        return parse_values(key, value)
    several = value if isinstance(value, Iterable) else (value,)
    # NumPy's numbers become Python's own, which neither overflow nor print their type.
    return tuple(one.item() if hasattr(one, "item") else one for one in several)
