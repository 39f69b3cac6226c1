"""``fr.sweep``: the training step of a model at every point of a grid."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flopratio.errors import UsageError
from flopratio.step.options import StepOptions, takes_step_options
from flopratio.text.grammar import Value, parse_values
from flopratio.verbs.sweep.plan import (
    SWEPT_DEFAULTS,
    is_for_closed_form,
    make_plan,
    swept_options,
)
from flopratio.verbs.sweep.run import run_plan, to_frame

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["sweep"]


@takes_step_options(SWEPT_DEFAULTS)
def sweep(
    model: str | None = None,
    *,
    output: str | Path | None = None,
    measure: str = "none",
    fresh: bool = False,
    verify: int = 4,
    **keys: Any,
) -> pd.DataFrame:
    """Run a training step of ``model`` at every point of a grid.

    If nothing is timed, a grid of over 200 points (of over 10,000 of a built-in network) is worked
    out at once from the model's closed form, see :func:`flopratio.formula`: it has fewer columns,
    and the status ``refused`` where the model does not run.

    Args:
        model: a built-in network, or any other MODEL spec; None for the default grids.
        output: directory for ``sweep.csv`` and ``environment.json``, resumed if they are there.
        measure: also time the steps on ``cpu``, ``cuda``, or on ``auto``, the better of the two.
        fresh: start over, whatever ``output`` holds.
        verify: of a grid by closed form, at how many random points it is held against fresh traces.
        keys: a value, several of them, or a grammar string such as ``"1..64*2"``, by KEY.

    The other keywords say how each step is run, see
    :class:`flopratio.step.options.StepOptions`.

    Returns:
        A row a point; FLOP and bytes are Python ints, which can't overflow. By closed form they
        are int64 in columns in which that can't.

    Raises:
        UsageError: see :func:`flopratio.verbs.sweep.plan.make_plan` and
            :func:`flopratio.verbs.sweep.run.run_plan`; or a fresh trace differs from a closed form.
    """
    options = swept_options(**{name: keys.pop(name) for name in SWEPT_DEFAULTS if name in keys})
    values = {key: _values(key, value) for key, value in keys.items()}
    folder = None if output is None else Path(output)
    if model is not None and is_for_closed_form(model, values, measure):
        return _by_closed_form(model, values, options, folder, fresh=fresh, verify=verify)
    grid = make_plan(model, values, options, measure=measure)
    return to_frame(grid, run_plan(grid, output=folder, fresh=fresh))


def _by_closed_form(
    model: str,
    keys: Mapping[str, Sequence[Value]],
    options: StepOptions,
    output: Path | None,
    *,
    fresh: bool,
    verify: int,
) -> pd.DataFrame:
    from flopratio.verbs.sweep.closed_form import verified_grid_form
    from flopratio.verbs.sweep.grid_file import check_directory, write_grid
    from flopratio.verbs.sweep.grid_frame import to_frame

    if output is not None:
        check_directory(model, keys, options, output, fresh=fresh)
    found, held = verified_grid_form(model, keys, options, verify=verify)
    if held.wrong:
        raise UsageError(held.sentences()[0])
    for note in found.notes:
        warnings.warn(note, stacklevel=4)
    if output is not None:
        write_grid(found, output, kind="csv", fresh=fresh)
    return to_frame(found)


def _values(key: str, value: Value | Iterable[Value]) -> tuple[Value, ...]:
    if isinstance(value, str):
        return parse_values(key, value)
    several = value if isinstance(value, Iterable) else (value,)
    # NumPy's numbers become Python's own, which neither overflow nor print their type.
    return tuple(one.item() if hasattr(one, "item") else one for one in several)
