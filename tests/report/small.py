"""A ledger small enough to be read: two layers, their loss, and an update."""

from __future__ import annotations

from io import StringIO

from rich.console import Console, RenderableType

from flopratio.ledger import Ledger, Row
from flopratio.memory import Memory


def small_ledger() -> Ledger:
    """``stem.conv`` sees data alone, so 1:1; ``head`` is 2:1; ``relu`` has no products."""
    return Ledger(
        [
            Row("stem.conv", "Conv2d", "aten.convolution", "", "forward", 4_000_000, 2_000, 80, 40),
            Row("stem.relu", "ReLU", "aten.relu", "", "forward", 0, 1_000, 40, 40, 3 * 1024),
            Row("head", "Linear", "aten.t", "", "forward"),
            Row("head", "Linear", "aten.addmm", "", "forward", 1_500_000, 10, 60, 20, 512),
            Row("head", "Linear", "aten.mm", "AddmmBackward0", "grad_input", 1_500_000, 0, 20, 40),
            Row("head", "Linear", "aten.mm", "AddmmBackward0", "grad_weight", 1_500_000, 0, 60, 30),
            Row("head", "Linear", "aten.t", "TBackward0", "grad_weight"),
            Row("head", "Linear", "aten.detach", "AccumulateGrad", "grad_weight"),
            Row("stem.relu", "ReLU", "aten.threshold_backward", "ReluBackward0", "grad_input", 0,
                1_000, 80, 40),
            Row("stem.conv", "Conv2d", "aten.convolution_backward", "ConvolutionBackward0",
                "grad_weight", 4_000_000, 500, 80, 50),
        ],
        model="toy",
        settings={"batch": 2, "image": (3, 8, 8)},
        parameters={"": 0, "stem": 0, "stem.conv": 1_200, "stem.relu": 0, "head": 30},
        types={"": "Toy", "stem": "Sequential", "stem.conv": "Conv2d", "stem.relu": "ReLU",
               "head": "Linear"},
        memory=Memory(
            {"parameters": 4_920, "buffers": None, "peak": 10_240, "peak_phase": "backward"}
        ),
        analytic={"forward": 5_500_000, "grad_input": 1_500_000, "grad_weight": 5_500_000},
    )  # fmt: skip


def printed(renderable: RenderableType, width: int = 100) -> str:
    """What a terminal of this width shows, without colour and trailing blanks."""
    console = Console(width=width, file=StringIO(), color_system=None)
    with console.capture() as capture:
        console.print(renderable)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())
