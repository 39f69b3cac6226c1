"""Copies by index or by repetition, and their counterpart: sums by index.

What one of them does forward the other does backward. A copy is no arithmetic; its gradient is a
sum, as an element may have been copied many times: one addition into a zeroed accumulator for each
element that is summed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flopratio.formulas.formula import (
    EXAMPLES,
    Cost,
    Example,
    Gradient,
    OperatorFormula,
    Size,
    Tensor,
    operator,
    same_shape,
)
from flopratio.formulas.pointwise import scaling


def sum_over_copies(self: Tensor, out: Tensor) -> Gradient:
    """The gradient of an element that is there several times."""
    if same_shape(self.shape, out.shape):
        return Gradient("self", "")
    return Gradient("self", "aten.sum", elementwise=out.numel)


@operator("aten.expand")
def expand(self: Tensor, size: Any, *, implicit: bool = False, out: Tensor) -> Cost:
    """Every element several times, as a view."""
    return Cost(gradients=(sum_over_copies(self, out),), view=True)


@operator("aten.repeat")
def repeat(self: Tensor, repeats: Any, *, out: Tensor) -> Cost:
    """Every element several times."""
    return Cost(gradients=(sum_over_copies(self, out),))


@operator("aten._unsafe_masked_index")
def masked_index(self: Tensor, mask: Tensor, indices: Any, fill: Any, *, out: Tensor) -> Cost:
    """``index``, at places that a mask may turn off."""
    kept = (mask, *(tensor for tensor in indices if isinstance(tensor, Tensor)))
    backward = "aten._unsafe_masked_index_put_accumulate"
    return Cost(gradients=(Gradient("self", backward, elementwise=out.numel, saves=kept),))


@operator("aten.index", "aten._unsafe_index")
def index(self: Tensor, indices: Any, *, out: Tensor) -> Cost:
    """out = self[indices], each of them a tensor or None (the whole dimension)."""
    kept = tuple(tensor for tensor in indices if isinstance(tensor, Tensor))
    return Cost(gradients=(Gradient("self", "aten.index_put", elementwise=out.numel, saves=kept),))


@operator("aten.index_select")
def index_select(self: Tensor, dim: int, index: Tensor, *, out: Tensor) -> Cost:
    """out = the slices of self along ``dim`` that the index names."""
    return Cost(
        gradients=(Gradient("self", "aten.index_add", elementwise=out.numel, saves=(index,)),)
    )


@operator("aten.gather")
def gather(
    self: Tensor, dim: int, index: Tensor, sparse_grad: bool = False, *, out: Tensor
) -> Cost:
    """out[i] = self[index[i]]; torch keeps self as well, for its shape."""
    return Cost(
        gradients=(
            Gradient("self", "aten.scatter_add", elementwise=out.numel, saves=(index, self)),
        )
    )


@operator("aten.scatter_add", "aten.scatter_add_")
def scatter_add(self: Tensor, dim: int, index: Tensor, src: Tensor, *, out: Tensor) -> Cost:
    """out = self; out[index[i]] += src[i]: one addition for each index."""
    return Cost(
        elementwise=index.numel,
        gradients=(Gradient("self", ""), Gradient("src", "aten.gather", saves=(index,))),
    )


@operator("aten.scatter", "aten.scatter_")
def scatter(
    self: Tensor,
    dim: int,
    index: Tensor,
    src: Any = None,
    reduce: Any = None,
    *,
    out: Tensor,
    **named: Any,
) -> Cost:
    """out = self; out[index[i]] = src[i]: a copy; with ``reduce``, one addition or multiplication
    for each index."""
    if reduce is not None:
        return Cost(elementwise=index.numel)
    kept = (index,)
    gradients = [Gradient("self", "aten.scatter", saves=kept)]
    if isinstance(src, Tensor):
        gradients.append(Gradient("src", "aten.gather", saves=kept))
    return Cost(gradients=tuple(gradients))


def reduced_by_index(
    self: Tensor, index: Tensor, source: Tensor, source_name: str, out: Tensor
) -> Cost:
    """One addition, multiplication or comparison for each element of the source. How the gradients
    are computed depends on the reduction: only what they keep is given."""
    kept = (self, index, source, out)
    return Cost(
        elementwise=source.numel,
        gradients=(Gradient("self", "", saves=kept), Gradient(source_name, "", saves=kept)),
    )


@operator("aten.scatter_reduce", "aten.scatter_reduce_")
def scatter_reduce(
    self: Tensor,
    dim: int,
    index: Tensor,
    src: Tensor,
    reduce: str,
    *,
    include_self: bool = True,
    out: Tensor,
) -> Cost:
    return reduced_by_index(self, index, src, "src", out)


@operator("aten.index_reduce", "aten.index_reduce_")
def index_reduce(
    self: Tensor,
    dim: int,
    index: Tensor,
    source: Tensor,
    reduce: str,
    *,
    include_self: bool = True,
    out: Tensor,
) -> Cost:
    return reduced_by_index(self, index, source, "source", out)


@operator("aten.index_add", "aten.index_add_")
def index_add(
    self: Tensor, dim: int, index: Tensor, source: Tensor, alpha: Any = 1, *, out: Tensor
) -> Cost:
    """out = self; out[index[i]] += alpha * source[i], slices along ``dim``: an addition for each
    element of the source, and a multiplication unless alpha is 1. Torch keeps the source as well,
    for its shape."""
    factor = scaling(alpha)
    return Cost(
        elementwise=(1 + factor) * source.numel,
        gradients=(
            Gradient("self", ""),
            Gradient("source", "aten.index_select", saves=(index, source)),
            *((Gradient("source", "aten.mul", elementwise=source.numel),) * factor),
        ),
    )


@operator(
    "aten.index_put",
    "aten.index_put_",
    "aten._index_put_impl",
    "aten._index_put_impl_",
    "aten._unsafe_index_put",
)
def index_put(
    self: Tensor,
    indices: Any,
    values: Any,
    accumulate: bool = False,
    unsafe: bool = False,
    *,
    out: Tensor,
) -> Cost:
    """out = self; out[indices] = values, a copy; or, accumulating, += values: an addition for each
    value. Where values replace it, self gets no gradient."""
    kept = tuple(tensor for tensor in indices if isinstance(tensor, Tensor))
    replaced = Gradient("self", "aten.index_put", saves=kept)
    return Cost(
        elementwise=values.numel if accumulate else 0,
        gradients=(
            Gradient("self", "") if accumulate else replaced,
            Gradient("values", "aten.index", saves=kept),
        ),
    )


@operator("aten._unsafe_masked_index_put_accumulate")
def masked_index_put(
    self: Tensor, mask: Tensor, indices: Any, values: Tensor, *, out: Tensor
) -> Cost:
    """An addition for each value, at places that a mask may turn off."""
    kept = (mask, *(tensor for tensor in indices if isinstance(tensor, Tensor)))
    return Cost(
        elementwise=values.numel,
        gradients=(
            Gradient("self", ""),
            Gradient("values", "aten._unsafe_masked_index", saves=kept),
        ),
    )


def segments_kept(data: Tensor, out: Tensor, segments: Mapping[str, Any]) -> tuple[Tensor, ...]:
    """What ``segment_reduce`` keeps: the data, the result, and where the segments are."""
    named = (segments.get(name) for name in ("lengths", "offsets"))
    return (data, out, *(each for each in named if isinstance(each, Tensor)))


@operator("aten.segment_reduce")
def segment_reduce(data: Tensor, reduce: str, *, out: Tensor, **segments: Any) -> Cost:
    """The sum, mean, product or extremum of each segment of rows: one operation an element, and a
    division a result for the mean."""
    gradient = Gradient(
        "data",
        "aten._segment_reduce_backward",
        elementwise=segment_backward_flops(data, reduce),
        saves=segments_kept(data, out, segments),
    )
    divisions = out.numel if reduce == "mean" else 0
    return Cost(elementwise=data.numel + divisions, gradients=(gradient,))


def segment_backward_flops(data: Tensor, reduce: str) -> Size:
    """FLOP of the gradient of each element.

    - sum: g is copied. mean: g / length, 1.
    - max, min: a comparison with the result, g / how many equal it, 2 (and 1 to count them).
    - prod: g out / x, 2.
    """
    return {"sum": 0, "mean": 1, "prod": 2}.get(reduce, 3) * data.numel


@operator("aten._segment_reduce_backward")
def segment_reduce_backward(
    grad: Tensor, output: Tensor, data: Tensor, reduce: str, *, out: Tensor, **segments: Any
) -> Cost:
    return Cost(elementwise=segment_backward_flops(data, reduce))


@operator("aten.put", "aten.put_")
def put(
    self: Tensor, index: Tensor, source: Tensor, accumulate: bool = False, *, out: Tensor
) -> Cost:
    """``index_put`` by positions in the flattened tensor; torch keeps the source too, for its
    shape."""
    replaced = Gradient("self", "aten.put", saves=(index, source))
    return Cost(
        elementwise=source.numel if accumulate else 0,
        gradients=(
            Gradient("self", "") if accumulate else replaced,
            Gradient("source", "aten.take", saves=(index, source)),
        ),
    )


@operator("aten.im2col")
def im2col(
    self: Tensor, kernel_size: Any, dilation: Any, padding: Any, stride: Any, *, out: Tensor
) -> Cost:
    """Every window of an image as a column (``Unfold``)."""
    return Cost(gradients=(Gradient("self", "aten.col2im", elementwise=out.numel),))


@operator("aten.col2im")
def col2im(self: Tensor, *arguments: Any, out: Tensor, **options: Any) -> Cost:
    """Every column added into its window of an image (``Fold``): one addition for each element of
    the columns, those on the padding included."""
    return Cost(elementwise=self.numel, gradients=(Gradient("self", "aten.im2col"),))


@operator("aten.unfold")
def unfold(self: Tensor, dimension: int, size: int, step: int, *, out: Tensor) -> Cost:
    """Every window along a dimension, as a view."""
    gradient = Gradient("self", "aten.unfold_backward", elementwise=out.numel)
    return Cost(gradients=(gradient,), view=True)


@operator("aten.unfold_backward")
def unfold_backward(grad_in: Tensor, *arguments: Any, out: Tensor, **options: Any) -> Cost:
    """Every window added where it came from."""
    return Cost(elementwise=grad_in.numel)


def padded(backward: str) -> OperatorFormula:
    def formula(self: Tensor, padding: Any, *, out: Tensor) -> Cost:
        """The border repeated or mirrored; torch keeps the input, for its shape."""
        return Cost(gradients=(Gradient("self", backward, elementwise=out.numel, saves=(self,)),))

    return formula


def padded_backward(grad_output: Tensor, self: Tensor, padding: Any, *, out: Tensor) -> Cost:
    """Every element of the padded gradient added where it came from."""
    return Cost(elementwise=grad_output.numel)


for _border in ("reflection", "replication"):
    for _dimensions in (1, 2, 3):
        _name = f"aten.{_border}_pad{_dimensions}d"
        operator(_name)(padded(f"{_name}_backward"))
        operator(f"{_name}_backward")(padded_backward)

EXAMPLES += [
    Example(
        "aten.expand",
        {"self": Tensor((3, 1, 4)), "size": (3, 5, 4), "out": Tensor((3, 5, 4))},
        {"flops": 0, "elementwise": 0},
        "a view; only its gradient adds",
    ),
    Example(
        "aten.scatter_add",
        {
            "self": Tensor((3, 4)),
            "dim": 1,
            "index": Tensor((3, 2), itemsize=8),
            "src": Tensor((3, 2)),
            "out": Tensor((3, 4)),
        },
        {"elementwise": 6},
        "one addition for each of 3 * 2 indices",
    ),
]
