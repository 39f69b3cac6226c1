"""Devices with round figures, and rows of a made-up step."""

from __future__ import annotations

from flopratio.hardware import DeviceProfile
from flopratio.ledger import Row

GPU = DeviceProfile(
    name="a GPU",
    device="cuda",
    flops_per_s={"float32": 1000.0, "tf32": 4000.0, "bfloat16": 8000.0},
    bytes_per_s=100.0,
    launch_s=0.5,
)
"""1,000 FLOP/s, 100 bytes/s, half a second a launch: sums that one can do in one's head."""

CPU = DeviceProfile(
    name="a processor",
    device="cpu",
    flops_per_s={"float32": 1000.0, "float64": 500.0},
    bytes_per_s=100.0,
    launch_s=0.5,
)


def row(
    op: str,
    phase: str = "forward",
    flops: int = 0,
    read: int = 0,
    written: int = 0,
    *,
    elementwise: int = 0,
    layer: str = "layer",
    autograd: str = "",
    time_us: float | None = None,
    dtype: str = "float32",
) -> Row:
    """A row; operators are named without their ``aten.``."""
    return Row(
        layer,
        "Linear",
        f"aten.{op}",
        autograd,
        phase,
        flops,
        elementwise,
        read,
        written,
        0,
        time_us,
        dtype,
    )
