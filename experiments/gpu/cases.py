"""A training step that is predicted on fake tensors and run on real ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from flopratio.models import load
from flopratio.networks.library import NETWORKS, describe
from flopratio.step.network import network_step
from flopratio.step.options import StepOptions
from flopratio.step.real import spec_step
from flopratio.step.run import Step


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
        return spec_step(self.model, self.settings, options, device)


def sizes(settings: Mapping[str, Any]) -> str:
    """KEY=VALUE, as a row tells them."""
    return " ".join(f"{key}={value}" for key, value in settings.items())
