"""Several steps side by side: the figures of each, and every layer that one of them has."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from flopratio.ledger import ROOT, LayerTotals, Ledger
from flopratio.report.shares import at_peak
from flopratio.report.summary import headline
from flopratio.report.units import Kind, choose, ratio_text
from flopratio.verbs.saved import SavedStep

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

TIMES = ("forward", "backward", "update", "step")
"""The measured phases."""


class Figures(NamedTuple):
    """A figure of each step.

    Args:
        values: of each step; None where it isn't known.
        texts: of each step, in one unit.
    """

    name: str
    values: list[Any]
    texts: list[str]

    @property
    def relative(self) -> list[str]:
        """Each step's figure over that of the first; empty where that says nothing."""
        first, *others = self.values
        return ["", *(_relative(first, other) for other in others)]


def _relative(first: Any, other: Any) -> str:
    is_known = all(isinstance(value, (int, float)) for value in (first, other))
    if not is_known or not first or first == other:
        return ""
    return f"{other / first:,.3g} ×"


def name_of(number: int) -> str:
    """What a step is called in a table: ``A``, ``B``, …"""
    more, place = divmod(number, len(LETTERS))
    return LETTERS[place] + (str(more) if more else "")


def titles(steps: Sequence[SavedStep]) -> list[str]:
    """What each step is, with its file where that is known."""
    return [
        f"{name_of(number)}: {headline(step.ledger)}{f' ({step.name})' if step.name else ''}"
        for number, step in enumerate(steps)
    ]


def figures(steps: Sequence[SavedStep]) -> list[Figures]:
    """The figures that one of the steps has."""
    ledgers = [step.ledger for step in steps]
    found = [
        _counts(name, [getattr(ledger.totals, name) for ledger in ledgers], kind)
        for name, kind in COUNTED.items()
    ]
    found += [
        _ratios("backward : forward", [ledger.ratio.backward_to_forward for ledger in ledgers]),
        _ratios("… with elementwise", [ledger.ratio.with_elementwise for ledger in ledgers]),
    ]
    if any(ledger.totals.recompute for ledger in ledgers):
        found.append(_ratios("… with recompute", [ledger.ratio.hardware for ledger in ledgers]))
    if any(ledger.totals.update for ledger in ledgers):
        found.append(_ratios("… with update", [ledger.ratio.with_update for ledger in ledgers]))
    found += [
        _counts(name, [_known(ledger.memory.get(name)) for ledger in ledgers], Kind.BYTES)
        for name in ("peak", "peak_allocated", "peak_reserved", "inference_peak")
    ]
    profiles = [step.profile for step in steps]
    found += [
        _counts(
            f"{phase}, measured",
            [
                None if each is None else round(1e6 * getattr(each.timing, f"{phase}_ms").median)
                for each in profiles
            ],
            Kind.TIME,
        )
        for phase in TIMES
    ]
    ratios = [None if each is None else each.time_ratio.median for each in profiles]
    found.append(_ratios("ratio in time", ratios))
    shares = [None if each is None else each.mfu for each in profiles]
    texts = ["" if share is None else f"{share:.1%}" for share in shares]
    found.append(Figures("MFU", shares, texts))
    return [each for each in found if any(each.values)]


COUNTED = {
    "forward": Kind.FLOP,
    "grad_input": Kind.FLOP,
    "grad_weight": Kind.FLOP,
    "backward": Kind.FLOP,
    "recompute": Kind.FLOP,
    "update": Kind.FLOP,
    "elementwise_forward": Kind.FLOP,
    "elementwise_backward": Kind.FLOP,
    "parameters": Kind.PARAMETERS,
    "saved_bytes": Kind.BYTES,
}
"""The totals that are compared."""


def _known(figure: Any) -> int | None:
    return figure if isinstance(figure, int) and not isinstance(figure, bool) else None


def _counts(name: str, values: list[int | None], kind: Kind) -> Figures:
    unit = choose([value for value in values if value is not None], kind)
    texts = [
        "" if value is None else f"{unit.format(value)} {unit.name}".rstrip() if value else "0"
        for value in values
    ]
    return Figures(name.replace("_", " "), [*values], texts)


def _ratios(name: str, values: list[float | None]) -> Figures:
    return Figures(name, [*values], [ratio_text(value) for value in values])


def stacks(steps: Sequence[SavedStep]) -> dict[str, list[dict[str, int]]]:
    """What the figures of each step are made of: FLOP by phase, and bytes at the peak."""
    of_phases = [
        {name: phase.both for name, phase in step.ledger.phases.items() if phase.both}
        for step in steps
    ]
    of_memory = [at_peak(step.ledger.memory) for step in steps]
    found = {"FLOP by phase": of_phases, "memory at the peak": of_memory}
    return {name: parts for name, parts in found.items() if any(parts)}


# -- layers ---------------------------------------------------------------------------------------


class LayerColumn(NamedTuple):
    """A column of layers: its name, its unit, and the figure and the text of each layer, by path.
    A path that the step does not have is missing."""

    name: str
    unit: str
    values: dict[str, Any]
    texts: dict[str, str]


def layer_columns(ledgers: Sequence[Ledger]) -> list[LayerColumn]:
    """Products, ratio and saved bytes of the layers of each step, in one unit a figure."""
    layers = [{layer.name: layer for layer in ledger.layers()} for ledger in ledgers]
    shown: dict[str, tuple[Callable[[LayerTotals], Any], Kind | None]] = {
        "products": (lambda layer: layer.forward + layer.backward + layer.recompute, Kind.FLOP),
        "ratio": (lambda layer: layer.ratio, None),
        "saved": (lambda layer: layer.saved_bytes, Kind.BYTES),
    }
    columns = []
    for name, (figure, kind) in shown.items():
        values = [{path: figure(layer) for path, layer in own.items()} for own in layers]
        unit = None if kind is None else choose([v for own in values for v in own.values()], kind)
        for number, own in enumerate(values):
            texts = {
                path: ratio_text(value) if unit is None else unit.format(value)
                for path, value in own.items()
            }
            called = f"{name_of(number)} {name}"
            columns.append(LayerColumn(called, "" if unit is None else unit.name, own, texts))
    return columns


def layer_paths(ledgers: Sequence[Ledger]) -> dict[str, str]:
    """Path -> what it is called, of every layer that one of the steps has: those of the first in
    their order, then those that the others have more."""
    return {layer.name: layer.name or ROOT for ledger in ledgers for layer in ledger.layers()}


def common_sentence(ledgers: Sequence[Ledger]) -> str:
    """How many layers the steps share."""
    every = [{layer.name for layer in ledger.layers()} for ledger in ledgers]
    common = len(set.intersection(*every))
    whole = len(set.union(*every))
    if not common:
        return (
            "No layer of one step has the path of a layer of all the others: only the steps as a "
            "whole can be compared."
        )
    if common == whole:
        return f"All {whole:,} layers are in each of them."
    return f"{common:,} of {whole:,} layers are in each of them; the others leave blanks."


# -- how they were counted ------------------------------------------------------------------------


def differing(steps: Sequence[SavedStep]) -> dict[str, list[Any]]:
    """Settings, conventions and versions in which the steps differ; None where one has it not."""
    found: dict[str, list[Any]] = {}
    for about in ("settings", "convention", "versions"):
        of: list[Mapping[str, Any]] = [getattr(step.ledger, about) for step in steps]
        for name in dict.fromkeys(name for each in of for name in each):
            values = [_plain(each.get(name)) for each in of]
            if any(value != values[0] for value in values):
                found[name] = values
    return found


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
