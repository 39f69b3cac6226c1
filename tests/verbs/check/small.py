"""Counts without a model behind them."""

from flopratio.ledger import COUNTS
from flopratio.snapshot import MEMORY, LayerCounts, Snapshot


def layer(type="Linear", **counts):
    return LayerCounts.of(type, counts)


def small(torch="2.13.0", *, inner=100, name="inner", **further):
    """A first layer without the gradient of its input, then one with both, which is checkpointed:
    forward 100 + 100, backward 100 + 200, recompute 50."""
    layers = {
        "first": layer(forward=100, grad_weight=100, parameters=6, saved_bytes=40),
        "act": layer("ReLU", elementwise_forward=7, elementwise_backward=7),
        name: layer(
            forward=inner, grad_input=100, grad_weight=100, recompute=50, update=20, parameters=4
        ),
    }
    return Snapshot(
        model="toy",
        settings={"batch": 2},
        versions={"flopratio": "0.1.0", "torch": torch},
        convention={"causal": "full"},
        totals={column: sum(one.counts[column] for one in layers.values()) for column in COUNTS},
        memory={**dict.fromkeys(MEMORY, 7), "peak": 4096, "inference_peak": None},
        layers=layers,
        **{"reconciled": True, **further},
    )
