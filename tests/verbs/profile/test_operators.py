"""Executed operators beside traced ones."""

from __future__ import annotations

from flopratio.verbs.profile.operators import operator_differences
from tests.report.small import small_ledger


def test_the_same_step_has_no_differences() -> None:
    assert operator_differences(small_ledger(), small_ledger()) == []


def test_an_operator_that_ran_more_often_and_one_that_never_ran() -> None:
    traced, executed = small_ledger(), small_ledger()
    executed.rows.append(executed.rows[3])
    executed.rows[1] = executed.rows[1]._replace(op="aten.clamp")
    told = [str(difference) for difference in operator_differences(traced, executed)]
    assert told == [
        "stem.relu forward: aten.relu ran 0 times, 1 in the trace",
        "head forward: aten.addmm ran 2 times, 1 in the trace",
        "stem.relu forward: aten.clamp ran 1 times, 0 in the trace",
    ]


def test_an_operator_that_did_something_else() -> None:
    traced, executed = small_ledger(), small_ledger()
    executed.rows[0] = executed.rows[0]._replace(flops=5_000_000)
    (difference,) = operator_differences(traced, executed)
    assert str(difference) == (
        "stem.conv forward: aten.convolution did 5,002,000 FLOP, 4,002,000 in the trace"
    )
