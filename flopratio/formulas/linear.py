"""Matrix products: ``mm``, ``bmm``, their sums with a bias, products with vectors, grouped and
scaled products; the Linear layer.

In the shapes below M, N, K are rows, columns and the contracted size; B is a batch of products.
"""

from __future__ import annotations

from collections.abc import Sequence

from flopratio.formulas.activation import gelu
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
    layer,
    operator,
    prod,
    same_shape,
)


def product_flops(rows: Size, columns: Size, contracted: Size) -> Size:
    """FLOP of one matrix product [M, K] @ [K, N].

    1. One entry of the result is a sum of K products: K multiply-adds, 2K FLOP.
    2. There are M N entries.
    3. Together 2 M N K.

    The gradients are products of the same size: grad_a[M, K] = grad_out[M, N] @ b[K, N].T and
    grad_b[K, N] = a[M, K].T @ grad_out[M, N]. In both, each of M, N, K occurs once, so each costs
    2 M N K again: the law, F for each operand that requires a gradient. That holds for K = 1 too:
    an outer product is a product whose sums have one term, 2 M N, though torch executes it as M N
    multiplications (``aten.mul``) and has nothing to add.
    """
    return 2 * rows * columns * contracted


@operator("aten.mm")
def mm(self: Tensor, mat2: Tensor, out_dtype: object = None, *, out: Tensor) -> Cost:
    """out[M, N] = self[M, K] @ mat2[K, N]"""
    (m, k), n = self.shape, mat2.shape[-1]
    product = product_flops(m, n, k)
    return Cost(
        flops=product,
        gradients=(
            Gradient("mat2", "aten.mm", flops=product, saves=(self,)),
            Gradient("self", "aten.mm", flops=product, saves=(mat2,)),
        ),
    )


@operator("aten.bmm")
def bmm(self: Tensor, mat2: Tensor, out_dtype: object = None, *, out: Tensor) -> Cost:
    """out[B, M, N] = self[B, M, K] @ mat2[B, K, N]: B products."""
    (b, m, k), n = self.shape, mat2.shape[-1]
    product = b * product_flops(m, n, k)
    return Cost(
        flops=product,
        gradients=(
            Gradient("mat2", "aten.bmm", flops=product, saves=(self,)),
            Gradient("self", "aten.bmm", flops=product, saves=(mat2,)),
        ),
    )


def scaling_flops(factor: float, entries: Size) -> Size:
    """One multiplication an entry; none by 1."""
    return 0 if factor == 1 else entries


def sum_flops(out: Tensor, beta: float, alpha: float) -> Size:
    """FLOP of out = beta * bias + alpha * product beside the product itself: an addition an entry,
    and a multiplication for each factor that is not 1. With beta = 0 the bias is not looked at."""
    bias = 0 if beta == 0 else out.numel + scaling_flops(beta, out.numel)
    return bias + scaling_flops(alpha, out.numel)


def product_gradient(
    operand: str, op: str, flops: Size, saved: Tensor, scaled: Tensor, alpha: float
) -> tuple[Gradient, ...]:
    """The gradient of a factor of alpha * (a @ b): the product with the ``saved`` other factor;
    then the result, of the shape of ``scaled``, times alpha."""
    product = Gradient(operand, op, flops=flops, saves=(saved,))
    if alpha == 1:
        return (product,)
    return product, Gradient(operand, "aten.mul", elementwise=scaled.numel)


def bias_scaling(out: Tensor, beta: float) -> tuple[Gradient, ...]:
    """The gradient of beta * bias, before it is summed: grad_out times beta."""
    return (Gradient("self", "aten.mul", elementwise=out.numel),) if beta != 1 else ()


def bias_sum(bias: Tensor, out: Tensor) -> Gradient:
    """The gradient of a bias, summed over what the bias was repeated along: one addition into a
    zeroed accumulator for each entry of grad_out; none for a bias of the full shape."""
    if same_shape(bias.shape, out.shape):
        return Gradient("self", "")
    return Gradient("self", "aten.sum", elementwise=out.numel)


@operator("aten.addmm", "aten.addmm_")
def addmm(
    self: Tensor,
    mat1: Tensor,
    mat2: Tensor,
    out_dtype: object = None,
    *,
    beta: float = 1,
    alpha: float = 1,
    out: Tensor,
) -> Cost:
    """out[M, N] = beta * self[N] + alpha * (mat1[M, K] @ mat2[K, N])

    The bias is one addition an entry, M N; its gradient the sum of grad_out over the M rows, M N
    additions.
    """
    (m, k), n = mat1.shape, mat2.shape[-1]
    product = product_flops(m, n, k)
    return Cost(
        flops=product,
        elementwise=sum_flops(out, beta, alpha),
        gradients=(
            *product_gradient("mat1", "aten.mm", product, mat2, mat1, alpha),
            *product_gradient("mat2", "aten.mm", product, mat1, mat2, alpha),
            *bias_scaling(out, beta),
            bias_sum(self, out),
        ),
    )


@operator("aten.baddbmm", "aten.baddbmm_")
def baddbmm(
    self: Tensor,
    batch1: Tensor,
    batch2: Tensor,
    out_dtype: object = None,
    *,
    beta: float = 1,
    alpha: float = 1,
    out: Tensor,
) -> Cost:
    """out[B, M, N] = beta * self[B, M, N] + alpha * (batch1[B, M, K] @ batch2[B, K, N])"""
    (b, m, k), n = batch1.shape, batch2.shape[-1]
    product = b * product_flops(m, n, k)
    return Cost(
        flops=product,
        elementwise=sum_flops(out, beta, alpha),
        gradients=(
            *product_gradient("batch1", "aten.bmm", product, batch2, batch1, alpha),
            *product_gradient("batch2", "aten.bmm", product, batch1, batch2, alpha),
            *bias_scaling(out, beta),
            bias_sum(self, out),
        ),
    )


@operator("aten.addbmm", "aten.addbmm_")
def addbmm(
    self: Tensor,
    batch1: Tensor,
    batch2: Tensor,
    *,
    beta: float = 1,
    alpha: float = 1,
    out: Tensor,
) -> Cost:
    """out[M, N] = beta * self[M, N] + alpha * sum over B of batch1[B, M, K] @ batch2[B, K, N]

    One product with the contracted size B K: the sum over the batch is part of the multiply-adds.
    """
    (b, m, k), n = batch1.shape, batch2.shape[-1]
    product = product_flops(m, n, b * k)
    return Cost(
        flops=product,
        elementwise=sum_flops(out, beta, alpha),
        gradients=(
            *product_gradient("batch1", "aten.bmm", product, batch2, batch1, alpha),
            *product_gradient("batch2", "aten.bmm", product, batch1, batch2, alpha),
            *bias_scaling(out, beta),
            bias_sum(self, out),
        ),
    )


@operator("aten.mv")
def mv(self: Tensor, vec: Tensor, *, out: Tensor) -> Cost:
    """out[M] = self[M, K] @ vec[K], a product with one column.

    The gradient of vec is a product again, self.T @ grad_out. That of self is the outer product of
    grad_out and vec, each of M K sums having one term: 2 M K, as the same step has it with a batch
    of one.
    """
    m, k = self.shape
    product = product_flops(m, 1, k)
    return Cost(
        flops=product,
        gradients=(
            Gradient("self", "aten.mul", flops=product, saves=(vec,)),
            Gradient("vec", "aten.mv", flops=product, saves=(self,)),
        ),
    )


@operator("aten.addmv", "aten.addmv_")
def addmv(
    self: Tensor, mat: Tensor, vec: Tensor, *, beta: float = 1, alpha: float = 1, out: Tensor
) -> Cost:
    """out[M] = beta * self[M] + alpha * (mat[M, K] @ vec[K]); the gradients as in ``mv``."""
    m, k = mat.shape
    product = product_flops(m, 1, k)
    return Cost(
        flops=product,
        elementwise=sum_flops(out, beta, alpha),
        gradients=(
            *product_gradient("mat", "aten.mul", product, vec, mat, alpha),
            *bias_scaling(out, beta),
            *product_gradient("vec", "aten.mv", product, mat, vec, alpha),
            bias_sum(self, out),
        ),
    )


def inner_product(self: Tensor, other: Tensor, name: str) -> Cost:
    """out = self[K] . other[K], a product with one row and one column; either gradient is the other
    vector times the scalar grad_out, sums of one term again: 2 K."""
    (k,) = self.shape
    product = product_flops(1, 1, k)
    return Cost(
        flops=product,
        gradients=(
            Gradient("self", "aten.mul", flops=product, saves=(other,)),
            Gradient(name, "aten.mul", flops=product, saves=(self,)),
        ),
    )


@operator("aten.dot")
def dot(self: Tensor, tensor: Tensor, *, out: Tensor) -> Cost:
    """out = self[K] . tensor[K]"""
    return inner_product(self, tensor, "tensor")


@operator("aten.vdot")
def vdot(self: Tensor, other: Tensor, *, out: Tensor) -> Cost:
    """out = conjugate(self)[K] . other[K]"""
    return inner_product(self, other, "other")


@operator("aten._grouped_mm")
def grouped_mm(
    self: Tensor,
    mat2: Tensor,
    offs: Tensor | None = None,
    bias: Tensor | None = None,
    out_dtype: object = None,
    *,
    out: Tensor,
) -> Cost:
    """One product for each of G groups (the experts of a mixture). An operand without the dimension
    G is cut into G pieces at ``offs``, along the rows M, the columns N or the contracted K:

    - self[M, K] @ mat2[G, K, N] -> out[M, N]: each row meets one matrix, 2 M N K;
    - self[G, M, K] @ mat2[K, N] -> out[M, N]: each column meets one matrix, 2 M N K;
    - self[M, K] @ mat2[K, N] -> out[G, M, N]: each entry sums over its group's part of K, 2 M N K;
    - self[G, M, K] @ mat2[G, K, N] -> out[G, M, N]: ``bmm``, 2 G M N K.

    The pieces are taken to fill the operand; where they are of one length or another is of no
    account.
    """
    m, k, n = self.shape[-2], self.shape[-1], mat2.shape[-1]
    groups = self.shape[0] if len(self.shape) == len(mat2.shape) == 3 else 1
    product = groups * product_flops(m, n, k)
    cut = () if offs is None else (offs,)
    return Cost(
        flops=product,
        elementwise=0 if bias is None else out.numel,
        gradients=(
            Gradient("mat2", "aten._grouped_mm", flops=product, saves=(self, *cut)),
            Gradient("self", "aten._grouped_mm", flops=product, saves=(mat2, *cut)),
        ),
    )


@operator("transformers.grouped_mm_fallback")
def grouped_mm_by_loop(input: Tensor, weight: Tensor, offs: Tensor, *, out: Tensor) -> Cost:
    """What transformers runs instead for the CPU with torch 2.8, which has no kernel there:
    input[M, K] @ weight[G, K, N] -> out[M, N], each row with one matrix. Its backward is one
    operator, which computes both gradients."""
    backward, kept = "transformers.grouped_mm_fallback_backward", (input, weight)
    product = 2 * out.numel * input.shape[-1]
    return Cost(
        flops=product,
        gradients=(
            Gradient("input", backward, flops=product, saves=kept),
            Gradient("weight", backward, flops=product, saves=kept),
        ),
    )


@operator("transformers.grouped_mm_fallback_backward")
def grouped_mm_by_loop_backward(
    input: Tensor,
    weight: Tensor,
    offs: Tensor,
    grad_output: Tensor,
    *,
    out: tuple[Tensor, Tensor],
) -> Cost:
    product = 2 * grad_output.numel * input.shape[-1]
    return Cost.fused(Part("input", flops=product), Part("weight", flops=product))


def by_the_law(flops: Size, *operands: str) -> tuple[Gradient, ...]:
    """The gradients of a product that autograd has no formula for: an ``autograd.Function`` around
    it says how they are computed, and what is kept; each is a product of the same size."""
    return tuple(Gradient(operand, "", flops=flops) for operand in operands)


@operator("aten._scaled_mm")
def scaled_mm(
    self: Tensor,
    mat2: Tensor,
    scale_a: Tensor,
    scale_b: Tensor,
    bias: Tensor | None = None,
    scale_result: Tensor | None = None,
    out_dtype: object = None,
    use_fast_accum: bool = False,
    *,
    out: Tensor,
) -> Cost:
    """out[M, N] = scale_a * scale_b * (self[M, K] @ mat2[K, N]) + bias, of 8-bit numbers.

    Each entry is multiplied by the scale of its row and by that of its column (one scale for the
    whole tensor, or one a row): 2 M N; plus M N with a bias, plus M N with a scaled result.
    """
    (m, k), n = self.shape, mat2.shape[-1]
    factors = 2 + (bias is not None) + (scale_result is not None)
    product = product_flops(m, n, k)
    return Cost(product, factors * out.numel, by_the_law(product, "self", "mat2"))


@operator("aten._scaled_mm_v2")
def scaled_mm_by_recipe(
    self: Tensor,
    mat2: Tensor,
    scale_a: Sequence[Tensor],
    recipe_a: object,
    swizzle_a: object,
    scale_b: Sequence[Tensor],
    recipe_b: object,
    swizzle_b: object,
    bias: Tensor | None = None,
    out_dtype: object = None,
    *settings: object,
    out: Tensor,
) -> Cost:
    """``_scaled_mm`` with a scale for the whole of a factor, for each row, or for each block along
    K, whose part of the sum is multiplied by it; two multiplications an entry are counted."""
    (m, k), n = self.shape, mat2.shape[-1]
    factors = 2 + (bias is not None)
    product = product_flops(m, n, k)
    return Cost(product, factors * out.numel, by_the_law(product, "self", "mat2"))


@operator("aten._scaled_addmm", "aten._scaled_addmm_")
def scaled_addmm(
    self: Tensor,
    mat1: Tensor,
    mat2: Tensor,
    *settings: object,
    beta: float = 1,
    alpha: float = 1,
    use_fast_accum: bool = False,
    out: Tensor,
) -> Cost:
    """``addmm`` of 8-bit factors: two scales an entry of the product besides."""
    (m, k), n = mat1.shape, mat2.shape[-1]
    product, elementwise = product_flops(m, n, k), sum_flops(out, beta, alpha) + 2 * out.numel
    return Cost(product, elementwise, by_the_law(product, "mat1", "mat2"))


def grouped_flops(self: Tensor, mat2: Tensor) -> Size:
    """The products of ``_grouped_mm``."""
    groups = self.shape[0] if len(self.shape) == len(mat2.shape) == 3 else 1
    return groups * product_flops(self.shape[-2], mat2.shape[-1], self.shape[-1])


@operator("aten._scaled_grouped_mm", "aten._scaled_grouped_mm_v2")
def scaled_grouped_mm(
    self: Tensor, mat2: Tensor, *settings: object, out: Tensor, **named: object
) -> Cost:
    """``_grouped_mm`` of 8-bit numbers: each entry is multiplied by two scales."""
    product = grouped_flops(self, mat2)
    return Cost(product, 2 * out.numel, by_the_law(product, "self", "mat2"))


@operator("aten._int_mm")
def int_mm(self: Tensor, mat2: Tensor, *, out: Tensor) -> Cost:
    """out[M, N] = self[M, K] @ mat2[K, N] of whole numbers."""
    (m, k), n = self.shape, mat2.shape[-1]
    product = product_flops(m, n, k)
    return Cost(product, gradients=by_the_law(product, "self", "mat2"))


@operator("aten._weight_int8pack_mm")
def int8_weight_mm(self: Tensor, mat2: Tensor, scales: Tensor, *, out: Tensor) -> Cost:
    """out[M, N] = (self[M, K] @ mat2[N, K].T) * scales[N], of 8-bit weights."""
    product = 2 * self.numel * out.shape[-1]
    return Cost(product, out.numel, by_the_law(product, "self", "mat2"))


def int4_weight_mm(input: str) -> OperatorFormula:
    def formula(self: Tensor, mat2: Tensor, /, *settings: object, out: Tensor) -> Cost:
        """out[M, N] = self[M, K] @ weight[K, N], of packed 4-bit weights, each of which is first
        scaled and shifted: 2 K N. The weights are not trained."""
        k, n = self.shape[-1], out.shape[-1]
        product = 2 * self.numel * n
        return Cost(product, 2 * k * n, by_the_law(product, input))

    return formula


operator(
    "aten._weight_int4pack_mm",
    "aten._weight_int4pack_mm_for_cpu",
    "aten._weight_int4pack_mm_with_scales_and_zeros",
)(int4_weight_mm("self"))
operator("aten._dyn_quant_matmul_4bit")(int4_weight_mm("inp"))


@operator("aten._mixed_dtypes_linear")
def mixed_dtypes_linear(
    input: Tensor,
    weight: Tensor,
    scale: Tensor,
    *,
    bias: Tensor | None = None,
    activation: str | None = None,
    out: Tensor,
) -> Cost:
    """out[*B, N] = input[*B, K] @ (weight[K, N] * scale[N]) + bias[N], of 8- or 4-bit weights, and
    an activation in place of each entry that is counted as one operation."""
    k, n = input.shape[-1], out.shape[-1]
    after = (bias is not None) + (activation not in (None, "none"))
    product = 2 * input.numel * n
    of_weight = Gradient(("weight", "scale"), "", flops=product)
    gradients = (*by_the_law(product, "input"), of_weight)
    return Cost(product, k * n + after * out.numel, gradients)


@operator("aten._addmm_activation")
def addmm_activation(
    self: Tensor,
    mat1: Tensor,
    mat2: Tensor,
    *,
    beta: float = 1,
    alpha: float = 1,
    use_gelu: bool = False,
    out: Tensor,
) -> Cost:
    """``addmm``, and a ReLU, one comparison an entry, or a GELU in the form with tanh."""
    (m, k), n = mat1.shape, mat2.shape[-1]
    activation = gelu(out, approximate="tanh", out=out).elementwise if use_gelu else out.numel
    product, elementwise = product_flops(m, n, k), sum_flops(out, beta, alpha) + activation
    return Cost(product, elementwise, by_the_law(product, "mat1", "mat2"))


@operator("aten.addr", "aten.addr_")
def addr(
    self: Tensor, vec1: Tensor, vec2: Tensor, *, beta: float = 1, alpha: float = 1, out: Tensor
) -> Cost:
    """out[M, N] = beta * self + alpha * (vec1[M] outer vec2[N]): sums of one term, 2 M N, and what
    is left of the sum with self. The gradients are products of grad_out with a vector."""
    product = product_flops(vec1.numel, vec2.numel, 1)
    return Cost(
        flops=product,
        elementwise=sum_flops(out, beta, alpha),
        gradients=(
            *bias_scaling(out, beta),
            *product_gradient("vec1", "aten.mv", product, vec2, vec1, alpha),
            *product_gradient("vec2", "aten.mv", product, vec1, vec2, alpha),
            bias_sum(self, out),
        ),
    )


@operator("aten._compute_linear_combination")
def linear_combination(input: Tensor, coefficients: Tensor, *, out: Tensor) -> Cost:
    """out[M, *] = coefficients[M, K] @ input[K, *]; it has no derivative."""
    return Cost(flops=2 * out.numel * input.shape[0])


@operator("aten._foreach_mm")
def foreach_mm(self: Sequence[Tensor], mat2: Sequence[Tensor], *, out: Sequence[Tensor]) -> Cost:
    """A product for each pair of a list; each has a node of its own in backward."""
    pairs = zip(self, mat2, strict=True)
    return Cost(flops=sum(product_flops(a.shape[0], b.shape[-1], a.shape[-1]) for a, b in pairs))


@layer("Linear")
def linear(x: Tensor, *, in_features: Size, out_features: Size, bias: bool = True) -> LayerCost:
    """y[*B, O] = x[*B, I] @ weight[O, I].T + bias[O]: one ``addmm`` (``mm`` without a bias) on the
    rows of all leading dimensions."""
    rows = x.view(prod(x.shape[:-1]), in_features)
    weight = Tensor((out_features, in_features), x.itemsize)
    weight_t = weight.view(in_features, out_features)
    y = x.new(rows.shape[0], out_features)
    parameters = {"weight": weight}
    if bias:
        parameters["bias"] = Tensor((out_features,), x.itemsize)
        call = Call("aten.addmm", {"self": parameters["bias"], "mat1": rows, "mat2": weight_t}, y)
    else:
        call = Call("aten.mm", {"self": rows, "mat2": weight_t}, y)
    return LayerCost(y.view(*x.shape[:-1], out_features), (call,), parameters)


EXAMPLES += [
    Example(
        "aten.mm",
        {"self": Tensor((4, 5)), "mat2": Tensor((5, 6)), "out": Tensor((4, 6))},
        {"flops": 240, "elementwise": 0},
        "2 * 4 * 6 * 5 = 240",
    ),
    Example(
        "aten.bmm",
        {"self": Tensor((3, 4, 5)), "mat2": Tensor((3, 5, 6)), "out": Tensor((3, 4, 6))},
        {"flops": 720, "elementwise": 0},
        "3 products of 2 * 4 * 6 * 5 = 240: 720",
    ),
    Example(
        "aten.addmm",
        {
            "self": Tensor((6,)),
            "mat1": Tensor((4, 5)),
            "mat2": Tensor((5, 6)),
            "alpha": 2,
            "out": Tensor((4, 6)),
        },
        {"flops": 240, "elementwise": 48},
        "2 * 4 * 6 * 5 = 240; 24 entries, each a bias added and a multiplication by alpha: 48",
    ),
    Example(
        "aten._grouped_mm",
        {
            "self": Tensor((64, 16)),
            "mat2": Tensor((8, 16, 32)),
            "offs": Tensor((8,)),
            "out": Tensor((64, 32)),
        },
        {"flops": 65_536, "elementwise": 0},
        "each of 64 rows meets one of 8 matrices: 2 * 64 * 32 * 16 = 65,536",
    ),
    Example(
        "Linear",
        {"x": Tensor((8, 64)), "in_features": 64, "out_features": 32},
        {"flops": 32_768, "elementwise": 256, "parameters": 2_080},
        "2 * 8 * 32 * 64 = 32,768; bias 8 * 32 = 256; 32 * 64 + 32 = 2,080 parameters",
    ),
]
