"""The law beside what was executed, and the formulas' saved bytes beside the hooks'."""

from __future__ import annotations

from collections import Counter, defaultdict
from functools import cache

from flopratio.ledger import SAVED, Ledger, Mismatch
from flopratio.trace.attribution import Attribution
from flopratio.trace.profiler import Profiler
from flopratio.trace.saved import saved_by_formulas, saved_by_hooks


def reconcile(profiler: Profiler) -> Ledger:
    """The ledger of a profile; beside the executed count the law's, in every layer and phase, and
    beside the saved bytes those by the formulas, in every layer."""
    attribution = Attribution(profiler)
    ledger = attribution.ledger()
    traced: defaultdict[tuple[str, str], int] = defaultdict(int)
    nodes: defaultdict[tuple[str, str], dict[str, None]] = defaultdict(dict)
    for row in ledger.rows:
        if row.flops and row.phase in ("grad_input", "grad_weight"):
            traced[row.layer, row.phase] += row.flops
            nodes[row.layer, row.phase][row.autograd] = None
    law = attribution.law
    ledger.mismatches = [
        Mismatch(*key, law.get(key, 0), traced.get(key, 0), tuple(nodes[key]))
        for key in dict.fromkeys([*law, *traced])
        if law.get(key, 0) != traced.get(key, 0)
    ]

    @cache
    def saved() -> tuple[dict[str, int], dict[str, int]]:
        return saved_by_formulas(attribution), saved_by_hooks(attribution)

    def analytic() -> dict[str, int]:
        by_phase = Counter({"forward": ledger.totals.forward, "grad_input": 0, "grad_weight": 0})
        for (_, phase), flops in law.items():
            by_phase[phase] += flops
        return {**by_phase, SAVED: sum(saved()[0].values())}

    def saved_mismatches() -> list[Mismatch]:
        by_formulas, by_hooks = saved()
        return [
            Mismatch(layer, SAVED, by_formulas.get(layer, 0), by_hooks.get(layer, 0))
            for layer in dict.fromkeys([*by_formulas, *by_hooks])
            if by_formulas.get(layer, 0) != by_hooks.get(layer, 0)
        ]

    ledger.analytic, ledger.saved_mismatches = analytic, saved_mismatches
    return ledger
