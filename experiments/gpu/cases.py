"""A training step that is predicted on fake tensors and run on real ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from flopratio.models import Inputs, load
from flopratio.models.example import Example
from flopratio.networks.library import NETWORKS, describe
from flopratio.step.network import network_step
from flopratio.step.options import StepOptions
from flopratio.step.run import Step
from flopratio.torch_private import tree_map_only


@dataclass(frozen=True)
class Case:
    """A model, its sizes, and how its step is run.

    Args:
        model: a MODEL, as on the command line.
        options: of :class:`StepOptions`, but for the target.
    """

    name: str
    model: str
    settings: Mapping[str, Any]
    options: Mapping[str, Any] = field(default_factory=dict)

    def predicted(self, target: str) -> Step:
        """The step on fake tensors."""
        options = StepOptions(**self.options, target=target)
        if self.model in NETWORKS:
            return network_step(describe(self.model, **self.settings), options)
        return Step(load(self.model, self.settings, dtype=options.dtype), options)

    def real(self, device: torch.device, target: str) -> Step:
        """The step with random weights and a random batch on a device."""
        options = StepOptions(**self.options, target=target)
        torch.manual_seed(0)
        if self.model in NETWORKS:
            return network_step(describe(self.model, **self.settings), options, device)
        return Step(self._on(device, options.dtype), options)

    def _on(self, device: torch.device, dtype: Any) -> Example:
        """Made on the device, which draws the weights of a large model in no time; on the CPU and
        moved, where its constructor will have it so."""
        try:
            with device:
                example = load(self.model, self.settings, dtype=dtype, real=True)
        except Exception:  # whatever foreign constructors raise
            example = load(self.model, self.settings, dtype=dtype, real=True)
        example.module.to(device)
        inputs = tree_map_only(
            Tensor,
            lambda x: x.detach().to(device).requires_grad_(x.requires_grad),
            (example.args, example.kwargs),
        )
        args, kwargs = Inputs(*inputs)
        example.args, example.kwargs = args, dict(kwargs)
        return example


def sizes(settings: Mapping[str, Any]) -> str:
    """KEY=VALUE, as a row tells them."""
    return " ".join(f"{key}={value}" for key, value in settings.items())
