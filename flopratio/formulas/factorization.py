"""Linear systems and factorizations of matrices A[*B, m, n], counted as elementwise work.

Cholesky, LU and triangular solves are written out here and counted exactly. QR is counted by the
polynomials of LAPACK's own installation guide (Blackford and Dongarra, LAPACK Working Note 41,
appendix C), and so is the inverse from Cholesky's factor. The iterations behind eigenvalues and
singular values run until they converge; of them the leading terms of Golub and Van Loan, Matrix
Computations (4th edition), are given. A search for a pivot is not counted. Of complex
numbers each figure is 4 times as large, as that of a multiply-add is.

Backward consists of ordinary operators, most of them products. Where they follow from the operator
alone they are listed. Those of a factorization into several results (QR, LU, eigenvalues, singular
values) depend on which of the results are used, and are not listed: what the operator keeps is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import wraps
from typing import Any

from flopratio.formulas.formula import (
    EXAMPLES,
    Cost,
    Example,
    Gradient,
    OperatorFormula,
    Size,
    Tensor,
    holds_complex,
    of_complex_numbers,
    operator,
    prod,
)


def factorization(*names: str) -> Callable[[OperatorFormula], OperatorFormula]:
    """:func:`operator` for what consists of multiply-adds, which of complex numbers are 4 times as
    much, though it counts as elementwise."""

    def register(formula: OperatorFormula) -> OperatorFormula:
        @wraps(formula)
        def cost(*arguments: Any, **named: Any) -> Cost:
            counted = formula(*arguments, **named)
            if not holds_complex((*arguments, *named.values())):
                return counted
            return replace(of_complex_numbers(counted), elementwise=4 * counted.elementwise)

        operator(*names, knows_complex=True)(cost)
        return formula

    return register


def batch(matrix: Tensor) -> Size:
    """How many matrices."""
    return prod(matrix.shape[:-2])


def order(matrix: Tensor) -> Size:
    """n of a square matrix."""
    return matrix.shape[-1]


def smaller(one: Size, other: Size) -> Size:
    """The smaller of two sizes, also of arrays and symbols."""
    return (one + other - abs(one - other)) // 2


def cholesky_flops(n: Size) -> Size:
    """A = L L.T. Column j: n - j multiply-adds for each of the j columns before it, a square root,
    n - j - 1 divisions.

    1. Multiply-adds: sum of j (n - j) = (n^3 - n) / 6, 2 FLOP each.
    2. Roots and divisions: sum of n - j = n (n + 1) / 2.
    3. Together n (n + 1) (2 n + 1) / 6.
    """
    return n * (n + 1) * (2 * n + 1) // 6


def lu_flops(m: Size, n: Size) -> Size:
    """A = P L U. Step k of min(m, n): m - k - 1 divisions by the pivot; then from each of as many
    rows a multiple of the pivot's is taken, in n - k - 1 columns.

    With p = min(m, n), a = sum of k = p (p - 1) / 2, b = sum of k^2 = a (2 p - 1) / 3:

    1. Divisions: p (m - 1) - a.
    2. Multiply-adds: sum of (m - 1 - k) (n - 1 - k) = p (m - 1) (n - 1) - (m + n - 2) a + b, 2 FLOP
       each.

    Of a square: 2 n^3 / 3 - n^2 / 2 - n / 6.
    """
    p = smaller(m, n)
    a = p * (p - 1) // 2
    b = p * (p - 1) * (2 * p - 1) // 6
    divisions = p * (m - 1) - a
    multiply_adds = p * (m - 1) * (n - 1) - (m + n - 2) * a + b
    return divisions + 2 * multiply_adds


def triangular_flops(n: Size, entries: Size, unit: bool = False) -> Size:
    """L X = B with ``entries`` entries of X: in row i, i multiply-adds and a division, 2 i + 1, on
    average n; with ones on the diagonal no division, n - 1."""
    return (n - 1 if unit else n) * entries


def lu_solve_flops(n: Size, entries: Size) -> Size:
    """L (U X) = B: a solve with ones on the diagonal, and one without."""
    return triangular_flops(n, entries, unit=True) + triangular_flops(n, entries)


def qr_flops(m: Size, n: Size) -> Size:
    """Householder's reflections, GEQRF, p = min(m, n):

    - m >= n: 2 m n^2 - 2 n^3 / 3 + m n + n^2 + 14 n / 3;
    - m < n: 2 n m^2 - 2 m^3 / 3 + 3 m n - m^2 + 14 m / 3.
    """
    if m >= n:
        return 2 * m * n * n + m * n + n * n + (14 * n - 2 * n**3) // 3
    return 2 * n * m * m + 3 * m * n - m * m + (14 * m - 2 * m**3) // 3


def reflections_flops(m: Size, n: Size, k: Size) -> Size:
    """The first n columns of the product of k reflections, ORGQR:
    4 m n k - 2 (m + n) k^2 + 4 k^3 / 3 + 3 n k - m k - k^2 - 4 k / 3."""
    cubic = (4 * k**3 - 4 * k) // 3
    return 4 * m * n * k - 2 * (m + n) * k * k + 3 * n * k - m * k - k * k + cubic


def applied_reflections_flops(reflected: Size, others: Size, k: Size) -> Size:
    """k reflections applied to ``others`` vectors of length ``reflected``, ORMQR:
    others k (4 reflected + 3 - 2 k)."""
    return others * k * (4 * reflected + 3 - 2 * k)


# -- backward, one result -----------------------------------------------------------------------

Operands = str | tuple[str, ...]


def product(operand: Operands, matrix: Tensor, m: Size, k: Size, n: Size) -> Gradient:
    """A product [m, k] @ [k, n] for each matrix of a batch."""
    op = "aten.mm" if len(matrix.shape) == 2 else "aten.bmm"
    return Gradient(operand, op, flops=2 * batch(matrix) * m * k * n)


def pointwise(operand: Operands, name: str, entries: Size) -> Gradient:
    """An operation an entry."""
    return Gradient(operand, f"aten.{name}", elementwise=entries)


def keeping(gradients: Sequence[Gradient], *saves: Tensor) -> tuple[Gradient, ...]:
    """Gradients of a node that keeps the same for each."""
    return tuple(
        Gradient(work.operand, work.op, work.flops, work.elementwise, saves) for work in gradients
    )


def only_keeping(operands: Operands, *saves: Tensor) -> tuple[Gradient, ...]:
    """Gradients whose operators depend on which results are used."""
    return (Gradient(operands, "", saves=saves),)


@operator("aten._linalg_check_errors")
def check_errors(info: Tensor, api_name: str, *, is_matrix: bool, out: None) -> Cost:
    """Whether the library reported an error: no arithmetic."""
    return Cost()


@operator("aten.lu_unpack")
def lu_unpack(
    LU_data: Tensor,
    LU_pivots: Tensor,
    unpack_data: bool = True,
    unpack_pivots: bool = True,
    *,
    out: tuple[Tensor, ...],
) -> Cost:
    """Triangles of one matrix, copied: no arithmetic."""
    return Cost()


# -- Cholesky -----------------------------------------------------------------------------------


@factorization("aten.linalg_cholesky_ex")
def cholesky_ex(
    self: Tensor,
    *,
    upper: bool = False,
    check_errors: bool = False,
    out: tuple[Tensor, Tensor],
) -> Cost:
    """A = L L.T. grad_A = L^-T S L^-1 / 2 with S from the lower half of L.T grad_L: a product, S
    (an addition and a halving an entry), two triangular solves."""
    factor, _ = out
    n = order(self)
    solve = pointwise("self", "linalg_solve_triangular", triangular_flops(n, self.numel))
    gradients = (
        product("self", self, n, n, n),
        pointwise("self", "add", self.numel),
        pointwise("self", "mul", self.numel),
        solve,
        solve,
    )
    return Cost(elementwise=batch(self) * cholesky_flops(n), gradients=keeping(gradients, factor))


@factorization("aten.cholesky_solve")
def cholesky_solve(self: Tensor, input2: Tensor, upper: bool = False, *, out: Tensor) -> Cost:
    """X = A^-1 B with A = L L.T: two triangular solves. Backward: a solve; for L a product with B,
    a sum with its transpose, a product with L, negated."""
    n, columns = out.shape[-2:]
    work = 2 * triangular_flops(n, out.numel)
    square = batch(out) * n * n
    gradients = (
        pointwise(("self", "input2"), "cholesky_solve", work),
        product("input2", out, n, columns, n),
        pointwise("input2", "add", square),
        product("input2", out, n, n, n),
        pointwise("input2", "neg", square),
    )
    return Cost(elementwise=work, gradients=keeping(gradients, self, input2, out))


@factorization("aten.cholesky")
def cholesky(self: Tensor, upper: bool = False, *, out: Tensor) -> Cost:
    """``torch.cholesky``, of before ``torch.linalg``."""
    return Cost(
        elementwise=batch(self) * cholesky_flops(order(self)),
        gradients=only_keeping("self", out),
    )


@factorization("aten._cholesky_solve_helper")
def cholesky_solve_helper(self: Tensor, A: Tensor, upper: bool, *, out: Tensor) -> Cost:
    """Two triangular solves, as in ``cholesky_solve``, which calls it."""
    return Cost(elementwise=2 * triangular_flops(order(A), self.numel))


@factorization("aten.cholesky_inverse")
def cholesky_inverse(self: Tensor, upper: bool = False, *, out: Tensor) -> Cost:
    """A^-1 with A = L L.T, POTRI: 2 n^3 / 3 + n^2 / 2 + 5 n / 6. Backward: the gradient plus its
    transpose, three products, negated."""
    n = order(self)
    one = product("self", self, n, n, n)
    gradients = (
        pointwise("self", "add", self.numel),
        one,
        one,
        one,
        pointwise("self", "neg", self.numel),
    )
    return Cost(
        elementwise=batch(self) * (n * (4 * n * n + 3 * n + 5) // 6),
        gradients=keeping(gradients, self, out),
    )


@factorization("aten.linalg_ldl_factor_ex")
def ldl_factor_ex(
    self: Tensor,
    *,
    hermitian: bool = False,
    check_errors: bool = False,
    out: tuple[Tensor, Tensor, Tensor],
) -> Cost:
    """A = L D L.T: as Cholesky's, SYTRF. It has no backward."""
    return Cost(elementwise=batch(self) * cholesky_flops(self.shape[-1]))


@factorization("aten.linalg_ldl_solve")
def ldl_solve(
    LD: Tensor,
    pivots: Tensor,
    B: Tensor,
    *,
    hermitian: bool = False,
    out: Tensor,
) -> Cost:
    """Two triangular solves with ones on the diagonal, and a division by it."""
    return Cost(elementwise=(2 * (LD.shape[-1] - 1) + 1) * out.numel)


# -- LU -----------------------------------------------------------------------------------------


@factorization("aten.linalg_lu_factor_ex")
def lu_factor_ex(
    A: Tensor,
    *,
    pivot: bool = True,
    check_errors: bool = False,
    out: tuple[Tensor, Tensor, Tensor],
) -> Cost:
    """A = P L U, the factors in one matrix."""
    m, n = A.shape[-2:]
    gradients = only_keeping("A", *out[:2])
    return Cost(elementwise=batch(A) * lu_flops(m, n), gradients=gradients)


@factorization("aten.linalg_lu")
def lu(
    A: Tensor,
    *,
    pivot: bool = True,
    out: tuple[Tensor, Tensor, Tensor],
) -> Cost:
    """A = P L U."""
    m, n = A.shape[-2:]
    return Cost(elementwise=batch(A) * lu_flops(m, n), gradients=only_keeping("A", *out))


@factorization("aten.linalg_lu_solve")
def lu_solve(
    LU: Tensor,
    pivots: Tensor,
    B: Tensor,
    *,
    left: bool = True,
    adjoint: bool = False,
    out: Tensor,
) -> Cost:
    """X = A^-1 B, or B A^-1 (not ``left``), from the factors of A."""
    gradients = only_keeping(("LU", "B"), LU, pivots, out)
    return Cost(elementwise=lu_solve_flops(LU.shape[-1], out.numel), gradients=gradients)


@factorization("aten._linalg_solve_ex")
def solve_ex(
    A: Tensor,
    B: Tensor,
    *,
    left: bool = True,
    check_errors: bool = False,
    out: tuple[Tensor, Tensor, Tensor, Tensor],
) -> Cost:
    """X = A^-1 B: LU, then a solve. Backward: grad_B by a solve with the same factors, grad_A =
    - grad_B X.T by a product."""
    x, factors, pivots, _ = out
    n = order(A)
    solve = lu_solve_flops(n, x.numel)
    columns = x.numel // (batch(A) * n)
    gradients = (
        pointwise(("A", "B"), "linalg_lu_solve", solve),
        product("A", A, n, columns, n),
        pointwise("A", "neg", A.numel),
    )
    return Cost(
        elementwise=batch(A) * lu_flops(n, n) + solve,
        gradients=keeping(gradients, A, factors, pivots, x),
    )


@factorization("aten.linalg_inv_ex")
def inv_ex(
    A: Tensor,
    *,
    check_errors: bool = False,
    out: tuple[Tensor, Tensor],
) -> Cost:
    """A^-1, as torch takes it: LU, then a solve with n columns. Backward: - A^-T grad A^-T, two
    products."""
    inverse, _ = out
    n = order(A)
    one = product("A", A, n, n, n)
    gradients = (one, one, pointwise("A", "neg", A.numel))
    return Cost(
        elementwise=batch(A) * lu_flops(n, n) + lu_solve_flops(n, A.numel),
        gradients=keeping(gradients, inverse),
    )


@factorization("aten._linalg_det")
def det(
    A: Tensor,
    *,
    out: tuple[Tensor, Tensor, Tensor],
) -> Cost:
    """LU; the product of U's diagonal, n - 1. Backward: A^-T times grad det, by a solve with n
    columns, once zeros on U's diagonal are replaced by something small."""
    result, factors, pivots = out
    n = order(A)
    diagonal = batch(A) * n
    gradients = (
        pointwise("A", "mul", result.numel),
        pointwise("A", "eq", diagonal),
        pointwise("A", "where", diagonal),
        pointwise("A", "add", A.numel),
        pointwise("A", "linalg_lu_solve", lu_solve_flops(n, A.numel)),
    )
    return Cost(
        elementwise=batch(A) * (lu_flops(n, n) + n - 1),
        gradients=keeping(gradients, A, factors, pivots, result),
    )


@factorization("aten._linalg_slogdet")
def slogdet(
    A: Tensor,
    *,
    out: tuple[Tensor, Tensor, Tensor, Tensor],
) -> Cost:
    """LU; of U's diagonal the absolute values and their logarithms, 2 n, the sum of these, n - 1,
    and the product of the signs, n - 1. Backward: A^-T times the gradient, by a solve with n
    columns."""
    sign, _, factors, pivots = out
    n = order(A)
    solve = pointwise("A", "linalg_lu_solve", lu_solve_flops(n, A.numel))
    return Cost(
        elementwise=batch(A) * (lu_flops(n, n) + 4 * n - 2),
        gradients=keeping((solve,), A, factors, pivots, sign),
    )


# -- triangular ---------------------------------------------------------------------------------


@factorization("aten.linalg_solve_triangular")
def solve_triangular(
    self: Tensor,
    B: Tensor,
    *,
    upper: bool,
    left: bool = True,
    unitriangular: bool = False,
    out: Tensor,
) -> Cost:
    """X = A^-1 B, or B A^-1 (not ``left``). Backward: grad_B by a solve, grad_A by a product,
    negated."""
    n = order(self)
    work = triangular_flops(n, out.numel, unitriangular)
    columns = out.numel // (batch(out) * n)
    gradients = (
        pointwise(("self", "B"), "linalg_solve_triangular", work),
        product("self", self, n, columns, n),
        pointwise("self", "neg", self.numel),
    )
    return Cost(elementwise=work, gradients=keeping(gradients, self, out))


@factorization("aten.triangular_solve")
def triangular_solve(
    self: Tensor,
    A: Tensor,
    upper: bool = True,
    transpose: bool = False,
    unitriangular: bool = False,
    *,
    out: tuple[Tensor, Tensor],
) -> Cost:
    """X = A^-1 self, the older name."""
    x, _ = out
    n = order(A)
    work = triangular_flops(n, x.numel, unitriangular)
    gradients = (
        pointwise(("self", "A"), "triangular_solve", work),
        product("A", A, n, x.shape[-1], n),
        pointwise("A", "neg", A.numel),
    )
    return Cost(elementwise=work, gradients=keeping(gradients, self, A, x))


# -- QR -----------------------------------------------------------------------------------------


@factorization("aten.linalg_qr")
def qr(
    A: Tensor,
    mode: str = "reduced",
    *,
    out: tuple[Tensor, Tensor],
) -> Cost:
    """A = Q R; mode ``complete``: Q[m, m], ``r``: no Q."""
    m, n = A.shape[-2:]
    work = qr_flops(m, n)
    if mode != "r":
        reflections = min(m, n)
        work += reflections_flops(m, m if mode == "complete" else reflections, reflections)
    return Cost(elementwise=batch(A) * work, gradients=only_keeping("A", *out))


@factorization("aten.geqrf")
def geqrf(self: Tensor, *, out: tuple[Tensor, Tensor]) -> Cost:
    """The reflections and R, in one matrix. It has no backward."""
    return Cost(elementwise=batch(self) * qr_flops(*self.shape[-2:]))


@factorization("aten.linalg_householder_product")
def householder_product(input: Tensor, tau: Tensor, *, out: Tensor) -> Cost:
    """Q[m, n] from k reflections."""
    m, n = input.shape[-2:]
    work = reflections_flops(m, n, tau.shape[-1])
    gradients = only_keeping(("input", "tau"), input, tau, out)
    return Cost(elementwise=batch(input) * work, gradients=gradients)


@factorization("aten.ormqr")
def ormqr(
    self: Tensor,
    input2: Tensor,
    input3: Tensor,
    left: bool = True,
    transpose: bool = False,
    *,
    out: Tensor,
) -> Cost:
    """Q, given by its k reflections, times input3, or the other way round."""
    reflected, others = input3.shape[-2:] if left else reversed(input3.shape[-2:])
    work = applied_reflections_flops(reflected, others, input2.shape[-1])
    gradients = only_keeping(("self", "input2", "input3"), self, input2, input3, out)
    return Cost(elementwise=batch(input3) * work, gradients=gradients)


@factorization("aten.linalg_lstsq")
def lstsq(
    self: Tensor,
    b: Tensor,
    rcond: float | None = None,
    *,
    driver: str | None = None,
    out: tuple[Tensor, ...],
) -> Cost:
    """min |A X - B| of a full rank: QR, the reflections applied to B, a triangular solve of order
    min(m, n)."""
    m, n = self.shape[-2:]
    narrow, wide = min(m, n), max(m, n)
    columns = prod(b.shape) // (batch(self) * m)
    work = qr_flops(wide, narrow)
    work += applied_reflections_flops(wide, columns, narrow)
    work += triangular_flops(narrow, narrow * columns)
    gradients = only_keeping(("self", "b"), b, self, out[0])
    return Cost(elementwise=batch(self) * work, gradients=gradients)


# -- eigenvalues and singular values ------------------------------------------------------------


@factorization("aten._linalg_eigh")
def eigh(
    A: Tensor,
    UPLO: str = "L",
    compute_v: bool = True,
    *,
    out: tuple[Tensor, Tensor],
) -> Cost:
    """Symmetric A: 9 n^3 with vectors; without, 4 n^3 / 3 (section 8.3)."""
    n = order(A)
    return Cost(
        elementwise=batch(A) * (9 * n**3 if compute_v else 4 * n**3 // 3),
        gradients=only_keeping("A", *out),
    )


@factorization("aten.linalg_eig")
def eig(self: Tensor, *, out: tuple[Tensor, Tensor]) -> Cost:
    """Any A, with vectors: 25 n^3 (section 7.5)."""
    work = batch(self) * 25 * order(self) ** 3
    return Cost(elementwise=work, gradients=only_keeping("self", *out))


@factorization("aten.linalg_eigvals", "aten._linalg_eigvals")
def eigvals(self: Tensor, *, out: Tensor) -> Cost:
    """Any A, without vectors: 10 n^3 (section 7.5)."""
    return Cost(elementwise=batch(self) * 10 * order(self) ** 3)


@factorization("aten._linalg_svd")
def svd(
    A: Tensor,
    full_matrices: bool = False,
    compute_uv: bool = True,
    *,
    driver: str | None = None,
    out: tuple[Tensor, Tensor, Tensor],
) -> Cost:
    """R-bidiagonalization of m >= n (section 8.6; a wide A is transposed): values only, 2 m n^2 +
    2 n^3; with the first n columns of U, 6 m n^2 + 20 n^3; with all of U, 4 m^2 n + 22 n^3."""
    wide, narrow = max(A.shape[-2:]), min(A.shape[-2:])
    if not compute_uv:
        work = 2 * wide * narrow**2 + 2 * narrow**3
    elif full_matrices:
        work = 4 * wide**2 * narrow + 22 * narrow**3
    else:
        work = 6 * wide * narrow**2 + 20 * narrow**3
    return Cost(elementwise=batch(A) * work, gradients=only_keeping("A", *out))


@factorization("aten.linalg_pinv")
def pinv(self: Tensor, *settings: Any, out: Tensor, **tolerances: Any) -> Cost:
    """V S^-1 U.T, as torch takes it: singular values with the first columns; their reciprocals; V
    times these; and the product with U.T, 2 m n min(m, n)."""
    wide, narrow = max(self.shape[-2:]), min(self.shape[-2:])
    m, n = self.shape[-2:]
    values = 6 * wide * narrow**2 + 20 * narrow**3
    work = values + narrow + n * narrow + 2 * m * n * narrow
    return Cost(elementwise=batch(self) * work, gradients=only_keeping("self", self, out))


@factorization("aten.linalg_matrix_exp")
def matrix_exp(self: Tensor, *, out: Tensor) -> Cost:
    """A Taylor polynomial of degree 18 in 5 products, 10 n^3 (Bader, Blanes and Casas, 2019). A
    small A takes fewer, a large one squarings: that is in the data. Backward is the exponential of
    a matrix of order 2 n."""
    n = order(self)
    gradient = pointwise("self", "linalg_matrix_exp", batch(self) * 10 * (2 * n) ** 3)
    return Cost(elementwise=batch(self) * 10 * n**3, gradients=keeping((gradient,), self))


EXAMPLES += [
    Example(
        "aten.linalg_cholesky_ex",
        {"self": Tensor((2, 4, 4)), "out": (Tensor((2, 4, 4)), Tensor((2,)))},
        {"flops": 0, "elementwise": 60},
        "4 * 5 * 9 / 6 = 30 for each of 2",
    ),
    Example(
        "aten._linalg_solve_ex",
        {
            "A": Tensor((3, 3)),
            "B": Tensor((3, 2)),
            "out": (Tensor((3, 2)), Tensor((3, 3)), Tensor((3,)), Tensor(())),
        },
        {"elementwise": 43},
        "LU: 2 + 1 divisions, 4 + 1 multiply-adds, 13; solves 2 * 6 and 3 * 6, 30",
    ),
    Example(
        "aten.linalg_qr",
        {"A": Tensor((6, 4)), "out": (Tensor((6, 4)), Tensor((4, 4)))},
        {"elementwise": 360},
        "GEQRF 192 + 24 + 16 + (56 - 128) / 3 = 208; ORGQR of 4 reflections 384 - 320 + 48 - 24 - "
        "16 + 80 = 152",
    ),
]
