"""``fr.sweep``: the training step of a model at every point of a grid."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flopratio.step.options import takes_step_options
from flopratio.text.grammar import Value, parse_values
from flopratio.verbs.sweep.plan import SWEPT_DEFAULTS, make_plan, swept_options
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
    **keys: Any,
) -> pd.DataFrame:
    """Run a training step of ``model`` at every point of a grid.

    Args:
        model: a built-in network, or any other MODEL spec; None for the default grids.
        output: directory for ``sweep.csv`` and ``environment.json``, resumed if they are there.
        measure: also time the steps on ``cpu``, ``cuda``, or on ``auto``, the better of the two.
        fresh: start over, whatever ``output`` holds.
        keys: a value, several of them, or a grammar string such as ``"1..64*2"``, by KEY.

    The other keywords say how each step is run, see
    :class:`flopratio.step.options.StepOptions`.

    Returns:
        A row a point; FLOP and bytes are Python ints, which can't overflow.

    Raises:
        UsageError: see :func:`flopratio.verbs.sweep.plan.make_plan` and
            :func:`flopratio.verbs.sweep.run.run_plan`.
    """
    options = swept_options(**{name: keys.pop(name) for name in SWEPT_DEFAULTS if name in keys})
    values = {key: _values(key, value) for key, value in keys.items()}
    grid = make_plan(model, values, options, measure=measure)
    rows = run_plan(grid, output=None if output is None else Path(output), fresh=fresh)
    return to_frame(grid, rows)


def _values(key: str, value: Value | Iterable[Value]) -> tuple[Value, ...]:
    if isinstance(value, str):
        return parse_values(key, value)
    several = value if isinstance(value, Iterable) else (value,)
    # NumPy's numbers become Python's own, which neither overflow nor print their type.
    return tuple(one.item() if hasattr(one, "item") else one for one in several)
