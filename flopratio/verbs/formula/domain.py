"""Which values a KEY may have, and which of them a step is traced at.

A trace takes as long at any size, but for the number of layers: a KEY that changes which operators
run is kept small.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from flopratio.closed_form.axis import Axis
from flopratio.closed_form.families import PERIODS
from flopratio.errors import UsageError
from flopratio.models import FixedSizeError
from flopratio.text.grammar import Value, format_value
from flopratio.verbs.fit.step import FIRST_SIZES
from flopratio.verbs.formula.entries import AT_A_MOMENT, Names
from flopratio.verbs.formula.trace import Tracer, UncertainError

STEPS = (1, 2, 3, 4, 6, 8, 12, 14, 16, 20, 24, 28, 32, 48, 64, 96, 128, 192, 256)
"""How far the next value may be: heads divide a width, patches an image."""

SMALL = (2, 3, 4)
"""A KEY at 1 is often another function: gradients that would be summed are not, for one."""

FEWEST_VALUES = 61
"""A KEY's values reach at least so far: over a few of the multiples that kernels round to."""

FEW_VALUES = 3 * max(PERIODS) + 1
"""Of a range with fewer values the next ones are traced too: what is rounded to the largest
multiple has at least four values there, of which three tell a square and one is held against it."""


FEW_UNEVEN = 8
"""Of so few values at uneven distances, none may be left over to hold a polynomial against."""


SYNONYMS = {
    "width": ("hidden_size", "n_embd", "d_model"),
    "depth": ("num_hidden_layers", "n_layer", "num_layers"),
}
"""What models of transformers call these sizes."""


def own_name(tracer: Tracer, key: str, point: Mapping[str, Value] | None = None) -> str:
    """What the model calls a KEY.

    Args:
        point: at which it runs.
    """
    if key not in SYNONYMS or not tracer.model.startswith("hf:"):
        return key
    sizes = tracer.sample(point or {}).settings
    return next((name for name in (key, *SYNONYMS[key]) if name in sizes), key)


def choose_axes(
    tracer: Tracer, keys: Sequence[str], given: Mapping[str, Sequence[int]]
) -> list[Axis]:
    """The axes along which the KEYs are traced.

    Args:
        given: the values that a KEY may have, where somebody says so.

    Raises:
        UsageError: the model has no such KEY, it is no size, or has one admissible value.
    """
    point = _start(tracer, keys, given)
    structural: dict[str, bool] = {}  # the depth first: the others' traces are quicker then
    for key in sorted(keys, key=lambda key: key not in (*SYNONYMS["depth"], "depth")):
        structural[key] = _shrink(tracer, key, point, given.get(key))
    axes = []
    values: Sequence[int]
    for key in keys:
        verified: Sequence[int] = ()
        if key in given:
            verified = [v for v in given[key] if v >= min(2, given[key][-1])]
            if structural[key]:
                values = verified
            else:
                verified = at_steps(tracer, key, point, verified)
                values = _beyond(tracer, key, point, verified)
                if values is verified or len(verified) <= FEW_UNEVEN:
                    _refuse_beyond(tracer, key, point, verified[-1])
        elif structural[key]:
            values = range(point[key], point[key] + 4)
        else:
            values = _values(tracer, key, point)
        if len(values) < 2:
            raise UsageError(
                f"{key} of {tracer.model} has one admissible value, {point[key]}: leave it out, or "
                f"give the values that it may have, {key}=8,16,32,64"
            )
        axes.append(Axis(key, point[key], values, verified))
    return axes


def at_steps(
    tracer: Tracer, key: str, point: Mapping[str, Value], values: Sequence[int]
) -> Sequence[int]:
    """Of ascending values of a KEY those that the model takes: all, if it runs at the second one;
    else those at whole steps from the first, the step the least at which it runs again. (Heads
    divide a width, patches an image.)

    Args:
        point: the other KEYs' values, at which it runs with the first of these.
    """
    if len(values) < 2 or _runs(tracer, {**point, key: values[1]}):
        return values
    first = values[0]
    steps = range(1, min(values[-1] - first, STEPS[-1]) + 1)
    step = next((each for each in steps if _runs(tracer, {**point, key: first + each})), None)
    return [v for v in values if v == first or (step is not None and (v - first) % step == 0)]


def _refuse_beyond(tracer: Tracer, key: str, point: Mapping[str, int], last: int) -> None:
    """
    Raises:
        UsageError: the model does not run at the last value that somebody gave.
    """
    try:
        tracer.sample({**point, key: last})
    except UncertainError:
        raise
    except UsageError as error:
        raise UsageError(f"{tracer.model} refuses {key}={last:,}: {error}") from None


def _start(
    tracer: Tracer, keys: Sequence[str], given: Mapping[str, Sequence[int]]
) -> dict[str, int]:
    """A point at which the model runs: its own sizes, where nothing else is given."""
    point: dict[str, int] = {
        key: next((value for value in values if value >= 2), values[0])
        for key, values in given.items()
    }
    open_keys = [key for key in keys if key not in point]
    if "batch" in open_keys:  # a default of 1 would be another function
        point["batch"] = 2
    sampled = tracer.sample(point)
    for key in open_keys:
        if key in point:
            continue
        value = sampled.settings.get(key)
        if type(value) is int and value > 0:
            point[key] = value
        elif key in sampled.settings and value is not None:
            raise UsageError(
                f"{key} of {tracer.model} is {format_value(value)}, no whole number: a closed form "  # type: ignore[arg-type]
                "is of sizes"
            )
        else:
            point[key] = _first_running(tracer, key, point)
    return point


def _first_running(tracer: Tracer, key: str, point: Mapping[str, int]) -> int:
    failures = []
    for size in FIRST_SIZES[1:]:
        try:
            tracer.sample({**point, key: size})
        except (FixedSizeError, UncertainError):
            raise
        except UsageError as error:
            failures.append(error)
            if len(failures) > 1 and str(failures[0]) == str(failures[1]):
                break
        else:
            return size
    raise failures[0]


def _runs(tracer: Tracer, point: Mapping[str, Value]) -> bool:
    try:
        tracer.sample(point)
    except UncertainError:
        raise
    except UsageError:
        return False
    return True


def _shrink(tracer: Tracer, key: str, point: dict[str, int], given: Sequence[int] | None) -> bool:
    """Whether a KEY changes which layers there are; if so, it is made small: but so that there are
    two of those whose number varies, for of one the first is the last."""
    if key in ("batch", "image"):
        return False
    base = point[key]
    types = tracer.sample(point).types
    small = SMALL if given is None else [value for value in given if value >= 2][:2]
    varies = False
    for value in small if base > SMALL[0] else [base + 1]:
        if value == base or not _runs(tracer, {**point, key: value}):
            continue
        fewer = tracer.sample({**point, key: value}).types
        if len(fewer) == len(types):
            return False
        varies = True
        if value > base or Names([types, fewer]).fewest(fewer) >= 2:
            point[key] = min(value, base)
            return True
    if varies:
        point[key] = base if given is None else min(base, small[-1])
    return varies


def _values(tracer: Tracer, key: str, point: Mapping[str, int]) -> Sequence[int]:
    """The values around the model's own, as far as it runs, in steps at which the same operators
    run: of a width that kernels don't take, others do."""
    base = point[key]
    own = _operators(tracer, point)
    step = first = 0
    for step in (*STEPS, *(-step for step in STEPS if step < base)):
        if not _runs(tracer, {**point, key: base + step}):
            continue
        if _operators(tracer, {**point, key: base + step}) == own:
            break
        first = first or step
    else:
        step = first
    if step == 0:
        return [base]
    if step < 0:
        return range(base % step or -step, base + 1, -step)
    steps = max(base // step, FEWEST_VALUES)
    while steps > 1 and not _runs(tracer, {**point, key: base + steps * step}):
        steps //= 2
    lowest = base - (base // 2 // step) * step
    return range(max(lowest, 2 if lowest < 2 else lowest), base + steps * step + 1, step)


def _operators(tracer: Tracer, point: Mapping[str, Value]) -> set[tuple[str, str]]:
    """Which operators run for which layers. (Of gradients the most is told, and what that is may
    change with a size, the operators being the same.)"""
    entries = tracer.sample(point).entries
    return {(entry.layer, entry.op) for entry in entries if entry.quantity not in AT_A_MOMENT}


def _beyond(
    tracer: Tracer, key: str, point: Mapping[str, int], given: Sequence[int]
) -> Sequence[int]:
    """The values that somebody gave, and further ones, at which the law shows: where they are even
    and reach over few of the multiples that kernels round to; or where they are few."""
    steps = {b - a for a, b in pairwise(given)}
    if len(steps) > 1:
        few = len(given) <= FEW_UNEVEN
        return sorted({*given, *_values(tracer, key, point)}) if few else given
    if not steps or len(given) >= FEW_VALUES:
        return given
    (step,) = steps
    values = range(given[0], given[0] + FEW_VALUES * step, step)
    return values if _runs(tracer, {**point, key: values[-1]}) else given
