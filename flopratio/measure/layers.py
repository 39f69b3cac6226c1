"""A timed step by layer: what the rows of its ledger add up to."""

from __future__ import annotations

from dataclasses import dataclass

from flopratio.measure.join import Timed
from flopratio.trace.recording import OUTSIDE


@dataclass
class LayerTime:
    """What one layer took, in microseconds.

    ``undivided`` is backward time of fused operators whose parts can't be told apart.
    """

    forward: float = 0.0
    grad_input: float = 0.0
    grad_weight: float = 0.0
    undivided: float = 0.0
    recompute: float = 0.0
    update: float = 0.0

    @property
    def backward(self) -> float:
        """Without what it computes again."""
        return self.grad_input + self.grad_weight + self.undivided

    def add(self, phase: str, time: float) -> None:
        setattr(self, phase, getattr(self, phase) + time)


def layer_times(timed: Timed) -> dict[str, LayerTime]:
    """Layer path -> its time, in the order in which the layers first ran."""
    layers: dict[str, LayerTime] = {}
    for row in timed.rows:
        layers.setdefault(row.layer, LayerTime()).add(row.phase, row.time_us or 0.0)
    for (layer, phase), time in timed.rest.items():
        layers.setdefault(layer, LayerTime()).add(phase, time)
    for layer, time in timed.undivided.items():
        layers[layer].add("undivided", time)
    if layers.get(OUTSIDE) == LayerTime():  # the gradient that backward starts with
        del layers[OUTSIDE]
    return layers
