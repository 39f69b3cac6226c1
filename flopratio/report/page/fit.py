"""What fits a memory, as a page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flopratio.report.fit import (
    WORDS,
    document,
    headline,
    lever_columns,
    limit_text,
    model_text,
    needed,
    notes_beside_headline,
    refused,
    remarks,
)
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
)
from flopratio.report.page.grid import Bar, Cell, Grid, Heading, shares_grid, word, words_grid
from flopratio.report.shares import largest_first, percent, share_of
from flopratio.report.summary import Remark
from flopratio.report.units import Kind, choose, quantity

if TYPE_CHECKING:
    from flopratio.verbs.fit import Fit


def fit_page(fit: Fit) -> str:
    """The answer, its proof, what is alive at the peak, what was tried, and the levers."""
    size = fit.largest or fit.next
    held = share_of(
        f"memory at the peak of {fit.key}={size}, in {fit.peak_phase}",
        largest_first(fit.at_peak),
        {
            "peak": sum(fit.at_peak.values()),
            "allocated": fit.peak_allocated,
            "reserved": fit.peak_reserved,
            "there is": fit.limit,
        },
        sum(fit.at_peak.values()),
    )
    glance: list[Block] = [
        Cards(_cards(fit)),
        Beside([*([shares_grid(held)] if held else []), _tried(fit)]),
    ]
    notes = [Remark("note", note) for note in notes_beside_headline(fit)]
    sections = [
        Section("At a glance", glance),
        Section("Remarks", [Remarks([*remarks(fit), *notes])]),
    ]
    if fit.levers:
        columns = lever_columns(fit)
        grid = words_grid([*columns], zip(*columns.values(), strict=True), words=WORDS)
        sections.append(Section("Levers", [grid, *map(Paragraph, refused(fit))]))
    options = {name: value for name, value in fit.options.items() if not callable(value)}
    about = [
        facts("settings", fit.settings),
        facts("options", options),
        facts("versions", fit.versions),
    ]
    sections.append(Section("How it was counted", [Beside(about)]))
    badge = "fits" if fit.largest else "does not fit"
    title = model_text(fit)
    lead = headline(fit).removeprefix(f"{title}: ")
    data = {"fit": document(fit)}
    return Page(title, lead, sections, badge, bool(fit.largest), data).html()


def _cards(fit: Fit) -> list[Card]:
    size = fit.largest or fit.next
    needs = needed(fit, size)
    found = [
        Card(
            f"largest {fit.key}",
            f"{fit.largest:,}" if fit.largest else "none",
            f"in {limit_text(fit)}",
        ),
        Card(
            f"{fit.key}={size} needs",
            quantity(needs, Kind.BYTES),
            f"{quantity(fit.limit - needs, Kind.BYTES)} left"
            if fit.largest
            else f"{quantity(needs - fit.limit, Kind.BYTES)} too much",
        ),
    ]
    if fit.largest and not fit.refusal:
        over = needed(fit, fit.next)
        found.append(
            Card(
                f"{fit.key}={fit.next} needs",
                quantity(over, Kind.BYTES),
                f"{quantity(over - fit.limit, Kind.BYTES)} too much",
            )
        )
    reserved = quantity(fit.peak_reserved, Kind.BYTES)
    return [*found, Card("the allocator reserves", reserved, f"at {fit.key}={size}")]


def _tried(fit: Fit) -> Grid:
    """Every size that was traced, its peak as a bar of the memory that there is."""
    peaks = {tried.size: tried.memory.get(fit.figure) for tried in fit.tried}
    whole = max([fit.limit, *(peak for peak in peaks.values() if peak)])
    unit = choose([whole], Kind.BYTES)
    lines = []
    for tried in fit.tried:
        peak = peaks[tried.size]
        if peak is None:
            lines.append([word(f"{tried.size:,}"), Cell("refused"), Cell("")])
        else:
            bar = Bar("update" if peak > fit.limit else "forward", peak / whole)
            share = Cell(percent(peak / fit.limit), peak, (bar,))
            lines.append([word(f"{tried.size:,}"), Cell(unit.format(peak)), share])
    heading = [
        Heading(f"tried {fit.key}", is_words=True),
        Heading(fit.figure.replace("_", " "), unit.name),
        Heading("of the memory", is_bars=True),
    ]
    return Grid(heading, lines, [])
