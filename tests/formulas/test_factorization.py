"""Linear systems and factorizations against plain loops that count, and against what torch
dispatches and keeps."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import sympy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flopratio.formulas import OPERATORS, Tensor, exact, operands_of
from flopratio.formulas.factorization import (
    applied_reflections_flops,
    cholesky_flops,
    lu_flops,
    lu_solve_flops,
    qr_flops,
    reflections_flops,
    triangular_flops,
)
from tests.formulas.counting import counted, reset, tensor, values
from tests.formulas.fused import executed, subsets

linalg = torch.linalg


# -- the loops ----------------------------------------------------------------------------------


def cholesky(a: np.ndarray) -> np.ndarray:
    """A = L L.T, column by column, in place."""
    n = len(a)
    for j in range(n):
        for i in range(j, n):
            for k in range(j):
                a[i, j] = a[i, j] - a[i, k] * a[j, k]
        a[j, j] = a[j, j].sqrt()
        for i in range(j + 1, n):
            a[i, j] = a[i, j] / a[j, j]
    return a


def lu(a: np.ndarray) -> np.ndarray:
    """A = L U, without pivots, in place."""
    m, n = a.shape
    for k in range(min(m, n)):
        for i in range(k + 1, m):
            a[i, k] = a[i, k] / a[k, k]
            for j in range(k + 1, n):
                a[i, j] = a[i, j] - a[i, k] * a[k, j]
    return a


def solve(a: np.ndarray, b: np.ndarray, unit: bool) -> np.ndarray:
    """L X = B, in place."""
    n, columns = b.shape
    for i in range(n):
        for c in range(columns):
            for k in range(i):
                b[i, c] = b[i, c] - a[i, k] * b[k, c]
            if not unit:
                b[i, c] = b[i, c] / a[i, i]
    return b


ORDER = st.integers(1, 5)


@pytest.mark.oracle
@settings(max_examples=20, deadline=None)
@given(n=ORDER)
def test_cholesky_oracle(n: int) -> None:
    """The loops' count, and NumPy's factor."""
    drawn = values(tensor((n, n)))
    matrix = drawn @ drawn.T + n * np.eye(n)
    counted_matrix = tensor((n, n))
    for index in np.ndindex(n, n):
        counted_matrix[index].value = matrix[index]
    reset()
    found = cholesky(counted_matrix)
    assert cholesky_flops(n) == counted()
    np.testing.assert_allclose(np.tril(values(found)), np.linalg.cholesky(matrix), atol=1e-9)


@pytest.mark.oracle
@settings(max_examples=30, deadline=None)
@given(m=ORDER, n=ORDER)
def test_lu_oracle(m: int, n: int) -> None:
    """The loops' count, of any shape, and the factors' product."""
    matrix = tensor((m, n))
    for i in range(min(m, n)):
        matrix[i, i].value += 5
    plain = values(matrix)
    reset()
    found = lu(matrix)
    assert lu_flops(m, n) == counted()
    factors, p = values(found), min(m, n)
    lower, upper = np.tril(factors[:, :p], -1) + np.eye(m, p), np.triu(factors[:p])
    np.testing.assert_allclose(lower @ upper, plain, atol=1e-9)


@pytest.mark.oracle
@settings(max_examples=20, deadline=None)
@given(n=ORDER, columns=ORDER)
def test_solve_oracle(n: int, columns: int) -> None:
    """Triangular solves with and without ones on the diagonal; both together are LU's."""
    together = 0
    for unit in (True, False):
        matrix, b = tensor((n, n), seed=1), tensor((n, columns), seed=2)
        lower = np.tril(values(matrix), -1)
        lower += np.eye(n) if unit else np.diag(np.diag(values(matrix)))
        expected = np.linalg.solve(lower, values(b))
        reset()
        found = solve(matrix, b, unit)
        assert triangular_flops(n, n * columns, unit) == counted()
        together += counted()
        np.testing.assert_allclose(values(found), expected, rtol=1e-6, atol=1e-6)
    assert lu_solve_flops(n, n * columns) == together


def test_working_note_41() -> None:
    """The polynomials of multiplications and of additions in LAPACK Working Note 41, added up."""
    third, half, sixth = Fraction(1, 3), Fraction(1, 2), Fraction(1, 6)
    for m in range(1, 8):
        for n in range(1, 8):
            if m >= n:
                multiplications = n * (n * (half - third * n + m) + m + 23 * sixth)
                additions = n * (n * (half - third * n + m) + 5 * sixth)
            else:
                multiplications = m * (m * (-half - third * m + n) + 2 * n + 23 * sixth)
                additions = m * (m * (-half - third * m + n) + n + 5 * sixth)
            assert qr_flops(m, n) == multiplications + additions
            for k in range(1, min(m, n) + 1):
                again = k * (Fraction(2, 3) * k - (m + n))
                multiplications = k * (2 * m * n + 2 * n - Fraction(5, 3) + again - k)
                additions = k * (2 * m * n + n - m + third + again)
                assert reflections_flops(m, n, k) == multiplications + additions
                multiplications = 2 * n * m * k - n * k * k + 2 * n * k
                additions = 2 * n * m * k - n * k * k + n * k
                assert applied_reflections_flops(m, n, k) == multiplications + additions
        inverse = OPERATORS["aten.cholesky_inverse"](Tensor((m, m)), out=Tensor((m, m)))
        multiplications = m * (2 * third + m * (third * m + 1))
        additions = m * (sixth + m * (third * m - half))
        assert inverse.elementwise == multiplications + additions


# -- against torch ------------------------------------------------------------------------------


def positive(*shape: int) -> torch.Tensor:
    matrix = torch.randn(shape)
    return matrix @ matrix.mT + 4 * torch.eye(shape[-1])


ONE_RESULT: dict[str, tuple[Callable[..., torch.Tensor], dict[str, torch.Tensor]]] = {
    "linalg_cholesky_ex": (lambda self: linalg.cholesky(self), {"self": positive(4, 4)}),
    "linalg_cholesky_ex, batch": (
        lambda self: linalg.cholesky(self, upper=True),
        {"self": positive(2, 4, 4)},
    ),
    "linalg_inv_ex": (lambda A: linalg.inv(A), {"A": positive(4, 4)}),
    "linalg_inv_ex, batch": (lambda A: linalg.inv(A), {"A": positive(2, 3, 3)}),
    "_linalg_solve_ex": (
        lambda A, B: linalg.solve(A, B),
        {"A": positive(4, 4), "B": torch.randn(4, 3)},
    ),
    "_linalg_solve_ex, one column": (
        lambda A, B: linalg.solve(A, B),
        {"A": positive(4, 4), "B": torch.randn(4)},
    ),
    "_linalg_solve_ex, batch from the right": (
        lambda A, B: linalg.solve(A, B, left=False),
        {"A": positive(2, 4, 4), "B": torch.randn(2, 3, 4)},
    ),
    "linalg_solve_triangular": (
        lambda self, B: linalg.solve_triangular(self, B, upper=True),
        {"self": positive(4, 4).triu(), "B": torch.randn(4, 3)},
    ),
    "linalg_solve_triangular, batch from the right": (
        lambda self, B: linalg.solve_triangular(self, B, upper=True, left=False),
        {"self": positive(2, 4, 4).triu(), "B": torch.randn(2, 3, 4)},
    ),
    "_linalg_det": (lambda A: linalg.det(A), {"A": positive(4, 4)}),
    "_linalg_det, batch": (lambda A: linalg.det(A), {"A": positive(2, 4, 4)}),
    "_linalg_slogdet": (
        lambda A: linalg.slogdet(A).logabsdet,
        {"A": positive(4, 4)},
    ),
    "cholesky_solve": (
        lambda self, input2: torch.cholesky_solve(self, input2),
        {"self": torch.randn(4, 3), "input2": linalg.cholesky(positive(4, 4))},
    ),
    "cholesky_inverse": (
        lambda self: torch.cholesky_inverse(self),
        {"self": linalg.cholesky(positive(4, 4))},
    ),
    "linalg_matrix_exp": (lambda self: linalg.matrix_exp(self), {"self": torch.randn(4, 4)}),
}


@pytest.mark.parametrize("name", ONE_RESULT)
def test_backward_of_one_result(name: str) -> None:
    """GIVEN an operator with one result, WHEN some of its operands need a gradient, THEN backward
    runs the operators that the formula names, of the work that it says, and autograd keeps the
    bytes that it says."""
    run, inputs = ONE_RESULT[name]
    op = "aten." + name.split(",")[0]
    for needed in subsets(inputs):
        given = {key: x.clone().requires_grad_(key in needed) for key, x in inputs.items()}
        step = executed(lambda given=given: run(**given))
        # Backward may use the same operator.
        forward = next(work.cost for work in step.forward if work.op == op)
        asked = [
            gradient for gradient in forward.gradients if set(operands_of(gradient)) & set(needed)
        ]
        kept = {id(tensor.storage): tensor for gradient in asked for tensor in gradient.saves}
        assert sum(tensor.nbytes for tensor in kept.values()) == step.saved_bytes, needed
        found = [(work.op, work.cost.flops, work.cost.elementwise) for work in step.backward]
        assert found == [(g.op, g.flops, g.elementwise) for g in asked], needed


SEVERAL_RESULTS: dict[str, tuple[Callable[[torch.Tensor], Any], torch.Tensor]] = {
    "linalg_qr": (linalg.qr, torch.randn(6, 4)),
    "linalg_lu": (lambda a: linalg.lu(a)[1:], torch.randn(4, 4)),
    "linalg_lu_factor_ex": (linalg.lu_factor, torch.randn(4, 4)),
    "_linalg_eigh": (linalg.eigh, positive(4, 4)),
    "_linalg_svd": (lambda a: linalg.svd(a, full_matrices=False), torch.randn(6, 4)),
    "linalg_eig": (linalg.eig, torch.randn(4, 4)),
    "linalg_pinv": (linalg.pinv, torch.randn(6, 4)),
}


@pytest.mark.parametrize("name", SEVERAL_RESULTS)
def test_several_results_keep(name: str) -> None:
    """GIVEN a factorization into several results, THEN it keeps what its formula says."""
    run, matrix = SEVERAL_RESULTS[name]
    given = matrix.clone().requires_grad_()
    saved: dict[int, int] = {}

    def pack(kept: torch.Tensor) -> torch.Tensor:
        storage = kept.untyped_storage()
        saved[storage._cdata] = storage.nbytes()
        return kept

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept):
        results = run(given)
    with torch.no_grad():
        work, *_ = executed(lambda: run(given)).forward
    assert work.op == f"aten.{name}"
    (gradient,) = work.cost.gradients
    assert sum(tensor.nbytes for tensor in gradient.saves) == sum(saved.values())
    assert results is not None


def test_leading_terms() -> None:
    """Golub and Van Loan's figures, at the sizes of their tables' letters."""
    m, n = 12, 8
    tall, square = Tensor((m, n)), Tensor((n, n))
    singular = OPERATORS["aten._linalg_svd"]
    results = (tall, square, square)
    assert singular(tall, False, False, out=results).elementwise == 2 * m * n**2 + 2 * n**3
    assert singular(tall, False, True, out=results).elementwise == 6 * m * n**2 + 20 * n**3
    assert singular(tall, True, True, out=results).elementwise == 4 * m**2 * n + 22 * n**3
    wide = singular(Tensor((3, n, m)), out=results).elementwise
    assert wide == 3 * singular(tall, out=results).elementwise
    assert OPERATORS["aten._linalg_eigh"](square, out=results).elementwise == 9 * n**3
    values_only = OPERATORS["aten._linalg_eigh"](square, "L", False, out=results).elementwise
    assert values_only == 4 * n**3 // 3
    assert OPERATORS["aten.linalg_eig"](square, out=results).elementwise == 25 * n**3
    assert OPERATORS["aten._linalg_eigvals"](square, out=square).elementwise == 10 * n**3
    assert OPERATORS["aten.linalg_matrix_exp"](square, out=square).elementwise == 10 * n**3


def test_with_lu() -> None:
    """What begins with LU, three matrices at a time, from its parts."""
    tall, square, b = Tensor((3, 5, 4)), Tensor((3, 5, 5)), Tensor((3, 5, 2))
    each, pivots = Tensor((3,)), Tensor((3, 5))
    expected = {
        "aten.linalg_lu_factor_ex": lu_flops(5, 4),
        "aten.linalg_lu": lu_flops(5, 4),
    }
    for name, flops in expected.items():
        assert OPERATORS[name](tall, out=(tall, tall, each)).elementwise == 3 * flops
    solves = 3 * lu_solve_flops(5, 10)
    factors = 3 * lu_flops(5, 5)
    solved = OPERATORS["aten.linalg_lu_solve"](square, pivots, b, out=b)
    assert solved.elementwise == solves
    solved = OPERATORS["aten._linalg_solve_ex"](square, b, out=(b, square, pivots, each))
    assert solved.elementwise == factors + solves
    inverse = OPERATORS["aten.linalg_inv_ex"](square, out=(square, each))
    assert inverse.elementwise == factors + 3 * lu_solve_flops(5, 25)
    determinant = OPERATORS["aten._linalg_det"](square, out=(each, square, pivots))
    assert determinant.elementwise == factors + 3 * 4
    logarithm = OPERATORS["aten._linalg_slogdet"](square, out=(each, each, square, pivots))
    assert logarithm.elementwise == factors + 3 * (5 + 5 + 4 + 4)


def test_composed() -> None:
    """Solves of least squares and of other factors, from their parts."""
    a, b, x = Tensor((2, 6, 4)), Tensor((2, 6, 3)), Tensor((2, 4, 3))
    least = OPERATORS["aten.linalg_lstsq"](a, b, out=(x,)).elementwise
    each = qr_flops(6, 4) + applied_reflections_flops(6, 3, 4) + triangular_flops(4, 12)
    assert least == 2 * each
    q = OPERATORS["aten.linalg_qr"](a, "complete", out=(a, a)).elementwise
    assert q == 2 * (qr_flops(6, 4) + reflections_flops(6, 6, 4))
    r = OPERATORS["aten.linalg_qr"](a, "r", out=(a, a)).elementwise
    assert r == OPERATORS["aten.geqrf"](a, out=(a, a)).elementwise == 2 * qr_flops(6, 4)
    product = OPERATORS["aten.linalg_householder_product"](a, Tensor((2, 4)), out=a).elementwise
    assert product == 2 * reflections_flops(6, 4, 4)
    applied = OPERATORS["aten.ormqr"](a, Tensor((2, 4)), b, out=b).elementwise
    assert applied == 2 * applied_reflections_flops(6, 3, 4)
    turned = Tensor((2, 3, 6))
    right = OPERATORS["aten.ormqr"](a, Tensor((2, 4)), turned, False, out=turned).elementwise
    assert right == applied
    square = Tensor((5, 5))
    assert OPERATORS["aten.linalg_ldl_factor_ex"](square, out=()).elementwise == 55
    solved = OPERATORS["aten.linalg_ldl_solve"](square, Tensor((5,)), Tensor((5, 2)), out=b)
    assert solved.elementwise == 2 * triangular_flops(5, 36, unit=True) + 36
    older = OPERATORS["aten.triangular_solve"](Tensor((5, 2)), square, out=(Tensor((5, 2)), b))
    newer = OPERATORS["aten.linalg_solve_triangular"](
        square, Tensor((5, 2)), upper=True, out=Tensor((5, 2))
    )
    assert older.elementwise == newer.elementwise
    assert [g.flops for g in older.gradients] == [g.flops for g in newer.gradients]
    pseudo = OPERATORS["aten.linalg_pinv"](Tensor((6, 4)), out=Tensor((4, 6))).elementwise
    assert pseudo == (6 * 6 * 16 + 20 * 64) + 4 + 16 + 2 * 6 * 4 * 4


def figures(b: Any, n: Any, k: Any) -> dict[str, Any]:
    a, x = Tensor((b, n, n)), Tensor((b, n, k))
    solved = OPERATORS["aten._linalg_solve_ex"](a, x, out=(x, a, Tensor((b, n)), Tensor((b,))))
    factor = OPERATORS["aten.linalg_cholesky_ex"](a, out=(a, Tensor((b,))))
    return {
        "solve": solved.elementwise,
        "solve's gradient": sum(gradient.flops for gradient in solved.gradients),
        "Cholesky": factor.elementwise,
        "Cholesky's gradient": sum(gradient.flops for gradient in factor.gradients),
        "eigenvalues": OPERATORS["aten._linalg_eigh"](a, out=(x, a)).elementwise,
    }


def test_arrays_and_symbols() -> None:
    """The same formula takes ints, arrays of ints and symbols."""
    points = [(1, 2, 3), (6, 5, 4), (2, 30, 5)]
    by_arrays = figures(*(exact(column) for column in zip(*points, strict=True)))
    symbols = sympy.symbols("b n k", integer=True, positive=True)
    by_symbols = figures(*symbols)
    for index, point in enumerate(points):
        for name, expected in figures(*point).items():
            assert by_arrays[name][index] == expected
            assert by_symbols[name].subs(dict(zip(symbols, point, strict=True))) == expected
