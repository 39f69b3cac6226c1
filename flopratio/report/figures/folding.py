"""Many layers as a few: those of one module together, or those that a block repeats."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from flopratio.report.units import plural
from flopratio.text.patterns import without_numbers

LEAST = 3
"""Fewer groups than these say nothing of the layers."""

NEGLIGIBLE = 0.01
"""What has a smaller share of all weight gets no group of its own."""


def fold(layers: Mapping[str, float], most: int) -> dict[str, str]:
    """Layer -> the name of the group that it is in, in the order of the layers; as many groups as
    there may be.

    Layers are folded into the modules whose paths end before the n-th dot, with the numbers of
    repeated blocks told apart (``h.3.mlp``) or not (``h.*.mlp``), whichever gives most groups that
    are not negligible. Where that gives few, as of many layers side by side, the heaviest ones
    stay by themselves. Whatever remains is one group, the last.

    Args:
        layers: path -> weight.
        most: how many groups there may be.
    """
    depths = range(1, 1 + max((len(path.split(".")) for path in layers), default=0))
    apart = [{path: _folded(path, depth) for path in layers} for depth in depths]
    together = [{path: without_numbers(name) for path, name in one.items()} for one in apart]
    fitting = [one for one in (*apart, *together) if len(_heavy(layers, one)) < most]
    best = max(fitting, key=lambda one: len(_heavy(layers, one)), default={})
    if len(_heavy(layers, best)) < min(LEAST, len(layers)):
        best = next((one for one in apart if len(_heavy(layers, one)) >= most), best)
    kept = _heavy(layers, best)[: most - 1]
    rest = {path: name for path, name in best.items() if name not in kept}
    others = plural(len(set(rest.values())), "other")
    own = {path: name for path, name in best.items() if name in kept}
    return own | dict.fromkeys(rest, others)


def _folded(path: str, depth: int) -> str:
    return ".".join(path.split(".")[:depth])


def _heavy(layers: Mapping[str, float], folding: Mapping[str, str]) -> list[str]:
    """The groups that are not negligible, the heaviest first."""
    weights: defaultdict[str, float] = defaultdict(float)
    for path, name in folding.items():
        weights[name] += layers[path]
    least = NEGLIGIBLE * sum(layers.values())
    heavy = [name for name, weight in weights.items() if weight >= least]
    return sorted(heavy, key=lambda name: -weights[name])
