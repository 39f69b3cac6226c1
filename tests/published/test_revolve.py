"""Griewank and Walther, Algorithm 799: revolve, 2000: the fewest forward steps with which a chain
can be reversed in so many snapshots. Worked out again by dynamic programming, and done: nested
checkpoints after the optimal schedule, counted."""

from __future__ import annotations

import pytest
import torch

import flopratio as fr
from experiments.literature.reference import rows
from experiments.literature.revolve import fewest, scheduled

TABLE = rows("revolve_optimal_checkpointing")

SOURCE_COLUMNS = {"steps", "snapshots", "source"}


def fewest_of_all(most: int, snapshots: int) -> list[int]:
    """``fewest`` of 1 to ``most`` steps. Both terms of its sum are convex, so that the minimum goes
    along the smaller of their slopes."""
    fewer = [0] + [most**2] * most
    for _ in range(snapshots):
        found = [0, 1]
        ahead = behind = 0
        while len(found) < most:
            slopes = (
                found[ahead + 1] - found[ahead] + 1,
                fewer[behind + 1] - fewer[behind],
            )
            found.append(found[-1] + min(slopes))
            if slopes[0] <= slopes[1]:
                ahead += 1
            else:
                behind += 1
        fewer = found
    return fewer


def longest(snapshots: int, repeats: int) -> list[int]:
    """The longest chains that can be reversed if no step is run more than 0, 1, 2, ... times:
    beyond the next snapshot one less is at hand, before it one run is spent."""
    before = [1] * (repeats + 1)
    for _ in range(snapshots):
        chain = [1]
        for repeat in range(1, repeats + 1):
            chain.append(chain[-1] + before[repeat])
        before = chain
    return before


def test_slopes_lead_to_the_minimum() -> None:
    for snapshots in range(1, 6):
        expected = [fewest(steps, snapshots)[0] for steps in range(1, 41)]
        assert fewest_of_all(40, snapshots) == expected


@pytest.mark.parametrize("snapshots", sorted({int(row["snapshots"]) for row in TABLE}))
def test_every_row(snapshots: int) -> None:
    own = [row for row in TABLE if int(row["snapshots"]) == snapshots]
    most = max(int(row["steps"]) for row in own)
    forward = fewest_of_all(most, snapshots)
    chains = longest(snapshots, max(int(row["max_repeats_r"]) for row in own))
    for row in own:
        steps = int(row["steps"])
        repeats = next(r for r, chain in enumerate(chains) if chain >= steps)
        assert repeats == int(row["max_repeats_r"])
        assert chains[repeats] == int(row["max_range_C(s+r,r)"])
        assert forward[steps - 1] == int(row["min_forward_steps"])
        assert forward[steps - 1] / steps == float(row["expense_per_step"])


def test_no_column_is_left_out() -> None:
    tested = {"max_repeats_r", "max_range_C(s+r,r)", "min_forward_steps", "expense_per_step"}
    assert all(row.keys() == tested | SOURCE_COLUMNS for row in TABLE)


# -- the schedule, run -----------------------------------------------------------------------------

WIDTH, BATCH = 8, 4

STEP = 2 * BATCH * WIDTH * WIDTH
"""FLOP of a step."""


@pytest.mark.parametrize(
    "row",
    [row for row in TABLE if row["steps"] == "10"],
    ids=lambda row: f"{row['steps']} steps, {row['snapshots']} snapshots",
)
def test_the_schedule_computes_so_much_again(row: dict[str, str]) -> None:
    """The paper leaves out the run of each step in which it is recorded, and a count of recompute
    its first run: one run of each step either way, so that the two are the same number."""
    steps, snapshots = int(row["steps"]), int(row["snapshots"])
    weight = torch.empty(WIDTH, WIDTH, device="meta", requires_grad=True)
    x = torch.empty(BATCH, WIDTH, device="meta", requires_grad=True)
    with fr.Profiler() as profiler:
        scheduled(lambda x: torch.tanh(x @ weight), x, steps, snapshots).sum().backward()
    totals = profiler.ledger.totals
    assert totals.forward == steps * STEP
    assert totals.backward == 2 * steps * STEP
    assert totals.recompute == int(row["min_forward_steps"]) * STEP
