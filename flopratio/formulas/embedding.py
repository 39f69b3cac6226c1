"""Embeddings: rows of a table chosen by indices, alone or summed into bags.

In the shapes below V is the number of rows (the vocabulary), D their length, B the number of bags.
Shapes do not say which indices are padding, or how often one occurs: each counts.
"""

from __future__ import annotations

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
)
from flopratio.formulas.reduction import norm_flops

SUM, MEAN, MAX = 0, 1, 2
"""The modes of a bag, as torch numbers them."""

SPARSE_TENSOR = "aten._sparse_coo_tensor_with_dims_and_tensors"


@operator(SPARSE_TENSOR)
def sparse_tensor(*arguments: Any, out: Tensor, **options: Any) -> Cost:
    """A tensor as a list of places and values: no arithmetic."""
    return Cost()


@operator("aten.embedding")
def embedding(
    weight: Tensor,
    indices: Tensor,
    padding_idx: int = -1,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
    *,
    out: Tensor,
) -> Cost:
    """out[*I, D] = weight[V, D][indices[*I]]: a copy. Only the indices are kept. A sparse gradient
    lists them and the rows of grad_out as they are."""
    if sparse:
        return Cost(gradients=(Gradient("weight", SPARSE_TENSOR, saves=(indices,)),))
    gradient = embedding_dense_backward(
        out, indices, weight.shape[0], padding_idx, scale_grad_by_freq, out=weight
    )
    return Cost(
        gradients=(
            Gradient(
                "weight",
                "aten.embedding_dense_backward",
                elementwise=gradient.elementwise,
                saves=(indices,),
            ),
        )
    )


@operator("aten.embedding_dense_backward")
def embedding_dense_backward(
    grad_output: Tensor,
    indices: Tensor,
    num_weights: Size,
    padding_idx: int,
    scale_grad_by_freq: bool,
    *,
    out: Tensor,
) -> Cost:
    """grad_weight[V, D], zeros at first; each row of grad_out[*I, D] is added to that of its index:
    an addition an entry of grad_out, and a division by how often the index occurs, if asked for."""
    return Cost(elementwise=(1 + scale_grad_by_freq) * grad_output.numel)


@operator("aten._embedding_bag", "aten._embedding_bag_forward_only")
def embedding_bag(
    weight: Tensor,
    indices: Tensor,
    offsets: Tensor,
    scale_grad_by_freq: bool = False,
    mode: int = SUM,
    sparse: bool = False,
    per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int = -1,
    *,
    out: tuple[Tensor, Tensor, Tensor, Tensor],
) -> Cost:
    """out[B, D], each row the sum, the mean or the maximum of the rows of its bag.

    1. Sum: an addition for each of the len(indices) D entries read; with ``per_sample_weights`` a
       multiplication more.
    2. Mean: besides, a division for each of the B D entries of out.
    3. Maximum: a comparison for each entry read.
    """
    bags, *positions = out
    read = indices.numel * weight.shape[1]
    kept = (indices, offsets, *positions)
    gradients: tuple[Gradient, ...] = ()
    if per_sample_weights is not None:
        kept = (*kept, per_sample_weights)
        backward = "aten._embedding_bag_per_sample_weights_backward"
        elementwise = sample_weights_backward_flops(weight, indices)
        gradients = (
            Gradient(
                "per_sample_weights", backward, elementwise=elementwise, saves=(*kept, weight)
            ),
        )
    elementwise = bag_backward_flops(
        bags, indices, scale_grad_by_freq, mode, sparse, per_sample_weights
    )
    of_weight = Gradient(
        "weight", "aten._embedding_bag_backward", elementwise=elementwise, saves=kept
    )
    return Cost(
        elementwise=read * (1 if per_sample_weights is None else 2)
        + (bags.numel if mode == MEAN else 0),
        gradients=(*gradients, of_weight),
    )


def bag_backward_flops(
    grad: Tensor,
    indices: Tensor,
    scale_grad_by_freq: bool,
    mode: int,
    sparse: bool,
    per_sample_weights: Tensor | None,
) -> Size:
    """FLOP of grad_weight[V, D] from grad[B, D].

    1. Maximum: each entry of grad is added to the place of its maximum, B D.
    2. Mean: grad divided by the size of the bag, B D; then as a sum.
    3. Sum: the row of grad is added to each row that the bag read, len(indices) D; with weights
       multiplied first, as many again; divided by how often the index occurs, if asked for, as
       many again. A sparse gradient lists the rows instead of adding them.
    """
    if mode == MAX:
        return grad.numel
    an_entry = (not sparse) + (per_sample_weights is not None) + scale_grad_by_freq
    return an_entry * indices.numel * grad.shape[1] + (grad.numel if mode == MEAN else 0)


@operator("aten._embedding_bag_backward")
@operator("aten._embedding_bag_backward", sparse=True)
def embedding_bag_backward(
    grad: Tensor,
    indices: Tensor,
    offsets: Tensor,
    offset2bag: Tensor,
    bag_size: Tensor,
    maximum_indices: Tensor,
    num_weights: Size,
    scale_grad_by_freq: bool,
    mode: int,
    sparse: bool,
    per_sample_weights: Tensor | None,
    padding_idx: int = -1,
    *,
    out: Tensor,
) -> Cost:
    return Cost(
        elementwise=bag_backward_flops(
            grad, indices, scale_grad_by_freq, mode, sparse, per_sample_weights
        )
    )


def sample_weights_backward_flops(weight: Tensor, indices: Tensor) -> Size:
    """FLOP of grad_per_sample_weights[i] = the inner product of the row read and the row of grad of
    its bag: D multiplications and D additions an index."""
    return 2 * indices.numel * weight.shape[1]


@operator("aten._embedding_bag_per_sample_weights_backward")
def sample_weights_backward(
    grad: Tensor,
    weight: Tensor,
    indices: Tensor,
    offsets: Tensor,
    offset2bag: Tensor,
    mode: int,
    padding_idx: int = -1,
    *,
    out: Tensor,
) -> Cost:
    return Cost(elementwise=sample_weights_backward_flops(weight, indices))


@operator("aten._embedding_bag_dense_backward")
def embedding_bag_dense_backward(
    grad: Tensor,
    indices: Tensor,
    offset2bag: Tensor,
    bag_size: Tensor,
    maximum_indices: Tensor,
    num_weights: Size,
    scale_grad_by_freq: bool,
    mode: int,
    per_sample_weights: Tensor | None,
    padding_idx: int = -1,
    *,
    out: Tensor,
) -> Cost:
    return Cost(
        elementwise=bag_backward_flops(
            grad, indices, scale_grad_by_freq, mode, False, per_sample_weights
        )
    )


@operator("aten.embedding_renorm", "aten.embedding_renorm_")
def embedding_renorm(
    self: Tensor, indices: Tensor, max_norm: float, norm_type: float, *, out: Tensor
) -> Cost:
    """The rows that are looked up, and whose norm exceeds a bound, scaled down to it: for each
    index the norm of a row; a comparison, an addition (of a small number) and a division; a
    multiplication an entry."""
    rows = indices.numel
    read = rows * self.shape[1]
    return Cost(elementwise=norm_flops(read, rows, norm_type) + 3 * rows + read)


@layer("Embedding")
def embedding_layer(
    x: Tensor,
    *,
    num_embeddings: Size,
    embedding_dim: Size,
    padding_idx: int | None = None,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
    itemsize: int = 4,
) -> LayerCost:
    """y[*I, D] = weight[V, D][x[*I]], where x are indices (8 bytes each); ``itemsize`` is that of
    the table, in bytes."""
    weight = Tensor((num_embeddings, embedding_dim), itemsize)
    y = weight.new(*x.shape, embedding_dim)
    operands = {
        "weight": weight,
        "indices": x,
        "padding_idx": -1 if padding_idx is None else padding_idx,
        "scale_grad_by_freq": scale_grad_by_freq,
        "sparse": sparse,
    }
    return LayerCost(y, (Call("aten.embedding", operands, y),), {"weight": weight})


@layer("LearnedPositions")
def learned_positions(x: Tensor, *, positions: Size, width: Size) -> LayerCost:
    """y[B, L, D] = x[B, L, D] + weight[L, D]; the weight's gradient is the sum over the batch."""
    weight = Tensor((positions, width), x.itemsize)
    y = x.new(*x.shape)
    return LayerCost(y, (Call("aten.add", {"self": x, "other": weight}, y),), {"weight": weight})


@layer("SinusoidalPositions")
def sinusoidal_positions(x: Tensor, *, positions: Size, width: Size) -> LayerCost:
    """The same with a table of sines and cosines that is not trained (Vaswani et al. 2017,
    section 3.5)."""
    table = Tensor((positions, width), x.itemsize)
    y = x.new(*x.shape)
    call = Call("aten.add", {"self": x, "other": table}, y)
    return LayerCost(y, (call,), buffers={"table": table})


EXAMPLES += [
    *(
        Example(
            name,
            {"x": Tensor((2, 5, 4)), "positions": 5, "width": 4},
            {"flops": 0, "elementwise": 40, "parameters": parameters},
            "one addition for each of 2 * 5 * 4 elements",
        )
        for name, parameters in (("LearnedPositions", 20), ("SinusoidalPositions", 0))
    ),
    Example(
        "Embedding",
        {"x": Tensor((2, 5), itemsize=8), "num_embeddings": 10, "embedding_dim": 4},
        {"flops": 0, "elementwise": 0, "parameters": 40},
        "rows are copied; 10 * 4 parameters",
    ),
    Example(
        "aten.embedding_dense_backward",
        {
            "grad_output": Tensor((2, 5, 4)),
            "indices": Tensor((2, 5), itemsize=8),
            "num_weights": 10,
            "padding_idx": -1,
            "scale_grad_by_freq": False,
            "out": Tensor((10, 4)),
        },
        {"elementwise": 40},
        "2 * 5 rows of 4 are added to the table's: 40",
    ),
    Example(
        "aten._embedding_bag",
        {
            "weight": Tensor((10, 4)),
            "indices": Tensor((10,), itemsize=8),
            "offsets": Tensor((2,), itemsize=8),
            "mode": MEAN,
            "out": (
                Tensor((2, 4)),
                Tensor((10,), itemsize=8),
                Tensor((2,), itemsize=8),
                Tensor((2,), itemsize=8),
            ),
        },
        {"elementwise": 48},
        "10 rows of 4 added, 2 * 4 divisions: 48",
    ),
]
