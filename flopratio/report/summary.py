"""A ledger in words, beside its table: a headline, and a few lines below."""

from __future__ import annotations

from typing import NamedTuple

from flopratio.ledger import ONE_SOURCE, Ledger
from flopratio.report.token_estimate import token_estimate
from flopratio.report.units import Kind, plural, quantity, ratio_text
from flopratio.report.view import ROOT, View
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
    """Totals, ratios, the verdict, what was not counted, and memory, one line each.

    Args:
        view: of this ledger; how its figures are shown.
    """
    lines = [
        Remark("total", _totals(ledger, macs=view.macs, exact=view.exact)),
        Remark("ratio", _ratios(ledger)),
        *verdict(ledger),
    ]
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
    memory = _memory(ledger, exact=view.exact)
    if memory:
        lines.append(Remark("memory", memory))
    kernels = [name.removeprefix("aten.") for name in ledger.memory.unknown_workspaces]
    if kernels:
        where = "in no figure, and of unknown size: workspaces inside the kernels of"
        lines.append(Remark("beside", f"{where} {name_layers(tuple(kernels))}"))
    return lines


def _totals(ledger: Ledger, *, macs: bool, exact: bool) -> str:
    total = ledger.totals
    kind, part = (Kind.MAC, 2) if macs else (Kind.FLOP, 1)

    def products(flops: int) -> str:
        return quantity(flops // part, kind, exact=exact)

    text = f"forward {products(total.forward)}"
    if total.backward:
        text += (
            f" + backward {products(total.backward)} (input {products(total.grad_input)},"
            f" weight {products(total.grad_weight)})"
            f" = {products(total.forward + total.backward)}"
        )
    if total.recompute:
        hardware = total.forward + total.backward + total.recompute
        text += f"; recompute {products(total.recompute)}: hardware {products(hardware)}"
    if total.update:
        text += f"; update {quantity(total.update, Kind.FLOP, exact=exact)}"
    again = total.elementwise_recompute
    elementwise = total.elementwise_forward + total.elementwise_backward + again
    text += f"; elementwise {quantity(elementwise, Kind.FLOP, exact=exact)}"
    return f"{text} ({quantity(again, Kind.FLOP, exact=exact)} recomputed)" if again else text


def _without_zeros(ledger: Ledger, *, macs: bool, exact: bool) -> str:
    """Of masked and 2:4 sparse weights, whose products count in full."""
    kind, part = (Kind.MAC, 2) if macs else (Kind.FLOP, 1)
    forward, backward = (
        quantity(ledger.nonzero[phase] // part, kind, exact=exact)
        for phase in ("forward", "backward")
    )
    text = f"masked weights count in full; their non-zeros alone: forward {forward}"
    return f"{text} + backward {backward}" if ledger.totals.backward else text


def _ratios(ledger: Ledger) -> str:
    total, ratio = ledger.totals, ledger.ratio
    if not total.forward:
        return "none: forward has no products to divide by"
    if not any(row.phase in ("grad_input", "grad_weight") for row in ledger.rows):
        return "none: no backward ran"
    ratios = [
        f"backward : forward = {ratio_text(ratio.backward_to_forward)}",
        f"{ratio_text(ratio.with_elementwise)} with elementwise",
    ]
    if total.update:
        ratios.append(f"{ratio_text(ratio.with_update)} with update")
    if total.recompute:
        ratios.append(f"{ratio_text(ratio.hardware)} on hardware, with recompute")
    return "; ".join(ratios)


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


def _memory(ledger: Ledger, *, exact: bool) -> str:
    figures = []
    for name, figure in ledger.memory.items():
        if isinstance(figure, bool) or not isinstance(figure, int):
            continue
        text = f"{name.replace('_', ' ')} {quantity(figure, Kind.BYTES, exact=exact)}"
        if name == "peak" and ledger.memory.get("peak_phase"):
            text += f" (in {ledger.memory['peak_phase']})"
        figures.append(text)
    return ", ".join(figures)


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
