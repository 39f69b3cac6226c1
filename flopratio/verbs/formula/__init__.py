"""``fr.formula``: the exact closed form of a model's training step in its sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from flopratio.closed_form import Polynomial, interpolate
from flopratio.closed_form.interpolate import Point
from flopratio.errors import UsageError
from flopratio.step.options import AUTO, DEFAULTS, StepOptions, takes_step_options
from flopratio.text.grammar import Value, parse_values
from flopratio.verbs.count import checked
from flopratio.verbs.formula.domain import choose_axes, own_name
from flopratio.verbs.formula.entries import Entry, Sampled, align, types_of
from flopratio.verbs.formula.result import ClosedForm
from flopratio.verbs.formula.trace import Tracer, UncertainError
from flopratio.version import versions

__all__ = ["ClosedForm", "formula", "formula_of"]

VERIFY = 6
"""Points that no fit has seen, at which all is held against fresh traces."""


@takes_step_options(DEFAULTS)
def formula(model: str, *keys: str, verify: int = VERIFY, **settings: Any) -> ClosedForm:
    """The closed form of one training step in some of its sizes, from a few traces.

    Args:
        model: a spec, as :func:`flopratio.count` takes it.
        keys: the KEYs that the form is in: ``"batch"``, ``"seq"``, ``"n_layer"``.
        verify: at how many further points it is held against fresh traces.
        settings: the other KEYs of the model; of one with several values, as a list, a range or a
            text like ``"33..96"``, the form is in that KEY, at those values.

    The other keywords say how the step is run, see
    :class:`flopratio.step.options.StepOptions`.

    Raises:
        UsageError: no such model or KEY, a KEY that is no size, or a step that is not counted for
            certain.
    """
    options, given = StepOptions.among(settings)
    values = {key: _listed(key, value) for key, value in given.items()}
    return formula_of(model, keys, values, options, verify=verify)


def formula_of(
    model: str,
    keys: Sequence[str],
    values: Mapping[str, Sequence[Value]],
    options: StepOptions,
    *,
    verify: int = VERIFY,
    cached: bool = True,
    tracer: Tracer | None = None,
    guesses: Mapping[Entry, Polynomial] | None = None,
    progress: Callable[[int], None] = lambda traces: None,
) -> ClosedForm:
    """As :func:`formula`, with the options in one.

    Args:
        values: KEY -> its one value, or all that it may have.
        cached: whether traces are kept on disk, and read from there.
        tracer: of the same model and options, with what it has sampled; a new one unless given.
        guesses: what forms may be, as they are of the model with other settings: one that is equal
            at all points is taken.
        progress: called after each trace with their number so far.
    """
    fixed = {key: each[0] for key, each in values.items() if len(each) == 1}
    checked(model, None, fixed, "formula")
    given = {key: _sizes(model, key, each) for key, each in values.items() if len(each) > 1}
    twice = sorted(set(keys) & fixed.keys())
    if twice:
        raise UsageError(
            f"{twice[0]} has one value, {twice[0]}={fixed[twice[0]]}, and is to be a symbol: write "
            f"one of the two, or the values that it may have, {twice[0]}=8..64"
        )
    symbols = tuple(dict.fromkeys((*keys, *given)))
    if not symbols:
        raise UsageError(
            f"a closed form in which sizes? name KEYs, as in flopratio formula {model} batch"
        )
    tracer = (tracer or Tracer(model, {}, options, cached=cached)).within(fixed)
    tracer.announce = progress
    symbols = tuple(dict.fromkeys(own_name(tracer, key) for key in symbols))
    axes = choose_axes(tracer, symbols, given)
    _refuse_varying_segments(tracer, options, axes_start := {a.key: a.base for a in axes}, axes)
    if (
        tracer.traces
        and not guesses
        and tracer.trace_again(axes_start).entries != tracer.sample(axes_start).entries
    ):
        raise UncertainError(f"{model} has no closed form: two traces of one point differ")

    def sample(point: Point) -> Sampled | None:
        try:
            return tracer.sample(point)
        except UncertainError:
            raise
        except UsageError:
            return None

    fit = interpolate(sample, axes, align=align, verify=verify, guesses=guesses)
    closed = ClosedForm(
        model=model,
        keys=symbols,
        settings=fixed,
        convention=options.convention(),
        versions=versions(),
        entries=fit.forms,  # type: ignore[arg-type]
        refused=fit.refused,  # type: ignore[arg-type]
        types=dict(types_of(tracer.found)),
        domains={axis.key: axis.verified or axis.values for axis in axes},
        fitted_at=fit.fitted_at,
        verified_at=fit.verified_at,
        traces=tracer.traces,
        tracer=tracer,
    )
    if closed.refused and not any(form.keys for form in closed.totals.values()):
        reason = next(iter(closed.why_not.values()))
        raise UsageError(f"{model} has no closed form in {' and '.join(symbols)}: {reason}")
    return closed


def _refuse_varying_segments(
    tracer: Tracer, options: StepOptions, base: Point, axes: Sequence[Any]
) -> None:
    """``checkpoint=auto`` makes as many segments as the root of the depth, which is no polynomial
    of it."""
    if options.checkpoint != AUTO:
        return
    layers = len(tracer.sample(base).types)
    for axis in axes:
        other = next(value for value in axis.values if value != axis.base)
        if len(tracer.sample({**base, axis.key: other}).types) != layers:
            raise UsageError(
                f"under checkpoint=auto the segments go with the root of {axis.key}, which is no "
                "polynomial: say how many, checkpoint=auto:4"
            )


def _listed(key: str, value: Any) -> tuple[Value, ...]:
    if isinstance(value, str):
        return parse_values(key, value)
    return tuple(value) if isinstance(value, range | list) else (value,)


def _sizes(model: str, key: str, values: Sequence[Value]) -> list[int]:
    """The values of a KEY that is a symbol."""
    for value in values:
        if type(value) is not int:
            raise UsageError(
                f"{key}={value} is no whole number: a closed form of {model} is of sizes, such as "
                f"{key}=8,16,32"
            )
        if value < 0:
            raise UsageError(f"{key}={value} is less than nothing: write {key}=8,16,32")
    return sorted(value for value in values if type(value) is int)
