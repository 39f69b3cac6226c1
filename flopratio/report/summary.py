"""A ledger in words, beside its table: a headline, and a few lines below."""

from __future__ import annotations

from typing import NamedTuple

from flopratio.ledger import ONE_SOURCE, ROOT, Ledger
from flopratio.report.shares import no_ratio
from flopratio.report.token_estimate import token_estimate
from flopratio.report.units import Kind, plural, quantity
from flopratio.report.view import View
from flopratio.text.grammar import format_value

MOST_LAYERS = 3
"""So many layers are named before the rest are a number."""


class Remark(NamedTuple):
    """One line: what it is about, what it says, and whether that is good, bad or neither."""

    about: str
    text: str
    good: bool | None = None


def headline(ledger: Ledger) -> str:
    """What was counted: ``mlp depth=2 batch=8: 669,706 parameters, adamw``."""
    sizes = [
        f"{key}={format_value(tuple(value) if isinstance(value, list) else value)}"
        for key, value in ledger.settings.items()
        if value is not None and key != "tokens"
    ]
    step = [f"{ledger.totals.parameters:,} parameters"]
    for key in ("optimizer", "weight_decay", "amp", "attention", "causal"):
        value = ledger.convention.get(key)
        if value not in (None, "none", "full"):
            step.append(f"{key.replace('_', ' ')} {value}")
    for key in ("freeze", "checkpoint"):
        if ledger.convention.get(key):
            step.append(f"{key} {ledger.convention[key]}")
    if ledger.convention.get("accumulate", 1) > 1:
        step.append(f"{ledger.convention['accumulate']} micro-batches")
    is_predicted = ledger.convention.get("device", "fake") == "fake"
    if is_predicted and ledger.convention.get("target", "cuda") != "cuda":
        step.append(f"on {ledger.convention['target']}")
    return f"{' '.join([ledger.model, *sizes])}: {', '.join(step)}"


def remarks(ledger: Ledger, view: View) -> list[Remark]:
    """The verdict, what was not counted, and what else to know, one line each.

    Args:
        view: of this ledger; how its figures are shown.
    """
    lines = []
    if reason := no_ratio(ledger):
        lines.append(Remark("ratio", reason))
    lines += verdict(ledger)
    if ledger.uncounted_ops:
        names = ", ".join(
            f"{name} ({plural(calls, 'call')})" for name, calls in ledger.uncounted_ops.items()
        )
        lines.append(Remark("uncounted", f"no formula for {names}", good=False))
    if ledger.nonzero:
        lines.append(Remark("zeros", _without_zeros(ledger, macs=view.macs, exact=view.exact)))
    lines += [Remark("note", note) for note in ledger.notes]
    idle = _idle_parameters(ledger)
    if idle:
        lines.append(Remark("parameters", idle))
    kernels = [name.removeprefix("aten.") for name in ledger.memory.unknown_workspaces]
    if kernels:
        where = "in no figure, and of unknown size: workspaces inside the kernels of"
        lines.append(Remark("beside", f"{where} {name_layers(tuple(kernels))}"))
    return lines


def _without_zeros(ledger: Ledger, *, macs: bool, exact: bool) -> str:
    """Of masked and 2:4 sparse weights, whose products count in full."""
    kind, part = (Kind.MAC, 2) if macs else (Kind.FLOP, 1)
    forward, backward = (
        quantity(ledger.nonzero[phase] // part, kind, exact=exact)
        for phase in ("forward", "backward")
    )
    text = f"masked weights count in full; their non-zeros alone: forward {forward}"
    return f"{text} + backward {backward}" if ledger.totals.backward else text


def verdict(ledger: Ledger) -> list[Remark]:
    """Whether the law and the executed operators agree."""
    if ledger.mismatches:
        layers = len({mismatch.layer for mismatch in ledger.mismatches})
        return [
            Remark("reconciled", f"no: analytic ≠ executed in {plural(layers, 'layer')}", False),
            *(Remark("", str(mismatch), good=False) for mismatch in ledger.mismatches),
        ]
    if reason := ledger.why_not_compared:
        said = reason if reason == ONE_SOURCE else f"not compared: {reason}"
        return [Remark("reconciled", said)]
    if not ledger.rows:
        return [Remark("reconciled", "nothing to compare: no operator ran")]
    count = plural(len(ledger.layers()), "layer")
    lines = [Remark("reconciled", f"analytic = executed in all {count}", good=True)]
    if ledger.saved_mismatches:
        differing = plural(len(ledger.saved_mismatches), "layer")
        first = f"the formulas differ in {differing}; {ledger.saved_mismatches[0]}"
        lines.append(Remark("saved", f"as autograd's hooks see it: {first}", good=False))
    return lines


def _idle_parameters(ledger: Ledger) -> str:
    """The parameters that no line of the table has, because their module did not run itself."""
    idle = ledger.idle_layers()
    if not idle:
        return ""
    number = plural(sum(layer.parameters for layer in idle), "parameter")
    names = tuple(layer.name for layer in idle)
    return f"{number} in modules without operators of their own: {name_layers(names)}"


def name_layers(names: tuple[str, ...]) -> str:
    """A few layers by name, more than that as a number too."""
    named = ", ".join(name or ROOT for name in names[:MOST_LAYERS])
    more = len(names) - MOST_LAYERS
    return f"{named} and {more:,} more" if more > 0 else named


class Term(NamedTuple):
    """A line of the sum that leads from the estimate to the exact count."""

    text: str
    flops: str


def token_terms(ledger: Ledger) -> list[Term]:
    """6·N·D, what it misses and has too much, and the exact count; empty if there are no tokens."""
    estimate = token_estimate(ledger)
    if estimate is None:
        return []
    factor, total = estimate.factor, estimate.estimate
    share = f"{estimate.exact / total:.4f} of it" if total else "no parameters"
    return [
        Term(
            f"{factor}·N·D = {factor} · {estimate.parameters:,} · {estimate.tokens:,}",
            f"{total:,}",
        ),
        *(
            Term(
                f"{difference.reason} ({name_layers(difference.layers)})", f"{difference.flops:+,}"
            )
            for difference in estimate.differences
        ),
        Term(
            f"exact forward{' + backward' if factor == 6 else ''}: {share}",
            f"{estimate.exact:,}",
        ),
    ]
