"""Which attention kernels a step may use."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

ATTENTION = {
    "flash": "FLASH_ATTENTION",
    "efficient": "EFFICIENT_ATTENTION",
    "math": "MATH",
}
"""Name -> torch's, in ``torch.nn.attention.SDPBackend``."""


def attention_kernels(name: str | None) -> AbstractContextManager[Any]:
    """Scaled-dot-product attention uses these kernels meanwhile, and plain products where they do
    not take its operands; None: whatever torch chooses."""
    if name is None:
        return nullcontext()
    from torch.nn.attention import SDPBackend, sdpa_kernel

    return sdpa_kernel([getattr(SDPBackend, ATTENTION[name]), SDPBackend.MATH])
