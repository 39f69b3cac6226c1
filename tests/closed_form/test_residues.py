"""Functions that are another polynomial at other residues: recovered exactly, or refused."""

from __future__ import annotations

from collections.abc import Callable
from math import gcd
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flopratio.closed_form import Fit, Polynomial, interpolate
from flopratio.closed_form.axis import Axis
from flopratio.closed_form.residues import Quotient

Function = Callable[[int, int], int]

SIZES = range(33, 400)


def fit(function: Function, base: int = 64, sizes: range = SIZES) -> Fit:
    axes = [Axis("b", 2, range(2, 65)), Axis("n", base, sizes)]
    # Held against so many points that a rare class of residues is among them.
    return interpolate(lambda point: {"f": function(**point), "g": point["b"]}, axes, verify=20)


def recovered(function: Function, found: Fit, sizes: range = SIZES) -> bool:
    return all(
        found.forms["f"]({"b": b, "n": n}) == function(b, n) for b in (2, 3, 64) for n in sizes
    )


@given(st.integers(1, 40), st.integers(0, 80), st.integers(2, 30))
@settings(max_examples=20, deadline=None)
def test_what_divides_a_quotient(period: int, offset: int, divisor: int) -> None:
    q = Quotient("n", period, offset)
    divided = q.divided_by(divisor)
    by_gcd = q.by_common_divisor(divisor, lambda d: Polynomial.constant(d * d + 5))
    for n in range(120):
        value = (n + offset) // period
        assert q.polynomial({"n": n}) == value
        assert divided({"n": n}) == (value % divisor == 0)
        assert by_gcd({"n": n}) == gcd(value, divisor) ** 2 + 5


def pooled(m: int, k: int) -> int:
    """The elements of k windows over m, one by one."""
    return sum(-((-(i + 1) * m) // k) - i * m // k for i in range(k))


@given(
    st.sampled_from((1, 2, 4, 8, 16)),
    st.integers(0, 15),
    st.integers(2, 8),
    st.integers(1, 10**6),
    st.integers(0, 10**6),
    st.booleans(),
)
@settings(max_examples=8, deadline=None)
def test_windows_that_overlap_are_recovered(
    stride: int, offset: int, k: int, scale: int, added: int, squared: bool
) -> None:
    def function(b: int, n: int) -> int:
        elements = pooled((n - 64 + offset % stride) // stride + 8 * k, k)
        return b * (scale * elements ** (2 if squared else 1) + added)

    found = fit(function)
    assert recovered(function, found)


@pytest.mark.parametrize(
    ("stride", "offset", "k"), [(32, -31, 6), (32, 0, 7), (16, 0, 4)], ids=["6", "7", "4"]
)
def test_pooling_to_a_fixed_size(stride: int, offset: int, k: int) -> None:
    sizes = range(112, 449)
    function: Function = lambda b, n: b * 256 * (pooled((n + offset) // stride, k) ** 2 + k * k)  # noqa: E731
    found = fit(function, 224, sizes)
    assert recovered(function, found, sizes)
    assert len(found.fitted_at) <= 24


@given(
    st.sampled_from((2, 3, 4, 8, 16, 32)),
    st.integers(1, 10**6),
    st.sampled_from(("rows", "square", "rounded")),
    st.booleans(),
)
@settings(max_examples=8, deadline=None)
def test_what_is_copied_unless_aligned_is_recovered(
    period: int, scale: int, kind: str, by_batch: bool
) -> None:
    kinds: dict[str, Callable[[int], int]] = {
        "rows": lambda n: n * -(-n // 8) * 8,
        "square": lambda n: n * n + 7,
        "rounded": lambda n: (n + 3) // 4,
    }

    def function(b: int, n: int) -> int:
        copied = (n - 64) % period != 0
        return scale * (b if by_batch else 1) * copied * kinds[kind](n)

    found = fit(function)
    assert recovered(function, found)


def test_where_the_base_is_aligned_the_others_are_told_elsewhere() -> None:
    function: Function = lambda b, n: (3 * b + 5) * (n % 8 != 0) * n * -(-n // 8)  # noqa: E731
    assert recovered(function, fit(function, base=64))
    assert recovered(function, fit(function, base=63))
    zero_on_both: Function = lambda b, n: (b - 2) * (n - 64)  # noqa: E731
    assert recovered(zero_on_both, fit(zero_on_both))


@given(st.sampled_from(("copied", "one zero", "pooled", "classes", "few")), st.integers(0, 10**6))
@settings(max_examples=10, deadline=None)
def test_what_is_nearly_one_of_these_is_refused(kind: str, seed: int) -> None:
    def noise(n: int, most: int = 10**6) -> int:
        return Random(seed * 1009 + n).randrange(1, most)

    kinds: dict[str, Function] = {
        "copied": lambda b, n: b * (n % 8 != 0) * noise(n),
        "one zero": lambda b, n: b * n * n * (n != 64),
        "pooled": lambda b, n: b * (pooled(n // 16, 6) ** 2 * 1000 + noise(n // 16, 3)),
        "classes": lambda b, n: b * noise(gcd(n // 4, 12) * 1009 + n % 5),
        "few": lambda b, n: b * noise(n // 32, 4),
    }
    found = fit(kinds[kind])
    assert set(found.refused) == {"f"}
    assert set(found.forms) == {"g"}
