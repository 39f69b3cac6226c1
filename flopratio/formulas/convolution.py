"""Convolutions of one, two and three dimensions, plain and transposed, grouped, strided, dilated.

In the shapes below N is the batch, C and O are input and output channels, G groups; ``*positions``
and ``*kernel`` stand for one to three spatial dimensions. Taps that fall on padding count, as every
counter of the field counts them.
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
    OperatorFormula,
    Part,
    Size,
    Tensor,
    asked_for,
    layer,
    operator,
    per_dimension,
    prod,
)


def convolution_flops(x: Tensor, weight: Tensor, y: Tensor, transposed: bool) -> Size:
    """FLOP of y[N, O, *positions] = x[N, C, *positions] * weight.

    1. A plain convolution has weight[O, C / G, *kernel]. At one output position of one image, each
       entry of the weight is met once: output channel o sums over the C / G channels of its group
       and over the kernel. That is prod(weight) multiply-adds.
    2. There are N prod(output positions) of these, and a multiply-add is 2 FLOP:
       2 prod(weight) N prod(output positions).
    3. A transposed convolution has weight[C, O / G, *kernel] and runs the other way: at one *input*
       position each entry of the weight is met once, its product added into the output. So
       2 prod(weight) N prod(input positions).

    Groups are in the shape of the weight already. The gradients visit the same triples of input
    position, weight entry and output position:

    - grad_input adds grad_out * weight into the input positions that the output read (a transposed
      convolution; of a transposed one, a plain convolution);
    - grad_weight[o, c, tap] sums grad_out * x over N and the positions. In one dimension, with
      stride s and dilation d, grad_weight[o, c, j] = sum over n, p of grad_out[n, o, p]
      * x[n, c, p s + j d - padding]: prod(weight) sums over N prod(output positions), where c runs
      over the channels of o's group only.

    So each costs the same again: the law, F for each operand that requires a gradient.
    """
    positions = x.shape[2:] if transposed else y.shape[2:]
    return 2 * weight.numel * y.shape[0] * prod(positions)


@operator("aten.convolution")
def convolution(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[Size],
    padding: Sequence[Size],
    dilation: Sequence[Size],
    transposed: bool,
    output_padding: Sequence[Size],
    groups: Size,
    *,
    out: Tensor,
) -> Cost:
    """out[N, O, *positions] = input * weight + bias[O]

    The bias is one addition an output entry; its gradient the sum of grad_out over N and the
    positions, as many additions. One fused operator computes all the gradients, and whichever of
    them is asked for, input and weight are kept.
    """
    flops = convolution_flops(input, weight, out, transposed)
    backward, kept = "aten.convolution_backward", (input, weight)
    gradients = (
        Gradient("input", backward, flops=flops, saves=kept),
        Gradient("weight", backward, flops=flops, saves=kept),
    )
    if bias is None:
        return Cost(flops=flops, gradients=gradients)
    bias_gradient = Gradient("bias", backward, elementwise=out.numel, saves=kept)
    return Cost(flops=flops, elementwise=out.numel, gradients=(*gradients, bias_gradient))


@operator("aten.convolution_backward")
def convolution_backward(
    grad_output: Tensor,
    input: Tensor,
    weight: Tensor,
    bias_sizes: Sequence[Size] | None,
    stride: Sequence[Size],
    padding: Sequence[Size],
    dilation: Sequence[Size],
    transposed: bool,
    output_padding: Sequence[Size],
    groups: Size,
    output_mask: Sequence[bool],
    *,
    out: tuple[Tensor | None, ...],
) -> Cost:
    """The gradients that ``output_mask`` asks for, of input, weight and bias."""
    flops = convolution_flops(input, weight, grad_output, transposed)
    parts = (
        Part("input", flops=flops),
        Part("weight", flops=flops),
        Part("bias", elementwise=grad_output.numel),
    )
    return Cost.fused(*asked_for(parts, ("input", "weight", "bias"), output_mask))


KERNELS = """
    _convolution _conv_depthwise2d _nnpack_spatial_convolution _slow_conv2d_forward conv_depthwise3d
    convolution_overrideable cudnn_convolution cudnn_convolution_add_relu cudnn_convolution_relu
    miopen_convolution miopen_convolution_add_relu miopen_convolution_relu
    miopen_depthwise_convolution mkldnn_convolution _mps_convolution slow_conv3d_forward
    slow_conv_dilated2d slow_conv_dilated3d
"""
TRANSPOSED_KERNELS = """
    cudnn_convolution_transpose miopen_convolution_transpose _mps_convolution_transpose
    slow_conv_transpose2d slow_conv_transpose3d
"""
"""The kernels behind ``convolution``, where somebody calls one by its own name."""


def kernel(transposed: bool, rectified: bool) -> OperatorFormula:
    def formula(
        input: Tensor, weight: Tensor, /, *settings: Any, out: Tensor, **named: Any
    ) -> Cost:
        """A convolution; an addition an entry of the result for a bias, and for what is added to it
        besides; a comparison for a ReLU. (``_convolution`` may be either kind.)"""
        added = sum(isinstance(value, Tensor) for value in (*settings, *named.values()))
        way = settings[4] if len(settings) > 4 and isinstance(settings[4], bool) else transposed
        return Cost(
            flops=convolution_flops(input, weight, out, way),
            elementwise=(added + rectified) * out.numel,
        )

    return formula


for _name in KERNELS.split():
    operator(f"aten.{_name}")(kernel(False, _name.endswith("relu")))
for _name in TRANSPOSED_KERNELS.split():
    operator(f"aten.{_name}")(kernel(True, False))


@operator("aten.convolution_backward_overrideable")
def convolution_backward_overrideable(
    grad_output: Tensor,
    input: Tensor,
    weight: Tensor,
    stride: Sequence[Size],
    padding: Sequence[Size],
    dilation: Sequence[Size],
    transposed: bool,
    output_padding: Sequence[Size],
    groups: Size,
    output_mask: Sequence[bool],
    *,
    out: tuple[Tensor | None, ...],
) -> Cost:
    """``convolution_backward`` of other accelerators."""
    settings = (stride, padding, dilation, transposed, output_padding, groups, output_mask)
    return convolution_backward(grad_output, input, weight, None, *settings, out=out)


@operator("aten._slow_conv2d_backward")
def slow_conv2d_backward(
    grad_output: Tensor, self: Tensor, weight: Tensor, *settings: Any, out: Any, **written: Any
) -> Cost:
    """All of the gradients, or those that a mask at the end asks for."""
    flops = convolution_flops(self, weight, grad_output, False)
    *_, mask = settings
    asked = mask if len(mask) == 3 and isinstance(mask[0], bool) else (True, True, True)
    return Cost(flops=(asked[0] + asked[1]) * flops, elementwise=asked[2] * grad_output.numel)


def rows_of_tap(length: Size, positions: Size, tap: Size, pad: Size) -> Size:
    """At how many positions a tap of a kernel lies on the input, not on its padding."""
    first, last = max(0, pad - tap), min(length + pad - tap, positions)
    return max(0, last - first)


@operator("aten.conv_tbc")
def conv_tbc(self: Tensor, weight: Tensor, bias: Tensor, pad: Size = 0, *, out: Tensor) -> Cost:
    """out[T, B, O] = bias[O] + sum over the taps k of self[t + k - pad, B, C] @ weight[k, C, O].

    1. Each tap is one product of those rows that lie on the input: torch computes none of the taps
       on padding, unlike ``convolution``. 2 R_k B C O for R_k rows; the bias is an addition an
       entry.
    2. Backward too is a product a tap, added to the others: for self, then for the weight; the
       gradient of the bias is summed over T, then over B.
    """
    (length, batch, channels), positions = self.shape, out.shape[0]
    taps, _, outputs = weight.shape
    rows = [batch * rows_of_tap(length, positions, tap, pad) for tap in range(taps)]
    kept = (self, weight, bias)
    products = [2 * row * channels * outputs for row in rows]
    of_self = [
        Gradient("self", "aten.addmm_", product, row * channels, kept)
        for product, row in zip(products, rows, strict=True)
    ]
    of_weight = [
        Gradient("weight", "aten.addmm_", product, channels * outputs, kept) for product in products
    ]
    of_bias = [
        Gradient("bias", "aten.sum", elementwise=summed, saves=kept)
        for summed in (out.numel, batch * outputs)
    ]
    return Cost(
        flops=sum(products),
        elementwise=out.numel,
        gradients=(*of_self, *of_weight, *of_bias),
    )


def padded_to_same(
    x: Tensor, kernel: tuple[Size, ...], dilation: tuple[Size, ...]
) -> tuple[Tensor, tuple[Size, ...], tuple[Call, ...]]:
    """The input, padding and calls before the convolution that ``padding="same"`` comes to.

    A kernel of k taps dilated by d needs d (k - 1) padded positions in all, half of them at either
    end. Where that is odd, torch first copies the input into one with the odd position at its end.
    """
    whole = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    half = tuple(positions // 2 for positions in whole)
    odd = [positions - 2 * end for positions, end in zip(whole, half, strict=True)]
    if not any(odd):
        return x, half, ()
    positions = (size + extra for size, extra in zip(x.shape[2:], odd, strict=True))
    padded = x.new(*x.shape[:2], *positions)
    pad = tuple(end for extra in reversed(odd) for end in (0, extra))
    return padded, half, (Call("aten.constant_pad_nd", {"self": x, "pad": pad}, padded),)


def convolution_layer(
    dimensions: int,
    x: Tensor,
    *,
    in_channels: Size,
    out_channels: Size,
    kernel_size: Size | Sequence[Size],
    stride: Size | Sequence[Size] = 1,
    padding: Size | Sequence[Size] | str = 0,
    output_padding: Size | Sequence[Size] = 0,
    groups: Size = 1,
    bias: bool = True,
    dilation: Size | Sequence[Size] = 1,
    transposed: bool = False,
) -> LayerCost:
    """One ``convolution``. A kernel of k taps, dilated by d, reaches d (k - 1) + 1 positions.

    - A plain one moves it over the padded input by the stride:
      (input + 2 padding - d (k - 1) - 1) // stride + 1 output positions.
    - A transposed one sets down as many outputs for each input position, a stride apart, and cuts
      the padding off: (input - 1) stride - 2 padding + d (k - 1) + output_padding + 1.
    """
    kernel = per_dimension(kernel_size, dimensions)
    stride = per_dimension(stride, dimensions)
    dilation = per_dimension(dilation, dimensions)
    output_padding = per_dimension(output_padding, dimensions)
    # torch gives a batch dimension of one to an input [C, *positions].
    read = x if len(x.shape) == dimensions + 2 else x.view(1, *x.shape)
    calls: tuple[Call, ...] = ()
    if isinstance(padding, str):
        same = padding == "same"
        read, padding, calls = padded_to_same(read, kernel, dilation) if same else (read, 0, ())
    padding = per_dimension(padding, dimensions)

    sizes = zip(read.shape[2:], kernel, stride, padding, dilation, output_padding, strict=True)
    if transposed:
        channels = (in_channels, out_channels // groups)
        positions = [(n - 1) * s - 2 * p + d * (k - 1) + o + 1 for n, k, s, p, d, o in sizes]
    else:
        channels = (out_channels, in_channels // groups)
        positions = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d, _ in sizes]
    parameters = {"weight": Tensor((*channels, *kernel), x.itemsize)}
    if bias:
        parameters["bias"] = Tensor((out_channels,), x.itemsize)
    operands = {
        "input": read,
        "weight": parameters["weight"],
        "bias": parameters.get("bias"),
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
        "transposed": transposed,
        "output_padding": output_padding,
        "groups": groups,
    }
    y = x.new(read.shape[0], out_channels, *positions)
    calls = (*calls, Call("aten.convolution", operands, y))
    return LayerCost(y.view(*x.shape[: -dimensions - 1], *y.shape[1:]), calls, parameters)


@layer("Conv1d")
def conv1d(x: Tensor, **arguments: Any) -> LayerCost:
    """x[N, C, length]"""
    return convolution_layer(1, x, **arguments)


@layer("Conv2d")
def conv2d(x: Tensor, **arguments: Any) -> LayerCost:
    """x[N, C, height, width]"""
    return convolution_layer(2, x, **arguments)


@layer("Conv3d")
def conv3d(x: Tensor, **arguments: Any) -> LayerCost:
    """x[N, C, depth, height, width]"""
    return convolution_layer(3, x, **arguments)


@layer("ConvTranspose1d")
def conv_transpose1d(x: Tensor, **arguments: Any) -> LayerCost:
    """x[N, C, length]"""
    return convolution_layer(1, x, transposed=True, **arguments)


@layer("ConvTranspose2d")
def conv_transpose2d(x: Tensor, **arguments: Any) -> LayerCost:
    """x[N, C, height, width]"""
    return convolution_layer(2, x, transposed=True, **arguments)


@layer("ConvTranspose3d")
def conv_transpose3d(x: Tensor, **arguments: Any) -> LayerCost:
    """x[N, C, depth, height, width]"""
    return convolution_layer(3, x, transposed=True, **arguments)


EXAMPLES += [
    Example(
        "Conv2d",
        {
            "x": Tensor((2, 3, 6, 6)),
            "in_channels": 3,
            "out_channels": 6,
            "kernel_size": 4,
            "padding": 1,
        },
        {"flops": 28_800, "elementwise": 300, "parameters": 294},
        "weight 6 * 3 * 4 * 4 = 288 at 5 * 5 positions of 2 images: 2 * 288 * 2 * 25 = 28,800; "
        "bias 2 * 6 * 25 = 300; 288 + 6 = 294 parameters",
    ),
    Example(
        "Conv1d",
        {
            "x": Tensor((2, 4, 9)),
            "in_channels": 4,
            "out_channels": 6,
            "kernel_size": 3,
            "groups": 2,
            "bias": False,
        },
        {"flops": 1_008, "elementwise": 0, "parameters": 36},
        "weight 6 * (4 / 2) * 3 = 36 at 7 positions of 2 sequences: 2 * 36 * 2 * 7 = 1,008",
    ),
    Example(
        "ConvTranspose2d",
        {
            "x": Tensor((1, 4, 30, 2)),
            "in_channels": 4,
            "out_channels": 8,
            "kernel_size": 2,
            "stride": 2,
        },
        {"flops": 15_360, "elementwise": 1_920, "parameters": 136},
        "weight 4 * 8 * 2 * 2 = 128 at 30 * 2 input positions: 2 * 128 * 60 = 15,360; "
        "bias 8 * 60 * 4 = 1,920; 128 + 8 = 136 parameters",
    ),
    Example(
        "aten.convolution_backward",
        {
            "grad_output": Tensor((2, 6, 7)),
            "input": Tensor((2, 4, 9)),
            "weight": Tensor((6, 2, 3)),
            "bias_sizes": (6,),
            "stride": (1,),
            "padding": (0,),
            "dilation": (1,),
            "transposed": False,
            "output_padding": (0,),
            "groups": 2,
            "output_mask": (False, True, True),
            "out": (None, Tensor((6, 2, 3)), Tensor((6,))),
        },
        {"flops": 1_008, "elementwise": 84},
        "the weight's gradient alone: 2 * 36 * 2 * 7 = 1,008, not times the 2 groups; "
        "bias 2 * 6 * 7 = 84",
    ),
]
