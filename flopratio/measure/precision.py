"""How products of float32 operands are computed: torch has two ways to say it, and since 2.9 the
older one (``allow_tf32``) can't be read once the newer one (``fp32_precision``) was set."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


def float32_matmul_precision() -> str | None:
    """``highest``, ``high`` or ``medium``; None where the newer way says what none of them says."""
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:
        return None


def tf32_in_products() -> bool:
    """Whether CUDA's products of float32 operands round them to TF32's 10 bits of mantissa."""
    return _rounds_to_tf32(torch.backends.cuda.matmul)


def tf32_in_convolutions() -> bool:
    """Whether cuDNN's convolutions of float32 operands do: by default, unlike products."""
    # ``conv`` is the newer setting's; the older one is of all of cuDNN.
    return _rounds_to_tf32(getattr(torch.backends.cudnn, "conv", torch.backends.cudnn))


@contextmanager
def float32_products(*, tf32: bool) -> Iterator[None]:
    """Compute products of float32 operands as they are, or on CUDA rounded to TF32; afterwards as
    they were. On the CPU they may otherwise be rounded to bfloat16."""
    if not _has_precision(torch.backends.cuda.matmul):
        found = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("high" if tf32 else "highest")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(found)
        return
    backends: Any = torch.backends
    on_cuda, on_cpu = backends.cuda.matmul, backends.mkldnn.matmul
    precisions = on_cuda.fp32_precision, on_cpu.fp32_precision
    on_cuda.fp32_precision, on_cpu.fp32_precision = "tf32" if tf32 else "ieee", "ieee"
    try:
        yield
    finally:
        on_cuda.fp32_precision, on_cpu.fp32_precision = precisions


def _has_precision(backend: Any) -> bool:
    return hasattr(backend, "fp32_precision")


def _rounds_to_tf32(backend: Any) -> bool:
    if _has_precision(backend):
        return bool(backend.fp32_precision == "tf32")
    return bool(backend.allow_tf32)
