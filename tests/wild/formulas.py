"""What an operator multiplies and adds, from the shapes that it was given: few, short, and none of
the package's."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import torch

Formula = Callable[..., int]
"""Given the arguments of a call, then its result: multiply-adds."""

FORMULAS: dict[str, Formula] = {}


def formula(*names: str) -> Callable[[Formula], Formula]:
    def register(function: Formula) -> Formula:
        FORMULAS.update(dict.fromkeys(names, function))
        return function

    return register


def nonzeros(matrix: torch.Tensor) -> int:
    """Entries that a product has to look at."""
    if matrix.layout is torch.sparse_coo:
        return int(matrix._nnz())
    if matrix.layout is not torch.strided:
        return int(matrix.values().numel())
    return matrix.numel()


@formula("mm", "bmm", "_sparse_mm", "_int_mm", "_scaled_mm")
def product(a: torch.Tensor, b: torch.Tensor, *_: Any) -> int:
    """Each entry of the left factor meets a row of the right one, or the other way round."""
    if b.layout is not torch.strided and a.layout is torch.strided:
        return nonzeros(b) * a.shape[-2]
    return nonzeros(a) * b.shape[-1]


@formula("addmm", "addmm_", "baddbmm", "baddbmm_", "addbmm", "addbmm_", "_sparse_addmm")
def added_product(_: Any, a: torch.Tensor, b: torch.Tensor, *__: Any) -> int:
    return product(a, b)


@formula("mv")
def matrix_vector(a: torch.Tensor, *_: Any) -> int:
    return nonzeros(a)


@formula("addmv", "addmv_")
def added_matrix_vector(_: Any, a: torch.Tensor, *__: Any) -> int:
    return nonzeros(a)


@formula("dot", "vdot")
def inner_product(a: torch.Tensor, *_: Any) -> int:
    return a.numel()


@formula("linear_backward")
def linear_backward(
    x: torch.Tensor, _: Any, weight: torch.Tensor, mask: list[bool], *__: Any
) -> int:
    return sum(mask[:2]) * x.numel() * weight.shape[0]


@formula("_grouped_mm")
def grouped_product(a: torch.Tensor, b: torch.Tensor, *_: Any) -> int:
    """Every row of a is multiplied with one of the matrices, or contracted with b's rows."""
    return a.numel() * b.shape[-1]


def sliding(x: torch.Tensor, weight: torch.Tensor, out: torch.Tensor, transposed: bool) -> int:
    """Each output position (each input position of a transposed convolution) meets every weight
    once, for each example."""
    positions = prod((x if transposed else out).shape[2:])
    return weight.numel() * out.shape[0] * positions


@formula("convolution")
def convolution(x: torch.Tensor, weight: torch.Tensor, *rest: Any) -> int:
    return sliding(x, weight, rest[-1], rest[4])


@formula("convolution_backward")
def convolution_backward(
    grad: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, *rest: Any
) -> int:
    transposed, mask = rest[4], rest[7]
    return sum(mask[:2]) * sliding(x, weight, grad, transposed)


def attended(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> tuple[int, int]:
    """The scores of each pair of query and key, and the mixture of the values."""
    pairs = prod(query.shape[:-1]) * key.shape[-2]
    return pairs * query.shape[-1], pairs * value.shape[-1]


@formula(
    "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_efficient_attention",
)
def attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *_: Any) -> int:
    return sum(attended(query, key, value))


@formula(
    "_scaled_dot_product_flash_attention_for_cpu_backward",
    "_scaled_dot_product_flash_attention_backward",
    "_scaled_dot_product_efficient_attention_backward",
)
def attention_backward(
    _: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *__: Any
) -> int:
    """The scores again, then two gradients of either product; the kernel always does all."""
    scores, mixture = attended(query, key, value)
    return 3 * scores + 2 * mixture


@formula("_transformer_encoder_layer_fwd")
def encoder_layer(x: torch.Tensor, width: int, _: int, *rest: Any) -> int:
    """Each token meets every weight once. Attention pads: all pairs of the longest, twice."""
    lengths = x._nested_tensor_size()[:, 0].tolist() if x.is_nested else x.shape[0] * [x.shape[1]]
    weights = sum(rest[place].numel() for place in (0, 2, 11, 13))
    return sum(lengths) * weights + len(lengths) * 2 * max(lengths) ** 2 * width


@formula("mkldnn_rnn_layer")
def recurrent(x: torch.Tensor, input_weight: torch.Tensor, hidden: torch.Tensor, *_: Any) -> int:
    """Each example of each time step meets every weight once."""
    return x.shape[0] * x.shape[1] * (input_weight.numel() + hidden.numel())


@formula("mkldnn_rnn_layer_backward")
def recurrent_backward(*args: Any) -> int:
    return 2 * recurrent(*args)


@formula("_euclidean_dist")
def distances(x: torch.Tensor, _: Any, out: torch.Tensor) -> int:
    """(-2 x, x x, 1) with (y, 1, y y), of every pair of points."""
    return out.numel() * (x.shape[-1] + 2)
