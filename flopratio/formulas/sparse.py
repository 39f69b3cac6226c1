"""Sparse tensors: their products with dense ones, by the entries that they store; sums and softmax
over these entries; what is done to the entries alone.

In the shapes below M, N, K are rows, columns and the contracted size, B is a batch of products, and
S is how many entries a sparse tensor stores: its non-zeros, and whatever else is written out (a
zero, a second entry of one place, the zeros inside of a block), for kernels multiply by all of it.
What depends on *where* the entries are (a product of two sparse tensors) is no matter of shapes: it
is not counted, and a trace names it.

Torch computes the gradient of a sparse factor in one of two ways. By ``sparse_sampled_addmm``: for
each stored place one inner product, S of them. Or by a dense product, of which it keeps the entries
at the stored places, if even that: F as by the law, and the rest of M N K multiply-adds a
``surplus``.
"""

from __future__ import annotations

from typing import Any

from flopratio.formulas.arithmetic import division, multiplication
from flopratio.formulas.embedding import SPARSE_TENSOR
from flopratio.formulas.formula import (
    EXAMPLES,
    OPERATORS,
    Cost,
    Example,
    Gradient,
    OperatorFormula,
    Part,
    Size,
    SparseTensor,
    Tensor,
    UnknownSizeError,
    asked_for,
    operator,
    prod,
)
from flopratio.formulas.linear import scaling_flops
from flopratio.formulas.movement import moves, views
from flopratio.formulas.pointwise import scaling

PLACES = "what it computes depends on where the non-zeros are"


def product_flops(sparse: SparseTensor, dense: Size) -> Size:
    """FLOP of a product of a sparse matrix with a dense one.

    1. A stored entry a[m, k] of [M, K] @ [K, N] meets the N numbers of row k, and is multiplied by
       each and added into row m of the result: N multiply-adds. (Of [M, K] @ [K, N] with the second
       factor sparse, b[k, n] meets the M numbers of column k.)
    2. There are S such entries: 2 S N.

    The gradient of the dense factor is the same product with the transposed matrix: each stored
    entry meets the N numbers of a row of grad_out, 2 S N. That of the sparse factor has S entries,
    each an inner product of a row of grad_out and one of the dense factor, N long: 2 S N. The law.

    Args:
        dense: how many numbers each stored entry meets.
    """
    return 2 * sparse.values.numel * dense


def of_one_sparse(self: Tensor, mat2: Tensor) -> tuple[SparseTensor, Size]:
    """Of two factors the sparse one, and how many numbers each of its entries meets.

    Raises:
        UnknownSizeError: both are sparse.
    """
    if isinstance(self, SparseTensor) and isinstance(mat2, SparseTensor):
        raise UnknownSizeError(PLACES)
    if isinstance(self, SparseTensor):
        return self, mat2.shape[-1]
    if isinstance(mat2, SparseTensor):
        return mat2, self.shape[-2]
    raise UnknownSizeError(PLACES)  # two dense factors, of which some entries are wanted


def factor_gradient(
    operand: str, factor: Tensor, other: Tensor, op: str, flops: Size, dense: Size
) -> Gradient:
    """The gradient of one factor, by the product with the other one.

    Args:
        dense: what it costs if the product is dense: that of the sparse factor.
    """
    surplus = dense - flops if isinstance(factor, SparseTensor) else 0
    return Gradient(operand, op, flops=flops, saves=(other,), surplus=surplus)


def product(self: Tensor, mat2: Tensor, op: str) -> tuple[Size, Gradient, Gradient]:
    """FLOP of self[*B, M, K] @ mat2[*B, K, N], and the gradients of both."""
    sparse, meets = of_one_sparse(self, mat2)
    flops = product_flops(sparse, meets)
    dense = 2 * self.numel * mat2.shape[-1]
    return (
        flops,
        factor_gradient("self", self, mat2, op, flops, dense),
        factor_gradient("mat2", mat2, self, op, flops, dense),
    )


@operator("aten.mm", sparse=True)
def mm(self: Tensor, mat2: Tensor, out_dtype: object = None, *, out: Tensor) -> Cost:
    """out[M, N] = self[M, K] @ mat2[K, N], one of them sparse: 2 S N, or 2 S M."""
    flops, of_self, of_mat2 = product(self, mat2, "aten.mm")
    return Cost(flops=flops, gradients=(of_mat2, of_self))


@operator("aten.bmm", sparse=True)
def bmm(self: Tensor, mat2: Tensor, out_dtype: object = None, *, out: Tensor) -> Cost:
    """out[B, M, N] = self[B, M, K] @ mat2[B, K, N]: S is of all B matrices together."""
    flops, of_self, of_mat2 = product(self, mat2, "aten.bmm")
    return Cost(flops=flops, gradients=(of_mat2, of_self))


@operator("aten.mv", sparse=True)
def mv(self: SparseTensor, vec: Tensor, *, out: Tensor) -> Cost:
    """out[M] = self[M, K] @ vec[K]: 2 S. The gradient of self is the outer product of grad_out and
    vec, M K of which the S stored entries are wanted."""
    flops, of_self, of_vec = product(self, vec.view(*vec.shape, 1), "aten.mv")
    return Cost(
        flops=flops,
        gradients=(
            Gradient("self", "aten.mul", flops=flops, saves=(vec,), surplus=of_self.surplus),
            Gradient("vec", "aten.mv", flops=flops, saves=of_vec.saves),
        ),
    )


def sum_flops(out: Tensor, beta: Any, alpha: Any) -> Size:
    """FLOP of out = beta * bias + alpha * product beside the product itself, see
    :func:`flopratio.formulas.linear.sum_flops`; of a sparse result, for the stored entries."""
    entries = out.values.numel if isinstance(out, SparseTensor) else out.numel
    bias = 0 if beta == 0 else entries + scaling_flops(beta, entries)
    return bias + scaling_flops(alpha, entries)


def scaled(gradient: Gradient, factor: Any, entries: Size) -> tuple[Gradient, ...]:
    """A gradient that is multiplied by a factor in the end."""
    if factor == 1:
        return (gradient,)
    return gradient, Gradient(gradient.operand, "aten.mul", elementwise=entries)


@operator("aten.addmm", "aten.addmm_", sparse=True)
def addmm(
    self: Tensor,
    mat1: Tensor,
    mat2: Tensor,
    out_dtype: object = None,
    *,
    beta: Any = 1,
    alpha: Any = 1,
    out: Tensor,
) -> Cost:
    """out[M, N] = beta * self[M, N] + alpha * (mat1[M, K] @ mat2[K, N]), one factor sparse."""
    flops, of_mat1, of_mat2 = product(mat1, mat2, "aten.mm")
    named = Gradient("mat1", "aten.mm", flops, 0, of_mat1.saves, surplus=of_mat1.surplus)
    return Cost(
        flops=flops,
        elementwise=sum_flops(out, beta, alpha),
        gradients=(
            *scaled(named, alpha, mat1.numel),
            *scaled(of_mat2, alpha, mat2.numel),
            *scaled(Gradient("self", ""), beta, out.numel),
        ),
    )


@operator("aten._sparse_addmm", sparse=True)
def sparse_addmm(
    self: Tensor,
    mat1: SparseTensor,
    mat2: Tensor,
    *,
    beta: Any = 1,
    alpha: Any = 1,
    out: Tensor,
) -> Cost:
    """``addmm`` with a sparse ``mat1`` (``torch.sparse.mm``, of a sum that it makes no use of). In
    compressed layouts the gradient of mat1 is sampled at its entries, and added to zeros there."""
    cost = addmm(self, mat1, mat2, beta=beta, alpha=alpha, out=out)
    if mat1.layout == "sparse_coo":
        return cost
    _, *others = (g for g in cost.gradients if g.operand != "mat1" or g.flops)
    sampled = Gradient(
        "mat1",
        "aten.sparse_sampled_addmm",
        flops=cost.flops,
        elementwise=sum_flops(mat1, 1, alpha),
        saves=(mat1, mat2),
    )
    return Cost(cost.flops, cost.elementwise, (sampled, *others))


@operator("aten.hspmm", sparse=True)
def hspmm(mat1: SparseTensor, mat2: Tensor, *, out: Tensor) -> Cost:
    """mat1[M, K] @ mat2[K, N], of which the rows that are not 0 are listed. No gradients."""
    return Cost(flops=product_flops(mat1, mat2.shape[-1]))


@operator("aten.sspaddmm", sparse=True)
def sspaddmm(
    self: SparseTensor,
    mat1: SparseTensor,
    mat2: Tensor,
    *,
    beta: Any = 1,
    alpha: Any = 1,
    out: SparseTensor,
) -> Cost:
    """beta * self[M, N] + alpha * (mat1[M, K] @ mat2[K, N]) as a list: that of self, times beta,
    and behind it the rows of the product, each entry times alpha. No gradients."""
    entries = self.values.numel
    added = out.values.numel - entries
    return Cost(
        flops=product_flops(mat1, mat2.shape[-1]),
        elementwise=scaling_flops(beta, entries) + scaling_flops(alpha, added),
    )


@operator("aten._sparse_sparse_matmul", sparse=True)
def sparse_sparse_matmul(self: SparseTensor, other: SparseTensor, *, out: SparseTensor) -> Cost:
    """A multiply-add for each pair of stored entries self[m, k], other[k, n]: not to be told from
    how many of each there are."""
    kept = (self, other)
    gradients = tuple(Gradient(name, "", saves=kept) for name in ("self", "other"))
    return Cost(gradients=gradients, unknown=PLACES)


@operator("aten.sparse_sampled_addmm", sparse=True)
def sampled_addmm(
    self: SparseTensor,
    mat1: Tensor,
    mat2: Tensor,
    *,
    beta: Any = 1,
    alpha: Any = 1,
    out: SparseTensor,
) -> Cost:
    """out = beta * self[M, N] + alpha * (mat1[M, K] @ mat2[K, N]) at the S places of self: an inner
    product of K numbers for each, 2 S K.

    grad_mat1[M, K] = grad_out @ mat2.T and grad_mat2[K, N] = mat1.T @ grad_out are products with
    the sparse grad_out, which has the places of self: 2 S K each.
    """
    flops = product_flops(self, mat1.shape[-1])
    return Cost(
        flops=flops,
        elementwise=sum_flops(out, beta, alpha),
        gradients=(
            *scaled(Gradient("mat2", "aten.mm", flops, saves=(self, mat1)), alpha, mat2.numel),
            *scaled(Gradient("mat1", "aten.mm", flops, saves=(self, mat2)), alpha, mat1.numel),
            *scaled(Gradient("self", "", saves=(self,)), beta, self.values.numel),
        ),
    )


REDUCE_BACKWARD = "aten._sparse_mm_reduce_impl_backward"


def reduced_parts(
    self: SparseTensor, other: Tensor, reduce: str, result: Tensor
) -> tuple[Part, Part]:
    """Backward of ``_sparse_mm_reduce_impl``.

    1. Of a sum, both gradients are products by the S entries. Of a mean, each entry of self (or of
       its gradient) is divided by the number of its row, S divisions in either.
    2. Of an extremum, each of the M N results came from one entry: a multiplication and an addition
       for each in either gradient; nothing is contracted.
    """
    if reduce in ("amax", "amin"):
        work = 2 * result.numel
        return Part("self", elementwise=work), Part("other", elementwise=work)
    flops = product_flops(self, other.shape[-1])
    divisions = self.values.numel if reduce == "mean" else 0
    return Part("self", flops, divisions), Part("other", flops, divisions)


@operator("aten._sparse_mm_reduce_impl", sparse=True)
def mm_reduce(
    self: SparseTensor, other: Tensor, reduce: str, *, out: tuple[Tensor, Tensor]
) -> Cost:
    """out[M, N] = self[M, K] @ other[K, N] with a sum, a mean (a division a result more), or the
    largest or smallest of the products, which are multiplied and compared, 2 S N, and not
    contracted."""
    result, positions = out
    parts = {str(part.operand): part for part in reduced_parts(self, other, reduce, result)}
    kept = {"self": (self, other, positions), "other": (self, positions)}
    gradients = tuple(
        Gradient(name, REDUCE_BACKWARD, part.flops, part.elementwise, kept[name])
        for name, part in parts.items()
    )
    work = 2 * self.values.numel * other.shape[-1]
    if reduce in ("amax", "amin"):
        return Cost(elementwise=work, gradients=gradients)
    return Cost(
        flops=product_flops(self, other.shape[-1]),
        elementwise=result.numel if reduce == "mean" else 0,
        gradients=gradients,
    )


@operator(REDUCE_BACKWARD, sparse=True)
def mm_reduce_backward(
    self: SparseTensor,
    grad_out: Tensor,
    weight: Tensor | None,
    reduce: str,
    arg_out: Tensor,
    output_mask: Any,
    *,
    out: tuple[Tensor | None, Tensor | None],
) -> Cost:
    """The gradients that the mask asks for; ``weight`` is the dense factor, if that of self is."""
    parts = reduced_parts(self, grad_out, reduce, grad_out)
    return Cost.fused(*asked_for(parts, ("self", "other"), output_mask))


def softmax(backward: str, a_row: int) -> OperatorFormula:
    def formula(self: SparseTensor, dim: int, half_to_float: bool, *, out: SparseTensor) -> Cost:
        """As of a dense tensor, 5 a stored entry: what is not stored counts as -inf. A logarithm a
        row besides, of the logarithm; each row is taken to have an entry."""
        entries = out.values.numel
        rows = a_row * prod(size for d, size in enumerate(out.shape) if d != dim % len(out.shape))
        gradient = Gradient("self", backward, elementwise=4 * entries, saves=(self, out))
        return Cost(elementwise=5 * entries + rows, gradients=(gradient,))

    return formula


def softmax_backward(
    grad_output: SparseTensor,
    output: SparseTensor,
    dim: int,
    self: SparseTensor,
    *,
    out: SparseTensor,
) -> Cost:
    """4 a stored entry, as of a dense tensor."""
    return Cost(elementwise=4 * out.values.numel)


for _name, _a_row in (("softmax", 0), ("log_softmax", 1)):
    _backward = f"aten._sparse_{_name}_backward_data"
    operator(f"aten._sparse_{_name}", sparse=True)(softmax(_backward, _a_row))
    operator(_backward, sparse=True)(softmax_backward)


def stored(tensor: Any) -> Any:
    """A sparse tensor's values; anything else as it is."""
    return tensor.values if isinstance(tensor, SparseTensor) else tensor


@operator("aten.sum", "aten._sparse_sum", "aten._sparse_csr_sum", sparse=True)
def sum(self: SparseTensor, *arguments: Any, out: Tensor, **options: Any) -> Cost:
    """One addition for each stored entry; its gradient is copied to them. Torch keeps self, for
    its places."""
    kept = (self,) if isinstance(self, SparseTensor) else ()
    return Cost(elementwise=stored(self).numel, gradients=(Gradient("self", "", saves=kept),))


@operator("aten._sparse_csr_prod", sparse=True, knows_complex=True)
def product_of_rows(self: SparseTensor, *arguments: Any, out: Tensor, **options: Any) -> Cost:
    """One multiplication for each stored entry."""
    return Cost(elementwise=multiplication(self, self) * self.values.numel)


@operator("aten._coalesce", sparse=True)
def coalesce(self: SparseTensor, *, out: SparseTensor) -> Cost:
    """Entries of one place become one: an addition for each that is no more. Sorting them is no
    arithmetic."""
    return Cost(elementwise=self.values.numel - out.values.numel)


@operator("aten.add", "aten.add_", "aten.sub", "aten.sub_", sparse=True)
def add(self: Tensor, other: Tensor, alpha: Any = 1, *, out: Tensor) -> Cost:
    """self + alpha * other. Into a dense tensor, an addition for each stored entry of other; of two
    sparse ones, where both have an entry: as many as there are fewer in the result. Multiplied by
    alpha is each stored entry of other."""
    entries = stored(other).numel
    added = entries
    if isinstance(out, SparseTensor) and isinstance(self, SparseTensor):
        added = entries + self.values.numel - out.values.numel
    return Cost(
        elementwise=added + scaling(alpha) * entries,
        gradients=(Gradient("self", ""), Gradient("other", "")),
    )


@operator("aten.mul", "aten.mul_", sparse=True, knows_complex=True)
def mul(self: Any, other: Any, *, out: Tensor) -> Cost:
    return multiplied(self, other, multiplication(self, other) * stored(out).numel)


@operator("aten.div", "aten.div_", sparse=True, knows_complex=True)
def div(self: Any, other: Any, *, rounding_mode: str | None = None, out: Tensor) -> Cost:
    """One rounding more, if the quotient is rounded."""
    rounding = 0 if rounding_mode is None else 1
    return multiplied(self, other, (division(self, other) + rounding) * stored(out).numel)


def multiplied(self: Any, other: Any, work: Size) -> Cost:
    """self * other (self / other), where the result has an entry. Either is kept for the other."""
    pairs = (("self", self, other), ("other", other, self))
    gradients = tuple(
        Gradient(name, "", saves=(factor,) if isinstance(factor, Tensor) else ())
        for name, operand, factor in pairs
        if isinstance(operand, Tensor)
    )
    return Cost(elementwise=work, gradients=gradients)


ON_VALUES = """
    abs abs_ asin asin_ asinh asinh_ atan atan_ atanh atanh_ ceil ceil_ deg2rad deg2rad_ erf erf_
    erfinv erfinv_ expm1 expm1_ floor floor_ frac frac_ isinf isnan log1p log1p_ neg neg_ pow
    rad2deg rad2deg_ relu relu_ round round_ sgn sgn_ sign sign_ sin sin_ sinh sinh_ sqrt sqrt_
    tan tan_ tanh tanh_ threshold_backward trunc trunc_ norm any
"""
"""Operators that leave 0 what it is, so that only what is stored has work."""


def on_values(name: str) -> OperatorFormula:
    def formula(*arguments: Any, out: Any, **options: Any) -> Cost:
        """The operator's work on dense numbers, of the stored ones."""
        given = {key: stored(value) for key, value in options.items()}
        return OPERATORS[f"aten.{name}"](*map(stored, arguments), **given, out=stored(out))

    return formula


for _name in ON_VALUES.split():
    operator(f"aten.{_name}", sparse=True, knows_complex=True)(on_values(_name))

MOVED = """
    _sparse_coo_tensor_with_dims _sparse_compressed_tensor_with_dims sparse_coo_tensor
    _sparse_broadcast_to_copy _spdiags

    _to_sparse _to_sparse_csr _to_sparse_csc _to_sparse_bsr _to_sparse_bsc to_padded_tensor
    _to_copy _copy_from clone copy copy_ copy_sparse_to_sparse copy_sparse_to_sparse_
    _sparse_mask_projection _sparse_sum_backward _masked_scale
    indices_copy values_copy _indices_copy _values_copy crow_indices_copy col_indices_copy
    ccol_indices_copy row_indices_copy

    empty empty_like zeros zeros_like zero zero_ new_empty new_zeros ones_like full_like
    resize resize_ resize_as_sparse resize_as_sparse_ sparse_resize sparse_resize_
    sparse_resize_and_clear sparse_resize_and_clear_

    select index_select narrow_copy cat stack permute unsqueeze squeeze flip
    unsqueeze_copy transpose_copy permute_copy t_copy select_copy
    _convert_indices_from_coo_to_csr _convert_indices_from_csr_to_coo
"""
"""Operators that make sparse tensors, or give their entries another place or form."""

LOOKED_AT = """
    indices _indices _values crow_indices col_indices ccol_indices row_indices
    detach alias _nnz is_coalesced _coalesced _coalesced_ sparse_dim dense_dim _dimI _dimV
    _sparse_broadcast_to _validate_compressed_sparse_indices is_pinned requires_grad_
"""
"""Operators that look at the memory of a sparse tensor as it is."""

for _name in MOVED.split():
    operator(f"aten.{_name}", sparse=True)(moves)
for _name in LOOKED_AT.split():
    operator(f"aten.{_name}", sparse=True)(views)


@operator(SPARSE_TENSOR, sparse=True)
def from_places(
    sparse_dim: int,
    dense_dim: int,
    size: Any,
    indices: Tensor,
    values: Tensor,
    *,
    out: SparseTensor,
    **options: Any,
) -> Cost:
    """A list of places and values, as they are. The gradient of the values is picked at the places,
    for which the result is kept."""
    return Cost(gradients=(Gradient("values", "aten.sparse_mask", saves=(out,)),))


@operator("aten.sparse_compressed_tensor", sparse=True)
def from_compressed(
    compressed_indices: Tensor,
    plain_indices: Tensor,
    values: Tensor,
    *size: Any,
    out: SparseTensor,
    **options: Any,
) -> Cost:
    """The same by rows or columns."""
    return Cost(gradients=(Gradient("values", "aten.sparse_mask", saves=(values, out)),))


@operator("aten._to_dense", sparse=True)
def to_dense(self: SparseTensor, *arguments: Any, out: Tensor, **options: Any) -> Cost:
    """The stored entries in their places; their gradient is picked there."""
    return Cost(gradients=(Gradient("self", "aten.sparse_mask", saves=(self,)),))


@operator("aten.values", sparse=True)
def values(self: SparseTensor, *, out: Tensor) -> Cost:
    """What is stored, as it lies there; its gradient gets the places again."""
    return Cost(gradients=(Gradient("self", "", saves=(self,)),), view=True)


@operator("aten.sparse_mask", sparse=True)
def sparse_mask(self: Tensor, mask: SparseTensor, *, out: SparseTensor) -> Cost:
    """The entries of self at the places of the mask."""
    return Cost(gradients=(Gradient("self", "", saves=(mask,)),))


@operator("aten.t", "aten.transpose", sparse=True)
def transposed(self: SparseTensor, *dimensions: Any, out: SparseTensor) -> Cost:
    """In compressed layouts the same memory, by columns instead of by rows; of a list of places a
    copy."""
    return Cost(view=self.layout != "sparse_coo")


# -- two non-zeros in four ------------------------------------------------------------------------
#
# The packed factor of a 2:4 sparse product is a dense tensor of half the size. Its zeros count as
# those of any dense product do, 2 M N K; what the non-zeros alone cost, and the hardware does, is
# half of that.


SEMI_STRUCTURED = frozenset(
    f"aten.{name}"
    for name in (
        "_sparse_semi_structured_mm",
        "_sparse_semi_structured_addmm",
        "_sparse_semi_structured_linear",
        "_cslt_sparse_mm",
    )
)
"""The products with a packed factor."""


@operator("aten._sparse_semi_structured_mm")
def semi_structured_mm(
    mat1: Tensor, mat1_meta: Tensor, mat2: Tensor, *, out_dtype: object = None, out: Tensor
) -> Cost:
    """out[M, N] = mat1[M, K] @ mat2[K, N], the first packed."""
    return Cost(flops=2 * mat1.shape[0] * mat2.numel)


@operator("aten._sparse_semi_structured_addmm")
def semi_structured_addmm(
    input: Tensor,
    mat1: Tensor,
    mat1_meta: Tensor,
    mat2: Tensor,
    *,
    alpha: Any = 1,
    beta: Any = 1,
    out_dtype: object = None,
    out: Tensor,
) -> Cost:
    """out[M, N] = beta * input[M] + alpha * (mat1[M, K] @ mat2[K, N]), the first factor packed."""
    return Cost(flops=2 * mat1.shape[0] * mat2.numel, elementwise=sum_flops(out, beta, alpha))


@operator("aten._sparse_semi_structured_linear")
def semi_structured_linear(
    input: Tensor,
    weight: Tensor,
    meta: Tensor,
    *,
    bias: Tensor | None = None,
    activation: str | None = None,
    out_dtype: object = None,
    out: Tensor,
) -> Cost:
    """out[*B, O] = input[*B, K] @ weight[O, K].T + bias[O], the weight packed; an activation counts
    as one operation an entry."""
    after = (bias is not None) + (activation not in (None, "none"))
    return Cost(flops=2 * input.numel * weight.shape[0], elementwise=after * out.numel)


@operator("aten._cslt_sparse_mm")
def cslt_sparse_mm(
    compressed_A: Tensor,
    dense_B: Tensor,
    bias: Tensor | None = None,
    alpha: Tensor | None = None,
    *settings: Any,
    out: Tensor,
    **named: Any,
) -> Cost:
    """alpha * (A[M, K] @ dense_B[K, N]) + bias[M], or the transpose of it; A is packed."""
    rows = out.numel // dense_B.shape[-1]
    after = (bias is not None) + (alpha is not None)
    return Cost(flops=2 * rows * dense_B.numel, elementwise=after * out.numel)


def cora(stored: Size = 10_556) -> SparseTensor:
    """The citations among the 2,708 papers of Cora."""
    return SparseTensor((2_708, 2_708), stored=stored, indices_nbytes=16 * stored)


EXAMPLES += [
    Example(
        "aten.mm",
        {"self": cora(), "mat2": Tensor((2_708, 16)), "out": Tensor((2_708, 16))},
        {"flops": 337_792, "elementwise": 0},
        "each of 10,556 entries meets 16 numbers: 2 * 10,556 * 16 = 337,792",
    ),
]
