"""Values chosen by a mask, by order or by position: no FLOP, but autograd keeps what chose them.

What is kept follows torch's tools/autograd/derivatives.yaml: the gradient goes where the value came
from, so that the mask or the indices are needed again, and never the values.
"""

from __future__ import annotations

from typing import Any

from flopratio.formulas.formula import EXAMPLES, Cost, Example, Gradient, Tensor, operator


@operator("aten.masked_fill", "aten.masked_fill_")
def masked_fill(self: Tensor, mask: Tensor, value: Any, *, out: Tensor) -> Cost:
    """out = value where the mask is, else self."""
    gradients = [Gradient("self", "aten.masked_fill", saves=(mask,))]
    if isinstance(value, Tensor):
        gradients.append(
            Gradient("value", "aten.sum", elementwise=out.numel, saves=(mask,)),
        )
    return Cost(gradients=tuple(gradients))


@operator("aten.masked_scatter", "aten.masked_scatter_")
def masked_scatter(self: Tensor, mask: Tensor, source: Tensor, *, out: Tensor) -> Cost:
    """out = self, but the source's values in order where the mask is."""
    return Cost(
        gradients=(
            Gradient("self", "aten.masked_fill", saves=(mask,)),
            Gradient("source", "aten.masked_scatter_backward", saves=(mask,)),
        )
    )


@operator("aten.masked_select")
def masked_select(self: Tensor, mask: Tensor, *, out: Tensor) -> Cost:
    """out = those values of self where the mask is; torch keeps self too, for its shape."""
    return Cost(gradients=(Gradient("self", "aten.masked_scatter", saves=(self, mask)),))


@operator("aten.sort", "aten.topk", "aten.kthvalue", "aten.mode", "aten.median", "aten.nanmedian")
def ordered(self: Tensor, *arguments: Any, out: Any, **options: Any) -> Cost:
    """out = values and the positions where they were found; how many comparisons that takes, the
    values tell. A median of all has no position: self and the result are compared again."""
    kept = (out[1],) if isinstance(out, tuple) else (self, out)
    return Cost(gradients=(Gradient("self", "aten.scatter", saves=kept),))


@operator("aten.complex")
def complex_of_parts(real: Tensor, imag: Tensor, *, out: Tensor) -> Cost:
    """Complex numbers of their two parts, which torch keeps, for their type."""
    kept = (real, imag)
    return Cost(gradients=tuple(Gradient(name, "", saves=kept) for name in ("real", "imag")))


@operator("aten.max_unpool2d", "aten.max_unpool3d")
def max_unpool(self: Tensor, indices: Tensor, *sizes: Any, out: Tensor) -> Cost:
    """The values where a pooling found them, zeros elsewhere."""
    return Cost(gradients=(Gradient("self", "aten.gather", saves=(indices,)),))


@operator("aten.take")
def take(self: Tensor, index: Tensor, *, out: Tensor) -> Cost:
    """out[i] = self[index[i]] of the flattened self, which torch keeps too, for its shape. The
    gradient adds, as an index may come twice."""
    return Cost(
        gradients=(Gradient("self", "aten.put", elementwise=out.numel, saves=(self, index)),)
    )


@operator("aten.index_fill", "aten.index_fill_")
def index_fill(self: Tensor, dim: int, index: Tensor, value: Any, *, out: Tensor) -> Cost:
    """out = value in the slices along ``dim`` that the index names, else self."""
    gradients = [Gradient("self", "aten.index_fill", saves=(index,))]
    if isinstance(value, Tensor):
        gradients.append(Gradient("value", "aten.sum", elementwise=out.numel, saves=(index,)))
    return Cost(gradients=tuple(gradients))


@operator("aten.index_copy", "aten.index_copy_")
def index_copy(self: Tensor, dim: int, index: Tensor, source: Tensor, *, out: Tensor) -> Cost:
    """out = the source in the slices along ``dim`` that the index names, else self; torch keeps the
    source too, for its shape."""
    return Cost(
        gradients=(
            Gradient("self", "aten.index_fill", saves=(index,)),
            Gradient("source", "aten.index_select", saves=(index, source)),
        )
    )


EXAMPLES += [
    Example(
        "aten.topk",
        {
            "self": Tensor((3, 8)),
            "k": 2,
            "out": (Tensor((3, 2)), Tensor((3, 2), itemsize=8)),
        },
        {"flops": 0, "elementwise": 0},
        "comparisons only; autograd keeps the 3 * 2 positions",
    ),
]
