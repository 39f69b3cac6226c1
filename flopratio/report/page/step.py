"""One step as a page: a counted or a measured one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from flopratio.ledger import Ledger
from flopratio.report.page.blocks import (
    Beside,
    Block,
    Card,
    Cards,
    Page,
    Paragraph,
    Remarks,
    Section,
    facts,
    picture_blocks,
)
from flopratio.report.page.grid import (
    TIME_BAR_OF,
    lines_grid,
    shares_grid,
    view_grid,
    words_grid,
)
from flopratio.report.page.render import picture
from flopratio.report.prediction import seconds_text, sentences, tables
from flopratio.report.shares import memory_shares, no_ratio, phase_shares
from flopratio.report.summary import Remark, headline, remarks, token_terms
from flopratio.report.table import left_out
from flopratio.report.units import Kind, quantity, ratio_text
from flopratio.report.view import View
from flopratio.report.view import view as ledger_view

if TYPE_CHECKING:
    from flopratio.verbs.profile import Profile

CONVENTIONS = (
    "FLOP counts operations, FLOP/s is a rate. One multiply-add is 2 FLOP; products are matrix "
    "products, convolutions and the two products of attention, elementwise is all other "
    "arithmetic, and the two are never mixed in one figure without saying so.",
    "The ratio is backward (grad_input + grad_weight) to forward, of products. What checkpointing "
    "and fused attention compute again is recompute, apart from both.",
    "Memory is in bytes. The peak is the exact sum of live tensors; allocated and reserved are "
    "what the device's allocator makes of it; saved bytes are kept for backward, each storage "
    "once, parameters apart.",
)
"""How the figures are to be read."""


def ledger_page(ledger: Ledger, view: View) -> str:
    """A counted step.

    Args:
        view: of this ledger.
    """
    return step_page(ledger, step_sections(ledger, view))


def measured_page(profile: Profile, view: View) -> str:
    """A measured step.

    Args:
        view: of this profile.
    """
    ledger = profile.ledger
    counted = ledger_view(ledger, by=view.by)
    return step_page(ledger, step_sections(ledger, counted, profile=profile, profile_view=view))


def step_page(ledger: Ledger, sections: Sequence[Section]) -> str:
    """A page of one step alone."""
    name, lead = title_and_lead(ledger)
    badge, good = badge_of(ledger)
    data = {"ledger": ledger.without_rows(ledger.document())}
    return Page(name, lead, sections, badge, good, data).html()


def title_and_lead(ledger: Ledger) -> tuple[str, str]:
    """The model with its sizes, and how its step was run."""
    name, _, lead = headline(ledger).rpartition(": ")
    return name or "step", lead


def badge_of(ledger: Ledger) -> tuple[str, bool | None]:
    """The verdict in a few words, and whether it is good."""
    if ledger.uncounted_ops:
        return "some operators have no formula", False
    words = {True: "law = execution", False: "law ≠ execution", None: "not compared"}
    return words[ledger.reconciled], ledger.reconciled


def step_sections(
    ledger: Ledger,
    view: View,
    *,
    profile: Profile | None = None,
    profile_view: View | None = None,
    notes: Sequence[str] = (),
) -> list[Section]:
    """All that there is to say of a step.

    Args:
        view: of the ledger.
        profile, profile_view: its times, where it was measured.
        notes: what there is to know beside, a sentence each.
    """
    held = memory_shares(ledger.memory, exact=view.exact)
    shares = [phase_shares(ledger, macs=view.macs, exact=view.exact), *([held] if held else [])]
    glance: list[Block] = [
        Cards(cards(ledger, view, profile)),
        Beside([shares_grid(each) for each in shares]),
    ]
    said = remarks(ledger, view)
    if profile is not None:
        from flopratio.report.profile.summary import left_over

        said += left_over(profile)
        notes = [*profile.notes, *notes]
    said += [Remark("note", note) for note in notes]
    return [
        Section("At a glance", glance),
        *_measured(profile, profile_view),
        *_predicted(view),
        *_by(view),
        *_memory(ledger),
        *_tokens(ledger),
        Section("Remarks", [Remarks(said)]),
        Section(
            "How it was counted", [_environment(ledger, profile), *map(Paragraph, CONVENTIONS)]
        ),
    ]


def cards(ledger: Ledger, view: View, profile: Profile | None = None) -> list[Card]:
    """The headline figures."""
    total, memory = ledger.totals, ledger.memory
    kind, part = (Kind.MAC, 2) if view.macs else (Kind.FLOP, 1)

    def products(flops: int) -> str:
        return quantity(flops // part, kind, exact=view.exact)

    reason = no_ratio(ledger)
    found = [
        Card(
            "backward : forward",
            "none" if reason else f"{ratio_text(ledger.ratio.backward_to_forward)} : 1",
            reason.removeprefix("none: ")
            or f"{ratio_text(ledger.ratio.with_elementwise)} with elementwise",
        ),
        Card("forward", products(total.forward), "products"),
    ]
    if total.backward:
        note = f"input {products(total.grad_input)}, weight {products(total.grad_weight)}"
        found.append(Card("backward", products(total.backward), note))
    if total.recompute:
        hardware = total.forward + total.backward + total.recompute
        found.append(Card("recompute", products(total.recompute), f"hardware {products(hardware)}"))
    if isinstance(memory.get("peak"), int):
        reserved, phase = memory.get("peak_reserved"), memory.get("peak_phase")
        notes = [f"in {phase}"] if phase else []
        if isinstance(reserved, int):
            notes.append(f"{quantity(reserved, Kind.BYTES)} reserved")
        found.append(Card("peak memory", quantity(memory["peak"], Kind.BYTES), ", ".join(notes)))
    saved = quantity(total.saved_bytes, Kind.BYTES)
    if total.saved_bytes:
        found.append(Card("kept for backward", saved, "activations, each storage once"))
    found.append(Card("parameters", quantity(total.parameters, Kind.PARAMETERS), ""))
    if profile is not None:
        found += _measured_cards(profile)
    elif view.prediction is not None:
        prediction = view.prediction
        ratio = ratio_text(prediction.time_ratio)
        found.append(
            Card(
                "a step, predicted",
                seconds_text(prediction.step_seconds),
                f"on {prediction.hardware.name}" + (f"; ratio in time {ratio}" if ratio else ""),
            )
        )
    return found


def _measured_cards(profile: Profile) -> list[Card]:
    step, ratio = profile.timing.step_ms, profile.time_ratio
    found = [
        Card("a step, measured", seconds_text(step.median / 1e3),
             f"{step.low:,.4g} to {step.high:,.4g} ms on {profile.roofs.name}"),
        Card("ratio in time", f"{ratio_text(ratio.median)} : 1",
             f"{ratio.low:.3f} to {ratio.high:.3f}"),
    ]  # fmt: skip
    if profile.mfu is not None:
        found.append(Card("MFU", f"{profile.mfu:.1%}", "of the measured roof"))
    return found


def _measured(profile: Profile | None, view: View | None) -> list[Section]:
    if profile is None or view is None:
        return []
    from flopratio.report.figures.layer_times import layer_times_figure
    from flopratio.report.figures.roofline import roofline_figure
    from flopratio.report.profile.summary import explained, measured_remarks

    blocks: list[Block] = [Remarks(measured_remarks(profile))]
    if profile.profiled.repeats:
        pictures = picture_blocks(
            picture(roofline_figure(profile), "roofline"),
            picture(layer_times_figure(profile), "share of time and of FLOP"),
        )
        blocks += [Beside(pictures)] if pictures else []
    blocks += [lines_grid(lines) for lines in explained(profile)]
    return [
        Section("Measured", blocks),
        Section(f"Time by {view.by}", _view_blocks(view, TIME_BAR_OF, "time")),
    ]


def _predicted(view: View) -> list[Section]:
    if view.prediction is None:
        return []
    lines, *explained = tables(view)
    blocks: list[Block] = [*map(Paragraph, sentences(view)), *map(lines_grid, explained)]
    times = lines_grid(lines)
    return [Section("Predicted", blocks), Section(f"Predicted by {view.by}", [times])]


def _by(view: View) -> list[Section]:
    return [Section(f"By {view.by}", _view_blocks(view))]


def _view_blocks(view: View, *bars: Any) -> list[Block]:
    more = left_out(view)
    return [view_grid(view, *bars), *([Paragraph(more)] if more else [])]


def _memory(ledger: Ledger) -> list[Section]:
    if not ledger.memory.knows_blocks or not ledger.memory.operators:
        return []
    from flopratio.report.figures.timeline import timeline_figure

    svg = picture(timeline_figure(ledger.memory), "memory over the step")
    return [Section("Memory over the step", picture_blocks(svg))]


def _tokens(ledger: Ledger) -> list[Section]:
    if not (terms := token_terms(ledger)):
        return []
    return [Section("6·N·D and the exact count", [words_grid(["", "FLOP"], terms)])]


def _environment(ledger: Ledger, profile: Profile | None) -> Beside:
    machine: Mapping[str, Any] = {} if profile is None else profile.machine
    found = [
        facts("settings", ledger.settings),
        facts("convention", ledger.convention),
        facts("versions", ledger.versions),
        facts("machine", machine),
    ]
    return Beside([each for each in found if each.facts])
