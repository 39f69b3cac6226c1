"""The operators that a device executed beside those of the trace on shapes alone."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import NamedTuple

from flopratio.ledger import ROOT, Ledger, Row


class OperatorDifference(NamedTuple):
    """An operator of a layer's phase that ran otherwise on the device than in the trace.

    ``calls`` counts its rows, ``flops`` all of its FLOP.
    """

    layer: str
    phase: str
    op: str
    traced_calls: int
    executed_calls: int
    traced_flops: int
    executed_flops: int

    def __str__(self) -> str:
        where = f"{self.layer or ROOT} {self.phase}: {self.op}"
        if self.traced_calls != self.executed_calls:
            return f"{where} ran {self.executed_calls:,} times, {self.traced_calls:,} in the trace"
        return f"{where} did {self.executed_flops:,} FLOP, {self.traced_flops:,} in the trace"


def operator_differences(traced: Ledger, executed: Ledger) -> list[OperatorDifference]:
    """Every operator that the two have otherwise; empty if they are the same step."""
    calls = Counter(_key(row) for row in traced.rows), Counter(_key(row) for row in executed.rows)
    flops: tuple[defaultdict[_Key, int], ...] = defaultdict(int), defaultdict(int)
    for ledger, sums in zip((traced, executed), flops, strict=True):
        for row in ledger.rows:
            sums[_key(row)] += row.flops + row.elementwise
    return [
        OperatorDifference(*key, *(by[key] for by in calls), *(by[key] for by in flops))
        for key in dict.fromkeys([*calls[0], *calls[1]])
        if len({by[key] for by in calls}) > 1 or len({by[key] for by in flops}) > 1
    ]


_Key = tuple[str, str, str]


def _key(row: Row) -> _Key:
    return row.layer, row.phase, row.op
