"""Sparse tensors, against loops over their entries, and against what torch runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import flopratio as fr
from flopratio.formulas import OPERATORS, SPARSE_OPERATORS, Cost, SparseTensor, Tensor
from tests.formulas import counting
from tests.formulas.counting import Counted, counted, values, zeros

pytestmark = pytest.mark.filterwarnings("ignore:Sparse")  # torch says that they are in beta

sizes = st.integers(1, 5)
shares = st.sampled_from([0.0, 0.3, 1.0])


def count(run: Callable[..., Any], *arguments: Any) -> tuple[Any, int]:
    counting.reset()
    result = run(*arguments)
    return result, counted()


Entries = dict[tuple[int, int], Counted]


def entries(shape: tuple[int, int], share: float, seed: int) -> Entries:
    """A sparse matrix as a dict of its entries."""
    kept = np.random.default_rng(seed).random(shape) < share
    numbers = counting.tensor(shape, seed)
    return {place: numbers[place] for place in np.ndindex(*shape) if kept[place]}


def seen(matrix: Entries, shape: tuple[int, int]) -> SparseTensor:
    return SparseTensor(shape, stored=len(matrix))


def as_torch(matrix: Entries, shape: tuple[int, int]) -> torch.Tensor:
    dense = torch.zeros(shape, dtype=torch.float64)
    for place, number in matrix.items():
        dense[place] = number.value
    return dense


def product(matrix: Entries, rows: int, dense: np.ndarray) -> np.ndarray:
    """matrix[M, K] @ dense[K, N], entry by entry."""
    out = zeros((rows, dense.shape[1]))
    for (m, k), number in matrix.items():
        for n in range(dense.shape[1]):
            out[m, n] = out[m, n] + number * dense[k, n]
    return out


def transposed(matrix: Entries) -> Entries:
    return {(k, m): number for (m, k), number in matrix.items()}


def sampled(places: Entries, first: np.ndarray, second: np.ndarray) -> Entries:
    """first[M, N] @ second[K, N].T at some places."""
    out = {}
    for m, k in places:
        total = Counted(0.0)
        for n in range(first.shape[1]):
            total = total + first[m, n] * second[k, n]
        out[m, k] = total
    return out


def gradient(cost: Cost, operand: str) -> tuple[int, int]:
    """FLOP by the law, and those that the operator does beyond it."""
    own = [each for each in cost.gradients if each.operand == operand]
    return sum(each.flops for each in own), sum(each.surplus for each in own)


@pytest.mark.oracle
@settings(max_examples=30, deadline=None)
@given(m=sizes, n=sizes, k=sizes, share=shares)
def test_products_are_counted_entry_by_entry(m: int, n: int, k: int, share: float) -> None:
    a, b, grad = entries((m, k), share, 1), counting.tensor((k, n), 2), counting.tensor((m, n), 3)
    operands = seen(a, (m, k)), Tensor((k, n))
    cost = SPARSE_OPERATORS["aten.mm"](*operands, out=Tensor((m, n)))

    out, flops = count(product, a, m, b)
    grad_b, flops_b = count(product, transposed(a), k, grad)
    grad_a, flops_a = count(sampled, a, grad, b)
    dense = 2 * m * n * k
    assert cost.flops == flops == flops_a == flops_b
    assert gradient(cost, "mat2") == (flops_b, 0)
    assert gradient(cost, "self") == (flops_a, dense - flops_a)
    picked = SPARSE_OPERATORS["aten.sparse_sampled_addmm"](
        seen(a, (m, k)), Tensor((m, n)), Tensor((n, k)), beta=0, out=seen(a, (m, k))
    )
    assert (picked.flops, picked.elementwise) == (flops_a, 0)

    torch_a = as_torch(a, (m, k)).requires_grad_()
    torch_b = torch.tensor(values(b), requires_grad=True)
    result = torch_a @ torch_b
    result.backward(torch.tensor(values(grad)))
    np.testing.assert_allclose(values(out), result.detach())
    np.testing.assert_allclose(values(grad_b), torch_b.grad)
    assert torch_a.grad is not None
    for place, number in grad_a.items():
        np.testing.assert_allclose(number.value, torch_a.grad[place])


@pytest.mark.oracle
@settings(max_examples=20, deadline=None)
@given(m=sizes, n=sizes, share=shares)
def test_sums_and_softmax_are_counted_entry_by_entry(m: int, n: int, share: float) -> None:
    matrix = entries((m, n), share, 1)

    def total() -> Counted:
        out = Counted(0.0)
        for number in matrix.values():
            out = out + number
        return out

    def softmax() -> Entries:
        result = {}
        for row in range(m):
            own = {place: number for place, number in matrix.items() if place[0] == row}
            largest, sum_ = Counted(-1e9), Counted(0.0)
            for number in own.values():
                largest = number if number > largest else largest
            shifted = {place: (number - largest).apply("exp") for place, number in own.items()}
            for number in shifted.values():
                sum_ = sum_ + number
            result.update({place: number / sum_ for place, number in shifted.items()})
        return result

    sparse = seen(matrix, (m, n))
    _, flops = count(total)
    assert SPARSE_OPERATORS["aten.sum"](sparse, out=Tensor(())).elementwise == flops
    found, flops = count(softmax)
    cost = SPARSE_OPERATORS["aten._sparse_softmax"](sparse, 1, False, out=sparse)
    assert cost.elementwise == flops
    if matrix:
        places = torch.tensor(sorted(matrix)).T
        numbers = torch.tensor([matrix[place].value for place in sorted(matrix)])
        result = torch.sparse.softmax(torch.sparse_coo_tensor(places, numbers, (m, n)), 1)
        expected = [found[place].value for place in sorted(found)]
        np.testing.assert_allclose(expected, result.coalesce().values(), rtol=1e-5)


# What torch runs --------------------------------------------------------------------------------

PLACES = torch.tensor([[0, 1, 1, 2, 4], [2, 0, 3, 3, 1]])
S, M, K, N = 5, 5, 4, 3


def coo(requires_grad: bool) -> torch.Tensor:
    made = torch.sparse_coo_tensor(PLACES, torch.randn(S), (M, K)).coalesce()
    return made.detach().requires_grad_(requires_grad)


def csr(requires_grad: bool) -> torch.Tensor:
    return coo(False).to_sparse_csr().detach().requires_grad_(requires_grad)


def x(*shape: int) -> torch.Tensor:
    return torch.randn(shape, requires_grad=True)


DENSE = 2 * M * K
PRODUCTS: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], int]] = {
    "a @ x": (lambda a: a @ x(K, N), N),
    "torch.spmm": (lambda a: torch.spmm(a, x(K, N)), N),
    "torch.sparse.mm": (lambda a: torch.sparse.mm(a, x(K, N)), N),
    "torch.sparse.addmm": (
        lambda a: torch.sparse.addmm(x(M, N), a, x(K, N), beta=2, alpha=3),
        N,
    ),
    "torch.addmm": (lambda a: torch.addmm(x(M, N), a, x(K, N)), N),
    "x @ a": (lambda a: x(N, M) @ a, N),
    "a @ v": (lambda a: a @ x(K), 1),
    "a.t() @ x": (lambda a: a.t() @ x(M, N), N),
    "linear": (lambda a: torch.nn.functional.linear(x(N, K), a), N),
}


@pytest.mark.parametrize("of_sparse", [False, True])
@pytest.mark.parametrize("layout", [coo, csr])
@pytest.mark.parametrize("name", PRODUCTS)
def test_products_cost_as_the_law_says(
    name: str, layout: Callable[[bool], torch.Tensor], of_sparse: bool
) -> None:
    run, meets = PRODUCTS[name]
    sparse = layout(of_sparse)
    with fr.Profiler() as profiler:
        run(sparse).sum().backward()
    ledger = profiler.ledger
    flops = 2 * S * meets
    totals = ledger.totals
    assert totals.forward == flops
    assert totals.backward == flops * (2 if of_sparse else 1)
    samples = layout is csr and name.startswith("torch.sparse")
    assert totals.recompute == (DENSE * meets - flops if of_sparse and not samples else 0)
    assert ledger.mismatches == []
    assert ledger.saved_mismatches == []
    assert ledger.uncounted_ops == {}


OTHERS: dict[str, Callable[[], torch.Tensor]] = {
    "sampled product": lambda: torch.sparse.sampled_addmm(
        csr(True), x(M, N), x(N, K), beta=0.5, alpha=2
    ).to_dense(),
    "product that sums": lambda: torch.sparse.mm(csr(True), x(K, N), "sum"),
    "product that averages": lambda: torch.sparse.mm(csr(True), x(K, N), "mean"),
    "product of which the largest": lambda: torch.sparse.mm(csr(True), x(K, N), "amax"),
    "product of a batch": lambda: torch.bmm(torch.stack([coo(False)] * 2), x(2, K, N)),
    "sum": lambda: torch.sparse.sum(coo(True)),
    "sum along a dimension": lambda: torch.sparse.sum(coo(True), 1).to_dense(),
    "softmax": lambda: torch.sparse.softmax(coo(True), 1).to_dense(),
    "log softmax": lambda: torch.sparse.log_softmax(coo(True), 1).to_dense(),
    "chain": lambda: (torch.relu(coo(True) * 2 + coo(True)) / 3 * coo(True)).to_dense(),
    "times dense": lambda: (coo(True) * x(M, K)).to_dense() + coo(True),
    "made of values": lambda: torch.sparse_coo_tensor(PLACES, x(S), (M, K)) @ x(K, N),
    "made of rows": lambda: (
        torch.sparse_csr_tensor(csr(False).crow_indices(), csr(False).col_indices(), x(S), (M, K))
        @ x(K, N)
    ),
    "made of entries of one place": lambda: (
        torch.sparse_coo_tensor(PLACES // 2, x(S), (M, K)).coalesce().to_dense()
    ),
    "masked": lambda: x(M, K).sparse_mask(coo(False)).to_dense(),
    "blocks": lambda: (torch.ones(4, 4).to_sparse_bsr((2, 2)) @ torch.randn(4, N)).requires_grad_(),
    "sparse gradient": lambda: torch.nn.functional.embedding(
        torch.tensor([1, 1, 2]), x(4, 3), sparse=True
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_everything_is_counted_and_what_is_kept_is_named(name: str) -> None:
    with fr.Profiler() as profiler:
        OTHERS[name]().sum().backward()
    ledger = profiler.ledger
    assert ledger.mismatches == []
    assert ledger.saved_mismatches == []
    assert ledger.uncounted_ops == {}


def test_a_reduced_product_by_hand() -> None:
    """5 entries meet 3 numbers each: 30; the mean divides 5 * 3 results, and in each gradient the 5
    entries by the lengths of their rows."""
    with fr.Profiler() as profiler:
        torch.sparse.mm(csr(True), x(K, N), "mean").backward(torch.ones(M, N))
    totals = profiler.ledger.totals
    assert (totals.forward, totals.backward) == (30, 60)
    assert (totals.elementwise_forward, totals.elementwise_backward) == (15, 10)


def test_entries_of_one_place_are_added() -> None:
    twice = torch.sparse_coo_tensor(torch.tensor([[0, 0, 1], [1, 1, 0]]), torch.ones(3), (2, 2))
    with fr.Profiler() as profiler:
        twice.coalesce()
    assert profiler.ledger.totals.elementwise_forward == 1


def test_blocks_count_with_their_zeros() -> None:
    blocks = torch.eye(4).to_sparse_bsr((2, 2))  # 2 blocks of 4, of which half is 0
    with fr.Profiler() as profiler:
        blocks @ torch.randn(4, N)
    assert profiler.ledger.totals.forward == 2 * 8 * N


def test_a_product_of_two_sparse_tensors_is_named() -> None:
    a = coo(False)
    with fr.Profiler() as profiler:
        torch.sparse.mm(a, a.t())
    ledger = profiler.ledger
    assert list(ledger.uncounted_ops) == [
        "aten._sparse_sparse_matmul (what it computes depends on where the non-zeros are)"
    ]


def test_a_packed_factor_counts_in_full() -> None:
    """GIVEN a weight [32, 64] of which two in four are 0, packed: THEN 2 * 32 * 64 * 8."""
    packed, meta, dense = Tensor((32, 32), 2), Tensor((32, 4), 2), Tensor((64, 8), 2)
    full = 2 * 32 * 64 * 8
    mm = OPERATORS["aten._sparse_semi_structured_mm"](packed, meta, dense, out=Tensor((32, 8), 2))
    linear = OPERATORS["aten._sparse_semi_structured_linear"](
        Tensor((8, 64), 2), packed, meta, bias=Tensor((32,), 2), out=Tensor((8, 32), 2)
    )
    cslt = OPERATORS["aten._cslt_sparse_mm"](Tensor((32 * 36,), 2), dense, out=Tensor((32, 8), 2))
    assert (mm.flops, linear.flops, cslt.flops) == (full, full, full)
    assert linear.elementwise == 8 * 32
