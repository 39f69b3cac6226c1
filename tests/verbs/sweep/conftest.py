"""A grid that several tests look at."""

from __future__ import annotations

import pytest

from flopratio.verbs.sweep.closed_form import GridForm, grid_form
from flopratio.verbs.sweep.plan import swept_options
from tests.verbs.sweep.grids import KEYS


@pytest.fixture(scope="session")
def grid(tmp_path_factory: pytest.TempPathFactory) -> GridForm:
    """Of the mlp's closed form."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLOPRATIO_CACHE", str(tmp_path_factory.mktemp("cache")))
        return grid_form("mlp", KEYS, swept_options())
