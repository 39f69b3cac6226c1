"""Two ledgers of one step, compared operator by operator. Equal means equal integers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from flopratio.ledger import Ledger, Mismatch, Row


def compare(analytic: Ledger, executed: Ledger) -> list[Mismatch]:
    """Every layer, phase and operator (in the place of nodes) whose FLOP of all kinds differ; empty
    where the two agree."""
    expected, ran = _work(analytic.rows), _work(executed.rows)
    return [
        Mismatch(layer, phase, expected.get(key, 0), ran.get(key, 0), (op,))
        for key in dict.fromkeys([*expected, *ran])
        if expected.get(key, 0) != ran.get(key, 0)
        for layer, phase, op in [key]
    ]


def _work(rows: Iterable[Row]) -> dict[tuple[str, str, str], int]:
    """(layer, phase, operator) -> FLOP; operators without arithmetic are left out."""
    work: defaultdict[tuple[str, str, str], int] = defaultdict(int)
    for row in rows:
        flops = row.flops + row.elementwise
        if flops:
            work[row.layer, row.phase, row.op] += flops
    return dict(work)
