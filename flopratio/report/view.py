"""A view of a ledger: its rows summed by layer, type, operator, phase or autograd node."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeVar

from flopratio.errors import UsageError
from flopratio.ledger import PHASES, ROOT, LayerTotals, Ledger, Row
from flopratio.report.units import Kind, ratio_text
from flopratio.text.grammar import unknown

if TYPE_CHECKING:
    from flopratio.roofline import Prediction

NO_TYPE = "(none)"
"""The type of what no module ran."""

RECOMPUTE = "(recompute)"
"""Where the operators stand that checkpointing runs again inside of backward."""


@dataclass(frozen=True)
class Line(LayerTotals):
    """Some rows of a ledger, summed as a layer's are.

    Args:
        elementwise: arithmetic apart from products, of all phases but the update.
        rows: how many; an operator has one a phase.
        layers: how many they come from.
        parts: the lines that this one is the sum of, where the view shows them below it.
    """

    elementwise: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    rows: int = 0
    layers: int = 0
    parts: tuple[Line, ...] = ()

    @property
    def products(self) -> int:
        """Contractions of all phases but the update."""
        return self.forward + self.backward + self.recompute


@dataclass(frozen=True)
class Column:
    """A column of figures.

    Args:
        name: the attribute of a :class:`Line`.
        heading: what it is called, in the pieces in which a narrow heading may stand.
        kind: of its unit; None for what :attr:`text` writes.
        product: counts contractions, which share one unit, and are MAC on request.
        optional: left out where all its figures are 0.
        text: writes a figure without a unit: a ratio, unless given.
    """

    name: str
    heading: tuple[str, ...]
    kind: Kind | None
    product: bool = False
    optional: bool = False
    text: Callable[[Any], str] = ratio_text

    def figure(self, line: Line) -> Any:
        """The line's figure: an int, or what :attr:`text` writes where it has no unit."""
        return getattr(line, self.name)


COLUMNS = {
    column.name: column
    for column in (
        Column("layers", ("layers",), Kind.ITEMS),
        Column("rows", ("rows",), Kind.ITEMS),
        Column("products", ("products",), Kind.FLOP, product=True),
        Column("forward", ("forward",), Kind.FLOP, product=True),
        Column("grad_input", ("grad_", "input"), Kind.FLOP, product=True),
        Column("grad_weight", ("grad_", "weight"), Kind.FLOP, product=True),
        Column("backward", ("backward",), Kind.FLOP, product=True),
        Column("recompute", ("recompute",), Kind.FLOP, product=True, optional=True),
        Column("ratio", ("ratio",), None),
        Column("elementwise", ("element-", "wise"), Kind.FLOP),
        Column("elementwise_recompute", ("of it", "recomputed"), Kind.FLOP, optional=True),
        Column("update", ("update",), Kind.FLOP, optional=True),
        Column("parameters", ("parameters",), Kind.PARAMETERS),
        Column("saved_bytes", ("saved",), Kind.BYTES),
        Column("bytes_read", ("read",), Kind.BYTES),
        Column("bytes_written", ("written",), Kind.BYTES),
    )
}

_GRADIENTS = ("grad_input", "grad_weight", "recompute")
_ELEMENTWISE = ("elementwise", "elementwise_recompute")
_LAYER = ("forward", *_GRADIENTS, "ratio", *_ELEMENTWISE, "update", "parameters", "saved_bytes")
_MOVED = ("bytes_read", "bytes_written")

VIEWS = {
    "layer": _LAYER,
    "type": ("layers", *_LAYER),
    "op": ("rows", "forward", *_GRADIENTS, *_ELEMENTWISE, "update", *_MOVED, "saved_bytes"),
    "phase": ("rows", "products", "elementwise", "update", *_MOVED, "saved_bytes"),
    "autograd": ("rows", *_GRADIENTS, "elementwise", *_MOVED),
}
"""What the rows may be summed by, and the columns that each shows."""

SORTABLE = ("name", "type", *COLUMNS)


@dataclass(frozen=True)
class View:
    """What a table shows.

    Args:
        by: what the rows are summed by.
        lines: in the order of the table.
        total: of all lines, also of those left out.
        columns: those with something in them.
        left_out: how many lines more there are.
        macs: contractions are shown in multiply-adds, half as many.
        exact: every figure is shown to the last digit.
        line_of: the name of the line that a row is in, listed or not; None if it is in none.
        prediction: what the step should take on a device, to be shown too.
    """

    by: str
    lines: tuple[Line, ...]
    total: Line
    columns: tuple[Column, ...]
    left_out: int = 0
    macs: bool = False
    exact: bool = False
    line_of: Callable[[Row], str | None] = attrgetter("layer")
    prediction: Prediction | None = None


def check_view(by: str, sort: str | None) -> None:
    """Check the words of a view before anything is counted for it.

    Raises:
        UsageError: no such view, or no such column; the nearest is suggested.
    """
    check_words(by, sort, views=VIEWS, sortable=SORTABLE)


def check_words(
    by: str, sort: str | None, *, views: Iterable[str], sortable: Iterable[str]
) -> None:
    """As :func:`check_view`, for other views and columns."""
    if by not in views:
        raise unknown("view", by, views)
    if sort is not None and sort not in sortable:
        raise unknown("column", sort, sortable)


def view(
    ledger: Ledger,
    *,
    by: str = "layer",
    depth: int | None = None,
    sort: str | None = None,
    top: int = 0,
    macs: bool = False,
    exact: bool = False,
    prediction: Prediction | None = None,
) -> View:
    """Sum a ledger's rows.

    Args:
        by: one of :data:`VIEWS`. ``autograd`` has the rows of backward alone.
        depth: a layer is folded into the module whose path ends before its ``depth``-th dot, and
            so is its type; 0 folds all into the model.
        sort: a column: figures fall, names rise. Otherwise lines come as they first ran.
        top: keep the first so many lines; 0 keeps all.
        macs, exact, prediction: see :class:`View`.

    Raises:
        UsageError: as :func:`check_view` says, or a negative ``depth`` or ``top``.
    """
    check_view(by, sort)
    check_limits(depth, top)

    types = {row.layer: row.type for row in ledger.rows} | ledger.types

    def layer(row: Row) -> str:
        return folded(row.layer, depth)

    def kind(name: str) -> str:
        return types.get(folded(name, depth), "")

    keys: dict[str, Callable[[Row], str]] = {
        "layer": layer,
        "type": lambda row: kind(row.layer),
        "op": lambda row: row.op,
        "phase": lambda row: row.phase,
        "autograd": lambda row: row.autograd or RECOMPUTE,
    }
    key, unnamed = keys[by], {"layer": ROOT, "type": NO_TYPE}.get(by, "")

    def is_in(row: Row) -> bool:
        return by != "autograd" or row.autograd != "" or row.phase == "recompute"

    rows = list(filter(is_in, ledger.rows))
    groups = _groups(rows, key)
    if by == "layer":
        parameters = _sums((folded(name, depth), n) for name, n in ledger.parameters.items())
        lines = [
            _line(name or ROOT, types.get(name, ""), group, layer, parameters.get(name, 0))
            for name, group in groups.items()
        ]
    elif by == "type":
        parameters = _sums((kind(name), n) for name, n in ledger.parameters.items())
        lines = [
            _line(name or NO_TYPE, "", group, layer, parameters.get(name, 0))
            for name, group in groups.items()
        ]
    elif by == "op":
        lines = [_line(name, "", group, layer) for name, group in groups.items()]
    elif by == "phase":
        lines = [_line(name, "", groups[name], layer) for name in PHASES if name in groups]
    else:
        lines = [_node(name, group, layer, sort) for name, group in groups.items()]
    return first_lines(
        by,
        sorted_lines(lines, sort, COLUMNS),
        _line("total", "", rows, layer, sum(ledger.parameters.values())),
        [COLUMNS[name] for name in VIEWS[by]],
        top=top,
        macs=macs,
        exact=exact,
        line_of=lambda row: (key(row) or unnamed) if is_in(row) else None,
        prediction=prediction,
    )


def check_limits(depth: int | None, top: int) -> None:
    """Check the numbers of a view.

    Raises:
        UsageError: one of them is negative.
    """
    if min(depth or 0, top) < 0:
        raise UsageError(f"depth={depth} and top={top} should be at least 0")


def first_lines(
    by: str,
    lines: Sequence[Line],
    total: Line,
    columns: Iterable[Column],
    *,
    top: int,
    **further: Any,
) -> View:
    """The view of the first ``top`` lines, all if that is 0, and of those columns that have
    something in them.

    Args:
        further: see :class:`View`.
    """
    shown = tuple(lines[: top or None])
    filled = tuple(column for column in columns if not column.optional or column.figure(total))
    return View(by, shown, total, filled, left_out=len(lines) - len(shown), **further)


def folded(name: str, depth: int | None) -> str:
    """The path of the module that a layer is folded into, see :func:`view`."""
    return name if depth is None else ".".join(name.split(".")[:depth])


def _groups(rows: Iterable[Row], key: Callable[[Row], str]) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups


def _sums(figures: Iterable[tuple[str, int]]) -> dict[str, int]:
    sums: dict[str, int] = {}
    for name, figure in figures:
        sums[name] = sums.get(name, 0) + figure
    return sums


def _line(
    name: str,
    kind: str,
    rows: Sequence[Row],
    layer: Callable[[Row], str],
    parameters: int = 0,
    parts: tuple[Line, ...] = (),
) -> Line:
    totals = Ledger(list(rows), parameters={"": parameters}).totals
    figures: Mapping[str, Any] = {**asdict(totals), "name": name, "type": kind}
    return Line(
        **figures,
        elementwise=sum(row.elementwise for row in rows if row.phase != "update"),
        bytes_read=sum(row.bytes_read for row in rows),
        bytes_written=sum(row.bytes_written for row in rows),
        rows=len(rows),
        layers=len({layer(row) for row in rows}),
        parts=parts,
    )


def _node(name: str, rows: Sequence[Row], layer: Callable[[Row], str], sort: str | None) -> Line:
    """An autograd node, and the operators that it runs."""
    groups = _groups(rows, lambda row: row.op)
    parts = [_line(op, "", group, layer) for op, group in groups.items()]
    return _line(name, "", rows, layer, parts=tuple(sorted_lines(parts, sort, COLUMNS)))


AnyLine = TypeVar("AnyLine", bound=Line)


def sorted_lines(
    lines: list[AnyLine], sort: str | None, columns: Mapping[str, Column]
) -> list[AnyLine]:
    """Lines by a column: figures fall, names rise; as they are if there is none to sort by."""
    if sort is None:
        return lines
    if sort in ("name", "type"):
        return sorted(lines, key=lambda line: str(getattr(line, sort)))
    column = columns[sort]

    def figure(line: Line) -> float:
        figure = column.figure(line)
        return float("-inf") if figure is None else figure

    return sorted(lines, key=figure, reverse=True)
