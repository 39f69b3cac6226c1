"""Polynomials at whole grids."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from flopratio.closed_form import Polynomial
from flopratio.closed_form.grid import all_at_points, at_points, bound, chunks, fits_int64, on_grid
from flopratio.closed_form.polynomial import floor_of

b, s = Polynomial.of("b"), Polynomial.of("s")
FORM = b * s * 24 + b * floor_of(s + 31, 32) * 1536 - s**2 * 3 + 7


@pytest.mark.parametrize("factor", [1, 10**17], ids=["int64", "beyond"])
def test_a_grid_is_its_points(factor: int) -> None:
    form = FORM * factor
    grid = {"b": [1, 2, 9], "s": range(1, 70)}
    values = on_grid(form, grid)
    assert values.shape == (3, 69)
    assert (values.dtype == np.int64) == (factor == 1) == fits_int64(form, grid)
    points = [{"b": x, "s": y} for x, y in product(*grid.values())]
    assert [int(value) for value in values.reshape(-1)] == [form(point) for point in points]
    columns = {key: [point[key] for point in points] for key in grid}
    assert at_points(form, columns).tolist() == values.reshape(-1).tolist()


def test_a_grid_of_halves_is_exact() -> None:
    triangle = (s * s + s) * Polynomial.constant(1) * b
    half = Polynomial({term: value / 2 for term, value in triangle.terms.items()})
    assert on_grid(half, {"b": [3], "s": [1, 2, 3]}).tolist() == [[3, 9, 18]]


def test_scattered_points_are_their_points(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flopratio.closed_form.grid.BLOCK", 8)  # and more than one block of them
    forms = {"small": FORM, "large": FORM * 10**17, "half": b * (s * s + s), "one": FORM * 0 + 1}
    forms["half"] = Polynomial({term: value / 2 for term, value in forms["half"].terms.items()})
    columns = {"b": np.arange(1, 38) * 7 % 5, "s": np.arange(1, 38) * 11 % 23}
    found = all_at_points(forms, columns)
    kinds = {"small": np.int64, "large": object, "half": np.int64, "one": np.int64}
    assert {name: values.dtype for name, values in found.items()} == kinds
    for place in range(37):
        point = {key: int(values[place]) for key, values in columns.items()}
        for name, form in forms.items():
            assert found[name][place] == form(point)


def test_the_bound_is_known_beforehand() -> None:
    grid = {"b": [1, 2**31], "s": [2**32]}
    assert bound(b * s, grid) == 2**63
    assert not fits_int64(b * s, grid)
    assert on_grid(b * s, grid).tolist() == [[2**32], [2**63]]


@pytest.mark.parametrize("size", [2**31, 2**32 + 5])
def test_what_is_rounded_does_not_overflow(size: int) -> None:
    form = floor_of(s * s, 2**20) + 1
    expected = size * size // 2**20 + 1
    assert fits_int64(form, {"s": [size]}) == (size == 2**31)
    assert on_grid(form, {"s": [size]}).tolist() == [expected]
    assert at_points(form, {"s": [size]}).tolist() == [expected]


def test_chunks_keep_the_order() -> None:
    grid = {"b": range(5), "s": range(7), "d": range(3)}
    parts = list(chunks(grid, 10))
    assert all(np.prod([len(values) for values in part.values()]) <= 10 for part in parts)
    points = [point for part in parts for point in product(*part.values())]
    assert points == list(product(*grid.values()))
