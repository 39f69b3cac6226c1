"""Values between grid points: interpolation to another size, sampling at given places, regions of
interest, deformable convolution.

A value between grid points is a weighted sum of the entries around it, its taps: a multiply-add a
tap into a zeroed accumulator, 2 FLOP; its gradient, 2 FLOP a tap again, adds the weighted gradient
into the taps. Taps beyond the edge count. Where the weights follow from sizes alone, they are no
arithmetic on data and are not counted; where they follow from given places, they are.

Shapes: N images of C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from flopratio.formulas.formula import (
    EXAMPLES,
    Cost,
    Example,
    Gradient,
    OperatorFormula,
    Part,
    Size,
    Tensor,
    asked_for,
    operator,
    prod,
)

# -- to another size ----------------------------------------------------------------------------

TAPS = {
    "aten.upsample_linear1d": 2,
    "aten.upsample_bilinear2d": 4,
    "aten.upsample_trilinear3d": 8,
    "aten.upsample_bicubic2d": 16,
}
"""Entries around a place: 2, or 4 of a cubic one, along each dimension."""

NEAREST = [
    f"aten.{name}{dimensions}d"
    for name in ("upsample_nearest", "_upsample_nearest_exact")
    for dimensions in (1, 2, 3)
]

REACH = {
    "aten._upsample_bilinear2d_aa": 2,
    "aten._upsample_bicubic2d_aa": 4,
    "aten._upsample_lanczos2d_aa": 6,
}
"""How many grid points a filter is wide."""


def interpolation(
    backward: str, forward_work: Callable[[Tensor, Tensor], Size], backward_work: Size = None
) -> OperatorFormula:
    """The formula of an interpolation. Its backward operator takes the gradient of y, y's sizes and
    x's sizes; nothing is kept."""
    gradient_work = backward_work or forward_work

    def formula(self: Tensor, *sizes: Any, out: Tensor, **scales: Any) -> Cost:
        gradient = Gradient("self", backward, elementwise=gradient_work(self, out))
        return Cost(elementwise=forward_work(self, out), gradients=(gradient,))

    def backward_formula(grad_output: Tensor, *sizes: Any, out: Tensor, **scales: Any) -> Cost:
        return Cost(elementwise=gradient_work(out, grad_output))

    operator(backward)(backward_formula)
    return formula


def copied(x: Tensor, y: Tensor) -> Size:
    """Nearest neighbours are copied: no arithmetic."""
    return 0


def added_up(x: Tensor, y: Tensor) -> Size:
    """The gradients of an entry's copies: an addition each."""
    return y.numel


def tapped(taps: int) -> Callable[[Tensor, Tensor], Size]:
    """2 FLOP for each tap of each entry of y."""
    return lambda x, y: 2 * taps * y.numel


def larger(one: Size, other: Size) -> Size:
    """The larger of two sizes, also of arrays and symbols."""
    return (one + other + abs(one - other)) // 2


def filtered(reach: int) -> Callable[[Tensor, Tensor], Size]:
    """An antialiased x[N, C, h, w] -> y[N, C, H, W]: first along the width, for all h rows; then
    along the height, for all W columns.

    1. Upwards, the filter lies on ``reach`` grid points of x around each of the W places: reach W
       taps a row.
    2. Downwards it is stretched by s = w / W, and a place has those taps that lie within
       s reach / 2 of it. Windows of places ``reach`` apart join without gap or overlap, so
       together they tile the row ``reach`` times: reach w taps a row, exactly, if those beyond
       the edge count.
    3. So reach max(w, W) a row, and reach max(h, H) a column; 2 FLOP each.
    """

    def work(x: Tensor, y: Tensor) -> Size:
        (n, c, h, w), (height, width) = x.shape, y.shape[2:]
        along_width = h * larger(w, width)
        along_height = width * larger(h, height)
        return 2 * n * c * reach * (along_width + along_height)

    return work


for _name, _taps in TAPS.items():
    operator(_name)(interpolation(f"{_name}_backward", tapped(_taps)))
for _name in NEAREST:
    operator(_name)(interpolation(f"{_name}_backward", copied, added_up))
for _name, _reach in REACH.items():
    operator(_name)(interpolation(f"{_name}_backward", filtered(_reach)))


# -- at given places ----------------------------------------------------------------------------

BILINEAR, NEAREST_PLACE, BICUBIC = 0, 1, 2
"""``interpolation_mode``."""

PADDING = (0, 2, 11)
"""FLOP a coordinate of ``padding_mode``. Zeros: none. Border: 2 comparisons. Reflection: less the
lower end, absolute value; times how often the range fits, floor, times the range, less that (the
remainder); the range less the remainder, a selection of both, plus the lower end: 9; then the 2 of
the border."""


def coordinate_flops(mode: int, padding_mode: int, align_corners: bool) -> int:
    """FLOP of one coordinate g of a place, in [-1, 1].

    1. To a grid point: (g + 1) times half the size, 2; less 1/2 if corners are not aligned, 1.
    2. Padding; for each of the 4 taps of a cubic.
    3. Bilinear: floor, the fraction t, 1 - t: 3. Nearest: round: 1. Bicubic: floor, t, and 4
       weights (Keys, 1981) from the distances t + 1, t, 1 - t, 2 - t (3): ((A + 2) x - (A + 3)) x x
       + 1 for the inner two, 5 each; ((A x - 5 A) x + 8 A) x - 4 A for the outer two, 6 each: 27.
    """
    to_grid = 2 if align_corners else 3
    taps = 4 if mode == BICUBIC else 1
    return to_grid + taps * PADDING[padding_mode] + (3, 1, 27)[mode]


def place_flops(dimensions: int, mode: int, padding_mode: int, align_corners: bool) -> int:
    """FLOP of one place: its coordinates, then the weights of its taps, products of one weight for
    each dimension. In three dimensions 4 products of two serve for 8 of three."""
    coordinates = dimensions * coordinate_flops(mode, padding_mode, align_corners)
    weights = 0 if mode == NEAREST_PLACE else 16 if mode == BICUBIC else (4, 12)[dimensions - 2]
    return coordinates + weights


def taps_of(dimensions: int, mode: int) -> int:
    """Taps that are weighted: none of a copied nearest neighbour."""
    return (1 << dimensions, 0, 16)[mode]


def place_gradient_flops(dimensions: int, mode: int, padding_mode: int) -> int:
    """FLOP of the gradient of one place, when s = sum over C of x grad_y is known for each tap.

    1. The gradient of a coordinate is the sum over the taps of s, times the other dimensions'
       weights, added or subtracted: 2 a tap. In three dimensions 4 products of two other weights
       for each coordinate. A cubic's weights have derivatives in t: 4 FLOP for the outer two, 3
       for the inner two, 14; times the other weight, 1 a tap.
    2. Times half the size: 1 a coordinate; and by 0, 1 or -1 where padding bends the coordinate
       (not of a cubic): 1.
    """
    if mode == NEAREST_PLACE:
        return 0
    if mode == BICUBIC:
        return dimensions * (14 + 3 * 16 + 1)
    others = 4 if dimensions == 3 else 0
    return dimensions * (2 * taps_of(dimensions, mode) + others + 1 + (padding_mode != 0))


def sampling_parts(
    operand: str,
    entries: Size,
    grid: Tensor,
    mode: int,
    padding_mode: int,
    align_corners: bool,
) -> tuple[Part, ...]:
    """Backward of N C P values from N P places, P to an image:

    - the places once more, for whatever is asked for;
    - of the input: 2 a tap and value, 1 a value for nearest neighbours;
    - of the grid: s, 2 a tap and value; then :func:`place_gradient_flops`. Nearest: none.
    """
    dimensions: int = grid.shape[-1]
    places = prod(grid.shape[:-1])
    taps = taps_of(dimensions, mode)
    a_place = place_gradient_flops(dimensions, mode, padding_mode)
    again = place_flops(dimensions, mode, padding_mode, align_corners)
    return (
        Part((operand, "grid"), elementwise=again * places),
        Part(operand, elementwise=(2 * taps or 1) * entries),
        Part("grid", elementwise=2 * taps * entries + a_place * places),
    )


def grid_sampler(
    operand: str,
    backward: str,
    input: Tensor,
    grid: Tensor,
    out: Tensor,
    mode: int = BILINEAR,
    padding_mode: int = 0,
    align_corners: bool = True,
) -> Cost:
    """y[N, C, *places] = input[N, C, *sizes] at grid[N, *places, dimensions]: the places, then 2 a
    tap and value."""
    dimensions: int = grid.shape[-1]
    places = prod(grid.shape[:-1])
    parts = sampling_parts(operand, out.numel, grid, mode, padding_mode, align_corners)
    return Cost(
        elementwise=place_flops(dimensions, mode, padding_mode, align_corners) * places
        + 2 * taps_of(dimensions, mode) * out.numel,
        gradients=tuple(
            Gradient(part.operand, backward, elementwise=part.elementwise, saves=(input, grid))
            for part in parts
        ),
    )


def sampler(backward: str, masked: bool) -> OperatorFormula:
    """The formula of ``grid_sampler_2d`` and its like.

    Args:
        masked: whether the backward operator has an ``output_mask``; else it computes both
            gradients.
    """

    def formula(
        input: Tensor,
        grid: Tensor,
        interpolation_mode: int,
        padding_mode: int,
        align_corners: bool,
        *,
        out: Tensor,
    ) -> Cost:
        settings = (interpolation_mode, padding_mode, align_corners)
        return grid_sampler("input", backward, input, grid, out, *settings)

    def backward_formula(
        grad_output: Tensor,
        input: Tensor,
        grid: Tensor,
        interpolation_mode: int,
        padding_mode: int,
        align_corners: bool,
        *,
        out: tuple[Tensor, Tensor],
    ) -> Cost:
        settings = (interpolation_mode, padding_mode, align_corners)
        return Cost.fused(*sampling_parts("input", grad_output.numel, grid, *settings))

    def masked_backward_formula(
        grad_output: Tensor,
        input: Tensor,
        grid: Tensor,
        interpolation_mode: int,
        padding_mode: int,
        align_corners: bool,
        output_mask: Sequence[bool],
        *,
        out: tuple[Tensor | None, Tensor | None],
    ) -> Cost:
        settings = (interpolation_mode, padding_mode, align_corners)
        parts = sampling_parts("input", grad_output.numel, grid, *settings)
        return Cost.fused(*asked_for(parts, ("input", "grid"), output_mask))

    operator(backward)(masked_backward_formula if masked else backward_formula)
    return formula


for _name, _masked in (
    ("aten.grid_sampler_2d", True),
    ("aten.grid_sampler_3d", True),
    ("aten._grid_sampler_2d_cpu_fallback", False),
):
    operator(_name)(sampler(f"{_name}_backward", _masked))


@operator("aten.grid_sampler")
def whole_grid_sampler(
    input: Tensor,
    grid: Tensor,
    interpolation_mode: int,
    padding_mode: int,
    align_corners: bool,
    *,
    out: Tensor,
) -> Cost:
    """As a dispatch mode sees it in inference mode."""
    settings = (interpolation_mode, padding_mode, align_corners)
    return Cost(elementwise=grid_sampler("input", "", input, grid, out, *settings).elementwise)


@operator("aten.cudnn_grid_sampler")
def cudnn_grid_sampler(self: Tensor, grid: Tensor, *, out: Tensor) -> Cost:
    """Bilinear, zeros beyond the edge, corners aligned."""
    return grid_sampler("self", "aten.cudnn_grid_sampler_backward", self, grid, out)


@operator("aten.cudnn_grid_sampler_backward")
def cudnn_grid_sampler_backward(
    self: Tensor, grid: Tensor, grad_output: Tensor, *, out: tuple[Tensor, Tensor]
) -> Cost:
    """Both gradients, whichever is asked for."""
    return Cost.fused(*sampling_parts("self", grad_output.numel, grid, BILINEAR, 0, True))


@operator("aten.affine_grid_generator")
def affine_grid_generator(
    theta: Tensor, size: Sequence[Size], align_corners: bool, *, out: Tensor
) -> Cost:
    """out[N, *sizes, D] = (place, 1) @ theta[N, D, D + 1].T for the places of a regular grid: a
    product of 2 N prod(sizes) D (D + 1). If corners are not aligned, the grid's coordinates are
    times size - 1, and divided by size: 2 for each along each dimension. Nothing is kept: backward
    makes the grid again."""
    product = 2 * out.numel * theta.shape[2]
    along = () if align_corners else tuple(reversed(size[2:]))
    again = [
        Gradient("theta", op, elementwise=places)
        for places in along
        for op in ("aten.mul", "aten.div")
    ]
    return Cost(
        flops=product,
        elementwise=2 * sum(along),
        gradients=(*again, Gradient("theta", "aten.bmm", flops=product)),
    )


@operator("aten.cudnn_affine_grid_generator")
def cudnn_affine_grid_generator(
    theta: Tensor, N: Size, C: Size, H: Size, W: Size, *, out: Tensor
) -> Cost:
    """The same of two dimensions by cuDNN; its gradient is an operator of its own."""
    product = 2 * out.numel * theta.shape[2]
    backward = "aten.cudnn_affine_grid_generator_backward"
    return Cost(flops=product, gradients=(Gradient("theta", backward, flops=product),))


@operator("aten.cudnn_affine_grid_generator_backward")
def cudnn_affine_grid_generator_backward(
    grad: Tensor, N: Size, C: Size, H: Size, W: Size, *, out: Tensor
) -> Cost:
    return Cost(flops=2 * grad.numel * out.shape[2])


# -- regions of interest ------------------------------------------------------------------------


@operator("torchvision.nms")
def nms(dets: Tensor, scores: Tensor, iou_threshold: float, *, out: Tensor) -> Cost:
    """Non-maximum suppression of n boxes. All pairs are compared, as CUDA's kernel does; how many
    of them one may leave out is in the data.

    1. n areas: 2 differences and a product, 3.
    2. n (n - 1) / 2 pairs: the intersection's edges, 4 comparisons, its sides, 2 differences and 2
       comparisons with 0, its area, 1; the union, 2; the quotient, 1; compared to the threshold,
       1: 13.
    """
    (n, _) = dets.shape
    return Cost(elementwise=3 * n + 13 * (n * (n - 1) // 2))


def region_flops(rois: Tensor, samples: Size, aligned: bool) -> Size:
    """FLOP of the places of all samples.

    1. A region: its 4 edges to the grid, its 2 sides, its 2 steps between samples, 8; if aligned,
       4 edges less 1/2, else 2 sides of at least 1.
    2. A sample: its 2 coordinates, start + index times step, 2 each; floor, fraction t, 1 - t, 3
       each; 4 weights: 14.
    """
    return (8 + (4 if aligned else 2)) * rois.shape[0] + 14 * samples


def pooled_regions(
    backward: str,
    rois: Tensor,
    entries: Size,
    bins: Size,
    sampling_ratio: int,
    aligned: bool,
    saves: tuple[Tensor, ...],
) -> Cost:
    """bins: bins of all regions. entries: results, a channel each. Every bin has a square of
    ``sampling_ratio`` samples (one, if that is 0 or less: how many it has is in the data then), and
    its result is their sum over their number: 4 taps a sample, 8, and 1."""
    square = sampling_ratio * sampling_ratio if sampling_ratio > 0 else 1
    work = region_flops(rois, bins * square, aligned) + (8 * square + 1) * entries
    return Cost(
        elementwise=work, gradients=(Gradient("input", backward, elementwise=work, saves=saves),)
    )


@operator("torchvision.roi_align")
def roi_align(
    input: Tensor,
    rois: Tensor,
    spatial_scale: float,
    pooled_height: Size,
    pooled_width: Size,
    sampling_ratio: int,
    aligned: bool,
    *,
    out: Tensor,
) -> Cost:
    """out[K, C, pooled_height, pooled_width] from input[N, C, H, W] in rois[K, 5]."""
    bins = rois.shape[0] * pooled_height * pooled_width
    backward = "torchvision._roi_align_backward"
    return pooled_regions(backward, rois, out.numel, bins, sampling_ratio, aligned, (rois,))


@operator("torchvision._roi_align_backward")
def roi_align_backward(
    grad: Tensor,
    rois: Tensor,
    spatial_scale: float,
    pooled_height: Size,
    pooled_width: Size,
    batch_size: Size,
    channels: Size,
    height: Size,
    width: Size,
    sampling_ratio: int,
    aligned: bool,
    *,
    out: Tensor,
) -> Cost:
    """The places again; the gradient over the number of samples, weighted into 4 taps each."""
    bins = rois.shape[0] * pooled_height * pooled_width
    work = pooled_regions("", rois, grad.numel, bins, sampling_ratio, aligned, ())
    return Cost(elementwise=work.elementwise)


@operator("torchvision.ps_roi_align")
def ps_roi_align(
    input: Tensor,
    rois: Tensor,
    spatial_scale: float,
    pooled_height: Size,
    pooled_width: Size,
    sampling_ratio: int,
    *,
    out: tuple[Tensor, Tensor],
) -> Cost:
    """As ``roi_align``, aligned, but every bin has its own channels of the input."""
    pooled, channels = out
    bins = rois.shape[0] * pooled_height * pooled_width
    backward = "torchvision._ps_roi_align_backward"
    saves = (rois, channels)
    return pooled_regions(backward, rois, pooled.numel, bins, sampling_ratio, True, saves)


@operator("torchvision._ps_roi_align_backward")
def ps_roi_align_backward(
    grad: Tensor,
    rois: Tensor,
    channel_mapping: Tensor,
    spatial_scale: float,
    pooled_height: Size,
    pooled_width: Size,
    sampling_ratio: int,
    batch_size: Size,
    channels: Size,
    height: Size,
    width: Size,
    *,
    out: Tensor,
) -> Cost:
    """As ``_roi_align_backward``."""
    bins = rois.shape[0] * pooled_height * pooled_width
    work = pooled_regions("", rois, grad.numel, bins, sampling_ratio, True, ())
    return Cost(elementwise=work.elementwise)


# -- deformable convolution ---------------------------------------------------------------------


def deformed_parts(
    input: Tensor, weight: Tensor, offset: Tensor, y: Tensor, offset_groups: Size, use_mask: bool
) -> tuple[Part, ...]:
    """Backward, beside the columns (see :func:`deform_conv2d`) c = mask v, of values v at places:

    - grad_c = weight.T grad_y: as forward's product;
    - grad_weight = grad_y c.T: as forward's product; with a mask c again, 1 an entry;
    - v again, for the weight and the mask: 8 an entry;
    - grad_v = mask grad_c, 1 an entry, with a mask;
    - grad_input: 4 taps, 8 an entry;
    - grad_offset: x grad_v for each tap, 8 an entry; then 2 coordinates of 4 taps, 2 each, 16 a
      place;
    - grad_mask = sum of v grad_c over the channels of its group: 2 an entry;
    - the places again, 12 each;
    - grad_bias = sum of grad_y.
    """
    positions = y.shape[0] * prod(y.shape[2:])
    kernel = prod(weight.shape[2:])
    product = 2 * weight.numel * positions
    entries = input.shape[1] * kernel * positions
    places = offset_groups * kernel * positions
    masked = ("mask",) if use_mask else ()
    mask_flops = entries if use_mask else 0
    parts = [
        Part(("input", "offset", *masked), flops=product),
        Part("weight", flops=product, elementwise=mask_flops),
        Part(("weight", *masked), elementwise=8 * entries),
        Part("input", elementwise=8 * entries),
        Part("offset", elementwise=8 * entries + 16 * places),
        Part(("input", "weight", "offset", *masked), elementwise=12 * places),
        Part("bias", elementwise=y.numel),
    ]
    if use_mask:
        parts += [
            Part(("input", "offset"), elementwise=mask_flops),
            Part("mask", elementwise=2 * entries),
        ]
    return tuple(parts)


@operator("torchvision.deform_conv2d")
def deform_conv2d(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    mask: Tensor,
    bias: Tensor,
    stride_h: Size,
    stride_w: Size,
    pad_h: Size,
    pad_w: Size,
    dilation_h: Size,
    dilation_w: Size,
    groups: Size,
    offset_groups: Size,
    use_mask: bool,
    *,
    out: Tensor,
) -> Cost:
    """A convolution (Dai et al., 2017) whose taps lie at places of their own.

    1. A place, one for each tap, output position and offset group: 2 coordinates plus offset, 2;
       floor, fraction t, 1 - t, 3 each; 4 weights: 12.
    2. An entry of the columns, one for each input channel, tap and output position: 4 taps, 8;
       times the mask, if there is one, 1.
    3. weight[O, C / groups, taps] @ columns: as a convolution, 2 prod(weight) N positions.
    4. The bias (zeros, if the layer has none): an addition an output entry.
    """
    parts = deformed_parts(input, weight, offset, out, offset_groups, use_mask)
    positions = out.shape[0] * prod(out.shape[2:])
    kernel = prod(weight.shape[2:])
    entries = input.shape[1] * kernel * positions
    places = offset_groups * kernel * positions
    kept = (input, weight, offset, mask, bias)
    backward = "torchvision._deform_conv2d_backward"
    return Cost(
        flops=2 * weight.numel * positions,
        elementwise=12 * places + (9 if use_mask else 8) * entries + out.numel,
        gradients=tuple(
            Gradient(part.operand, backward, part.flops, part.elementwise, kept) for part in parts
        ),
    )


@operator("torchvision._deform_conv2d_backward")
def deform_conv2d_backward(
    grad: Tensor,
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    mask: Tensor,
    bias: Tensor,
    stride_h: Size,
    stride_w: Size,
    pad_h: Size,
    pad_w: Size,
    dilation_h: Size,
    dilation_w: Size,
    groups: Size,
    offset_groups: Size,
    use_mask: bool,
    *,
    out: tuple[Tensor, ...],
) -> Cost:
    """All gradients, whichever are asked for; see :func:`deformed_parts`."""
    return Cost.fused(*deformed_parts(input, weight, offset, grad, offset_groups, use_mask))


EXAMPLES += [
    Example(
        "aten.upsample_bilinear2d",
        {
            "self": Tensor((2, 3, 5, 6)),
            "out": Tensor((2, 3, 10, 12)),
        },
        {"flops": 0, "elementwise": 5_760},
        "2 * 3 * 10 * 12 = 720 values of 4 taps: 2 * 4 * 720 = 5,760",
    ),
    Example(
        "aten.upsample_nearest2d_backward",
        {"grad_output": Tensor((2, 3, 10, 12)), "out": Tensor((2, 3, 5, 6))},
        {"elementwise": 720},
        "an addition for each of 720 copies",
    ),
    Example(
        "aten._upsample_bilinear2d_aa",
        {"self": Tensor((1, 1, 6, 9)), "out": Tensor((1, 1, 12, 3))},
        {"elementwise": 360},
        "along the width 2 * 9 taps in 6 rows, 108; along the height 2 * 12 in 3 columns, 72; "
        "2 * 180 = 360",
    ),
    Example(
        "aten.grid_sampler_2d",
        {
            "input": Tensor((2, 3, 5, 6)),
            "grid": Tensor((2, 4, 7, 2)),
            "interpolation_mode": 0,
            "padding_mode": 0,
            "align_corners": False,
            "out": Tensor((2, 3, 4, 7)),
        },
        {"elementwise": 2_240},
        "56 places of 2 * (3 + 3) + 4 = 16 FLOP, 896; 168 values of 4 taps, 1,344",
    ),
    Example(
        "aten.affine_grid_generator",
        {
            "theta": Tensor((2, 2, 3)),
            "size": (2, 3, 5, 6),
            "align_corners": True,
            "out": Tensor((2, 5, 6, 2)),
        },
        {"flops": 720, "elementwise": 0},
        "2 * 5 * 6 places, [60, 3] @ [3, 2]: 2 * 60 * 2 * 3 = 720",
    ),
    Example(
        "torchvision.nms",
        {
            "dets": Tensor((5, 4)),
            "scores": Tensor((5,)),
            "iou_threshold": 0.5,
            "out": Tensor((3,), 8),
        },
        {"elementwise": 145},
        "5 areas of 3, 10 pairs of 13: 145",
    ),
    Example(
        "torchvision.roi_align",
        {
            "input": Tensor((1, 8, 32, 32)),
            "rois": Tensor((3, 5)),
            "spatial_scale": 0.25,
            "pooled_height": 7,
            "pooled_width": 7,
            "sampling_ratio": 2,
            "aligned": False,
            "out": Tensor((3, 8, 7, 7)),
        },
        {"elementwise": 47_070},
        "3 regions of 10; 3 * 49 * 4 = 588 samples of 14, 8,232; 1,176 values of 4 samples of 4 "
        "taps and a division, 33 * 1,176 = 38,808",
    ),
    Example(
        "torchvision.deform_conv2d",
        {
            "input": Tensor((1, 4, 6, 6)),
            "weight": Tensor((8, 4, 3, 3)),
            "offset": Tensor((1, 18, 4, 4)),
            "mask": Tensor((1, 9, 4, 4)),
            "bias": Tensor((8,)),
            "stride_h": 1,
            "stride_w": 1,
            "pad_h": 0,
            "pad_w": 0,
            "dilation_h": 1,
            "dilation_w": 1,
            "groups": 1,
            "offset_groups": 1,
            "use_mask": True,
            "out": Tensor((1, 8, 4, 4)),
        },
        {"flops": 9_216, "elementwise": 7_040},
        "weight 288 at 16 positions: 2 * 288 * 16 = 9,216; 144 places of 12, 1,728; columns of "
        "4 * 144 entries of 9, 5,184; bias 128",
    ),
]
