"""``flopratio report``: saved steps as a page or as Markdown, several of them side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flopratio.report.comparison import (
    common_sentence,
    differing,
    figures,
    layer_columns,
    layer_paths,
    name_of,
    stacks,
    titles,
)
from flopratio.report.markdown import escape, markdown, pipe_table
from flopratio.report.page.blocks import Block, Card, Cards, Page, Paragraph, Section, fact
from flopratio.report.page.grid import Bar, Cell, Grid, Heading, word, words_grid
from flopratio.report.page.step import (
    badge_of,
    step_page,
    step_sections,
    title_and_lead,
)
from flopratio.report.shares import no_ratio
from flopratio.report.units import Kind, plural, quantity, ratio_text
from flopratio.report.view import View, view
from flopratio.verbs.saved import SavedStep


def report_page(steps: Sequence[SavedStep]) -> str:
    """The page of one step, or of several."""
    if len(steps) == 1:
        return step_page(steps[0].ledger, _sections(steps[0]))
    sections = comparison_sections(steps)
    for number, step in enumerate(steps):
        name, lead = title_and_lead(step.ledger)
        where = f" ({step.name})" if step.name else ""
        badge, _ = badge_of(step.ledger)
        sections.append(
            Section(f"{name_of(number)}: {name}{where}", [Paragraph(f"{lead}; {badge}")], level=1)
        )
        sections += _sections(step)
    good = all(badge_of(step.ledger)[1] for step in steps)
    data = {
        name_of(number): step.ledger.without_rows(step.ledger.document())
        for number, step in enumerate(steps)
    }
    title = f"{plural(len(steps), 'step')} side by side"
    badge = "law = execution in each" if good else "see the badge of each"
    files = ", ".join(step.name for step in steps if step.name)
    return Page(title, files, sections, badge, good or None, data).html()


def _sections(step: SavedStep) -> list[Section]:
    return step_sections(
        step.ledger,
        _view(step),
        profile=step.profile,
        profile_view=_profile_view(step),
        notes=step.notes,
    )


def _view(step: SavedStep) -> View:
    return view(step.ledger, prediction=step.prediction)


def _profile_view(step: SavedStep) -> View | None:
    if step.profile is None:
        return None
    from flopratio.report.profile.view import profile_view

    return profile_view(step.profile)


def comparison_sections(steps: Sequence[SavedStep]) -> list[Section]:
    """Several steps side by side."""
    names = [name_of(number) for number in range(len(steps))]
    cards = []
    for number, step in enumerate(steps):
        name, lead = title_and_lead(step.ledger)
        ratio = ratio_text(step.ledger.ratio.backward_to_forward)
        figure = "no ratio" if no_ratio(step.ledger) else f"{ratio} : 1"
        cards.append(Card(f"{name_of(number)}: {name}", figure, f"backward : forward; {lead}"))
    sections = [
        Section("At a glance", [Cards(cards), *_stack_grids(steps, names)]),
        Section("Figures", [_figure_grid(steps, names)]),
    ]
    if different := differing(steps):
        lines = [[name, *map(_told, values)] for name, values in different.items()]
        grid = words_grid(["how they differ", *names], lines, words=1 + len(names))
        sections.append(Section("How they were counted", [grid]))
    ledgers = [step.ledger for step in steps]
    blocks: list[Block] = [Paragraph(common_sentence(ledgers)), _layer_grid(steps)]
    return [*sections, Section("Layer by layer", blocks)]


def _told(value: Any) -> str:
    return "none" if value is None else fact(value)


def _stack_grids(steps: Sequence[SavedStep], names: list[str]) -> list[Block]:
    """The parts of each step as bars of one scale."""
    kinds = {"FLOP by phase": Kind.FLOP, "memory at the peak": Kind.BYTES}
    grids: list[Block] = []
    for title, parts in stacks(steps).items():
        whole = max(sum(own.values()) for own in parts)
        lines = [
            [
                word(name),
                Cell(quantity(sum(own.values()), kinds[title]) if own else "not known"),
                Cell("", None, tuple(Bar(part, size / whole) for part, size in own.items())),
            ]
            for name, own in zip(names, parts, strict=True)
        ]
        heading = [Heading("", is_words=True), Heading(title), Heading("", is_bars=True)]
        grids.append(Grid(heading, lines, [], is_wide=True))
    return grids


def _figure_grid(steps: Sequence[SavedStep], names: list[str]) -> Grid:
    heading = [Heading("", is_words=True)]
    for number, name in enumerate(names):
        heading += [Heading(name), *([Heading("", f"to {names[0]}")] if number else [])]
    lines = []
    for each in figures(steps):
        line = [word(each.name), Cell(each.texts[0])]
        for text, relative in zip(each.texts[1:], each.relative[1:], strict=True):
            line += [Cell(text), Cell(relative)]
        lines.append(line)
    return Grid(heading, lines, [])


def _layer_grid(steps: Sequence[SavedStep]) -> Grid:
    ledgers = [step.ledger for step in steps]
    columns = layer_columns(ledgers)
    types = {layer.name: layer.type for ledger in ledgers for layer in ledger.layers()}
    heading = [Heading("layer", is_words=True), Heading("type", is_words=True)]
    heading += [Heading(column.name, column.unit) for column in columns]
    lines = [
        [
            word(name),
            word(types[path]),
            *(Cell(column.texts.get(path, ""), column.values.get(path)) for column in columns),
        ]
        for path, name in layer_paths(ledgers).items()
    ]
    return Grid(heading, lines, [], is_sortable=True)


# -- Markdown -------------------------------------------------------------------------------------


def report_markdown(steps: Sequence[SavedStep]) -> str:
    """The same for a pull request: of several steps what differs, and each folded below."""
    if len(steps) == 1:
        return _step_markdown(steps[0])
    names = [name_of(number) for number in range(len(steps))]
    heading = [""]
    for number, name in enumerate(names):
        heading += [name, *([f"to {names[0]}"] if number else [])]
    lines = []
    for each in figures(steps):
        line = [each.name, each.texts[0]]
        for text, relative in zip(each.texts[1:], each.relative[1:], strict=True):
            line += [text, relative]
        lines.append(line)
    parts = [
        "\n".join(f"- {escape(title)}" for title in titles(steps)),
        pipe_table(heading, 1, lines),
    ]
    if different := differing(steps):
        told = [[name, *map(_told, values)] for name, values in different.items()]
        parts.append(pipe_table(["how they differ", *names], 1 + len(names), told))
    parts.append(escape(common_sentence([step.ledger for step in steps])))
    for title, step in zip(titles(steps), steps, strict=True):
        summary = escape(title).replace("&", "&amp;")
        parts.append(f"<details><summary>{summary}</summary>\n\n{_step_markdown(step)}\n</details>")
    return "\n\n".join(parts) + "\n"


def _step_markdown(step: SavedStep) -> str:
    if step.profile is None:
        text = markdown(step.ledger, _view(step))
    else:
        from flopratio.report.profile.files import profile_markdown

        shown = _profile_view(step)
        assert shown is not None
        text = profile_markdown(step.profile, shown)
    notes = "\n".join(f"- {escape(note)}" for note in step.notes)
    return f"{text}\n{notes}\n" if notes else text
