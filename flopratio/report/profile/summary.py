"""A profile in words: a headline, remarks below its table, and the explanation that adds up."""

from __future__ import annotations

from collections.abc import Iterable

from flopratio.measure.interval import Interval, confidence_of
from flopratio.report.prediction import Lines, explanation_lines, seconds_text
from flopratio.report.summary import Remark, headline, name_layers, verdict
from flopratio.report.units import Kind, plural, quantity, ratio_text
from flopratio.verbs.profile.groups import UNDIVIDED
from flopratio.verbs.profile.result import Profile

MOST_NAMES = 5
"""So many operators are named before the rest are a number."""

_SPLIT = ("forward", "grad_input", "grad_weight", UNDIVIDED, "recompute", "update")


def profile_headline(profile: Profile) -> str:
    """What was measured, and where, and how fast it goes through examples and tokens."""
    rates = {"examples": profile.examples_per_s, "tokens": profile.tokens_per_s}
    told = [f"{_rate(rate)} {name}/s" for name, rate in rates.items() if rate is not None]
    where = f"{headline(profile.ledger)}, on {profile.roofs.name}"
    return f"{where}: {', '.join(told)}" if told else where


def _rate(rate: float) -> str:
    """``12,345``, ``12.34``."""
    return f"{rate:,.0f}" if rate >= 1000 else f"{rate:.4g}"


def profile_remarks(profile: Profile) -> list[Remark]:
    """Times, ratios, utilisation, memory, and what is in no line of the table, one line each."""
    ledger = profile.ledger
    uncounted = Remark("uncounted", f"no formula for {_few(ledger.uncounted_ops)}", good=False)
    return [
        *measured_remarks(profile),
        *verdict(ledger),
        *([uncounted] if ledger.uncounted_ops else []),
        *left_over(profile),
        *(Remark("note", note) for note in (*ledger.notes, *profile.notes)),
    ]


def measured_remarks(profile: Profile) -> list[Remark]:
    """Times, ratios, utilisation, measured memory, and whether what ran was what is traced."""
    was_profiled = profile.profiled.repeats > 0
    return [
        Remark("step", _times(profile)),
        *([Remark("split", _split(profile))] if was_profiled else []),
        *_ratios(profile),
        Remark("achieved", _achieved(profile)),
        Remark("roofs", _roofs(profile)),
        *([Remark("idle", _idle(profile))] if was_profiled else []),
        *([Remark("profiler", _overhead(profile))] if was_profiled else []),
        *_memory(profile),
        *_operators(profile),
    ]


def _times(profile: Profile) -> str:
    timing = profile.timing
    parts = [f"forward {interval_text(timing.forward_ms)}",
             f"backward {interval_text(timing.backward_ms)}"]  # fmt: skip
    if profile.ledger.totals.update:
        parts.append(f"update {interval_text(timing.update_ms)}")
    repeats = plural(timing.repeats, "step")
    return (
        f"{' + '.join(parts)} = {interval_text(timing.step_ms)}; medians and "
        f"{confidence_of(timing.repeats):.0%} intervals of {repeats} without the profiler"
    )


def _split(profile: Profile) -> str:
    """Forward : grad_input : grad_weight : recompute : update, in FLOP and in time."""
    phases = profile.total.phases
    forward = phases["forward"]
    names = [name for name in _SPLIT if name in phases]
    flops = [
        (work.flops + (work.elementwise if name == "update" else 0)) / (forward.flops or 1)
        for name in names
        for work in [phases[name]]
    ]
    times = [phases[name].ms / (forward.ms or 1) for name in names]
    shown = [" : ".join(f"{share:.3f}" for share in shares) for shares in (flops, times)]
    return f"{' : '.join(names)} = {shown[0]} in FLOP, {shown[1]} in time under the profiler"


def _ratios(profile: Profile) -> list[Remark]:
    time = profile.time_ratio
    predicted = ratio_text(profile.predicted_time_ratio)
    return [
        Remark("ratio", f"backward : forward = {ratio_text(profile.flop_ratio)} in FLOP"),
        Remark("", f"{predicted} in time, as the roofs predict it"),
        Remark("", f"{ratio_text(time.median)} in time, as measured [{time.low:.3f}, "
                   f"{time.high:.3f}]"),
    ]  # fmt: skip


def _achieved(profile: Profile) -> str:
    rate = quantity(round(profile.achieved_flops_per_s), Kind.FLOP_RATE)
    if profile.mfu is None or profile.hfu is None:
        dtypes = ", ".join(profile.prediction.without_roof)
        return f"{rate}; of no utilisation: {dtypes} has no measured roof"
    text = f"{rate}: model FLOP utilisation (MFU) {profile.mfu:.1%}"
    if profile.ledger.totals.recompute:
        text += f", with recompute (HFU) {profile.hfu:.1%}"
    else:
        text += " (HFU the same)"
    predicted = seconds_text(profile.prediction.step_seconds)
    return f"{text} of the measured roof; the roofs predict a step of {predicted}"


def _roofs(profile: Profile) -> str:
    roofs = profile.roofs
    rates = [
        f"{dtype} {quantity(round(rate), Kind.FLOP_RATE)}"
        for dtype, rate in roofs.flops_per_s.items()
    ]
    text = (
        f"{', '.join(rates)}; memory {quantity(round(roofs.bytes_per_s), Kind.BYTE_RATE)}; "
        f"{roofs.launch_s * 1e6:.3g} µs a launch: as measured"
    )
    if roofs.datasheet:
        printed = [
            f"{name} {quantity(round(rate), _rate_kind(name))}"
            for name, rate in roofs.datasheet.items()
        ]
        text += f" (the datasheet says {', '.join(printed)})"
    return text


def _rate_kind(name: str) -> Kind:
    return Kind.BYTE_RATE if name.startswith("bytes") else Kind.FLOP_RATE


def _idle(profile: Profile) -> str:
    what = "kernel" if profile.roofs.device == "cuda" else "operator"
    busy = profile.profiled.kernels_ms.median
    idle = profile.idle_ms
    share = idle / (busy + idle) if busy + idle else 0.0
    parts = [f"{name} {each.median:,.3g} ms" for name, each in profile.profiled.idle_ms.items()]
    return f"{idle:,.3g} ms ({share:.1%}) in no {what}: {', '.join(parts)}"


def _overhead(profile: Profile) -> str:
    steps = plural(profile.profiled.repeats, "step")
    overhead = profile.profiled.overhead
    more = "more" if overhead >= 0 else "less"
    return f"the {steps} of the table, under it, took {abs(overhead):.1%} {more} than without it"


def _memory(profile: Profile) -> list[Remark]:
    own, predicted = profile.measured_memory, profile.ledger.memory
    if own is None:
        return []
    lines: list[Remark] = []
    for name in ("peak", "peak_allocated", "peak_reserved"):
        measured, figure = getattr(own, name), predicted.get(name)
        if measured is None:
            continue
        text = f"{name.replace('_', ' ')} {quantity(measured, Kind.BYTES)} measured"
        if isinstance(figure, int) and figure:
            off = f"{measured - figure:+,} B, {(measured - figure) / figure:+.2%}"
            text += f", {quantity(figure, Kind.BYTES)} predicted ({off})"
        lines.append(Remark("" if lines else "memory", text))
    kernels = own.kernels.items()
    taken = [f"{name} {quantity(nbytes, Kind.BYTES)}" for name, nbytes in kernels]
    if taken:
        lines.append(Remark("", f"allocated inside of kernels then: {', '.join(taken)}"))
    if own.others:
        lines.append(Remark("", f"of the measured, {own.others:,} B are not of this step"))
    return lines


def _operators(profile: Profile) -> list[Remark]:
    if not profile.profiled.repeats:
        return []
    if profile.not_traced:
        why = f"not compared with a trace on shapes alone: {profile.not_traced}"
        return [Remark("operators", why)]
    if not profile.differences:
        number = plural(len(profile.ledger.rows), "row")
        return [Remark("operators", f"executed = traced, in all {number}", good=True)]
    number = plural(len(profile.differences), "operator")
    lines = [Remark("operators", f"{number} ran otherwise than in the trace", good=False)]
    shown = profile.differences[:MOST_NAMES]
    lines += [Remark("", str(difference), good=False) for difference in shown]
    more = len(profile.differences) - len(shown)
    return [*lines, Remark("", f"and {more:,} more", good=False)] if more else lines


def left_over(profile: Profile) -> list[Remark]:
    """The times that the table has no line for, by name, and what of them could not be told."""
    profiled = profile.profiled
    lines = []
    if profiled.unmatched:
        number = plural(sum(profiled.unmatched.values()), "operator")
        lines.append(
            Remark("unmatched", f"{number} without an event: {_few(profiled.unmatched)}", False)
        )
    if profiled.untraced:
        number = plural(sum(profiled.untraced.values()), "operator")
        lines.append(
            Remark("untraced", f"{number} without a record: {_few(profiled.untraced)}", False)
        )
    if profiled.unattributed:
        ms = sum(profiled.unattributed.values()) / 1e3
        names = _few(profiled.unattributed)
        lines.append(Remark("no layer", f"{ms:,.3g} ms of {names}", good=False))
    if profiled.undivided:
        ms = sum(profiled.undivided.values()) / 1e3
        where = name_layers(tuple(profiled.undivided))
        lines.append(Remark("undivided", f"{ms:,.3g} ms for input and weights together: {where}"))
    if profile.not_explained:
        lines.append(Remark("unexplained", profile.not_explained))
    if profile.interrupted:
        lines.append(Remark("interrupted", "what was measured until then is shown", good=False))
    return lines


def _few(names: Iterable[str]) -> str:
    listed = list(names)
    more = len(listed) - MOST_NAMES
    text = ", ".join(listed[:MOST_NAMES])
    return f"{text} and {more:,} more" if more > 0 else text


def interval_text(interval: Interval) -> str:
    """``12.31 ms [12.02, 12.88]``."""
    return f"{interval.median:,.4g} ms [{interval.low:,.4g}, {interval.high:,.4g}]"


def explained(profile: Profile) -> list[Lines]:
    """The explanation as a table, whose contributions add up; none where there is no ratio."""
    explanation = profile.explanation
    return [] if explanation is None else [explanation_lines(explanation, "measured")]
