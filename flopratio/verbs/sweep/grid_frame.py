"""The rows of a sweep by closed form as a DataFrame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from flopratio.verbs.sweep.closed_form import GridForm
from flopratio.verbs.sweep.file import COLUMNS as COLUMN_TYPES
from flopratio.verbs.sweep.grid_file import COLUMNS, UNKNOWN, constants

if TYPE_CHECKING:
    import pandas as pd


def to_frame(found: GridForm) -> pd.DataFrame:
    """A row a point, in the columns of the file.

    Whole numbers are int64, ``Int64`` where some cells are empty; or Python's, where somewhere in
    the grid int64 could overflow.
    """
    import pandas as pd

    columns = found.columns(found.grid)
    rows = len(columns["status"])
    given: dict[str, Any] = dict(constants(found))
    given["status"] = np.where(columns.pop("status"), "ok", "refused")
    for name in UNKNOWN:
        nothing = np.full(rows, np.nan)
        given[name] = pd.array(nothing, "Int64") if COLUMN_TYPES[name] is int else nothing
    for name, column in columns.items():
        data: Any = np.ma.getdata(column)
        if np.ma.is_masked(column):
            mask = np.ma.getmaskarray(column)
            if data.dtype == np.int64:
                data = pd.arrays.IntegerArray(data, mask)
            else:
                data = np.where(mask, np.nan if data.dtype == float else None, data)
        given[name] = data
    return pd.DataFrame({name: given[name] for name in ("model", *found.grid, *COLUMNS)})
