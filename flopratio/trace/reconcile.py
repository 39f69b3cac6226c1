"""From a recording to the ledger: beside what was executed, what the law says of it in every layer
and phase; and beside the saved bytes that autograd's hooks saw, those by the formulas."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection
from functools import cache, partial

from flopratio.formulas.attention import backend
from flopratio.ledger import SAVED, Ledger, Mismatch
from flopratio.trace.attribution import Attribution, attribute
from flopratio.trace.law import count_by_law
from flopratio.trace.memory import step_memory
from flopratio.trace.nonzero import nonzero_flops
from flopratio.trace.recording import Recording
from flopratio.trace.saved import saved_by_formulas, saved_by_hooks
from flopratio.version import versions

NO_BACKWARD = "nothing ran backward"


def reconcile(
    recording: Recording, *, strict: bool = True, attribution: Attribution | None = None
) -> Ledger:
    """The ledger of a recorded step. Its memory, and what the formulas say of saved bytes, are
    worked out when they are asked for.

    Args:
        strict: whether a formula that does not fit its operator is an error; else the operator is
            uncounted, and listed with what is wrong.
        attribution: of the recording, if it has been made already.

    Raises:
        FormulaError: there is such a formula.
    """
    if attribution is None:
        attribution = attribute(recording, strict=strict)
    law = count_by_law(recording.graphs, attribution.nodes, attribution.ran)
    ledger = Ledger(
        attribution.rows,
        model=recording.types.get("", ""),  # the root's, if there is a model
        parameters=recording.parameters,
        types=recording.types,
        convention={
            "flop_per_mac": 2,
            "causal": recording.causal,
            "target": recording.target,
            "attention": backend(row.op for row in attribution.rows),
            "device": recording.device,
        },
        versions=versions(),
        memory=partial(step_memory, recording, attribution),
        uncounted_ops=attribution.uncounted_ops,
        notes=recording.notes,
        nonzero=partial(nonzero_flops, recording, attribution),
    )
    ledger.mismatches = _mismatches(ledger, law.flops)
    unknown = attribution.uncounted_in_backward | law.unknown
    ledger.not_compared = _not_compared(recording, unknown)

    @cache
    def saved() -> tuple[dict[str, int], dict[str, int]]:
        return saved_by_formulas(recording, attribution), saved_by_hooks(recording, attribution)

    def analytic() -> dict[str, int]:
        by_phase = Counter({"forward": ledger.totals.forward, "grad_input": 0, "grad_weight": 0})
        for (_, phase), flops in law.flops.items():
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


def _not_compared(recording: Recording, unknown: Collection[str]) -> str:
    """Why law and execution can't be held against each other, in a few words; empty if they can.

    Args:
        unknown: operators in backward, or reached by it, that have no formula.
    """
    reasons = list(recording.unseen)
    if any(graph.foreign for graph in recording.graphs):
        reasons.append("a backward reached what another thread had made")
    if not all(graph.ended for graph in recording.graphs):
        reasons.append("a backward did not end")
    if unknown:
        reasons.append(f"there is no formula for {', '.join(sorted(unknown))}")
    if not recording.graphs and not reasons:
        reasons.append(NO_BACKWARD)
    return "; ".join(reasons)


def _mismatches(ledger: Ledger, law: dict[tuple[str, str], int]) -> list[Mismatch]:
    """Where the law and the executed operators of backward part ways."""
    traced: defaultdict[tuple[str, str], int] = defaultdict(int)
    nodes: defaultdict[tuple[str, str], dict[str, None]] = defaultdict(dict)
    for row in ledger.rows:
        if row.flops and row.phase in ("grad_input", "grad_weight"):
            traced[row.layer, row.phase] += row.flops
            nodes[row.layer, row.phase][row.autograd] = None
    return [
        Mismatch(*key, law.get(key, 0), traced.get(key, 0), tuple(nodes[key]))
        for key in dict.fromkeys([*law, *traced])
        if law.get(key, 0) != traced.get(key, 0)
    ]
