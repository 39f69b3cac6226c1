"""Two ledgers of one step, compared operator by operator. Equal means equal integers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable

from flopratio.ledger import Ledger, Mismatch, Row
from flopratio.networks.analytic import CPU_ATTENTION, KERNELS_DIFFER
from flopratio.step.options import StepOptions

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


def has_formulas(executed: Ledger) -> bool:
    """Whether attention, if there is any, ran the kernels that the formulas are of."""
    return executed.convention["attention"] in CPU_ATTENTION


def differences(
    analytic: Ledger, executed: Ledger, options: StepOptions, *, on_cuda: bool = False
) -> list[Mismatch]:
    """Where a built-in network's formulas and its executed step part ways. The formulas are of the
    CPU's operators, and of a plain update, parameter by parameter: any other is compared as a
    whole.

    Args:
        on_cuda: whether the step ran there, whatever its target.
    """
    own = options.target == "cpu" and not on_cuda and has_formulas(executed)
    mismatches = compare(analytic, executed, by_law=() if own else KERNELS_DIFFER)
    # CUDA's flash attention makes heads a multiple of 8 wide, and computes with these.
    padded = {row.layer for row in executed.rows if row.op == "aten.constant_pad_nd"}
    mismatches = [mismatch for mismatch in mismatches if mismatch.layer not in padded]
    if options.implementation == "plain":
        return mismatches
    mismatches = [mismatch for mismatch in mismatches if mismatch.phase != "update"]
    by_formulas, ran = analytic.totals.update, executed.totals.update
    if by_formulas != ran:
        mismatches.append(Mismatch("", "update", by_formulas, ran))
    return mismatches


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
