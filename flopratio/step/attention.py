"""Which attention kernels a step may use."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
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


@contextmanager
def flex_attention_of_cuda() -> Iterator[None]:
    """Attention with a function on each score takes fake tensors of the CPU, as it takes CUDA's,
    gradients and all."""
    from flopratio.torch_private import FLEX_ATTENTION, FLEX_DEVICES, FakeTensor

    module = sys.modules.get(FLEX_ATTENTION)
    check: Any = getattr(module, FLEX_DEVICES, None)
    if check is None:
        yield
        return

    def check_real(*operands: Any) -> None:
        if not all(isinstance(operand, FakeTensor) for operand in operands):
            check(*operands)

    setattr(module, FLEX_DEVICES, check_real)
    try:
        with warnings.catch_warnings():  # that it is not compiled, and slow: nothing is computed
            warnings.filterwarnings("ignore", "flex_attention called without torch.compile")
            yield
    finally:
        setattr(module, FLEX_DEVICES, check)
