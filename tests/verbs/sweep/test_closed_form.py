"""Grids by closed form, beside traces and the formulas of the built-in networks."""

from __future__ import annotations

from typing import Any

import pytest

from flopratio.closed_form import Polynomial
from flopratio.errors import UsageError
from flopratio.networks.analytic import analytic_ledger
from flopratio.verbs.formula.entries import Sampled
from flopratio.verbs.sweep import closed_form
from flopratio.verbs.sweep.closed_form import (
    GridForm,
    Piece,
    hold_against_traces,
    is_for_closed_form,
)
from flopratio.verbs.sweep.plan import swept_options
from tests.verbs.sweep.grids import made, piece


def test_every_row_is_the_formulas(grid: GridForm) -> None:
    assert grid.size == 600
    columns = grid.columns(grid.grid)
    for place in (0, 1, 19, 20, 331, 599):
        batch, width = int(columns["batch"][place]), int(columns["width"][place])
        totals = analytic_ledger("mlp", depth=2, batch=batch, width=width, optimizer="sgd").totals
        for name in ("forward", "grad_input", "grad_weight", "update", "parameters", "saved_bytes"):
            assert columns[name][place] == getattr(totals, name), (name, batch, width)
        assert columns["ratio"][place] == totals.ratio
        assert columns["status"][place]


def test_fresh_traces_agree(grid: GridForm) -> None:
    assert hold_against_traces(grid, 2) == []


def test_where_parts_overlap_the_first_holds() -> None:
    found = made(piece(1, b=(1, 3), s=(2, 3)), piece(10, b=(2, 3), s=(3, 5)))
    columns = found.columns(found.grid)
    expected = []
    for b in (1, 2, 3):
        for s in range(1, 8):
            first, second = b in (1, 3) and s in (2, 3), b in (2, 3) and s in (3, 5)
            expected.append(b * s if first else 10 * b * s if second else None)
            assert found.has_form({"b": b, "s": s}) == (first or second)
    assert columns["forward"].tolist() == expected
    assert columns["status"].tolist() == [value is not None for value in expected]
    ratios = [None if value is None else (b + s) / (b * s) for value, b, s in with_sizes(expected)]
    assert columns["ratio"].tolist() == ratios
    assert columns["update"].tolist() == [None] * 21


def test_a_part_that_others_have_already_changes_nothing() -> None:
    whole = piece(1, b=(1, 2, 3), s=range(1, 8))
    alone, twice = made(whole), made(whole, piece(10, b=(2,), s=(3, 5)))
    for name, column in alone.columns(alone.grid).items():
        assert twice.columns(twice.grid)[name].tolist() == column.tolist()


@pytest.mark.parametrize("factor", [1, 3 * 2**52 + 1, 10**18 + 9, 10**30 + 57])
def test_ratios_are_those_of_the_whole_numbers(factor: int) -> None:
    n = Polynomial.of("s")
    forms = {"forward": n * n * factor, "backward": n * (factor + 1), "update": n * (factor - 1)}
    found = made(Piece({"b": frozenset((1, 2, 3)), "s": frozenset(range(1, 8))}, forms))
    columns = found.columns({"b": (1,), "s": tuple(range(1, 8))})
    sizes = range(1, 8)
    expected = [s * (factor + 1) / (s * s * factor) for s in sizes]
    assert columns["ratio"].tolist() == expected
    with_update = [(s * (factor + 1) + s * (factor - 1)) / (s * s * factor) for s in sizes]
    assert columns["ratio_with_update"].tolist() == with_update


def with_sizes(values: list[Any]) -> list[tuple[Any, int, int]]:
    sizes = [(b, s) for b in (1, 2, 3) for s in range(1, 8)]
    return [(value, b, s) for value, (b, s) in zip(values, sizes, strict=True)]


class Limited:
    """A tracer of a model that takes no more than a thousand."""

    def __init__(self, limit: int, sentence: str) -> None:
        self.limit, self.sentence, self.sampled = limit, sentence, dict[int, bool]()

    def sample(self, point: dict[str, int]) -> Sampled:
        self.sampled[point["s"]] = point["s"] <= self.limit
        if not self.sampled[point["s"]]:
            raise UsageError(self.sentence)
        return Sampled({}, {}, {"n_positions": 1000, "heads": 12})


@pytest.mark.parametrize(
    ("limit", "sentence", "tries"),
    [
        (1000, "a table of 1,000 rows", 4),  # both ends, the limit and what is beyond
        (1000, "too long", 14),
        (777, "a table of 1,000 rows", 14),
    ],
)
def test_where_a_model_ends_is_what_its_sentence_says(
    limit: int, sentence: str, tries: int
) -> None:
    tracer: Any = Limited(limit, sentence)
    values = tuple(range(3, 3000))
    found = GridForm("toy", swept_options(), {"s": values}, {})
    admitted = closed_form._admitted(found, tracer, {}, {"s": values}, "s", values)
    assert admitted == tuple(range(3, limit + 1))
    assert len(tracer.sampled) <= tries
    assert f"up to s={limit:,}" in found.notes[0]


def test_which_grids_are_swept_so() -> None:
    many = {"batch": tuple(range(1, 300))}
    assert is_for_closed_form("hf:gpt2", many, "none")
    assert not is_for_closed_form("hf:gpt2", many, "cpu")
    assert not is_for_closed_form("hf:gpt2", {"batch": (1, 2)}, "none")
    assert not is_for_closed_form(None, many, "none")
    assert not is_for_closed_form("hf:gpt2", {**many, "dtype": ("a", "b")}, "none")
    assert not is_for_closed_form("mlp", many, "none")  # the claims are judged on it
    assert is_for_closed_form("mlp", {"batch": tuple(range(1, 10_002))}, "none")


def test_sizes_of_which_there_is_no_network_are_left_out() -> None:
    widths = tuple(range(61, 70))
    assert closed_form._described("transformer", {"heads": 4}, "width", widths) == (64, 68)
    with pytest.raises(UsageError, match="should be a multiple of heads"):
        closed_form._described("transformer", {"heads": 4}, "width", (65, 66))
