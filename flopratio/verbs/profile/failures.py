"""A measured step that fails: where, and what was predicted of it."""

from __future__ import annotations

import traceback

import torch
from torch import nn

from flopratio.errors import UsageError
from flopratio.ledger import Ledger
from flopratio.torch_private import named_submodules

_PHASES = {"backward": "backward", "update": "update", "forward": "forward"}
"""Function -> the phase in which it is running."""


def out_of_memory(
    error: BaseException, module: nn.Module, predicted: Ledger | None, device: torch.device
) -> UsageError:
    """The sentence for a step that did not fit: in which phase and layer, and what was predicted.

    Args:
        error: with the traceback of where it happened.
        predicted: the step's ledger by a trace on shapes alone, if there is one.
    """
    phase, layer = place_of(error, module)
    where = f" in {phase}" if phase else ""
    where += f", at {layer}" if layer else ""
    needs = ""
    if predicted is not None:
        peak = predicted.memory["peak"]
        needs = f": it needs {_gib(peak)} at its peak, in {predicted.memory['peak_phase']}"
    return UsageError(
        f"the step does not fit the memory of {device}; it ran out{where}{needs}; a smaller batch "
        "fits (flopratio fit finds the largest), or less is kept with --checkpoint auto"
    )


def place_of(error: BaseException, module: nn.Module) -> tuple[str, str]:
    """The phase and the layer in which an error was raised; empty where they aren't known, as the
    layer in backward."""
    names = {id(submodule): name for name, submodule in named_submodules(module)}
    phase = layer = ""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        own = frame.f_locals.get("self")
        if id(own) in names:
            layer = names[id(own)]
        if not phase or phase == "forward":
            phase = _PHASES.get(frame.f_code.co_name, phase)
    return phase, layer if phase == "forward" else ""


def _gib(nbytes: int) -> str:
    return f"{nbytes / 2**30:,.2f} GiB"
