"""What changed between two steps, as a page."""

from __future__ import annotations

from flopratio.report.difference import (
    document,
    headline,
    layer_lines,
    remarks,
    step_lines,
    unchanged_text,
)
from flopratio.report.page.blocks import Page, Paragraph, Remarks, Section
from flopratio.report.page.grid import words_grid
from flopratio.report.summary import Remark
from flopratio.verbs.diff import Difference

FIGURES = ("before", "after", "change", "")


def difference_page(found: Difference) -> str:
    """The verdict, the figures of the whole step, the layers that moved, and what is beside."""
    sections = []
    if whole := step_lines(found):
        lines = [line[3:] for line in whole]
        sections.append(Section("The whole step", [words_grid(["figure", *FIGURES], lines)]))
    moved, _ = layer_lines(found)
    if moved:
        grid = words_grid(["", "layer", "type", "figure", *FIGURES], moved, words=4)
        sections.append(Section("Layer by layer", [grid]))
    if not found.equal and (same := unchanged_text(found)):
        sections.append(Section("Unchanged", [Paragraph(same.partition(": ")[2])]))
    if beside := remarks(found):
        lines_beside = [Remark(about, text) for about, text in beside]
        sections.append(Section("Beside", [Remarks(lines_beside)]))
    verdict, _, rest = headline(found).partition(": ")
    models = list(dict.fromkeys([found.before.model, found.after.model]))
    title = " → ".join(filter(None, models)) or "two steps"
    badge = verdict.lower()
    return Page(title, rest, sections, badge, found.equal, {"diff": document(found)}).html()
