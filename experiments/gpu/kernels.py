"""Small products, convolutions and attention: what they count, and a program that runs one of them
for a profiler of hardware counters.

    python -m experiments.gpu.kernels NAME
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from experiments.gpu.environment import without_tf32
from flopratio.ledger import LayerTotals
from flopratio.trace.profiler import Profiler

TILES = 512
"""A size that is a multiple of every kernel's tile; :data:`ODD` is of none."""
ODD = 250


class Kernel(NamedTuple):
    """A piece of a step.

    Args:
        shapes: of its operands, which all ask for a gradient.
        function: of them.
        backward: whether backward is of it.
    """

    dtype: torch.dtype
    shapes: Sequence[tuple[int, ...]]
    function: Callable[..., Tensor]
    backward: bool = False

    def operands(self, device: torch.device) -> list[Tensor]:
        values = torch.Generator(device).manual_seed(0)
        return [
            torch.randn(shape, dtype=self.dtype, device=device, generator=values).requires_grad_(
                self.backward
            )
            for shape in self.shapes
        ]

    def run(self, operands: Sequence[Tensor], gradient: Tensor | None = None) -> None:
        out = self.function(*operands)
        if self.backward:
            out.backward(torch.ones_like(out) if gradient is None else gradient)


def _convolution(x: Tensor, weight: Tensor) -> Tensor:
    return functional.conv2d(x, weight, padding=1)


IMAGES = [(16, 64, 32, 32), (128, 64, 3, 3)]
HEADS = [(4, 8, TILES, 64)] * 3
HALF, SINGLE = torch.bfloat16, torch.float32

KERNELS = {
    "product bfloat16": Kernel(HALF, [(TILES, TILES)] * 2, torch.mm),
    "product float32": Kernel(SINGLE, [(TILES, TILES)] * 2, torch.mm),
    "product bfloat16, backward": Kernel(HALF, [(TILES, TILES)] * 2, torch.mm, backward=True),
    "product float32, backward": Kernel(SINGLE, [(TILES, TILES)] * 2, torch.mm, backward=True),
    "products bfloat16": Kernel(HALF, [(8, TILES, TILES)] * 2, torch.bmm),
    "attention bfloat16": Kernel(HALF, HEADS, functional.scaled_dot_product_attention),
    "attention bfloat16, backward": Kernel(
        HALF, HEADS, functional.scaled_dot_product_attention, backward=True
    ),
    "convolution bfloat16": Kernel(HALF, IMAGES, _convolution),
    "convolution float32": Kernel(SINGLE, IMAGES, _convolution),
    "convolution bfloat16, backward": Kernel(HALF, IMAGES, _convolution, backward=True),
    "attention float32": Kernel(SINGLE, HEADS, functional.scaled_dot_product_attention),
    "product bfloat16 of odd sizes": Kernel(HALF, [(ODD, ODD)] * 2, torch.mm),
    "product float32 of odd sizes": Kernel(SINGLE, [(ODD, ODD)] * 2, torch.mm),
}


def counted(kernel: Kernel, device: torch.device) -> LayerTotals:
    """The ledger's count of one run."""
    operands = kernel.operands(device)
    with Profiler() as profiler:
        kernel.run(operands)
    return profiler.ledger.totals


def main() -> None:
    """Run a kernel twice, the second time between the profiler's start and stop."""
    without_tf32()
    kernel = KERNELS[sys.argv[1]]
    device = torch.device("cuda")
    operands = kernel.operands(device)
    gradient = torch.ones_like(kernel.function(*operands).detach())
    kernel.run(operands, gradient)
    for operand in operands:
        operand.grad = None  # to be made, not added to
    torch.cuda.synchronize()
    torch.cuda.profiler.start()
    kernel.run(operands, gradient)
    torch.cuda.synchronize()
    torch.cuda.profiler.stop()


if __name__ == "__main__":
    main()
