"""A graph as SVG: forward from left to right above an axis, backward from right to left below it.

A picture that is wider than a page is cut into lines, as a score is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from itertools import pairwise
from math import hypot

from flopratio.report.graph.colours import (
    BACKWARD,
    BACKWARD_FILL,
    FAINT,
    FORWARD,
    FORWARD_FILL,
    GIVEN_FILL,
    INK,
    SAVED,
    SAVED_FILL,
)
from flopratio.report.graph.labels import (
    OperatorLabel,
    VariableLabel,
    headline,
    operator_labels,
    summary,
    tooltip,
    variable_labels,
)
from flopratio.report.graph.layout import LINE, RADIUS, SQUARE, Point, layout
from flopratio.verbs.graph.graph import Graph

PAGE, MARGIN = 1500.0, 24.0
"""The width after which a picture is cut, and its border."""

TITLE, LETTER = 15.0, 10.0
"""Sizes of type."""

FAR = 300.0
"""What is saved that far from where it is read again is told by its colour alone."""

CORNER = 8.0
"""The radius of a bend."""

STYLE = f"""
text {{ font: {LETTER:g}px Helvetica, Arial, sans-serif; fill: {INK}; text-anchor: middle; }}
text.left {{ text-anchor: start; }}
text.title {{ font-size: {TITLE:g}px; font-weight: bold; }}
text.name {{ font-weight: bold; }}
text.faint {{ fill: {FAINT}; }}
text.sign {{ font-size: 13px; }}
text.letter, text.index {{ font-family: Georgia, 'Times New Roman', serif; text-anchor: start; }}
text.letter {{ font-size: {LETTER + 5:g}px; font-style: italic; }}
text.small {{ font-size: 9px; }}
.back text {{ fill: {BACKWARD}; }}
text.saved {{ fill: {SAVED}; font-weight: bold; }}
rect, circle {{ fill: #FFFFFF; stroke: {INK}; stroke-width: 1.2; }}
circle {{ fill: {FORWARD_FILL}; stroke: {FORWARD}; }}
rect.given {{ fill: {GIVEN_FILL}; }}
rect.saved {{ fill: {SAVED_FILL}; stroke: {SAVED}; stroke-width: 1.8; }}
.back rect, .back circle {{ fill: {BACKWARD_FILL}; stroke: {BACKWARD}; }}
.back rect {{ fill: #FFFFFF; }}
.back rect.plate {{ stroke: none; }}
circle.ring {{ fill: none; }}
rect.plate {{ fill: #FFFFFF; stroke: none; opacity: 0.85; }}
path {{ fill: none; stroke: {INK}; stroke-width: 1.1; }}
.back path {{ stroke: {BACKWARD}; }}
path.kept {{ stroke: {SAVED}; stroke-width: 1.1; stroke-dasharray: 2 3; }}
path.axis {{ stroke: #CCCCCC; stroke-width: 1; stroke-dasharray: 6 4; }}
""".strip()

ARROWS = "".join(
    f'<marker id="{name}" viewBox="0 0 8 8" refX="7.4" refY="4" markerWidth="7" markerHeight="7" '
    f'orient="auto"><path d="M0 0.8 8 4 0 7.2z" style="fill:{colour};stroke:none"/></marker>'
    for name, colour in (("arrow", INK), ("back", BACKWARD), ("kept", SAVED))
)


def svg(graph: Graph, *, exact: bool = False) -> str:
    """The picture as a document that needs nothing beside it.

    Args:
        exact: every digit of every figure.
    """
    return _Drawing(graph, exact).document()


def text_width(text: str, size: float = LETTER) -> float:
    """About how wide a text is."""
    narrow = sum(sign in "iljtf.,:;|!'()[] " for sign in text)
    return size * (0.62 * (len(text) - narrow) + 0.35 * narrow)


class _Drawing:
    def __init__(self, graph: Graph, exact: bool) -> None:
        self._graph = graph
        self._variables = variable_labels(graph, exact=exact)
        self._operators = operator_labels(graph, exact=exact)
        self._header = [headline(graph), *summary(graph, exact=exact)]
        below = max((len(_below(label)) for label in self._operators), default=0)
        back = max((len(label.backward) for label in self._operators), default=0)
        self._layout = layout(
            graph,
            [_operator_width(label) for label in self._operators],
            [_variable_width(label) for label in self._variables],
            max(below, back) * LINE + 26,
        )
        self._runs_backward = any(operator.runs_backward for operator in graph.operators)

    # -- the page ---------------------------------------------------------------------------

    def document(self) -> str:
        lay = self._layout
        lines = _cut(lay.breaks, lay.width)
        top = MARGIN + TITLE + LINE * len(self._header) + 6
        widest = max(right - left for left, right in lines)
        legend, legend_width = self._legend()
        header = max(
            text_width(line, TITLE if not at else LETTER + 2)
            for at, line in enumerate(self._header)
        )
        width = max(widest, legend_width, header) + 2 * MARGIN
        picture, drawn = self._picture(), []
        for place, (left, right) in enumerate(lines):
            up, down = self._extent(left, right)
            shown = right - left
            drawn.append(
                f'<svg x="{_n(MARGIN)}" y="{_n(top)}" width="{_n(shown)}" height="{_n(up + down)}" '
                f'viewBox="{_n(left)} {_n(-up)} {_n(shown)} {_n(up + down)}" overflow="hidden">'
                + (picture if len(lines) == 1 else '<use href="#picture"/>')
                + "</svg>"
            )
            top += up + down + (24 if place + 1 < len(lines) else 0)
        top += 22
        height = top + 24 + MARGIN
        title = escape(self._header[0])
        shared = "" if len(lines) == 1 else f'<g id="picture">{picture}</g>'
        heads = [
            f'<text class="left{" title" if not at else " faint"}" x="{_n(MARGIN)}" '
            f'y="{_n(MARGIN + TITLE + at * (LINE + 2))}">{escape(line)}</text>'
            for at, line in enumerate(self._header)
        ]
        return "\n".join(
            (
                f'<svg xmlns="http://www.w3.org/2000/svg" width="{_n(width)}" '
                f'height="{_n(height)}" viewBox="0 0 {_n(width)} {_n(height)}" role="img">',
                f"<title>{title}</title>",
                f"<style>{STYLE}</style>",
                f"<defs>{ARROWS}{shared}</defs>",
                f'<rect width="{_n(width)}" height="{_n(height)}" '
                'style="fill:#FFFFFF;stroke:none"/>',
                *heads,
                *drawn,
                f'<g transform="translate({_n(MARGIN)} {_n(top)})">{legend}</g>',
                "</svg>\n",
            )
        )

    def _extent(self, left: float, right: float) -> tuple[float, float]:
        """How far a line of the picture reaches above and below the axis."""
        lay, up = self._layout, 0.0
        for point in lay.operators.values():
            if left <= point.x <= right:
                up = max(up, point.y + RADIUS)
        for place, point in lay.variables.items():
            if left <= point.x <= right:
                words = 3 * LINE + 8 if place in lay.above else 0
                up = max(up, point.y + SQUARE / 2 + words)
        for way in lay.reads.values():
            for one, other in pairwise(way):
                if min(one.x, other.x) <= right and max(one.x, other.x) >= left:
                    up = max(up, one.y + 6, other.y + 6)
        return up + 4, (up + 4 if self._runs_backward else 10.0)

    def _legend(self) -> tuple[str, float]:
        parts, x = [], 0.0

        def entry(shape: str, words: str, wide: float = 16) -> None:
            nonlocal x
            parts.append(
                f'<g transform="translate({_n(x)} 0)">{shape}</g>'
                f'<text class="left" x="{_n(x + wide + 6)}" y="12">{words}</text>'
            )
            x += wide + 6 + text_width(words) + 22

        square = '<rect{} x="1" y="1" width="14" height="14"/>'
        circle = '<circle cx="8" cy="8" r="7.5"/>'
        entry(square.format(""), "variable")
        entry(square.format(' class="given"'), "parameter, or given")
        entry(circle, "operator")
        if any(each.operators > 1 for each in self._graph.operators):
            ring = '<circle class="ring" cx="8" cy="8" r="4.5"/>'
            entry(circle + ring, "several operators")
        if any(variable.saved_bytes for variable in self._graph.variables):
            entry(square.format(' class="saved"'), "saved for backward")
            entry(
                '<path class="kept" d="M0 8h20" marker-end="url(#kept)"/>',
                "read again in backward",
                22,
            )
        if self._runs_backward:
            gradient = f'<g class="back">{square.format("")}</g>'
            entry(gradient, "gradient of the loss")
            entry(f'<g class="back">{circle}</g>', "backward of the operator above it")
        return "".join(parts), x

    # -- the picture ------------------------------------------------------------------------

    def _picture(self) -> str:
        kept = list(self._kept())
        forward = [*self._forward_arrows(), *self._forward_shapes()]
        back = [*self._back_arrows(), *self._back_shapes()] if self._runs_backward else []
        axis = f'<path class="axis" d="M0 0H{_n(self._layout.width)}"/>' if back else ""
        return (
            f"{axis}<g>{''.join(kept)}</g>\n<g>{''.join(forward)}</g>\n"
            f'<g class="back">{"".join(back)}</g>'
        )

    def _kept(self) -> Iterable[str]:
        """From what is saved to the backward that reads it."""
        lay = self._layout
        for index, operator in enumerate(self._graph.operators):
            for variable in operator.keeps if operator.runs_backward else ():
                start, end = lay.variables[variable], lay.operators[index]
                if variable in lay.above or abs(start.x - end.x) > FAR:
                    continue
                bend = Point(start.x, end.y - SQUARE / 2 - LINE)
                first = Point(start.x, SQUARE / 2 + 2 * LINE + 4 - start.y)
                last = _leave(end, bend, square=False)
                yield _path([first, bend, last], "kept", 'class="kept" ')

    def _forward_arrows(self) -> Iterable[str]:
        for (_, _), way in self._layout.reads.items():
            yield _path(_trimmed([_up(point) for point in way], from_square=True), "arrow")
        for way in self._layout.writes.values():
            yield _path(_trimmed([_up(point) for point in way], from_square=False), "arrow")

    def _back_arrows(self) -> Iterable[str]:
        graph, lay = self._graph, self._layout
        for index, operator in enumerate(graph.operators):
            if not operator.runs_backward:
                continue
            for variable in operator.gradients:
                way = list(reversed(lay.reads[variable, index]))
                yield _path(_trimmed(way, from_square=False), "back")
            for variable in operator.writes:
                if graph.variables[variable].has_gradient:
                    way = list(reversed(lay.writes[index, variable]))
                    yield _path(_trimmed(way, from_square=True), "back")

    def _forward_shapes(self) -> Iterable[str]:
        graph, lay = self._graph, self._layout
        for index, point in sorted(lay.variables.items()):
            variable, about = graph.variables[index], self._variables[index]
            kind = "saved" if variable.saved_bytes else ""
            if not kind and variable.kind not in ("value", "loss"):
                kind = "given"
            words, above = self._words(about), index in lay.above
            several = variable.tensors > 1
            square = self._square(_up(point), about.name, kind, words, above=above, several=several)
            yield f"<g>{square}<title>{escape(tooltip(variable))}</title></g>"
        for index, point in sorted(lay.operators.items()):
            label, operator = self._operators[index], graph.operators[index]
            x, y = _up(point)
            yield f"<g>{_circle(x, y, several=operator.operators > 1)}"
            yield _sign(x, y, label.sign)
            yield _block(x, y + RADIUS + 4, _below(label))
            yield f"<title>{escape(tooltip(operator))}</title></g>"

    def _back_shapes(self) -> Iterable[str]:
        graph, lay = self._graph, self._layout
        for index, point in sorted(lay.variables.items()):
            variable, about = graph.variables[index], self._variables[index]
            if not variable.has_gradient:
                continue
            words = self._words(about, saved=False) if index in lay.above else []
            several = variable.tensors > 1
            yield self._square(point, f"∂{about.name}", "", words, several=several)
        for index, point in sorted(lay.operators.items()):
            if not graph.operators[index].runs_backward:
                continue
            label, operator = self._operators[index], graph.operators[index]
            yield _circle(*point, several=operator.operators > 1)
            yield _sign(*point, label.sign)
            words = [("", line) for line in label.backward]
            yield _block(point.x, point.y - RADIUS - 4 - len(words) * LINE, words)

    @staticmethod
    def _words(label: VariableLabel, *, saved: bool = True) -> list[tuple[str, str]]:
        """The lines beside a variable, each with its class."""
        lines = [("small", line) for line in label.size]
        return [*lines, ("saved", label.saved)] if saved and label.saved else lines

    def _square(
        self,
        middle: Point,
        name: str,
        kind: str,
        words: Sequence[tuple[str, str]],
        *,
        several: bool,
        above: bool = False,
    ) -> str:
        """A variable.

        Args:
            several: whether it is drawn as a pile.
            above: whether its words are.
        """
        x, y = middle
        half = SQUARE / 2
        of = f' class="{kind}"' if kind else ""
        shape = "".join(
            f'<rect{of} x="{_n(x - half + shift)}" y="{_n(y - half - shift)}" '
            f'width="{_n(SQUARE)}" height="{_n(SQUARE)}"/>'
            for shift in ((6, 3, 0) if several else (0,))
        )
        top = y - half - 2 - len(words) * LINE - 6 * several if above else y + half + 3
        return shape + _letter(x, y, name) + _block(x, top, words)


def _below(label: OperatorLabel) -> list[tuple[str, str]]:
    """The lines below an operator, each with its class."""
    lines = [("name", label.name), ("faint", label.op), *(("", line) for line in label.forward)]
    if label.inside:
        lines.append(("saved", f"{label.inside} inside"))
    return [line for line in lines if line[1]]


def _operator_width(label: OperatorLabel) -> float:
    lines = [*(words for _, words in _below(label)), *label.backward]
    return max(text_width(line) for line in lines) + 6


def _variable_width(label: VariableLabel) -> float:
    return max(*(text_width(line, 9) for line in label.size), text_width(label.saved))


def _cut(breaks: Sequence[float], width: float) -> list[tuple[float, float]]:
    """The picture's lines, from and to where each goes; about as wide as each other."""
    count = max(1, -(-width // PAGE))
    lines, left = [], 0.0
    for number in range(1, int(count)):
        goal = left + (width - left) / (count - number + 1)
        fitting = [at for at in breaks if left < at <= left + PAGE]
        if not fitting:
            break
        at = min(fitting, key=lambda at: abs(at - goal))
        lines.append((left, at))
        left = at
    while width - left > PAGE and (fitting := [at for at in breaks if left < at <= left + PAGE]):
        lines.append((left, fitting[-1]))
        left = fitting[-1]
    return [*lines, (left, width)]


def _up(point: Point) -> Point:
    """A place of forward, as SVG has it: downwards."""
    return Point(point.x, -point.y)


def _leave(middle: Point, towards: Point, *, square: bool) -> Point:
    """Where a line from the middle of a shape to a point leaves it."""
    dx, dy = towards.x - middle.x, towards.y - middle.y
    length = hypot(dx, dy)
    if not length:
        return middle
    reach = SQUARE / 2 * length / max(abs(dx), abs(dy)) if square else RADIUS
    reach = min(reach + 1, length)
    return Point(middle.x + dx / length * reach, middle.y + dy / length * reach)


def _trimmed(way: Sequence[Point], *, from_square: bool) -> list[Point]:
    """A way from edge to edge; at one end there is a square, at the other a circle."""
    first = _leave(way[0], way[1], square=from_square)
    last = _leave(way[-1], way[-2], square=not from_square)
    return [first, *way[1:-1], last]


def _path(way: Sequence[Point], marker: str, attributes: str = "") -> str:
    """Straight lines with round corners, and an arrow's head at the end."""
    commands = [f"M{_n(way[0].x)} {_n(way[0].y)}"]
    for before, corner, after in zip(way, way[1:], way[2:], strict=False):
        into, out = _towards(corner, before), _towards(corner, after)
        commands.append(
            f"L{_n(into.x)} {_n(into.y)}Q{_n(corner.x)} {_n(corner.y)} {_n(out.x)} {_n(out.y)}"
        )
    commands.append(f"L{_n(way[-1].x)} {_n(way[-1].y)}")
    return f'<path {attributes}d="{"".join(commands)}" marker-end="url(#{marker})"/>'


def _towards(corner: Point, other: Point) -> Point:
    """A little way from a corner."""
    length = hypot(other.x - corner.x, other.y - corner.y)
    share = min(CORNER, length / 2) / length if length else 0.0
    return Point(corner.x + (other.x - corner.x) * share, corner.y + (other.y - corner.y) * share)


def _circle(x: float, y: float, *, several: bool) -> str:
    circle = f'<circle cx="{_n(x)}" cy="{_n(y)}" r="{_n(RADIUS)}"/>'
    if several:
        circle += f'<circle class="ring" cx="{_n(x)}" cy="{_n(y)}" r="{_n(RADIUS - 3)}"/>'
    return circle


def _letter(x: float, y: float, name: str) -> str:
    """A variable's name, with its index."""
    letter, _, index = name.partition("_")
    size, small = LETTER + 5, LETTER
    wide = sum(size * (0.85 if sign in "W×" else 0.55) for sign in letter)
    left = x - (wide + text_width(index, small)) / 2
    number = f'<text class="index" x="{_n(left + wide)}" y="{_n(y + 9)}">{index}</text>'
    return f'<text class="letter" x="{_n(left)}" y="{_n(y + 5)}">{escape(letter)}</text>' + (
        number if index else ""
    )


def _sign(x: float, y: float, sign: str) -> str:
    size = min(15.0, 13 * (2 * RADIUS - 10) / text_width(sign, 13))
    return (
        f'<text class="sign" x="{_n(x)}" y="{_n(y + size / 3)}" style="font-size:{_n(size)}px">'
        f"{escape(sign)}</text>"
    )


def _block(x: float, top: float, lines: Sequence[tuple[str, str]]) -> str:
    """Lines of text below each other, each with its class, on a ground that hides what passes
    behind them."""
    if not lines:
        return ""
    wide = max(text_width(words) for _, words in lines)
    plate = (
        f'<rect class="plate" x="{_n(x - wide / 2)}" y="{_n(top)}" width="{_n(wide)}" '
        f'height="{_n(len(lines) * LINE)}"/>'
    )
    return plate + "".join(
        _text(x, top + (line + 0.8) * LINE, words, kind) for line, (kind, words) in enumerate(lines)
    )


def _text(x: float, y: float, words: str, kind: str) -> str:
    of = f' class="{kind}"' if kind else ""
    return f'<text{of} x="{_n(x)}" y="{_n(y)}">{escape(words)}</text>'


def _n(number: float) -> str:
    """A coordinate."""
    return f"{round(number, 1) + 0.0:g}"
