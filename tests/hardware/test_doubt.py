"""Roofs that are not to be trusted."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from flopratio.hardware import DeviceProfile, doubts

QUIET = DeviceProfile(
    "Abacus", "cpu", {"float32": 1e9}, 1e9, 1e-6, environment={"load": 2.0, "cores": 2}
)
BUSY = replace(QUIET, environment={"load": 2.75, "cores": 2})


@pytest.mark.parametrize("utilisation", [None, 0.0, 0.4, 1.0])
def test_of_quiet_machines_there_is_no_doubt(utilisation: float | None) -> None:
    """About one program on each core is what measuring itself is."""
    assert doubts(QUIET, utilisation) == []


def test_of_a_machine_that_is_a_little_more_than_full_there_is_none() -> None:
    """Some system does something beside all that it runs."""
    assert doubts(replace(QUIET, environment={"load": 2.4, "cores": 2})) == []


def test_of_a_busy_machine() -> None:
    (doubt,) = doubts(BUSY)
    assert doubt.startswith(
        "the measured roofs are not to be trusted, for 2.8 programs were after 2 cores while they "
        "were measured: say roofs=fresh"
    )
    assert doubts(BUSY, 0.4) == [doubt]


def test_of_a_step_that_is_faster_than_they_allow() -> None:
    (doubt,) = doubts(QUIET, 4.05)
    assert "for at them the products of a step would take 405.0% of the time that it took:" in doubt


def test_of_both_in_one_sentence() -> None:
    (doubt,) = doubts(BUSY, 4.05)
    assert "while they were measured, and at them the products" in doubt


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"load": 9.0},
        {"load": None, "cores": 2},
        {"load": "9", "cores": [2]},
        {"load": math.nan, "cores": 2},
    ],
)
def test_nothing_is_known_of_the_load(environment: dict[str, Any]) -> None:
    """Of a GPU, of a system that does not tell it, and in a file that somebody else wrote."""
    assert doubts(replace(QUIET, environment=environment)) == []
