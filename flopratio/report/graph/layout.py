"""Where each variable and operator of a graph stands, and the ways of the arrows between them.

Forward runs from left to right through columns, in which operators and the values that they make
take turns. The way on which most of it lies is a straight line, the lane next to the axis; what
branches off has lanes of its own above, and an arrow that would run through something goes around
it on a free lane. Parameters stand above the operator that first reads them. Backward is forward's
mirror image below the axis: a gradient stands below its variable, and so nothing of it need be laid
out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import NamedTuple

from flopratio.verbs.graph.graph import Graph

SQUARE, RADIUS = 46.0, 26.0
"""The side of a variable's square and the radius of an operator's circle."""

GAP, SIDE_GAP = 30.0, 12.0
"""Between columns, which arrows go through; between parameters side by side."""

EDGE = 2.0
"""Left and right of it all, for the width of lines."""

LINE = 12.0
"""From one line of text to the next."""

THIN_LANE = 26.0
"""The height of a lane on which there are arrows only."""

BESIDE = 5.0
"""Between the arrows that turn in the same gap."""


class Point(NamedTuple):
    """A place: from the left, and above the axis."""

    x: float
    y: float


@dataclass(frozen=True)
class Layout:
    """A graph on a plane.

    Args:
        variables: index -> the middle of its square.
        operators: index -> the middle of its circle.
        above: variables that stand above an operator.
        reads: (variable, operator) -> the way of the arrow between them.
        writes: (operator, variable) -> likewise.
        breaks: where the picture may be cut, from left to right.
        width, height: of forward, from the left and above the axis.
    """

    variables: dict[int, Point]
    operators: dict[int, Point]
    above: frozenset[int]
    reads: dict[tuple[int, int], tuple[Point, ...]]
    writes: dict[tuple[int, int], tuple[Point, ...]]
    breaks: tuple[float, ...]
    width: float
    height: float


def layout(
    graph: Graph,
    operator_widths: Sequence[float],
    variable_widths: Sequence[float],
    label_height: float,
) -> Layout:
    """Lay a graph out.

    Args:
        operator_widths, variable_widths: of each one's words.
        label_height: of the words below a circle.
    """
    return _Laying(graph, operator_widths, variable_widths, label_height).laid()


Node = tuple[str, int]
"""``("operator" or "variable", index)``."""

Lane = tuple[int, int]
"""Its group, and its number in that; from the axis up."""

MAIN: Lane = (0, 0)
AROUND, BRANCHES, ABOVE_ALL = 1, 2, 3
"""Groups of lanes: for arrows around what stands on the main one, for what branches off, for the
arrows of parameters that stand there."""


@dataclass
class _Lanes:
    """Which columns of each lane are taken."""

    taken: defaultdict[Lane, list[tuple[int, int]]] = field(
        default_factory=lambda: defaultdict(list)
    )

    def is_free(self, lane: Lane, first: int, last: int) -> bool:
        return all(last < start or first > end for start, end in self.taken[lane])

    def take(self, lane: Lane, first: int, last: int) -> None:
        if first <= last:
            self.taken[lane].append((first, last))

    def free_lane(self, group: int, first: int, last: int) -> Lane:
        """The lowest lane of a group that is free there; taken from now on."""
        lane = next(
            lane for number in count() if self.is_free(lane := (group, number), first, last)
        )
        self.take(lane, first, last)
        return lane


class _Laying:
    def __init__(
        self,
        graph: Graph,
        operator_widths: Sequence[float],
        variable_widths: Sequence[float],
        label_height: float,
    ) -> None:
        self._graph = graph
        self._operator_widths, self._variable_widths = operator_widths, variable_widths
        self._label_height = label_height
        self._left = self._starts()
        self._above = self._stacks()
        self._columns = self._in_columns()
        self._lanes = _Lanes()
        self._lane_of: dict[Node, Lane] = {}
        self._around: dict[tuple[int, int], Lane] = {}
        """(variable, operator) -> the lane on which the arrow between them goes."""

    def laid(self) -> Layout:
        self._place_in_lanes()
        self._route_around()
        x, breaks, width = self._horizontally()
        y, height = self._vertically()
        variables: dict[int, Point] = {}
        operators: dict[int, Point] = {}
        for (kind, index), column in self._columns.items():
            point = Point(x[column], y[self._lane_of[kind, index]])
            (operators if kind == "operator" else variables)[index] = point
        for index, above in self._above.items():
            middle = operators[index]
            step = self._square_width(above) + SIDE_GAP
            for place, variable in enumerate(above):
                shift = (place - (len(above) - 1) / 2) * step
                variables[variable] = Point(middle.x + shift, middle.y + self._rise)
        reads = {
            (variable, index): self._way(variable, index, variables, operators, y)
            for index, operator in enumerate(self._graph.operators)
            for variable in operator.reads
        }
        writes: dict[tuple[int, int], tuple[Point, ...]] = {
            (index, variable): (operators[index], variables[variable])
            for index, operator in enumerate(self._graph.operators)
            for variable in operator.writes
        }
        above_all = frozenset(v for above in self._above.values() for v in above)
        return Layout(variables, operators, above_all, reads, writes, breaks, width, height)

    # -- columns ----------------------------------------------------------------------------

    def _starts(self) -> set[int]:
        """The variables that stand at the left of what reads them: of an operator that reads
        nothing that is made, an input, or else a constant."""
        graph, left = self._graph, set[int]()
        for operator in graph.operators:
            given = [v for v in operator.reads if v not in graph.maker]
            if len(given) < len(operator.reads) or left.intersection(given):
                continue
            for kind in ("input", "constant"):
                of_kind = [v for v in given if graph.variables[v].kind == kind]
                if of_kind:
                    left.add(of_kind[0])
                    break
        return left

    def _stacks(self) -> dict[int, list[int]]:
        """Operator -> the variables that stand above it: what is given, of which it is the first
        reader."""
        graph, above = self._graph, defaultdict[int, list[int]](list)
        for variable in range(len(graph.variables)):
            if variable not in graph.maker and variable not in self._left:
                readers = graph.readers.get(variable)
                if readers:
                    above[readers[0]].append(variable)
        return dict(above)

    def _in_columns(self) -> dict[Node, int]:
        """Each as far left as it can be; what depends on parameters alone as far right."""
        graph = self._graph
        columns: dict[Node, int] = {}
        rooted = set(self._left)
        for index, operator in enumerate(graph.operators):
            before = [columns.get(("variable", v), 0) for v in self._on_lanes(operator.reads)]
            column = 1 + max(before, default=0)
            columns["operator", index] = column
            for variable in operator.writes:
                columns["variable", variable] = column + 1
            if not rooted.isdisjoint(operator.reads):
                rooted.update(operator.writes)
        for index in reversed(range(len(graph.operators))):
            operator = graph.operators[index]
            readers = [r for v in operator.writes for r in graph.readers.get(v, ())]
            if readers and rooted.isdisjoint(operator.reads):
                column = min(columns["operator", reader] for reader in readers) - 2
                columns["operator", index] = column
                for variable in operator.writes:
                    columns["variable", variable] = column + 1
        for variable in self._left:
            readers = list(graph.readers[variable])
            first = min(columns["operator", reader] for reader in readers)
            columns["variable", variable] = first - 1
        return columns

    def _on_lanes(self, variables: Sequence[int]) -> list[int]:
        """Those of some variables that stand in columns of their own."""
        return [v for v in variables if v in self._graph.maker or v in self._left]

    # -- lanes ------------------------------------------------------------------------------

    def _before(self, node: Node) -> list[Node]:
        kind, index = node
        if kind == "operator":
            reads = self._graph.operators[index].reads
            return [("variable", v) for v in self._on_lanes(reads)]
        return [("operator", self._graph.maker[index])] if index in self._graph.maker else []

    def _after(self, node: Node) -> list[Node]:
        kind, index = node
        if kind == "operator":
            return [("variable", v) for v in self._graph.operators[index].writes]
        return [("operator", reader) for reader in self._graph.readers.get(index, ())]

    def _place_in_lanes(self) -> None:
        """The longest way on the main lane, and then chain by chain what is left, on the lowest
        free one."""
        order = sorted(self._columns, key=lambda node: (-self._columns[node], node))
        losses = [
            ("variable", index)
            for index, variable in enumerate(self._graph.variables)
            if variable.kind == "loss"
        ]
        for last in (*losses[-1:], *order):
            if last in self._lane_of:
                continue
            chain = [last]
            while before := [n for n in self._before(chain[-1]) if n not in self._lane_of]:
                chain.append(max(before, key=lambda node: self._columns[node]))
            at = [self._columns[node] for node in chain]
            first, end = min(at), max(at)
            entering = [self._columns[n] for n in self._before(chain[-1]) if n in self._lane_of]
            leaving = [self._columns[n] for n in self._after(last) if n in self._lane_of]
            if self._lane_of:
                first = min([first, *(column + 1 for column in entering)])
                end = max([end, *(min(leaving) - 1 for _ in leaving[:1])])
                lane = self._lanes.free_lane(BRANCHES, first, end)
            else:
                lane = MAIN
                self._lanes.take(MAIN, 0, end)
            self._lane_of.update(dict.fromkeys(chain, lane))

    def _route_around(self) -> None:
        """A lane for every arrow that does not end in the next column."""
        for index, operator in enumerate(self._graph.operators):
            to = self._columns["operator", index]
            for variable in operator.reads:
                if ("variable", variable) in self._columns:
                    node: Node = ("variable", variable)
                    start = self._columns[node] + 1
                    own, goal = self._lane_of[node], self._lane_of["operator", index]
                    self._around[variable, index] = self._lane_between(start, to - 1, own, goal)
                elif index != self._graph.readers[variable][0]:
                    first = ("operator", self._graph.readers[variable][0])
                    start, end = sorted((self._columns[first], to - 1))
                    group = AROUND if self._lane_of[first] == MAIN else ABOVE_ALL
                    self._around[variable, index] = self._lanes.free_lane(group, start, end)

    def _lane_between(self, first: int, last: int, own: Lane, goal: Lane) -> Lane:
        if first > last:
            return goal
        for lane in (own, goal):
            if self._is_own_chain(lane, first, last) or self._lanes.is_free(lane, first, last):
                self._lanes.take(lane, first, last)
                return lane
        return self._lanes.free_lane(AROUND, first, last)

    def _is_own_chain(self, lane: Lane, first: int, last: int) -> bool:
        """Whether nothing stands on a lane there, though a chain that comes from there or goes
        there has taken it."""
        if lane == MAIN:
            return False
        standing = (self._columns[n] for n, of in self._lane_of.items() if of == lane)
        if any(first <= column <= last for column in standing):
            return False
        return not any(
            around == lane and self._crosses(pair, first, last)
            for pair, around in self._around.items()
        )

    def _crosses(self, pair: tuple[int, int], first: int, last: int) -> bool:
        """Whether an arrow that has been routed passes some columns."""
        variable, index = pair
        start = self._columns.get(("variable", variable))
        if start is None:
            start = self._columns["operator", self._graph.readers[variable][0]] - 1
        end = self._columns["operator", index]
        return start < last + 1 and end > first

    # -- coordinates ------------------------------------------------------------------------

    @property
    def _rise(self) -> float:
        """From the middle of a circle to that of the squares above it."""
        return RADIUS + 24 + SQUARE / 2

    def _square_width(self, variables: Sequence[int]) -> float:
        return max(SQUARE, *(self._variable_widths[variable] for variable in variables))

    def _node_width(self, node: Node) -> float:
        kind, index = node
        if kind == "variable":
            return max(SQUARE, self._variable_widths[index])
        above = self._above.get(index, [])
        step = self._square_width(above) + SIDE_GAP if above else 0
        return max(2 * RADIUS, self._operator_widths[index], len(above) * step - SIDE_GAP)

    def _horizontally(self) -> tuple[dict[int, float], tuple[float, ...], float]:
        """Column -> its middle; the gaps before operators; the right end."""
        widths: defaultdict[int, float] = defaultdict(float)
        for node, column in self._columns.items():
            widths[column] = max(widths[column], self._node_width(node))
        turning: defaultdict[int, set[Lane]] = defaultdict(set)
        for (_, index), lane in self._around.items():
            turning[self._columns["operator", index]].add(lane)
        middles: dict[int, float] = {}
        breaks: list[float] = []
        right = EDGE
        self._gaps: dict[int, float] = {}
        for column in sorted(widths):
            gap = GAP + BESIDE * max(0, len(turning[column]) - 1) if middles else 0.0
            self._gaps[column] = right + GAP / 2
            if middles and column % 2:
                breaks.append(right + gap / 2)
            left = right + gap
            middles[column] = left + widths[column] / 2
            right = left + widths[column]
        return middles, tuple(breaks), right + EDGE

    def _vertically(self) -> tuple[dict[Lane, float], float]:
        """Lane -> its middle; the upper end."""
        used = {*self._lane_of.values(), *self._around.values()}
        with_nodes = set(self._lane_of.values())
        with_above = {self._lane_of["operator", index] for index in self._above}
        middles: dict[Lane, float] = {}
        top = 0.0
        for lane in sorted(used):
            if lane in with_nodes:
                middles[lane] = top + self._label_height + RADIUS
                top = middles[lane] + RADIUS
                if lane in with_above:
                    top += 24 + SQUARE + 3 * LINE
            else:
                middles[lane] = top + THIN_LANE / 2
                top += THIN_LANE
        return middles, top

    def _way(
        self,
        variable: int,
        index: int,
        variables: dict[int, Point],
        operators: dict[int, Point],
        y: dict[Lane, float],
    ) -> tuple[Point, ...]:
        """The way of an arrow from a variable to an operator, with its corners."""
        start, end = variables[variable], operators[index]
        lane = self._around.get((variable, index))
        if lane is None:  # it stands above
            return start, end
        column = self._columns["operator", index]
        beside = sorted(
            {
                around
                for (_, other), around in self._around.items()
                if self._columns["operator", other] == column
            }
        )
        turn = self._gaps[column] + BESIDE * beside.index(lane)
        height = y[lane]
        corners = [start]
        node: Node = ("variable", variable)
        if node not in self._columns or (height != start.y and self._columns[node] + 1 < column):
            corners += [Point(start.x, height)]
        if height != end.y or start.y != end.y:
            corners += [Point(turn, height if len(corners) > 1 else start.y)]
            corners += [Point(turn, end.y)]
        return (*corners, end)
