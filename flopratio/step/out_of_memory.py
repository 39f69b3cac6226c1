"""Steps that end because memory does."""

from __future__ import annotations

import re

import torch

from flopratio.errors import UsageError, message_of
from flopratio.ledger import ROOT


class OutOfMemoryError(UsageError, MemoryError):
    """A step does not fit its device.

    Attributes:
        phase: of the step: ``forward``, ``backward`` or ``update``.
        layer: the module that ran; in backward and update, for which the last operator worked that
            still fitted; None if that is not known.
        predicted: bytes that the step was predicted to take at its peak; None if nobody did.
    """

    def __init__(self, phase: str, layer: str | None, predicted: int | None = None) -> None:
        self.phase, self.layer, self.predicted = phase, layer, predicted
        place = "of" if phase == "forward" else "at or after"
        where = phase if layer is None else f"{phase} {place} {layer or ROOT}"
        expected = (
            f" (the step was predicted to take {predicted / 2**30:,.2f} GiB at its peak)"
            if predicted is not None
            else ""
        )
        super().__init__(
            f"memory ran out in {where}{expected}: a smaller batch, dtype=bfloat16 or "
            "checkpoint=auto takes less"
        )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device, or the host (whose allocator has no error class of its own), ran out."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return (
        re.search(r"DefaultCPUAllocator|can't allocate memory|out of memory", message_of(error))
        is not None
    )
