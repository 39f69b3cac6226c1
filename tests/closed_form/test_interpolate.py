"""Functions of several KEYs, recovered exactly or refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import product
from math import isqrt
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flopratio.closed_form import Fit, Polynomial, interpolate
from flopratio.closed_form.axis import Axis
from flopratio.closed_form.polynomial import floor_of

Function = Callable[..., int]

AXES = [Axis("b", 2, range(2, 65)), Axis("n", 64, range(33, 400))]


def fit(axes: list[Axis] | None = None, **functions: Function) -> Fit:
    return interpolate(
        lambda point: {name: function(**point) for name, function in functions.items()},
        AXES if axes is None else axes,
    )


def same(form: Polynomial, function: Function, values: Mapping[str, Any]) -> bool:
    points = (dict(zip(values, each, strict=True)) for each in product(*values.values()))
    return all(form(point) == function(**point) for point in points)


EVERYWHERE = {"b": (1, 3, 64), "n": range(33, 400)}

coefficients = st.lists(st.integers(-(10**6), 10**6), min_size=9, max_size=9)


@given(coefficients)
@settings(max_examples=6, deadline=None)
def test_random_polynomials_are_recovered(given_: list[int]) -> None:
    def function(b: int, n: int) -> int:
        return sum(c * b ** (i // 3) * n ** (i % 3) for i, c in enumerate(given_))

    found = fit(f=function)
    assert same(found.forms["f"], function, {"b": (1, 7), "n": (1, 2, 99)})


@given(
    st.integers(1, 10**9),
    st.sampled_from((2, 3, 4, 7, 8, 16, 32)),
    st.integers(0, 31),
    st.integers(1, 2),
    st.integers(0, 50),
)
@settings(max_examples=6, deadline=None)
def test_random_quasi_polynomials_are_recovered(
    scale: int, period: int, offset: int, degree: int, added: int
) -> None:
    def function(b: int, n: int) -> int:
        return scale * b * ((n + offset) // period) ** degree + added * b

    found = fit(f=function)
    assert same(found.forms["f"], function, EVERYWHERE)
    assert len(found.fitted_at) <= 30


def up(n: int, to: int) -> int:
    return -(-n // to)


@pytest.mark.parametrize(
    "function",
    [
        pytest.param(lambda b, n: b * up((n // 16) ** 2 + 1, 32), id="tokens of an image, rounded"),
        pytest.param(lambda b, n: b * n * up(n, 28), id="a size and its multiple"),
        pytest.param(lambda b, n: b * n**2 + b * n + n + 5, id="no product"),
        pytest.param(lambda b, n: b * ((n + 16) // 32) ** 2 + n, id="a product and more"),
        pytest.param(lambda b, n: 7, id="constant"),
        pytest.param(lambda b, n: 0, id="nothing"),
    ],
)
def test_shapes_of_networks(function: Function) -> None:
    tokens: Function = lambda b, n: b * ((n // 16) ** 2 + 1)  # noqa: E731
    found = fit(f=function, tokens=tokens)
    assert not found.refused
    assert same(found.forms["f"], function, EVERYWHERE)


def test_points_of_the_end_are_none_of_the_fit() -> None:
    found = fit(f=lambda b, n: b * n)
    assert len(found.verified_at) == 4
    assert not any(point in found.fitted_at for point in found.verified_at)
    assert all(point["b"] != 2 and point["n"] != 64 for point in found.verified_at)


@pytest.mark.parametrize(
    "function",
    [
        pytest.param(lambda b, n: b * (2**n % 1009), id="a power"),
        pytest.param(lambda b, n: b * int(n**0.5), id="a root"),
        pytest.param(lambda b, n: (b * n) // 10, id="a floor of both"),
    ],
)
def test_what_is_no_polynomial_is_refused(function: Function) -> None:
    found = fit(f=function, g=lambda b, n: b * n)
    assert set(found.refused) == {"f"}
    assert set(found.forms) == {"g"}
    refusal = found.refused["f"]
    assert all(value == function(**point) for point, value in refusal.samples)


@given(
    st.sampled_from(("power", "root", "noise", "degree")), st.integers(2, 50), st.integers(0, 10**6)
)
@settings(max_examples=6, deadline=None)
def test_random_functions_that_are_none_are_refused(kind: str, c: int, seed: int) -> None:
    kinds: dict[str, Function] = {
        "power": lambda b, n: b * (c + 1) ** (n % 97),
        "root": lambda b, n: b * isqrt(c * n * n * n + seed),
        "noise": lambda b, n: b * Random(seed * 1009 + n).randrange(1, c * 10**6),
        "degree": lambda b, n: b * (n**5 * c + n * seed),
    }
    found = fit(f=kinds[kind], g=lambda b, n: c * b * n * n + seed)
    assert set(found.refused) == {"f"}
    assert set(found.forms) == {"g"}


@pytest.mark.parametrize(("place", "change"), [(0, -1), (2, 1000)])
def test_one_changed_number_is_never_fitted(place: int, change: int) -> None:
    taken = 0

    def sample(point: dict[str, int]) -> dict[str, int]:
        nonlocal taken
        wrong = change if taken == place else 0
        taken += 1
        return {"right": point["b"] * 12, "f": point["b"] * point["n"] ** 2 * 24 + wrong}

    found = interpolate(sample, AXES)
    assert "right" in found.forms
    if taken > place:
        assert "f" in found.refused


def test_points_that_can_not_be_had_are_passed_over() -> None:
    found = interpolate(
        lambda point: None if point["n"] % 3 == 0 else {"f": point["b"] * point["n"]}, AXES
    )
    assert same(found.forms["f"], lambda b, n: b * n, EVERYWHERE)


def test_values_in_steps() -> None:
    axes = [Axis("d", 768, range(384, 1537, 12))]
    function: Function = lambda d: 12 * d * d + 5 * (-(-d // 96))  # noqa: E731
    found = fit(axes, f=function, g=lambda d: 4 * -(-d // 96))
    assert same(found.forms["g"], lambda d: 4 * -(-d // 96), {"d": range(384, 1537, 12)})


def test_names_that_differ_from_point_to_point() -> None:
    def sample(point: dict[str, int]) -> dict[str, int]:
        return {f"h.{i}": point["d"] for i in range(point["L"])}

    axes = [Axis("L", 2, range(2, 6)), Axis("d", 8, range(4, 200))]
    found = interpolate(
        sample, axes, align=lambda samples: [{"h.*": sum(each.values())} for each in samples]
    )
    assert same(found.forms["h.*"], lambda L, d: L * d, {"L": (1, 9), "d": (3, 8)})


def test_a_guess_is_taken_where_it_holds() -> None:
    functions: dict[str, Function] = {
        "tokens": lambda n: n * ((n + 31) // 32),
        "square": lambda n: n * n,
        "other": lambda n: 3 * n,
    }
    n = Polynomial.of("n")
    guesses = {"tokens": n * floor_of(n + 31, 32), "square": n**2, "other": n * 2}

    def fit_with(guesses: Mapping[str, Polynomial]) -> Fit:
        return interpolate(
            lambda point: {name: function(**point) for name, function in functions.items()},
            [Axis("n", 64, range(33, 400))],
            guesses=guesses,
        )

    alone, guessed = fit_with({}), fit_with(guesses)
    assert guessed.forms == alone.forms
    assert guessed.forms["other"] == n * 3  # not what was guessed
    assert len(guessed.fitted_at) == 3 < len(alone.fitted_at)
