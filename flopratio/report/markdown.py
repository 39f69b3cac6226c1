"""A ledger as Markdown: the verdict first, then the tables."""

from __future__ import annotations

import re
from collections.abc import Iterable

from flopratio.ledger import Ledger
from flopratio.report.prediction import Lines, sentences, tables
from flopratio.report.shares import Shares, bar, memory_shares, percent, phase_shares
from flopratio.report.summary import Remark, headline, remarks, token_terms
from flopratio.report.table import cells, left_out
from flopratio.report.units import printable
from flopratio.report.view import View

SHORT_BAR = 12
"""Characters of a bar that is the whole."""


def markdown(ledger: Ledger, view: View) -> str:
    """The document, ending in a newline.

    Args:
        view: of this ledger.
    """
    parts = [
        f"**{escape(headline(ledger))}**",
        remark_list(remarks(ledger, view)),
        share_lines(phase_shares(ledger, macs=view.macs, exact=view.exact)),
    ]
    if (held := memory_shares(ledger.memory, exact=view.exact)) is not None:
        parts.append(share_lines(held))
    parts += view_table(view)
    if terms := token_terms(ledger):
        parts.append(pipe_table(["6·N·D and the exact count", "FLOP"], 1, terms))
    if predicted := sentences(view):
        parts.append("\n".join(f"- {escape(sentence)}" for sentence in predicted))
    parts += map(lines_table, tables(view))
    return "\n\n".join(parts) + "\n"


def remark_list(lines: Iterable[Remark]) -> str:
    """Remarks as a list."""
    return "\n".join(
        escape(f"- {remark.about}: {remark.text}" if remark.about else f"  - {remark.text}")
        for remark in lines
    )


def view_table(view: View) -> list[str]:
    """A view as a table, and the sentence about the lines that it leaves out."""
    shown = cells(view)
    typed = any(kind for _, kind, _ in shown.lines)
    named = [view.by, "type"] if typed else [view.by]
    figures = [
        f"{column.name} ({unit})" if unit else column.name
        for column, unit in zip(view.columns, shown.units, strict=True)
    ]
    body = [[*([name, kind] if typed else [name]), *texts] for name, kind, texts in shown.lines]
    total = [*(["total", ""] if typed else ["total"]), *shown.total]
    more = left_out(view)
    written = pipe_table([*named, *figures], len(named), [*body, total])
    return [written, more] if more else [written]


def share_lines(shares: Shares) -> str:
    """A small table, its bars beside the names."""
    name, *figures = (title.replace("-\n", "").replace("\n", " ") for title in shares.heading)
    share = figures.pop(shares.ahead)
    body = [
        (line.name, _share(line.share), *line.figures) for line in (*shares.lines, *shares.below)
    ]
    if not shares.has_shares:
        return pipe_table([name, *figures], 1, ((name, *of) for name, _, *of in body))
    return pipe_table([name, share, *figures], 2, body)


def _share(share: float | None) -> str:
    return "" if share is None else f"{percent(share)} {bar(share, SHORT_BAR)}"


def lines_table(shown: Lines) -> str:
    """A name and figures, as a table."""
    heading = [cell.replace("_\n", "_").replace("\n", " ") for cell in shown.heading]
    return pipe_table(heading, 1, [*shown.body, shown.total])


def pipe_table(heading: list[str], left: int, lines: Iterable[Iterable[str]]) -> str:
    """A table of plain text in Markdown, of which the first ``left`` columns hold words."""
    escaped = ([escape(cell).replace("|", "&#124;") for cell in line] for line in lines)
    return markdown_table([*map(escape, heading)], left, escaped)


def markdown_table(heading: list[str], left: int, lines: Iterable[Iterable[str]]) -> str:
    """A table whose cells are Markdown, of which the first ``left`` columns hold words."""
    rule = ["---"] * left + ["---:"] * (len(heading) - left)
    return "\n".join(f"| {' | '.join(line)} |" for line in (heading, rule, *lines))


def code(text: str) -> str:
    """The text as code, in a table too: whatever a model calls its layers means nothing there."""
    text = printable(text).replace("|", "\\|")
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    space = " " if text.startswith("`") or text.endswith("`") or not text.strip() else ""
    return f"{fence}{space}{text}{space}{fence}"


def escape(text: str) -> str:
    """The text with Markdown's own signs, which names are full of, as they are."""
    for sign in "\\*_`<":
        text = text.replace(sign, f"\\{sign}")
    return text
