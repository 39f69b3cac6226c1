"""A sweep by closed form: the whole grid at once from a few traces, and as many fresh ones as one
likes at random points to hold it against."""

from __future__ import annotations

import math
import random
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from flopratio.closed_form import Polynomial
from flopratio.closed_form.grid import LARGEST, bound, on_grid
from flopratio.errors import UsageError
from flopratio.networks.library import NETWORKS, describe
from flopratio.step.options import StepOptions
from flopratio.text.grammar import Value
from flopratio.verbs.formula import formula_of
from flopratio.verbs.formula.domain import at_steps, own_name
from flopratio.verbs.formula.entries import QUANTITIES, Entry
from flopratio.verbs.formula.result import ClosedForm
from flopratio.verbs.formula.trace import Tracer

Array = NDArray[Any]
Grid = dict[str, tuple[int, ...]]

VERIFY = 1
"""Points at which the form of each part is held against fresh traces, before random points of the
whole grid are."""

FEW_LAYERS = (2, 3, 4)
"""A deeper model is traced at these depths, the depth being one symbol more: a trace takes as long
as there are layers."""

WHOLE = (
    "forward",
    "grad_input",
    "grad_weight",
    "backward",
    "recompute",
    "update",
    "elementwise_forward",
    "elementwise_backward",
    "elementwise_recompute",
    "parameters",
    "saved_bytes",
)
RATIOS = ("ratio", "ratio_with_update")


class Piece(NamedTuple):
    """A part of a grid, and its form there.

    Args:
        where: KEY -> its values, of every KEY.
        forms: quantity -> polynomial.
    """

    where: Mapping[str, frozenset[int]]
    forms: Mapping[str, Polynomial]


@dataclass
class GridForm:
    """The forms of a grid: of all of it, or of its parts.

    Args:
        model, options: whose step it is.
        grid: KEY -> its values, in order; the last varies fastest.
        fixed: the other KEYs that were given.
        dtype: of the numbers that the step is run in.
        pieces: what has a form. Where parts overlap the first holds.
        notes: what has none, a sentence each.
        traces: how many steps were traced.
        from_few_layers: whether the layers beyond the first few were taken to be like those. What
            tells is a trace of all of them.
    """

    model: str
    options: StepOptions
    grid: Grid
    fixed: dict[str, Value]
    dtype: str = ""
    pieces: list[Piece] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    traces: int = 0
    from_few_layers: bool = False

    @property
    def size(self) -> int:
        return math.prod(map(len, self.grid.values()))

    @property
    def keys(self) -> dict[str, tuple[Value, ...]]:
        """All KEYs that were given, with their values."""
        return {**self.grid, **{key: (value,) for key, value in self.fixed.items()}}

    @cached_property
    def bounds(self) -> dict[str, int]:
        """How large the columns become at most, by name."""
        bounds = dict.fromkeys(WHOLE, 0)
        for piece in self.pieces:
            for name in WHOLE:
                if name in piece.forms:
                    where = {key: tuple(values) for key, values in piece.where.items()}
                    bounds[name] = max(bounds[name], bound(piece.forms[name], where))
        return bounds

    @cached_property
    def keys_of(self) -> dict[str, frozenset[str]]:
        """The KEYs that a column depends on, by name."""
        parted = {
            key
            for piece in self.pieces
            for key, values in self.grid.items()
            if len(piece.where[key]) < len(values)
        }
        return {
            name: frozenset(parted).union(
                *(piece.forms[name].keys for piece in self.pieces if name in piece.forms)
            )
            for name in WHOLE
        }

    def has_form(self, point: Mapping[str, int]) -> bool:
        return any(all(point[key] in piece.where[key] for key in point) for piece in self.pieces)

    def columns(self, part: Mapping[str, Sequence[int]]) -> dict[str, Array]:
        """The columns of a part of the grid, a cell a point, in the order of its points; masked
        where there is none. ``status`` tells whether there is a form. Whole numbers are int64, or
        Python's where somewhere in the grid int64 could overflow."""
        shape = tuple(len(values) for values in part.values())
        done = np.zeros(shape, dtype=bool)
        values: dict[str, Array] = {}
        known: dict[str, Array] = {}
        for piece in self.pieces:
            chosen = {
                key: [i for i, value in enumerate(each) if value in piece.where[key]]
                for key, each in part.items()
            }
            if not all(chosen.values()):
                continue
            inner = {key: [part[key][i] for i in chosen[key]] for key in part}
            places = _places(chosen)
            fresh = ~done[places]
            if not fresh.any():
                continue
            for name in WHOLE:
                form = piece.forms.get(name)
                if form is None:
                    continue
                kind = np.int64 if self.bounds[name] <= LARGEST else object
                block = on_grid(form, inner).astype(kind, copy=False)
                if fresh.size == done.size and fresh.all():
                    values[name], known[name] = block, fresh
                    continue
                if name not in values:
                    values[name] = np.zeros(shape, kind)
                    known[name] = np.zeros(shape, dtype=bool)
                values[name][places] = np.where(fresh, block, values[name][places])
                known[name][places] |= fresh
            done[places] = True
        for name in WHOLE:
            values.setdefault(name, np.zeros(shape, np.int64))
            known.setdefault(name, np.zeros(shape, dtype=bool))
        self._divide(values, known, "ratio", ("backward",))
        self._divide(values, known, "ratio_with_update", ("backward", "update"))
        sizes = np.meshgrid(*part.values(), indexing="ij") if part else []
        columns: dict[str, Array] = dict(zip(part, sizes, strict=True))
        for name, each in values.items():
            every = known[name].all()
            columns[name] = np.ma.masked_array(each, mask=np.ma.nomask if every else ~known[name])
        columns["status"] = done
        return {name: column.reshape(-1) for name, column in columns.items()}

    def _divide(
        self,
        values: dict[str, Array],
        known: dict[str, Array],
        name: str,
        above: tuple[str, ...],
    ) -> None:
        """Add the column of a ratio of sums to forward. What a float can't hold is divided as what
        can, so that the ratio is that of the whole numbers."""
        largest = max(sum(self.bounds[each] for each in above), self.bounds["forward"])
        kind: Any = object if largest > LARGEST else np.longdouble if largest > 2**53 else float
        known[name] = known["forward"] & (values["forward"] != 0)
        for each in above:
            known[name] = known[name] & known[each]
        numerator = sum(values[each].astype(kind) for each in above)
        denominator = values["forward"].astype(kind)
        quotient = np.zeros(denominator.shape, kind)
        np.divide(numerator, denominator, out=quotient, where=known[name])
        values[name] = quotient.astype(float)


def _places(chosen: Mapping[str, list[int]]) -> tuple[Any, ...]:
    """What selects these indices of each dimension; a view, where they follow each other."""
    if all(indices[-1] - indices[0] + 1 == len(indices) for indices in chosen.values()):
        return tuple(slice(indices[0], indices[-1] + 1) for indices in chosen.values())
    return np.ix_(*chosen.values())


def grid_form(
    model: str,
    keys: Mapping[str, Sequence[Value]],
    options: StepOptions,
    *,
    few_layers: bool = False,
    progress: Callable[[int], None] = lambda traces: None,
) -> GridForm:
    """The forms of a grid.

    Args:
        keys: KEY -> values.
        few_layers: whether to trace a deep model at small depths, see :func:`verified_grid_form`.
        progress: called with the number of traces so far.

    Raises:
        UsageError: no part of it has a form, see :func:`flopratio.verbs.formula.formula`.
    """
    fixed = {key: values[0] for key, values in keys.items() if len(values) == 1}
    grid: Grid = {
        key: tuple(value for value in values if type(value) is int)
        for key, values in keys.items()
        if len(values) > 1
    }
    found = GridForm(model, options, grid, fixed)
    tracer = Tracer(model, fixed, options, cached=True)
    if model in NETWORKS:
        grid = {key: _described(model, fixed, key, values) for key, values in grid.items()}
    if not (few_layers and _add_from_few_layers(found, tracer, grid, progress)):
        _add_pieces(found, tracer, {}, grid, progress, {})
    found.traces += tracer.traces
    found.dtype = next((sampled.dtype or "" for sampled in tracer.found), "")
    return found


def verified_grid_form(
    model: str,
    keys: Mapping[str, Sequence[Value]],
    options: StepOptions,
    *,
    verify: int,
    progress: Callable[[int], None] = lambda traces: None,
) -> tuple[GridForm, Held]:
    """The forms of a grid, and what fresh traces at random points of it say of them.

    A deep model is traced at small depths first. Where its layers turn out to be of several kinds,
    it is traced again with all of them.

    Args:
        verify: how many points are traced afresh.
    """
    found = grid_form(model, keys, options, few_layers=verify > 0, progress=progress)
    held = hold_against_traces(found, verify)
    if found.from_few_layers and held.wrong:
        found = grid_form(model, keys, options, progress=progress)
        held = hold_against_traces(found, verify)
    return found, held


def _add_from_few_layers(
    found: GridForm, tracer: Tracer, grid: Grid, progress: Callable[[int], None]
) -> bool:
    """Add the pieces of a grid from traces at small depths. Whether that went well: whether there
    is one form of everything, and at the low ends of each piece it is what a trace of all layers
    says. (Random points are hardly ever there.)"""
    least = _least(grid)
    try:
        key = own_name(tracer, "depth", least)
        depth = tracer.sample(least).settings.get(key)
        if key in grid or type(depth) is not int or depth <= FEW_LAYERS[-1]:
            return False
        fixed = {other: value for other, value in found.fixed.items() if other != key}
        few = GridForm(found.model, found.options, {**grid, key: FEW_LAYERS}, fixed)
        of_few = Tracer(found.model, fixed, found.options, cached=True)
        _add_pieces(few, of_few, {}, few.grid, progress, {})
    except UsageError:
        return False  # the grid itself is told what is wrong with it
    whole = frozenset(FEW_LAYERS)
    found.traces += few.traces + of_few.traces
    if any(piece.where[key] != whole or {*WHOLE} - {*piece.forms} for piece in few.pieces):
        return False
    for piece in few.pieces:
        where = {other: values for other, values in piece.where.items() if other != key}
        forms = {name: form.substitute({key: depth}) for name, form in piece.forms.items()}
        found.pieces.append(Piece(where, forms))
    ends = [point for piece in found.pieces for point in _low_ends(piece)]
    found.from_few_layers = not any(list(_differences(found, tracer, each)) for each in ends)
    if found.from_few_layers:
        found.notes += few.notes
    else:
        found.pieces.clear()
    return found.from_few_layers


def _least(values: Mapping[str, Iterable[int]]) -> dict[str, int]:
    """The least value of each KEY from 2 on, if there is one."""
    ordered = {key: sorted(each) for key, each in values.items()}
    return {key: next((x for x in each if x >= 2), each[0]) for key, each in ordered.items()}


def _low_ends(piece: Piece) -> list[dict[str, int]]:
    """The least point of a piece, and those with one KEY at 0 or 1."""
    least = _least(piece.where)
    low = [(key, x) for key, each in piece.where.items() for x in each if x < 2 and least[key] >= 2]
    return [least, *({**least, key: value} for key, value in low)]


def _described(
    model: str, fixed: Mapping[str, Value], key: str, values: tuple[int, ...]
) -> tuple[int, ...]:
    """The values of a KEY at which there is such a network: heads divide its width.

    Raises:
        UsageError: there are none.
    """
    described: list[int] = []
    for value in values:
        try:
            describe(model, **{**fixed, key: value})
        except UsageError:
            if value == values[-1] and not described:
                raise
        else:
            described.append(value)
    return tuple(described)


def _add_pieces(
    found: GridForm,
    tracer: Tracer,
    held: dict[str, int],
    grid: Grid,
    progress: Callable[[int], None],
    guesses: Mapping[Entry, Polynomial],
) -> None:
    """Add the pieces of a grid in which some KEYs are held at one value.

    A KEY at 0 or 1 is often another function, and is tried by itself: most rows are the same there.
    """
    held = {**held, **{key: values[0] for key, values in grid.items() if len(values) == 1}}
    grid = {key: values for key, values in grid.items() if len(values) > 1}
    low = next(
        (
            k
            for k, v in grid.items()
            if sum(x >= 2 for x in v) < len(v) and sum(x >= 2 for x in v) < 2
        ),
        None,
    )
    if low is not None:  # too few others to tell a function by
        for value in grid[low]:
            rest = _without(grid, low)
            at = _with_value(guesses, low, value)
            _add_pieces(found, tracer, {**held, low: value}, rest, progress, at)
        return
    admitted = {key: _admitted(found, tracer, held, grid, key, grid[key]) for key in grid}
    if admitted != grid:
        _add_pieces(found, tracer, held, admitted, progress, guesses)
        return
    if not grid:
        point = tracer.sample(held)
        forms = {name: Polynomial.constant(0) for name in (*QUANTITIES,)}
        for entry, value in point.entries.items():
            forms[entry.quantity] = forms[entry.quantity] + value
        forms["backward"] = forms["grad_input"] + forms["grad_weight"]
        found.pieces.append(Piece(_region(found.grid, held, {}), forms))
        return
    values = {key: tuple(x for x in each if x >= 2) for key, each in grid.items()}
    closed = formula_of(
        found.model,
        (),
        {**{k: (v,) for k, v in {**found.fixed, **held}.items()}, **values},
        found.options,
        verify=VERIFY,
        tracer=tracer,
        guesses=guesses,
        peak=False,
        progress=lambda traces: progress(found.traces + tracer.traces + traces),
    )
    found.notes += [f"{name}: {why}" for name, why in closed.why_not.items() if name in WHOLE]
    base = closed.fitted_at[0]
    open_values = dict(values)
    apart: list[tuple[str, int]] = []
    corners: list[dict[str, int]] = [
        {}
    ]  # with 0 or 1 of some KEYs: what holds at each may not at both
    for key, each in grid.items():
        before = list(corners)
        for low_value in (x for x in each if x < 2):
            here = [{**corner, key: low_value} for corner in before]
            if all(_holds_at(closed, {**base, **corner}) for corner in here):
                open_values[key] = (low_value, *open_values[key])
                corners += here
            else:
                apart.append((key, low_value))
    found.traces += closed.tracer.traces
    piece = Piece(_region(found.grid, held, open_values), closed.totals)
    _refuse_amid(found, closed.tracer, piece)
    found.pieces.append(piece)
    for key, value in apart:
        at = _with_value(closed.entries, key, value)
        try:
            _add_pieces(found, tracer, {**held, key: value}, _without(grid, key), progress, at)
        except UsageError as error:
            found.notes.append(f"{key}={value}: {error}")


def _with_value(forms: Mapping[Entry, Polynomial], key: str, value: int) -> dict[Entry, Polynomial]:
    """The forms with one KEY at a value."""
    return {entry: form.substitute({key: value}) for entry, form in forms.items()}


def _without(grid: Grid, key: str) -> Grid:
    return {other: values for other, values in grid.items() if other != key}


def _region(
    whole: Grid, held: Mapping[str, int], values: Mapping[str, Sequence[int]]
) -> dict[str, frozenset[int]]:
    return {
        key: frozenset((held[key],)) if key in held else frozenset(values.get(key, each))
        for key, each in whole.items()
    }


def _holds_at(closed: ClosedForm, point: Mapping[str, int]) -> bool:
    try:
        return not list(closed.held_against([point]))
    except UsageError:
        return False


def _admitted(
    found: GridForm,
    tracer: Tracer,
    held: Mapping[str, int],
    grid: Grid,
    key: str,
    values: tuple[int, ...],
) -> tuple[int, ...]:
    """The values of a KEY that the model takes, the others at their least: those at the steps at
    which it runs, up to the largest."""
    least = _least(grid)
    start = {**held, **least}
    reason = ""

    def runs(value: int) -> bool:
        nonlocal reason
        try:
            tracer.sample({**start, key: value})
        except UsageError as error:
            reason = str(error)
            return False
        return True

    if not runs(least[key]):
        return values
    every = sorted(value for value in values if value >= least[key])
    ordered = at_steps(tracer, key, start, every)
    if passed_over := sorted({*every} - {*ordered}):
        if runs(passed_over[0]):
            return values
        some = ", ".join(f"{key}={value:,}" for value in ordered[:3])
        more = " and so on" if len(ordered) > 3 else ""
        _note(found, f"runs at {some}{more}, and refuses {passed_over[0]:,}", reason)
    if not runs(ordered[-1]):
        sizes = tracer.sample(start).settings.values()
        low = _last_that_runs(ordered, runs, reason, [x for x in sizes if type(x) is int])
        runs(ordered[low + 1])
        _note(found, f"runs up to {key}={ordered[low]:,}, and refuses {ordered[low + 1]:,}", reason)
        ordered = ordered[: low + 1]
    admitted = {*ordered, *(value for value in values if value < least[key])}
    return tuple(value for value in values if value in admitted)


def _last_that_runs(
    ordered: Sequence[int], runs: Callable[[int], bool], reason: str, sizes: Sequence[int]
) -> int:
    """The index of the largest value at which a model runs: at the first it does, at the last not.

    Args:
        reason: the sentence with which the last is refused.
        sizes: of the model. Where the sentence names one, it is most likely the limit.
    """
    low, high = 0, len(ordered) - 1
    told = set(map(int, re.findall(r"\d+", reason.replace(",", ""))))
    for limit in told & {*sizes}:
        place = bisect_right(ordered, limit) - 1
        if not low < place < high:
            continue
        if not runs(ordered[place]):
            high = place
            continue
        low = place
        if place + 1 < high and not runs(ordered[place + 1]):
            high = place + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if runs(ordered[middle]) else (low, middle)
    return low


def _note(found: GridForm, what: str, reason: str) -> None:
    """Note what a model does, once, whatever the reasons."""
    note = f"{found.model} {what}: "
    if not any(known.startswith(note) for known in found.notes):
        found.notes.append(note + reason)


def _refuse_amid(found: GridForm, tracer: Tracer, piece: Piece) -> None:
    """
    Raises:
        UsageError: the model refused a point of the piece: it takes neither all values of a KEY nor
            those at some step, or not all of one KEY with all of another.
    """
    for sampled, reason in tracer.sampled.items():
        point = {key: value for key, value in sampled if key in piece.where}
        if isinstance(reason, str) and all(
            point.get(key) in values for key, values in piece.where.items()
        ):
            at = " ".join(f"{key}={value}" for key, value in point.items())
            raise UsageError(
                f"{found.model} refuses {at}, amid sizes that it takes: {reason}. Give values that "
                "go with all of the others', or a KEY one at a time"
            )


class Held(NamedTuple):
    """What fresh traces say of a grid.

    Args:
        points: how many points that have a form were traced.
        equal: at how many of them all is as the form says.
        wrong: the points that differ, with what differs there: those and others.
    """

    points: int
    equal: int
    wrong: list[tuple[dict[str, int], str]]

    def sentences(self) -> list[str]:
        """What differs, a sentence each."""
        return [
            f"at {' '.join(f'{key}={value}' for key, value in point.items())} the closed form is "
            f"not the trace: {difference}"
            for point, difference in self.wrong
        ]


def hold_against_traces(found: GridForm, number: int, *, seed: int = 0) -> Held:
    """Trace random points of the grid afresh: so many that have a form, or all if there are fewer,
    and a few that have none, which the model should refuse."""
    tracer = Tracer(found.model, found.fixed, found.options, cached=False)
    with_form, without = _drawn(found, number, random.Random(seed))
    wrong: list[tuple[dict[str, int], str]] = []
    equal = 0
    for point in with_form:
        differences = list(_differences(found, tracer, point))
        wrong += [(point, difference) for difference in differences]
        equal += not differences
    for point in without:
        with suppress(UsageError):
            tracer.sample(point)
            wrong.append((point, "the model runs there, and the grid has no form"))
    return Held(len(with_form), equal, wrong)


def _differences(found: GridForm, tracer: Tracer, point: Mapping[str, int]) -> Iterator[str]:
    row = found.columns({key: (value,) for key, value in point.items()})
    try:
        sampled = tracer.sample(point)
    except UsageError as error:
        yield f"the model refuses it ({error})"
        return
    totals = dict.fromkeys(QUANTITIES, 0)
    for entry, value in sampled.entries.items():
        totals[entry.quantity] += value
    totals["backward"] = totals["grad_input"] + totals["grad_weight"]
    for name in WHOLE:
        ours = row[name][0]
        if ours is not np.ma.masked and int(ours) != totals[name]:
            yield f"{name} {int(ours):,}, traced {totals[name]:,}"


def _drawn(
    found: GridForm, number: int, draw: random.Random
) -> tuple[list[dict[str, int]], list[dict[str, int]]]:
    """Random points, none twice: those with a form, and for ten of them one without, if any."""
    with_form, without = dict[tuple[int, ...], None](), dict[tuple[int, ...], None]()
    regions = [
        [
            [value for value in values if value in piece.where[key]]
            for key, values in found.grid.items()
        ]
        for piece in found.pieces
    ]
    sizes = [math.prod(map(len, region)) for region in regions]
    for _ in range(100 * number):
        if len(with_form) == number:
            break
        (region,) = draw.choices(regions, sizes)
        with_form[tuple(draw.choice(values) for values in region)] = None
    for _ in range(10 * number):
        if len(without) * 10 >= number:
            break
        point = tuple(draw.choice(values) for values in found.grid.values())
        if not found.has_form(dict(zip(found.grid, point, strict=True))):
            without[point] = None

    def named(points: Iterable[tuple[int, ...]]) -> list[dict[str, int]]:
        return [dict(zip(found.grid, point, strict=True)) for point in points]

    return named(with_form), named(without)
