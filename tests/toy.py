"""A toy network for the tests of the sweep: ``depth`` square layers after a first one, whose
figures are worked out here by hand, in an instant and without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flopratio.step.options import StepOptions
from flopratio.text.grammar import check_keys


@dataclass(frozen=True)
class ToyNetwork:
    keys: dict[str, Any] = field(
        default_factory=lambda: {"depth": 2, "width": 8, "kind": "plain", "batch": 4}
    )
    minimum: dict[str, int] = field(default_factory=lambda: {"depth": 0})
    choices: dict[str, tuple[str, ...]] = field(
        default_factory=lambda: {"kind": ("plain", "fancy")}
    )

    def check(self, model: str, given: Mapping[str, Any]) -> None:
        check_keys(model, given, self.keys, self.minimum, self.choices)

    def settings(self, given: Mapping[str, Any]) -> dict[str, Any]:
        return {**self.keys, **given}


NETWORKS = {"toy": ToyNetwork(), "flat": ToyNetwork(keys={"width": 8, "batch": 4})}


def examine(
    model: str, settings: dict[str, Any], options: StepOptions, measure: str
) -> dict[str, Any]:
    """Each layer is a product of [batch, width] and [width, width]: 2 batch width**2 FLOP."""
    depth, width, batch = settings.get("depth", 0), settings["width"], settings["batch"]
    layer = 2 * batch * width**2
    forward = (1 + depth) * layer
    first_backward = 2 * layer if options.input_grad else layer
    backward = first_backward + 2 * depth * layer
    parameters = (1 + depth) * width**2
    update = {"none": 0, "sgd": 2}[options.optimizer] * parameters
    times: dict[str, Any] = {}
    if measure != "none":
        for name, time in (("forward", 1.0), ("backward", 1.5), ("update", 0.1)):
            times |= {f"{name}_ms": time, f"{name}_ms_low": time, f"{name}_ms_high": time}
        times |= {"time_ratio": 1.5, "time_ratio_low": 1.4, "time_ratio_high": 1.6}
    return {
        "forward": forward,
        "grad_input": backward - forward,
        "grad_weight": forward,
        "backward": backward,
        "recompute": 0,
        "update": update,
        "elementwise_forward": 0,
        "elementwise_backward": 0,
        "ratio": backward / forward,
        "ratio_with_update": (backward + update) / forward,
        "first_layer_ratio": first_backward / layer,
        "other_layers_ratio": 2.0 if depth else None,
        "first_layer_share": layer / forward,
        "minor_share": 0.001,
        "parameters": parameters,
        "saved_bytes": 4 * (1 + depth) * batch * width,
        "peak_bytes": 4 * (2 * parameters + (1 + depth) * batch * width),
        "inference_peak_bytes": 4 * (parameters + batch * width),
        "checkpointed_saved_bytes": 4 * batch * width,
        "checkpointed_peak_bytes": 4 * (2 * parameters + batch * width),
        "checkpointed_recompute": depth * layer,
        "executed_equal": True,
        "saved_equal": True,
        "fvcore_equal": True,
        "flop_counter_equal": True,
        **times,
        "optimizer": options.optimizer,
        "loss": "sum",
        "device": "cpu",
        "dtype": options.dtype,
    }
