"""Matrix products, against products in plain loops, against torch, and against published counts."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flopratio.formulas import LAYERS, OPERATORS, Call, Cost, LayerCost, Tensor
from tests.formulas import counting
from tests.formulas.counting import counted, values, zeros
from tests.formulas.executed import (
    Recorder,
    agrees_on_arrays_and_symbols,
    agrees_with_torch,
    analytic,
    executed,
    subsets,
)

LITERALS = Path(__file__).parent.parent / "reference" / "pytorch_test_flop_counter_literals.csv"

sizes = st.integers(1, 5)


def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a[M, K] @ b[K, N] in loops: a multiplication and an addition for each m, n, k."""
    out = zeros((a.shape[0], b.shape[1]))
    for m, n, k in np.ndindex(*out.shape, a.shape[1]):
        out[m, n] = out[m, n] + a[m, k] * b[k, n]
    return out


def count(run: Any, *arguments: Any) -> tuple[Any, int]:
    counting.reset()
    result = run(*arguments)
    return result, counted()


def double(array: np.ndarray) -> torch.Tensor:
    return torch.tensor(values(array), dtype=torch.float64, requires_grad=True)


def gradient_of(cost: Cost, operand: str) -> tuple[int, int]:
    """Contraction and elementwise FLOP of one operand's gradient."""
    own = [gradient for gradient in cost.gradients if gradient.operand == operand]
    return sum(g.flops for g in own), sum(g.elementwise for g in own)


@pytest.mark.oracle
@settings(max_examples=40, deadline=None)
@given(m=sizes, n=sizes, k=sizes)
def test_a_product_and_its_gradients_are_counted(m: int, n: int, k: int) -> None:
    a, b, grad = counting.tensor((m, k), 1), counting.tensor((k, n), 2), counting.tensor((m, n), 3)
    cost = OPERATORS["aten.mm"](Tensor((m, k)), Tensor((k, n)), out=Tensor((m, n)))

    out, flops = count(product, a, b)
    grad_a, flops_a = count(product, grad, b.T)
    grad_b, flops_b = count(product, a.T, grad)

    assert (cost.flops, cost.elementwise) == (flops, 0)
    assert gradient_of(cost, "self") == (flops_a, 0)
    assert gradient_of(cost, "mat2") == (flops_b, 0)

    torch_a, torch_b = double(a), double(b)
    result = torch_a @ torch_b
    result.backward(torch.tensor(values(grad)))
    np.testing.assert_allclose(values(out), result.detach())
    np.testing.assert_allclose(values(grad_a), torch_a.grad)
    np.testing.assert_allclose(values(grad_b), torch_b.grad)


def scaled(array: np.ndarray, factor: float) -> np.ndarray:
    return array if factor == 1 else array * factor


@pytest.mark.oracle
@settings(max_examples=40, deadline=None)
@given(
    b=sizes,
    m=sizes,
    n=sizes,
    k=sizes,
    alpha=st.sampled_from([1, 0.5]),
    beta=st.sampled_from([0, 1, 2]),
    broadcast=st.booleans(),
)
def test_a_sum_of_bias_and_products_is_counted(
    b: int, m: int, n: int, k: int, alpha: float, beta: float, broadcast: bool
) -> None:
    first, second = counting.tensor((b, m, k), 1), counting.tensor((b, k, n), 2)
    bias = counting.tensor((n,) if broadcast else (b, m, n), 3)
    grad = counting.tensor((b, m, n), 4)
    shapes = [Tensor(array.shape) for array in (bias, first, second)]
    cost = OPERATORS["aten.baddbmm"](*shapes, beta=beta, alpha=alpha, out=Tensor(grad.shape))

    def products(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        return np.stack([product(x, y) for x, y in zip(one, other, strict=True)])

    def add_bias(product: np.ndarray) -> np.ndarray:
        product = scaled(product, alpha)
        if beta == 0:
            return product
        return product + scaled(np.broadcast_to(bias, product.shape), beta)

    def bias_gradient(grad: np.ndarray) -> np.ndarray:
        grad = scaled(grad, beta)
        if not broadcast:
            return grad
        total = zeros((n,))
        for i, j, column in np.ndindex(*grad.shape):
            total[column] = total[column] + grad[i, j, column]
        return total

    def transposed(array: np.ndarray) -> np.ndarray:
        return np.swapaxes(array, 1, 2)

    out, flops = count(products, first, second)
    assert cost.flops == flops
    out, elementwise = count(add_bias, out)
    assert cost.elementwise == elementwise
    grad_first, flops = count(products, grad, transposed(second))
    grad_first, elementwise = count(scaled, grad_first, alpha)
    assert gradient_of(cost, "batch1") == (flops, elementwise)
    grad_second, flops = count(products, transposed(first), grad)
    grad_second, elementwise = count(scaled, grad_second, alpha)
    assert gradient_of(cost, "batch2") == (flops, elementwise)
    grad_bias, elementwise = count(bias_gradient, grad)
    assert gradient_of(cost, "self") == (0, elementwise)

    operands = [double(array) for array in (bias, first, second)]
    result = torch.baddbmm(*operands, beta=beta, alpha=alpha)
    result.backward(torch.tensor(values(grad)))
    np.testing.assert_allclose(values(out), result.detach())
    for operand, found in zip(operands, (grad_bias, grad_first, grad_second), strict=True):
        np.testing.assert_allclose(values(found), operand.grad)


@pytest.mark.oracle
@pytest.mark.parametrize("op", ["addmm", "addbmm", "addmv"])
@settings(max_examples=20, deadline=None)
@given(
    b=sizes,
    m=sizes,
    n=sizes,
    k=sizes,
    alpha=st.sampled_from([1, 0.5]),
    beta=st.sampled_from([0, 1, 2]),
)
def test_other_sums_of_bias_and_products_are_counted(
    op: str, b: int, m: int, n: int, k: int, alpha: float, beta: float
) -> None:
    a_shape, b_shape = {
        "addmm": ((m, k), (k, n)),
        "addbmm": ((b, m, k), (b, k, n)),
        "addmv": ((m, k), (k,)),
    }[op]
    first, second = counting.tensor(a_shape, 1), counting.tensor(b_shape, 2)

    def products() -> np.ndarray:
        if op == "addmv":
            return product(first, second[:, None])[:, 0]
        if op == "addbmm":  # the sum over the batch is one over a longer contracted size
            return product(np.concatenate(first, axis=1), np.concatenate(second, axis=0))
        return product(first, second)

    out, flops = count(products)
    bias = counting.tensor(out.shape, 3)

    def add_bias() -> np.ndarray:
        scaled_out = scaled(out, alpha)
        return scaled_out if beta == 0 else scaled_out + scaled(bias, beta)

    out, elementwise = count(add_bias)
    shapes = [Tensor(array.shape) for array in (bias, first, second)]
    cost = OPERATORS[f"aten.{op}"](*shapes, beta=beta, alpha=alpha, out=Tensor(out.shape))
    assert (cost.flops, cost.elementwise) == (flops, elementwise)
    operands = [double(array) for array in (bias, first, second)]
    expected = getattr(torch, op)(*operands, beta=beta, alpha=alpha)
    np.testing.assert_allclose(values(out), expected.detach())


@pytest.mark.oracle
@settings(max_examples=20, deadline=None)
@given(m=sizes, k=sizes)
def test_products_with_vectors_are_counted(m: int, k: int) -> None:
    a, v, grad = counting.tensor((m, k), 1), counting.tensor((k,), 2), counting.tensor((m,), 3)
    cost = OPERATORS["aten.mv"](Tensor((m, k)), Tensor((k,)), out=Tensor((m,)))
    inner = OPERATORS["aten.dot"](Tensor((k,)), Tensor((k,)), out=Tensor(()))

    out, flops = count(product, a, v[:, None])
    grad_v, flops_v = count(product, a.T, grad[:, None])
    grad_a, flops_a = count(product, grad[:, None], v[None])
    assert (cost.flops, cost.elementwise) == (flops, 0)
    assert gradient_of(cost, "vec") == (flops_v, 0)
    assert gradient_of(cost, "self") == (flops_a, 0)

    torch_a, torch_v = double(a), double(v)
    result = torch_a @ torch_v
    result.backward(torch.tensor(values(grad)))
    np.testing.assert_allclose(values(out)[:, 0], result.detach())
    np.testing.assert_allclose(values(grad_a), torch_a.grad)
    np.testing.assert_allclose(values(grad_v)[:, 0], torch_v.grad)

    assert inner.flops == count(product, v[None], v[:, None])[1]
    assert gradient_of(inner, "self") == (count(product, v[:, None], grad[:1, None])[1], 0)


@pytest.mark.oracle
@settings(max_examples=20, deadline=None)
@given(groups=st.lists(st.integers(0, 3), min_size=1, max_size=3), m=sizes, n=sizes)
def test_grouped_products_are_counted_by_the_pieces(groups: list[int], m: int, n: int) -> None:
    """The dimension that is cut has pieces of the lengths ``groups``; the others are m and n."""
    cut, number = sum(groups), len(groups)
    formula = OPERATORS["aten._grouped_mm"]
    offs = Tensor((number,), itemsize=4)

    def pieces(shape: Any) -> int:
        """Multiply-adds of the products of all pieces, 2 FLOP each, in loops."""
        return sum(
            count(product, counting.tensor((rows, inner)), counting.tensor((inner, columns)))[1]
            for rows, inner, columns in map(shape, groups)
        )

    rows = formula(Tensor((cut, m)), Tensor((number, m, n)), offs, out=Tensor((cut, n)))
    assert rows.flops == pieces(lambda piece: (piece, m, n))
    columns = formula(Tensor((number, m, n)), Tensor((n, cut)), offs, out=Tensor((m, cut)))
    assert columns.flops == pieces(lambda piece: (m, n, piece))
    inner = formula(Tensor((m, cut)), Tensor((cut, n)), offs, out=Tensor((number, m, n)))
    assert inner.flops == pieces(lambda piece: (m, piece, n))
    batch = formula(Tensor((number, m, m)), Tensor((number, m, n)), out=Tensor((number, m, n)))
    biased = formula(*[Tensor((number, m, m))] * 2, bias=Tensor((m,)), out=Tensor((number, m, m)))
    assert (biased.elementwise, batch.elementwise) == (number * m * m, 0)
    assert batch.flops == number * count(product, *map(counting.tensor, ((m, m), (m, n))))[1]


def test_a_scaled_product_counts_its_scales() -> None:
    shapes = Tensor((16, 32), itemsize=1), Tensor((32, 8), itemsize=1), Tensor(()), Tensor(())
    out = Tensor((16, 8), itemsize=2)
    cost = OPERATORS["aten._scaled_mm"](*shapes, out=out)
    assert (cost.flops, cost.elementwise) == (2 * 16 * 8 * 32, 2 * 16 * 8)
    cost = OPERATORS["aten._scaled_mm"](*shapes, Tensor((8,)), out=out)
    assert (cost.flops, cost.elementwise) == (2 * 16 * 8 * 32, 3 * 16 * 8)
    cost = OPERATORS["aten._scaled_mm"](*shapes, None, Tensor(()), out=out)
    assert (cost.flops, cost.elementwise) == (2 * 16 * 8 * 32, 3 * 16 * 8)


def test_products_that_autograd_does_not_know_follow_the_law() -> None:
    a, b = Tensor((16, 32), itemsize=1), Tensor((32, 8), itemsize=1)
    scales, out = (Tensor(()), Tensor(())), Tensor((16, 8))
    by_recipe = ((scales[0],), (0,), (0,), (scales[1],), (0,), (0,), None, None)
    costs = [
        OPERATORS["aten._int_mm"](a, b, out=out),
        OPERATORS["aten._scaled_mm"](a, b, *scales, out=out),
        OPERATORS["aten._scaled_mm_v2"](a, b, *by_recipe, out=out),
        OPERATORS["aten._scaled_addmm"](out, a, b, *scales, out=out),
        OPERATORS["aten._scaled_grouped_mm"](a, b, *scales, out=out),
        OPERATORS["aten._addmm_activation"](out, a, b, out=out),
        OPERATORS["aten._weight_int8pack_mm"](a, Tensor((8, 32)), Tensor((8,)), out=out),
        OPERATORS["aten._mixed_dtypes_linear"](a, b, Tensor((8,)), out=out),
    ]
    product = 2 * 16 * 8 * 32
    for cost in costs:
        assert [cost.flops, *(g.flops for g in cost.gradients)] == [product] * 3
    frozen = OPERATORS["aten._weight_int4pack_mm"](a, b, 32, Tensor(()), out=out)
    assert [(g.operand, g.flops) for g in frozen.gradients] == [("self", product)]


OPERANDS: dict[str, tuple[tuple[int, ...], ...]] = {
    "mm": ((3, 4), (4, 5)),
    "bmm": ((2, 3, 4), (2, 4, 5)),
    "addmm": ((5,), (3, 4), (4, 5)),
    "baddbmm": ((2, 1, 5), (2, 3, 4), (2, 4, 5)),
    "addbmm": ((3, 1), (2, 3, 4), (2, 4, 5)),
    "mv": ((3, 4), (4,)),
    "addmv": ((1,), (3, 4), (4,)),
    "dot": ((4,), (4,)),
    "vdot": ((4,), (4,)),
}
NAMES = {
    "mm": "self mat2",
    "bmm": "self mat2",
    "addmm": "self mat1 mat2",
    "baddbmm": "self batch1 batch2",
    "addbmm": "self batch1 batch2",
    "mv": "self vec",
    "addmv": "self mat vec",
    "dot": "self tensor",
    "vdot": "self other",
}


def step_agrees(op: str, run: Any, inputs: dict[str, torch.Tensor], **options: Any) -> None:
    """An operator, called with whichever operands need a gradient, is the step that it was said to
    be: backward operators, their work, and the saved bytes."""
    differentiable = [name for name, value in inputs.items() if value.is_floating_point()]
    for needed in subsets(differentiable):
        real = [value.clone().requires_grad_(name in needed) for name, value in inputs.items()]
        operands = {
            name: Tensor(tuple(value.shape), value.element_size()) for name, value in inputs.items()
        }
        result = run(*real)
        out = Tensor(tuple(result.shape), result.element_size())
        layer = LayerCost(out, (Call(f"aten.{op}", {**operands, **options}, out),))
        expected = analytic(layer, *(operands[name] for name in needed))
        assert executed(run, *real) == expected, f"gradients of {needed}"


@pytest.mark.parametrize("op", OPERANDS)
def test_torch_runs_what_the_formula_says(op: str) -> None:
    inputs = {
        name: torch.randn(shape)
        for name, shape in zip(NAMES[op].split(), OPERANDS[op], strict=True)
    }
    step_agrees(op, getattr(torch, op), inputs)


@pytest.mark.parametrize("op", ["addmm", "baddbmm", "addbmm", "addmv"])
@pytest.mark.parametrize("full", [False, True], ids=["broadcast", "full"])
@pytest.mark.parametrize(("alpha", "beta"), [(2, 3), (1, 3), (2, 1), (1, 1)])
def test_torch_scales_as_the_formula_says(op: str, full: bool, alpha: int, beta: int) -> None:
    inputs = {
        name: torch.randn(shape)
        for name, shape in zip(NAMES[op].split(), OPERANDS[op], strict=True)
    }
    options = {"alpha": alpha, "beta": beta}
    if full:
        inputs["self"] = getattr(torch, op)(*inputs.values())

    def run(*operands: torch.Tensor) -> torch.Tensor:
        result = getattr(torch, op)(*operands, **options)
        assert isinstance(result, torch.Tensor)
        return result

    step_agrees(op, run, inputs, **options)


@pytest.mark.skipif(torch.__version__ < "2.9", reason="torch 2.8 has no kernel for the CPU")
@pytest.mark.parametrize(
    ("first", "second", "offsets"),
    [
        ((24, 16), (2, 16, 32), (8, 24)),
        ((2, 16, 16), (16, 24), (8, 24)),
        ((16, 24), (24, 32), (8, 24)),
        ((2, 16, 16), (2, 16, 32), None),
    ],
    ids=["rows", "columns", "contracted", "batch"],
)
def test_torch_runs_grouped_products_as_the_formula_says(
    first: tuple[int, ...], second: tuple[int, ...], offsets: tuple[int, ...] | None
) -> None:
    inputs = {
        "self": torch.randn(first, dtype=torch.bfloat16),
        "mat2": torch.randn(second, dtype=torch.bfloat16),
    }
    if offsets is not None:
        inputs["offs"] = torch.tensor(offsets, dtype=torch.int32)
    step_agrees("_grouped_mm", torch._grouped_mm, inputs)


def test_grouped_products_of_transformers_are_those_of_its_loop() -> None:
    moe = pytest.importorskip("transformers.integrations.moe")
    x, weight, grad = torch.randn(24, 16), torch.randn(2, 16, 32), torch.ones(24, 32)
    offsets = torch.tensor((8, 24), dtype=torch.int32)

    def looped(run: Callable[..., Any], *operands: torch.Tensor) -> int:
        with Recorder() as recorder:
            run(*operands)
        return sum(work.flops for work in recorder.step.forward)

    step = executed(
        lambda x, weight: torch.ops.transformers.grouped_mm_fallback(x, weight, offsets),
        x.clone().requires_grad_(),
        weight.clone().requires_grad_(),
    )
    (forward,), (backward,) = step.forward, step.backward
    assert forward.flops == looped(moe._grouped_mm_fallback, x, weight, offsets)
    assert backward.flops == looped(moe._grouped_mm_fallback_bwd, x, weight, offsets, grad)
    assert step.saved_bytes == (x.numel() + weight.numel()) * 4


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(6, 4), (2, 3, 4), (1, 4)])
def test_the_linear_layer_is_what_torch_runs(shape: tuple[int, ...], bias: bool) -> None:
    arguments = {"in_features": 4, "out_features": 5, "bias": bias}
    agrees_with_torch(
        LAYERS["Linear"], torch.nn.Linear(4, 5, bias=bias), torch.randn(shape), **arguments
    )


@pytest.mark.parametrize("bias", [True, False])
def test_the_linear_layer_takes_arrays_and_symbols(bias: bool) -> None:
    def figures(**size: Any) -> dict[str, Any]:
        x = Tensor((size["batch"], size["seq"], size["width"]))
        layer = LAYERS["Linear"](
            x, in_features=size["width"], out_features=size["hidden"], bias=bias
        )
        return analytic(layer, x, *layer.parameters.values()).figures

    agrees_on_arrays_and_symbols(
        figures,
        {"batch": 2, "seq": 3, "width": 4, "hidden": 5},
        {"batch": 7, "seq": 1, "width": 5, "hidden": 5},
        {"batch": 10**9, "seq": 10**6, "width": 10**6, "hidden": 1},
    )


def test_published_counts() -> None:
    with LITERALS.open() as file:
        published = {row["case"]: int(row["flops"]) for row in csv.DictReader(file)}
    a, b, bias = Tensor((4, 5)), Tensor((5, 6)), Tensor((4, 6))
    batch_a, batch_b, out = Tensor((3, 4, 5)), Tensor((3, 5, 6)), Tensor((3, 4, 6))
    mm, addmm = OPERATORS["aten.mm"], OPERATORS["aten.addmm"]

    assert mm(a, b, out=bias).flops == published["mm 4x5 @ 5x6"]
    assert OPERATORS["aten.bmm"](batch_a, batch_b, out=out).flops == published["bmm 3x4x5 @ 3x5x6"]
    assert OPERATORS["aten.baddbmm"](out, batch_a, batch_b, out=out).flops == published["baddbmm"]
    assert 3 * addmm(bias, a, b, out=bias).flops == published["3 addmm"]
    square = Tensor((10, 10))
    assert mm(square, square, out=square).flops == published["mm 10x10"]

    layer = LAYERS["Linear"](Tensor((8, 9)), in_features=9, out_features=10)
    variety = (
        mm(a, b, out=bias),
        addmm(bias, a, b, beta=0.5, alpha=0.5, out=bias),
        mm(Tensor((5, 6)), Tensor((6, 7)), out=Tensor((5, 7))),
        mm(Tensor((6, 7)), Tensor((7, 8)), out=Tensor((6, 8))),
        layer.calls[0].cost,
    )
    total = published["mm+addmm+matmul+einsum+Linear(9,10)(8x9)"]
    assert sum(cost.flops for cost in variety) == total
