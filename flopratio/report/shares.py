"""What a step comes to, as two small tables that are read at a glance: its phases, and what its
memory holds. Every line has its share of the whole as a bar."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from rich.table import Table
from rich.text import Text

from flopratio.ledger import Ledger
from flopratio.memory import CATEGORIES, Memory
from flopratio.report.table import GAP, ruled
from flopratio.report.units import Kind, choose, ratio_text, shorten

BAR = 24
"""Characters of a bar that is the whole."""

LEAST_BAR = 4
"""Characters of a bar below which it is left out."""

EIGHTHS = " ▏▎▍▌▋▊▉█"
"""Blocks of so many eighths of a character."""


class ShareLine(NamedTuple):
    """A line: a name, figures, and a share.

    Args:
        share: of the whole, from 0 to 1; None where it is no part of it.
    """

    name: str
    figures: tuple[str, ...]
    share: float | None = None


class Shares(NamedTuple):
    """A small table as text: what every rendering of it shows.

    Args:
        heading: of the names, the figures ahead of the share, and those after it.
        ahead: so many figures stand ahead of the share.
        lines: the parts of the whole.
        below: the whole, and what stands in relation to it.
    """

    heading: tuple[str, ...]
    ahead: int
    lines: tuple[ShareLine, ...]
    below: tuple[ShareLine, ...]

    @property
    def has_shares(self) -> bool:
        return any(line.share is not None for line in self.lines)


def phase_shares(ledger: Ledger, *, macs: bool = False, exact: bool = False) -> Shares:
    """FLOP of each phase that there is, with its ratio to forward; and the ratios of the step.

    The share is of all FLOP, products and elementwise. The ratios are of products, but that of the
    update, which is of all that it does.

    Args:
        macs: products in multiply-adds, half of their FLOP.
        exact: every digit.
    """
    phases = {
        name: phase for name, phase in ledger.phases.items() if phase.both or name == "forward"
    }
    part = 2 if macs else 1
    kind = Kind.MAC if macs else Kind.FLOP
    products = sum(phase.flops for phase in phases.values())
    elementwise = sum(phase.elementwise for phase in phases.values())
    forward = phases["forward"].flops
    of_products = choose([products // part], kind, exact=exact)
    of_elementwise = choose([elementwise], Kind.FLOP, exact=exact)

    def line(name: str, flops: int, others: int, share: float, ratio: str) -> ShareLine:
        figures = of_products.format(flops // part), of_elementwise.format(others), ratio
        return ShareLine(name, figures, share)

    def ratio(name: str) -> str:
        phase = phases[name]
        compared = phase.both if name == "update" else phase.flops
        return ratio_text(compared / forward) if forward else ""

    whole = products + elementwise
    return Shares(
        (
            "phase",
            f"products\n{of_products.name}",
            f"element-\nwise\n{of_elementwise.name}",
            "share\nof both",
            "ratio to\nforward",
        ),
        2,
        tuple(
            line(
                name,
                phase.flops,
                phase.elementwise,
                phase.both / whole if whole else 0.0,
                ratio(name),
            )
            for name, phase in phases.items()
        ),
        (
            *(
                [ShareLine("total", line("", products, elementwise, 0.0, "").figures)]
                if len(phases) > 1
                else []
            ),
            *(ShareLine(name, ("", "", text)) for name, text in _ratios(ledger).items()),
        ),
    )


def no_ratio(ledger: Ledger) -> str:
    """Why a step has no ratio of backward to forward; empty if it has."""
    if not ledger.totals.forward:
        return "none: forward has no products to divide by"
    if not any(row.phase in ("grad_input", "grad_weight") for row in ledger.rows):
        return "none: no backward ran"
    return ""


def _ratios(ledger: Ledger) -> dict[str, str]:
    """What the ratios of a step are called, and their texts; none where there are none."""
    if no_ratio(ledger):
        return {}
    ratio = ledger.ratio
    found = {
        "backward : forward": ratio.backward_to_forward,
        "… with elementwise": ratio.with_elementwise,
    }
    if ledger.totals.recompute:
        found["… with recompute"] = ratio.hardware
    if ledger.totals.update:
        found["… with update"] = ratio.with_update
    return {name: ratio_text(value) for name, value in found.items()}


# -- memory ---------------------------------------------------------------------------------------

SAVED = "saved_activations"

PEAKS = {
    "peak_allocated": "allocated",
    "peak_reserved": "reserved",
    "inference_peak": "inference",
    "first_step_peak": "first step",
}
"""Figures beside the peak -> what they are called."""


def at_peak(memory: Memory) -> dict[str, int]:
    """Category -> its bytes at the peak, the largest first; empty where only figures are known."""
    if not memory.knows_blocks:
        return {}
    return largest_first(memory.at_peak.by_category)


def largest_first(nbytes: Mapping[str, int]) -> dict[str, int]:
    """What there is something of, the largest first."""
    filled = [(name, size) for name, size in nbytes.items() if size]
    return dict(sorted(filled, key=lambda item: -item[1]))


def memory_shares(memory: Memory, *, exact: bool = False) -> Shares | None:
    """What is alive at the peak, and the figures that are held against it; None where no figure is
    known. Where it isn't known what is alive when, the most of each category, without shares."""
    parts = at_peak(memory)
    figures = {
        name: figure
        for name, figure in memory.items()
        if isinstance(figure, int) and not isinstance(figure, bool)
    }
    peak, phase = figures.get("peak"), memory.get("peak_phase")
    heading = f"memory at the peak, in {phase}" if phase else "memory at the peak"
    if not parts:
        parts = {name: figures[name] for name in CATEGORIES if figures.get(name)}
        heading = "memory, the most at once"
    below = {"peak": peak} if peak is not None else {}
    below |= {
        called: figures[name]
        for name, called in PEAKS.items()
        if name in figures and not (name == "first_step_peak" and figures[name] == peak)
    }
    if memory.knows_blocks and figures.get(SAVED, 0) > parts.get(SAVED, 0):
        below["saved activations, at most"] = figures[SAVED]
    return share_of(heading, parts, below, peak if memory.knows_blocks else None, exact=exact)


def share_of(
    heading: str,
    parts: Mapping[str, int],
    below: Mapping[str, int],
    whole: int | None,
    *,
    exact: bool = False,
) -> Shares | None:
    """Bytes and their shares.

    Args:
        parts, below: name -> bytes.
        whole: what the shares are of; None: there are none.
    """
    if not parts and not below:
        return None
    unit = choose([*parts.values(), *below.values()], Kind.BYTES, exact=exact)
    return Shares(
        (heading, unit.name, "share"),
        1,
        tuple(
            ShareLine(
                name.replace("_", " "),
                (unit.format(nbytes),),
                nbytes / whole if whole else None,
            )
            for name, nbytes in parts.items()
        ),
        tuple(ShareLine(name, (unit.format(nbytes),)) for name, nbytes in below.items()),
    )


# -- on a terminal --------------------------------------------------------------------------------


def percent(share: float | None) -> str:
    """``34.1%``; ``<0.1%`` in place of a zero that is only rounded."""
    if share is None:
        return ""
    return "<0.1%" if 0 < share < 0.0005 else f"{share:.1%}"


def bar(share: float, width: int = BAR) -> str:
    """The share of a bar of so many characters; the least that can be seen of what is not zero."""
    eighths = round(8 * width * share)
    if share > 0:
        eighths = max(eighths, 1)
    return EIGHTHS[8] * (eighths // 8) + EIGHTHS[eighths % 8].strip()


def share_table(shares: Shares, *, width: int | None = None) -> Table:
    """The table for a terminal.

    Args:
        width: of the terminal in characters: where there is no room for them, bars are shorter or
            left out, then the shares, and names are shortened. None: as wide as it needs to be.
    """
    names = [line.name for line in shares.lines]
    names_below = [line.name for line in shares.below]
    percents = [percent(line.share) for line in shares.lines]
    headings = [heading.splitlines() for heading in shares.heading]
    share_heading = headings[1 + shares.ahead]
    columns = [
        _Column(
            heading,
            [line.figures[number] for line in shares.lines],
            [line.figures[number] for line in shares.below],
        )
        for number, heading in enumerate(
            (*headings[1 : 1 + shares.ahead], *headings[2 + shares.ahead :])
        )
    ]
    name_width = max(map(len, (*headings[0], *names, *names_below)))
    percent_width = max(map(len, (*share_heading, *percents)))
    has_shares, bar_width = shares.has_shares, BAR
    if width is not None:
        room = width - sum(GAP + column.width for column in columns)
        has_shares &= room >= name_width + GAP + percent_width
        bar_width = min(BAR, room - name_width - GAP - percent_width - 1)
        name_width = max(min(name_width, room), 1)
    if has_shares:
        bars = [
            f"{text:>{percent_width}} {bar(line.share or 0.0, bar_width)}"
            if bar_width >= LEAST_BAR
            else f"{text:>{percent_width}}"
            for text, line in zip(percents, shares.lines, strict=True)
        ]
        columns.insert(shares.ahead, _Column(share_heading, bars, [""], "left"))
    table = ruled(show_footer=bool(shares.below))
    columns.insert(0, _Column(headings[0], names, names_below, "left", name_width))
    for column in columns:
        table.add_column(
            *("\n".join(part) for part in (column.heading, column.short(column.below))),
            width=column.width,
            justify=column.justify,
            no_wrap=True,
            vertical="bottom",
        )
    for line in zip(*(column.short(column.texts) for column in columns), strict=True):
        table.add_row(*map(Text, line))
    return table


class _Column:
    """A column of texts.

    Args:
        heading: its lines.
        texts, below: of the lines, and of those below them.
        width: in characters; as wide as it needs to be unless given.
    """

    def __init__(
        self,
        heading: Sequence[str],
        texts: Sequence[str],
        below: Sequence[str],
        justify: Literal["left", "right"] = "right",
        width: int | None = None,
    ) -> None:
        self.heading, self.texts, self.below, self.justify = heading, texts, below, justify
        self.width = max(map(len, (*heading, *texts, *below))) if width is None else width

    def short(self, texts: Iterable[str]) -> list[str]:
        """The texts in the width of the column."""
        return [shorten(text, self.width) for text in texts]
