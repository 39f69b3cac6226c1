"""Two ledgers of one step, compared operator by operator. Equal means equal integers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable

from flopratio.ledger import Ledger, Mismatch, Row

MODEL_PHASES = ("forward", "grad_input", "grad_weight")


def compare(analytic: Ledger, executed: Ledger, *, by_law: Collection[str] = ()) -> list[Mismatch]:
    """Every layer, phase and operator (in the place of nodes) whose FLOP of all kinds differ; empty
    where the two agree.

    Args:
        by_law: types of layers that were executed by other operators than the formulas are of. What
            the law speaks of is the same all the same: their contraction FLOP in each phase.
    """
    expected, ran = _work(analytic.rows, by_law), _work(executed.rows, by_law)
    return [
        Mismatch(layer, phase, expected.get(key, 0), ran.get(key, 0), (op,))
        for key in dict.fromkeys([*expected, *ran])
        if expected.get(key, 0) != ran.get(key, 0)
        for layer, phase, op in [key]
    ]


def _work(rows: Iterable[Row], by_law: Collection[str]) -> dict[tuple[str, str, str], int]:
    """(layer, phase, operator) -> FLOP; operators without arithmetic are left out."""
    work: defaultdict[tuple[str, str, str], int] = defaultdict(int)
    for row in rows:
        if row.type not in by_law or row.phase == "update":
            op, flops = row.op, row.flops + row.elementwise
        else:
            op, flops = "any", row.flops if row.phase in MODEL_PHASES else 0
        if flops:
            work[row.layer, row.phase, op] += flops
    return dict(work)
