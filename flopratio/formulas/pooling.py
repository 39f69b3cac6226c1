"""Pooling: maxima and means over windows of one, two or three spatial dimensions.

In the shapes below N is the batch, C the channels. Taps on the padding count, as those of a
convolution do. torch pools one dimension as two, the first of one position.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flopratio.formulas.formula import (
    EXAMPLES,
    Call,
    Cost,
    Example,
    Gradient,
    LayerCost,
    Size,
    Tensor,
    layer,
    operator,
    per_dimension,
    prod,
    same_shape,
)

INDEX_BYTES = 8
"""The index of a maximum is an int64."""

Sizes = Sequence[Size]


def max_flops(taps: Size) -> Size:
    """out = the largest of each window: a comparison for each of ``taps``, all windows together."""
    return taps


def max_backward_flops(grad_output: Tensor) -> Size:
    """grad_x[index of the maximum] += grad_out: an addition for each entry of grad_out."""
    return grad_output.numel


def mean_flops(taps: Size, out: Tensor) -> Size:
    """out = the mean of each window: an addition for each of ``taps``, all windows together, and a
    division for each entry of out."""
    return taps + out.numel


def mean_backward_flops(taps: Size, grad_output: Tensor) -> Size:
    """grad_x[tap] += grad_out / window: a division for each entry of grad_out, an addition for each
    of ``taps``."""
    return taps + grad_output.numel


def adaptive_taps(x: Tensor, y: Tensor) -> Size:
    """Taps of all windows of an adaptive pooling from x[N, C, *input] to y[N, C, *output].

    1. Along a dimension of I input and O output positions, window i reaches from floor(i I / O) up
       to ceil((i + 1) I / O).
    2. Neighbours share a position wherever i I / O is not whole, so the lengths of the O windows
       sum to I + O - gcd(I, O). The sum itself is what holds for symbols too.
    3. Windows are boxes: the sums of the dimensions multiply. One that is not pooled, I = O,
       has windows of one position.
    """

    def along(size: Size, outputs: Size) -> Size:
        if same_shape((size,), (outputs,)):
            return size
        return sum(-(-(i + 1) * size // outputs) - i * size // outputs for i in range(outputs))

    return prod(along(size, outputs) for size, outputs in zip(x.shape, y.shape, strict=True))


def register_pooling(dimensions: int) -> None:
    """The operators of two or of three dimensions."""
    max_pool_name = f"aten.max_pool{dimensions}d_with_indices"
    avg_pool_name = f"aten.avg_pool{dimensions}d"
    adaptive_max_name = f"aten.adaptive_max_pool{dimensions}d"
    adaptive_avg_name = f"aten._adaptive_avg_pool{dimensions}d"

    def window_taps(kernel_size: Sizes, out: Tensor) -> Size:
        return prod(per_dimension(kernel_size, dimensions)) * out.numel

    def max_cost(self: Tensor, taps: Size, backward: str, out: tuple[Tensor, Tensor]) -> Cost:
        """torch keeps the input beside the indices, though only its shape is needed."""
        maxima, indices = out
        elementwise = max_backward_flops(maxima)
        gradient = Gradient("self", backward, elementwise=elementwise, saves=(self, indices))
        return Cost(elementwise=max_flops(taps), gradients=(gradient,))

    def mean_cost(self: Tensor, taps: Size, backward: str, out: Tensor) -> Cost:
        """torch keeps the input, though only its shape is needed."""
        elementwise = mean_backward_flops(taps, out)
        gradient = Gradient("self", backward, elementwise=elementwise, saves=(self,))
        return Cost(elementwise=mean_flops(taps, out), gradients=(gradient,))

    @operator(max_pool_name)
    def max_pool(
        self: Tensor,
        kernel_size: Sizes,
        stride: Sizes = (),
        padding: Size | Sizes = 0,
        dilation: Size | Sizes = 1,
        ceil_mode: bool = False,
        *,
        out: tuple[Tensor, Tensor],
    ) -> Cost:
        """out[N, C, *positions], each entry the largest of prod(kernel) taps."""
        taps = window_taps(kernel_size, out[0])
        return max_cost(self, taps, f"{max_pool_name}_backward", out)

    @operator(f"{max_pool_name}_backward")
    def max_pool_backward(
        grad_output: Tensor,
        self: Tensor,
        kernel_size: Sizes,
        stride: Sizes,
        padding: Sizes,
        dilation: Sizes,
        ceil_mode: bool,
        indices: Tensor,
        *,
        out: Tensor,
    ) -> Cost:
        return Cost(elementwise=max_backward_flops(grad_output))

    fractional_name = f"aten.fractional_max_pool{dimensions}d"

    @operator(fractional_name)
    def fractional_max_pool(
        self: Tensor,
        kernel_size: Sizes,
        output_size: Sizes,
        random_samples: Tensor,
        *,
        out: tuple[Tensor, Tensor],
    ) -> Cost:
        """As ``max_pool``, with windows at random places."""
        return max_cost(self, window_taps(kernel_size, out[0]), f"{fractional_name}_backward", out)

    @operator(f"{fractional_name}_backward")
    def fractional_max_pool_backward(grad_output: Tensor, *arguments: Any, out: Tensor) -> Cost:
        return Cost(elementwise=max_backward_flops(grad_output))

    @operator(avg_pool_name)
    def avg_pool(
        self: Tensor,
        kernel_size: Sizes,
        stride: Sizes = (),
        padding: Size | Sizes = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: Size | None = None,
        *,
        out: Tensor,
    ) -> Cost:
        """out[N, C, *positions], each entry the mean of prod(kernel) taps."""
        taps = window_taps(kernel_size, out)
        return mean_cost(self, taps, f"{avg_pool_name}_backward", out)

    @operator(f"{avg_pool_name}_backward")
    def avg_pool_backward(
        grad_output: Tensor,
        self: Tensor,
        kernel_size: Sizes,
        stride: Sizes,
        padding: Sizes,
        ceil_mode: bool,
        count_include_pad: bool,
        divisor_override: Size | None,
        *,
        out: Tensor,
    ) -> Cost:
        taps = window_taps(kernel_size, grad_output)
        return Cost(elementwise=mean_backward_flops(taps, grad_output))

    @operator(adaptive_max_name)
    def adaptive_max_pool(self: Tensor, output_size: Sizes, *, out: tuple[Tensor, Tensor]) -> Cost:
        """out[N, C, *output_size], each entry the largest of its window."""
        taps = adaptive_taps(self, out[0])
        return max_cost(self, taps, f"{adaptive_max_name}_backward", out)

    @operator(f"{adaptive_max_name}_backward")
    def adaptive_max_pool_backward(
        grad_output: Tensor, self: Tensor, indices: Tensor, *, out: Tensor
    ) -> Cost:
        return Cost(elementwise=max_backward_flops(grad_output))

    @operator(adaptive_avg_name)
    def adaptive_avg_pool(self: Tensor, output_size: Sizes, *, out: Tensor) -> Cost:
        """out[N, C, *output_size], each entry the mean of its window."""
        taps = adaptive_taps(self, out)
        return mean_cost(self, taps, f"{adaptive_avg_name}_backward", out)

    @operator(f"{adaptive_avg_name}_backward")
    def adaptive_avg_pool_backward(grad_output: Tensor, self: Tensor, *, out: Tensor) -> Cost:
        taps = adaptive_taps(self, grad_output)
        return Cost(elementwise=mean_backward_flops(taps, grad_output))


register_pooling(2)
register_pooling(3)


def output_positions(
    size: Size, kernel: Size, stride: Size, padding: Size, dilation: Size, ceil_mode: bool
) -> Size:
    """How many windows fit along one dimension; each reaches r = dilation (kernel - 1) + 1
    positions.

    - (size + 2 padding - r) // stride + 1: whole windows only.
    - ``ceil_mode`` rounds up, ceil((size + 2 padding - r + stride) / stride), but a window must
      start before the padding at the end, which leaves at most ceil((size + padding) / stride).
    """
    reach = dilation * (kernel - 1) + 1
    if not ceil_mode:
        return (size + 2 * padding - reach) // stride + 1
    return -(-(size + padding + min(padding - reach + stride, 0)) // stride)


def as_two_dimensions(x: Tensor, dimensions: int) -> Tensor:
    """x[N, C, length] as x[N, C, 1, length]; two and three dimensions as they are."""
    return x.view(*x.shape[:-1], 1, x.shape[-1]) if dimensions == 1 else x


def window_layer(
    pool: str,
    dimensions: int,
    x: Tensor,
    *,
    kernel_size: Size | Sizes,
    stride: Size | Sizes | None = None,
    padding: Size | Sizes = 0,
    dilation: Size | Sizes = 1,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: Size | None = None,
) -> LayerCost:
    """One ``max_pool`` or ``avg_pool``. Unless a stride is given, window follows on window."""
    kernel = per_dimension(kernel_size, dimensions)
    stride = kernel if stride is None else per_dimension(stride, dimensions)
    padding = per_dimension(padding, dimensions)
    dilation = per_dimension(dilation, dimensions)
    if dimensions == 1:
        kernel, stride, padding, dilation = (
            (1, *kernel),
            (1, *stride),
            (0, *padding),
            (1, *dilation),
        )
    read, spatial = as_two_dimensions(x, dimensions), len(kernel)
    positions = [
        output_positions(*sizes, ceil_mode)
        for sizes in zip(read.shape[-spatial:], kernel, stride, padding, dilation, strict=True)
    ]
    y = x.new(*read.shape[:-spatial], *positions)
    operands: dict[str, Any] = {
        "self": read,
        "kernel_size": kernel,
        "stride": stride,
        "padding": padding,
        "ceil_mode": ceil_mode,
    }
    if pool == "max":
        indices = y.new(*y.shape, itemsize=INDEX_BYTES)
        operands["dilation"] = dilation
        call = Call(f"aten.max_pool{spatial}d_with_indices", operands, (y, indices))
    else:
        operands["count_include_pad"] = count_include_pad
        operands["divisor_override"] = divisor_override
        call = Call(f"aten.avg_pool{spatial}d", operands, y)
    return LayerCost(y.view(*x.shape[:-dimensions], *positions[-dimensions:]), (call,))


def adaptive_layer(
    pool: str, dimensions: int, x: Tensor, *, output_size: Size | Sequence[Size | None] | None
) -> LayerCost:
    """One ``adaptive_max_pool`` or ``adaptive_avg_pool`` to ``output_size`` positions, None leaving
    a dimension as it is. Torch takes the mean of everything, output size 1, as a plain mean."""
    sizes = zip(per_dimension(output_size, dimensions), x.shape[-dimensions:], strict=True)
    positions = [size if outputs is None else outputs for outputs, size in sizes]
    read = as_two_dimensions(x, dimensions)
    spatial = max(dimensions, 2)
    whole = (1,) * (spatial - dimensions)
    y = x.new(*read.shape[:-spatial], *whole, *positions)
    operands: dict[str, Any] = {"self": read, "output_size": y.shape[-spatial:]}
    if pool == "max":
        indices = y.new(*y.shape, itemsize=INDEX_BYTES)
        call = Call(f"aten.adaptive_max_pool{spatial}d", operands, (y, indices))
    elif same_shape(tuple(positions), (1,) * dimensions):
        dim = tuple(range(-spatial, 0))
        call = Call("aten.mean", {"self": read, "dim": dim, "keepdim": True}, y)
    else:
        call = Call(f"aten._adaptive_avg_pool{spatial}d", operands, y)
    return LayerCost(y.view(*x.shape[:-dimensions], *positions), (call,))


@layer("MaxPool1d")
def max_pool1d(x: Tensor, **arguments: Any) -> LayerCost:
    """x[N, C, length]"""
    return window_layer("max", 1, x, **arguments)


@layer("MaxPool2d")
def max_pool2d(x: Tensor, **arguments: Any) -> LayerCost:
    """x[N, C, height, width]"""
    return window_layer("max", 2, x, **arguments)


@layer("MaxPool3d")
def max_pool3d(x: Tensor, **arguments: Any) -> LayerCost:
    """x[N, C, depth, height, width]"""
    return window_layer("max", 3, x, **arguments)


@layer("AvgPool1d")
def avg_pool1d(x: Tensor, **arguments: Any) -> LayerCost:
    """x[N, C, length]"""
    return window_layer("avg", 1, x, **arguments)


@layer("AvgPool2d")
def avg_pool2d(x: Tensor, **arguments: Any) -> LayerCost:
    """x[N, C, height, width]"""
    return window_layer("avg", 2, x, **arguments)


@layer("AvgPool3d")
def avg_pool3d(x: Tensor, **arguments: Any) -> LayerCost:
    """x[N, C, depth, height, width]"""
    return window_layer("avg", 3, x, **arguments)


@layer("AdaptiveMaxPool1d")
def adaptive_max_pool1d(x: Tensor, **arguments: Any) -> LayerCost:
    """x[N, C, length]"""
    return adaptive_layer("max", 1, x, **arguments)


@layer("AdaptiveMaxPool2d")
def adaptive_max_pool2d(x: Tensor, **arguments: Any) -> LayerCost:
    """x[N, C, height, width]"""
    return adaptive_layer("max", 2, x, **arguments)


@layer("AdaptiveMaxPool3d")
def adaptive_max_pool3d(x: Tensor, **arguments: Any) -> LayerCost:
    """x[N, C, depth, height, width]"""
    return adaptive_layer("max", 3, x, **arguments)


@layer("AdaptiveAvgPool1d")
def adaptive_avg_pool1d(x: Tensor, **arguments: Any) -> LayerCost:
    """x[N, C, length]"""
    return adaptive_layer("avg", 1, x, **arguments)


@layer("AdaptiveAvgPool2d")
def adaptive_avg_pool2d(x: Tensor, **arguments: Any) -> LayerCost:
    """x[N, C, height, width]"""
    return adaptive_layer("avg", 2, x, **arguments)


@layer("AdaptiveAvgPool3d")
def adaptive_avg_pool3d(x: Tensor, **arguments: Any) -> LayerCost:
    """x[N, C, depth, height, width]"""
    return adaptive_layer("avg", 3, x, **arguments)


EXAMPLES += [
    Example(
        "MaxPool2d",
        {"x": Tensor((2, 4, 9, 9)), "kernel_size": 3, "stride": 2, "padding": 1},
        {"flops": 0, "elementwise": 1_800},
        "2 * 4 * 5 * 5 = 200 windows of 9 comparisons: 1,800",
    ),
    Example(
        "AvgPool2d",
        {"x": Tensor((2, 4, 9, 9)), "kernel_size": 3, "stride": 2, "padding": 1},
        {"elementwise": 2_000},
        "200 windows of 9 additions and a division: 2,000",
    ),
    Example(
        "AdaptiveAvgPool1d",
        {"x": Tensor((2, 4, 9)), "output_size": 4},
        {"elementwise": 128},
        "windows 0-2, 2-4, 4-6, 6-8 of 3 = 9 + 4 - gcd(9, 4) = 12 taps, and 4 divisions, 8 times: "
        "128",
    ),
    Example(
        "aten._adaptive_avg_pool2d_backward",
        {
            "grad_output": Tensor((2, 4, 4, 9)),
            "self": Tensor((2, 4, 9, 9)),
            "out": Tensor((2, 4, 9, 9)),
        },
        {"elementwise": 1_152},
        "8 * 12 * 9 = 864 taps, 8 * 4 * 9 = 288 divisions: 1,152",
    ),
]
