"""What changed between two steps, for people: a headline, the figures of the whole step, the layers
that moved, and what there is to say beside; and as a document."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from flopratio.ledger import COUNTS, ROOT
from flopratio.report.markdown import code, markdown_table
from flopratio.report.table import ruled
from flopratio.report.units import Kind, choose, plural, printable, quantity, shorten
from flopratio.snapshot import Snapshot
from flopratio.text.grammar import format_value
from flopratio.text.patterns import without_numbers
from flopratio.text.spreadsheets import as_text
from flopratio.verbs.diff import Change, Difference, Move

SCHEMA = "flopratio.diff/1"

KINDS = {
    **dict.fromkeys(COUNTS, Kind.FLOP),
    "parameters": Kind.PARAMETERS,
    "saved_bytes": Kind.BYTES,
}
"""What each column of a layer counts."""

IN_HEADLINE = ("forward", "backward", "recompute", "update", "saved_bytes", "peak", "parameters")

MOST_FOLDED = 10
"""More lines than these are folded on GitHub."""

MOST_NAME = 60


class Alike(NamedTuple):
    """Layers that stand in the same place of repeated blocks and moved alike."""

    name: str
    sign: str
    type: str
    number: int
    changes: dict[str, Change]


def column_name(column: str) -> str:
    """A column for people: ``saved bytes``."""
    return column.replace("_", " ")


def memory_name(figure: str) -> str:
    """A figure of memory for people: ``memory of gradients``, ``peak``."""
    return column_name(figure) if "peak" in figure else f"memory of {column_name(figure)}"


# -- in words -------------------------------------------------------------------------------------


def headline(found: Difference) -> str:
    """The verdict first: ``CHANGED: 3 of 62 layers; forward +12.9%, peak +3.1%``."""
    number = found.unchanged + len(found.layers)
    if found.equal:
        return f"UNCHANGED: all figures of {plural(number, 'layer')} and of the step are equal"
    what = f"{len(found.layers):,} of {plural(number, 'layer')}"
    figures = [
        f"{column_name(name)} {percent(change) or _from_nothing(name, change)}"
        for name in IN_HEADLINE
        if (change := _whole(found, name)).delta
    ]
    return f"CHANGED: {'; '.join(filter(None, [what, ', '.join(figures)]))}"


def _whole(found: Difference, name: str) -> Change:
    """A figure of the whole step; of the peak only if both sides know it."""
    if name == "peak":
        return found.memory.get(name, Change(0, 0))
    parts = ("grad_input", "grad_weight") if name == "backward" else (name,)
    before, after = found.before.totals, found.after.totals
    return Change(
        sum(before.get(part, 0) for part in parts), sum(after.get(part, 0) for part in parts)
    )


def _from_nothing(name: str, change: Change) -> str:
    return f"+{quantity(change.after, KINDS.get(name, Kind.FLOP))}"


def percent(change: Change) -> str:
    """The change relative to what was before; empty where that was nothing."""
    if not change.before:
        return ""
    share = 100 * change.delta / change.before
    return f"{share:+,.0f}%" if abs(share) >= 1000 else f"{share:+.3g}%"


def amounts(change: Change, kind: Kind) -> tuple[str, str, str]:
    """Before, after and the signed change, with units, in which the two are told apart."""
    unit = choose(change, kind)
    exact = unit.format(change.before) == unit.format(change.after)
    unit = choose(change, kind, exact=exact)
    sides = [f"{unit.format(side)} {unit.name}".rstrip() if side else "0" for side in change]
    sign = "+" if change.delta > 0 else "-"
    return sides[0], sides[1], sign + quantity(abs(change.delta), kind, exact=exact)


def _arrow(name: str, change: Change, kind: Kind) -> str:
    """``forward 1.024 kFLOP → 2.048 kFLOP (+100%)``."""
    before, after, _ = amounts(change, kind)
    share = percent(change)
    return f"{name} {before} → {after}{f' ({share})' if share else ''}"


def sentences(found: Difference, most: int = 5) -> list[str]:
    """What changed, a sentence for each of the first few layers, the largest first, and then what
    there is to know beside.

    Args:
        most: so many layers, or groups of them, are told.
    """
    groups = _groups(found.moves())
    told = [_sentence(group) for group in groups[:most]]
    if left := sum(group.number for group in groups[most:]):
        told.append(f"and {plural(left, 'more layer')}")
    if not groups:
        told += [
            f"the whole step: {_arrow(memory_name(name), change, Kind.BYTES)}"
            for name, change in found.memory.items()
        ]
    return [*told, *(f"{about}: {text}" for about, text in remarks(found))]


def _sentence(group: Alike) -> str:
    name = _numbered(group)
    if group.sign == "~":
        moved = (
            _arrow(column_name(column), change, KINDS[column])
            for column, change in group.changes.items()
        )
        return f"{name}: {', '.join(moved)}"
    figures = ", ".join(
        f"{column_name(column)} {quantity(abs(change.delta), KINDS[column])}"
        for column, change in group.changes.items()
    )
    what = "is new" if group.sign == "+" else "is gone"
    return f"{name} {what}{f': {figures}' if figures else ''}"


def remarks(found: Difference) -> list[tuple[str, str]]:
    """What there is to know beside the figures: what it is about, and a line of text."""
    lines = [("renamed", f"{old} → {new}{number}") for old, new, number in _renames(found)]
    lines += [
        ("class", f"{_layer(path)} {_name(old)} → {_name(new)}, with equal figures")
        for path, (old, new) in found.retyped.items()
        if path not in found.changed
    ]
    lines += [
        ("order", f"{_layer(path)} runs {f'after {_layer(other)}' if other else 'first'} now")
        for path, other in found.moved.items()
    ]
    if found.uncounted_ops:
        calls = ", ".join(
            f"{_name(op)} ({plural(change.before, 'call')} before, {change.after:,} after)"
            for op, change in found.uncounted_ops.items()
        )
        lines.append(("no formula", calls))
    if found.reconciled:
        was, now = (_reconciled(side) for side in found.reconciled)
        lines.append(("reconciled", f"{was} before, {now} after"))
    if found.before.model != found.after.model:
        lines.append(("model", f"{_name(found.before.model)} → {_name(found.after.model)}"))
    for about, differing in (("settings", found.settings), ("step", found.convention)):
        if differing:
            lines.append((about, _differing(differing)))
    if found.versions:
        lines.append(("versions", _differing(found.versions)))
    if found.versions_differ and not found.equal:
        lines.append(("torch", "another version counted the two: some of this may be its doing"))
    return lines


def _reconciled(side: bool | None) -> str:
    return {True: "law and execution agree", False: "they part", None: "not compared"}[side]


def _differing(values: Mapping[str, tuple[Any, Any]]) -> str:
    return ", ".join(
        f"{_name(name)} {_value(before)} → {_value(after)}"
        for name, (before, after) in values.items()
    )


def _value(value: Any) -> str:
    if value is None:
        return "none"
    return _name(format_value(tuple(value) if isinstance(value, list) else value))


def _name(text: str) -> str:
    return printable(text)


def _layer(path: str) -> str:
    return printable(path) or ROOT


def _renames(found: Difference) -> list[tuple[str, str, str]]:
    """Renamed layers, those of one module together: what its path was and is."""
    ends = {pair: _parting(*pair) for pair in found.renamed}
    renames = []
    for (old, new), pairs in groupby(found.renamed, key=ends.__getitem__):
        of = list(pairs)
        if len(of) == 1:
            renames.append((_layer(of[0][0]), _layer(of[0][1]), ""))
        else:
            renames.append((_below(old), _below(new), f" ({plural(len(of), 'layer')})"))
    return renames


def _below(path: str) -> str:
    """All that a module holds."""
    return f"{_name(path)}.*" if path else "*"


def _parting(old: str, new: str) -> tuple[str, str]:
    """Two paths without the end that they share."""
    before, after = old.split("."), new.split(".")
    while before and after and before[-1] == after[-1]:
        before.pop()
        after.pop()
    return ".".join(before), ".".join(after)


# -- the tables -----------------------------------------------------------------------------------


def _groups(moves: Iterable[Move]) -> list[Alike]:
    """Moves of layers, those together that stand in the same place of repeated blocks and moved
    alike."""
    alike: dict[Any, list[Move]] = {}
    for move in moves:
        key = move.sign, without_numbers(move.layer), move.type, tuple(move.changes.items())
        alike.setdefault(key, []).append(move)
    return [
        Alike(
            _layer(same[0].layer if len(same) == 1 else name), sign, _name(kind), len(same),
            same[0].changes,
        )
        for (sign, name, kind, _), same in alike.items()
    ]  # fmt: skip


def _numbered(group: Alike) -> str:
    name = shorten(group.name, MOST_NAME)
    return name if group.number == 1 else f"{name} ({group.number:,} layers, each)"


class Line(NamedTuple):
    """A line of a table: words, and figures."""

    sign: str
    name: str
    type: str
    figure: str
    before: str
    after: str
    change: str
    percent: str


def _figures(figure: str, change: Change, kind: Kind) -> tuple[str, str, str, str, str]:
    return figure, *amounts(change, kind), percent(change)


def step_lines(found: Difference) -> list[Line]:
    """The figures of the whole step that differ."""
    lines = [
        Line("", "", "", *_figures(column_name(name), change, KINDS[name]))
        for name, change in found.totals.items()
    ]
    return lines + [
        Line("", "", "", *_figures(memory_name(name), change, Kind.BYTES))
        for name, change in found.memory.items()
    ]


def layer_lines(found: Difference, top: int = 0) -> tuple[list[Line], int]:
    """A line for each figure of each layer that moved, the largest first; of repeated layers that
    moved alike one tells for all. And how many layers are left out.

    Args:
        top: so many layers, or groups of them; 0: all.
    """
    groups = _groups(found.moves())
    shown = groups[:top] if top else groups
    lines = []
    for group in shown:
        words = group.sign, _numbered(group), group.type
        if not group.changes:
            lines.append(Line(*words, "nothing counted", "", "", "", ""))
        for column, change in group.changes.items():
            lines.append(Line(*words, *_figures(column_name(column), change, KINDS[column])))
            words = "", "", ""
    return lines, sum(group.number for group in groups[len(shown) :])


def unchanged_text(found: Difference) -> str:
    """What there is no line of, in a sentence."""
    figures = [
        column_name(name)
        for name in COUNTS
        if name not in found.totals and found.before.totals.get(name)
    ]
    figures += [
        memory_name(name)
        for name, figure in found.before.memory.items()
        if figure and name not in found.memory and found.after.memory.get(name) is not None
    ]
    what = [plural(found.unchanged, "layer")] if found.unchanged else []
    what += [f"of the whole step {', '.join(figures)}"] if figures else []
    return f"unchanged: {'; '.join(what)}" if what else ""


def page(found: Difference, top: int = 0) -> Group:
    """All that is printed on a terminal.

    Args:
        top: so many layers are listed, or groups of them; 0: all.
    """
    parts: list[RenderableType] = [Text(headline(found), "bold green" if found.equal else "bold")]
    if whole := step_lines(found):
        parts += ["", _rich_table("whole step", [line[3:] for line in whole])]
    lines, left = layer_lines(found, top)
    if lines:
        parts += ["", _rich_table("", lines)]
    if left:
        parts.append(Text(f"{plural(left, 'more layer')}: --top 0 lists all"))
    if not found.equal and (same := unchanged_text(found)):
        parts += ["", Text(same)]
    if beside := remarks(found):
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(no_wrap=True, style="bold")
        grid.add_column()
        for about, text in beside:
            grid.add_row(about, Text(text))
        parts += ["", grid]
    return Group(*parts)


SIGN_STYLES = {"+": "green", "-": "red"}


def _rich_table(first: str, lines: Sequence[Sequence[str]]) -> Table:
    table = ruled()
    words = 1 if first else 4
    heading = [first] if first else ["", "layer", "type", "figure"]
    for number, name in enumerate([*heading, "before", "after", "change", ""]):
        right = number >= words
        table.add_column(name, justify="right" if right else "left", no_wrap=right)
    for line in lines:
        table.add_row(*map(Text, line), style=SIGN_STYLES.get(line[0], ""))
    return table


# -- documents ------------------------------------------------------------------------------------


def to_markdown(found: Difference, top: int = 0) -> str:
    """As a comment on a pull request or the summary of a job, ending in a newline; long tables are
    folded. Whatever a model calls its layers is code there."""
    parts = [f"**{headline(found)}**"]
    if whole := step_lines(found):
        cells = [[*line[3:]] for line in whole]
        parts.append(markdown_table(["whole step", "before", "after", "change", ""], 1, cells))
    lines, left = layer_lines(found, top)
    if lines:
        cells = [
            [line.sign and code(line.sign), line.name and code(line.name),
             line.type and code(line.type), *line[3:]]
            for line in lines
        ]  # fmt: skip
        heading = ["", "layer", "type", "figure", "before", "after", "change", ""]
        table = markdown_table(heading, 4, cells)
        if len(lines) > MOST_FOLDED:
            said = plural(len([line for line in lines if line.name]), "line")
            table = f"<details><summary>The layers, {said}</summary>\n\n{table}\n\n</details>"
        parts.append(table)
    if left:
        parts.append(f"{plural(left, 'more layer')}: `--top 0` lists all")
    if not found.equal and (same := unchanged_text(found)):
        parts.append(same)
    if beside := remarks(found):
        parts.append(
            "\n".join(
                f"- {about}: {code(text)}" if about else f"- {text}" for about, text in beside
            )
        )
    return "\n\n".join(parts) + "\n"


def document(found: Difference) -> dict[str, Any]:
    """What ``--json`` prints: plain ints, strings, lists and dicts; a figure is [before, after]."""
    return {
        "schema": SCHEMA,
        "equal": found.equal,
        "headline": headline(found),
        "before": _side(found.before),
        "after": _side(found.after),
        "settings": _pairs(found.settings),
        "convention": _pairs(found.convention),
        "versions": _pairs(found.versions),
        "totals": _pairs(found.totals),
        "memory": _pairs(found.memory),
        "layers": {
            "unchanged": found.unchanged,
            "changed": [
                {"name": move.layer, "type": move.type, **_pairs(move.changes)}
                for move in found.moves()
                if move.sign == "~"
            ],
            "only_before": _named(found.only_before, found.before),
            "only_after": _named(found.only_after, found.after),
            "renamed": [[*pair] for pair in found.renamed],
            "retyped": _pairs(found.retyped),
            "moved": found.moved,
        },
        "uncounted_ops": _pairs(found.uncounted_ops),
        "reconciled": None if found.reconciled is None else [*found.reconciled],
    }


def _pairs(values: Mapping[str, Iterable[Any]]) -> dict[str, list[Any]]:
    return {name: [*pair] for name, pair in values.items()}


def _side(snapshot: Snapshot) -> dict[str, Any]:
    return {
        "model": snapshot.model,
        "settings": snapshot.settings,
        "convention": snapshot.convention,
        "versions": snapshot.versions,
    }


def _named(paths: Iterable[str], snapshot: Snapshot) -> list[dict[str, Any]]:
    """Layers that one side alone has, with all their figures."""
    layers = ((path, snapshot.layers[path]) for path in paths)
    return [{"name": path, "type": layer.type, **layer.counts} for path, layer in layers]


def to_json(found: Difference) -> str:
    return json.dumps(document(found), indent=1)


def to_csv(found: Difference) -> str:
    """A line for each figure that differs; the whole step's have no layer."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["sign", "layer", "type", "figure", "before", "after"])
    for of, changes in (("step", found.totals), ("memory", found.memory)):
        writer.writerows([of, "", "", name, *change] for name, change in changes.items())
    for move in found.moves():
        for name, change in move.changes.items():
            where = as_text(move.layer), as_text(move.type)
            writer.writerow([move.sign, *where, name, *change])
    return text.getvalue()


def _html(found: Difference) -> str:
    from flopratio.report.page.difference import difference_page

    return difference_page(found)


FORMATS: dict[str, Callable[[Difference], str]] = {
    ".json": to_json,
    ".csv": to_csv,
    ".md": to_markdown,
    ".html": _html,
}
"""Extension -> the text of a difference."""
