"""Names of dtypes as people write them: torch's own (``bfloat16``), or shorter ones (``bf16``)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from flopratio.errors import UsageError
from flopratio.text.suggestions import did_you_mean

if TYPE_CHECKING:
    import torch

SHORT_NAMES = {"fp64": "float64", "fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
"""Short name -> torch's."""

ALIASES = {"double": "float64", "float": "float32", "half": "float16"}
"""Torch's second names -> its first."""

FLOATING = ("float32", "float64", "bfloat16", "float16")
"""What a step is usually run in."""

RUNNABLE = (*FLOATING, "float8_e4m3fn", "float8_e5m2", "complex64", "complex128")
"""What a step may be run in; not every model can."""


def dtype_name(dtype: object) -> str:
    """Torch's name for a dtype that is given by any of its names, or as torch's own object."""
    name = str(dtype).removeprefix("torch.")
    return SHORT_NAMES.get(name) or ALIASES.get(name, name)


def itemsize(dtype: str) -> int:
    """Bytes a number of a floating-point or complex dtype, by its name: ``bfloat16`` has 16 bits.

    Raises:
        UsageError: there is none of that name.
    """
    name = dtype_name(dtype)
    if name not in RUNNABLE:
        raise UsageError(f"there is no dtype '{dtype}'{did_you_mean(dtype, RUNNABLE)}")
    bits = re.search(r"\d+", name)
    assert bits is not None
    return int(bits[0]) // 8


def parse_dtype(dtype: str | torch.dtype) -> torch.dtype:
    """The dtype of a name.

    Raises:
        UsageError: torch has no dtype of that name.
    """
    import torch

    parsed = getattr(torch, dtype_name(dtype), None)
    if not isinstance(parsed, torch.dtype):
        known = [name for name, value in vars(torch).items() if isinstance(value, torch.dtype)]
        raise UsageError(
            f"there is no dtype '{dtype}'{did_you_mean(str(dtype), [*SHORT_NAMES, *known])}"
        )
    return parsed
