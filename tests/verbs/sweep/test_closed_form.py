"""Grids by closed form, beside traces and the formulas of the built-in networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from flopratio.closed_form import Polynomial
from flopratio.errors import UsageError
from flopratio.networks.analytic import analytic_ledger
from flopratio.verbs.count import count
from flopratio.verbs.formula.entries import Sampled
from flopratio.verbs.sweep import closed_form
from flopratio.verbs.sweep.closed_form import (
    GridForm,
    Piece,
    grid_form,
    hold_against_traces,
    verified_grid_form,
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
    assert hold_against_traces(grid, 2) == (2, 2, [])


def test_where_traces_differ_and_how_many_there_were_is_told(grid: GridForm) -> None:
    (whole,) = grid.pieces
    forms = {**whole.forms, "forward": whole.forms["forward"] + Polynomial.of("batch") - 2}
    where = {**whole.where, "batch": frozenset((2, 3)), "width": frozenset((5,))}
    held = hold_against_traces(replace(grid, pieces=[Piece(where, forms)]), 20)
    assert held[:2] == (2, 1)  # there are no more than two points
    *differ, (_, of_none) = held.wrong[:2]
    assert of_none == "the model runs there, and the grid has no form"
    ((point, difference),) = differ
    assert point == {"batch": 3, "width": 5}
    traced = int(whole.forms["forward"](point))
    assert difference == f"forward {traced + 1:,}, traced {traced:,}"


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
        (1000, "a table of 1,000 rows", 5),  # the first two, the limit, what is beyond, the last
        (1000, "too long", 15),
        (777, "a table of 1,000 rows", 15),
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


def test_sizes_of_which_there_is_no_network_are_left_out() -> None:
    widths = tuple(range(61, 70))
    assert closed_form._described("transformer", {"heads": 4}, "width", widths) == (64, 68)
    with pytest.raises(UsageError, match="should be a multiple of heads"):
        closed_form._described("transformer", {"heads": 4}, "width", (65, 66))


class Divided:
    """A tracer of a model whose heads divide its width."""

    def sample(self, point: dict[str, int]) -> Sampled:
        if point["width"] % point.get("heads", 12) or point["width"] > 500:
            raise UsageError("heads don't divide the width, or it is above 500")
        return Sampled({}, {}, {})


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (range(24, 241), range(24, 241, 12)),  # the last is one
        (range(24, 251), range(24, 241, 12)),  # and here it isn't
        ((0, 1, 60, 64, 72, 100, 120), (0, 1, 60, 72, 120)),
        (range(24, 1000), range(24, 501, 12)),  # and there is a limit
        ((24, 60, 84), (24, 60, 84)),
        ((24, 25, 26), (24,)),
    ],
)
def test_sizes_between_the_steps_of_a_model_are_left_out(
    values: Sequence[int], expected: Sequence[int]
) -> None:
    found = GridForm("toy", swept_options(), {"width": tuple(values)}, {})
    grid, tracer = dict(found.grid), cast(Any, Divided())
    admitted = closed_form._admitted(found, tracer, {}, grid, "width", grid["width"])
    assert admitted == tuple(expected)
    steps = [note for note in found.notes if "runs at" in note]
    assert len(steps) == (values != expected)
    if steps:
        assert f"and refuses {next(v for v in values if v > 1 and v % 12)}" in steps[0]


def test_the_limits_of_several_keys_are_all_named() -> None:
    found = GridForm("hf:toy", swept_options(), {}, {})
    for what in ("runs up to seq=8", "runs up to batch=9", "runs up to seq=8"):
        closed_form._note(found, what, "it has a reason: this")
    reason = ": it has a reason: this"
    assert found.notes == [f"hf:toy runs up to seq=8{reason}", f"hf:toy runs up to batch=9{reason}"]


FACTORY = """
import torch
from torch import nn

def divided(batch=2, width=24, heads=12):
    if width % heads:
        raise ValueError(f"{heads} heads don't divide {width}")
    return nn.Linear(width, width), torch.randn(batch, width)

class Shifted(nn.Module):
    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(1, 1, 3))
        self.linear = nn.Linear(3, 3)

    def forward(self, x):
        return self.linear(x + self.shift)

def shifted(batch=2, seq=3):
    return Shifted(), torch.randn(batch, seq, 3)
"""


def test_a_model_with_heads_has_figures_where_they_divide_its_width(tmp_path: Path) -> None:
    (tmp_path / "toy.py").write_text(FACTORY)
    model, keys = f"{tmp_path}/toy.py:divided", {"batch": (2, 3, 4, 5), "width": range(24, 100)}
    found = grid_form(model, keys, swept_options())
    columns = found.columns(found.grid)
    assert columns["status"].tolist() == [w % 12 == 0 for _ in range(4) for w in keys["width"]]
    assert [int(f) for f in columns["forward"].compressed()] == [
        2 * b * w * w for b in keys["batch"] for w in range(24, 100, 12)
    ]
    assert "runs at width=24, width=36, width=48 and so on, and refuses 25: " in found.notes[0]


def test_what_a_model_refuses_amid_the_grid_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "toy.py").write_text(FACTORY)
    keys = {"heads": range(2, 12), "batch": range(2, 30)}  # 5, 7, 9, 10 and 11 don't divide 24
    with pytest.raises(
        UsageError, match=r"refuses .*heads=\d+, amid sizes that it takes: .*divide 24"
    ):
        grid_form(f"{tmp_path}/toy.py:divided", keys, swept_options())


def test_one_of_two_sizes_is_not_one_of_each(tmp_path: Path) -> None:
    """The gradient of what is the same for a whole batch is a sum, unless there is one of all."""
    (tmp_path / "toy.py").write_text(FACTORY)
    model = f"{tmp_path}/toy.py:shifted"
    found = grid_form(model, {"batch": range(1, 20), "seq": range(1, 20)}, swept_options())
    columns = found.columns({"batch": (1, 2), "seq": (1, 2)})
    counted = [
        count(model, batch=b, seq=s, optimizer="sgd").totals.elementwise_backward
        for b in (1, 2)
        for s in (1, 2)
    ]
    assert columns["elementwise_backward"].tolist() == counted


DEEP = """
import torch
from torch import nn

class Layer(nn.Module):
    def __init__(self, tokens=10**6, width=3):
        super().__init__()
        self.tokens, self.linear = tokens, nn.Linear(3, width)

    def forward(self, x):
        some = x.index_select(1, torch.arange(min(self.tokens, x.shape[1])))
        return x + self.linear(some)[..., :3].sum()

class Stack(nn.Module):
    def __init__(self, layers):
        super().__init__()
        self.h = nn.ModuleList(layers)

    def forward(self, x):
        for layer in self.h:
            x = layer(x)
        return x

def alike(batch=2, seq=3, depth=7):
    return Stack(Layer() for _ in range(depth)), torch.randn(batch, seq, 3)

def wider(batch=2, seq=3, depth=7):
    layers = [Layer(width=3 if index < 4 else 5) for index in range(depth)]
    return Stack(layers), torch.randn(batch, seq, 3)

class Shy(Layer):
    def forward(self, x):
        return super().forward(x) if len(x) > 1 else super().forward(x) + self.linear(x).sum()

def shy(batch=2, seq=3, depth=7):
    layers = [Layer() if index < 4 else Shy() for index in range(depth)]
    return Stack(layers), torch.randn(batch, seq, 3)

def shorter(batch=2, seq=3, depth=7):
    layers = [Layer(tokens=10**6 if index < 4 else 2) for index in range(depth)]
    return Stack(layers), torch.randn(batch, seq, 3)
"""


@pytest.mark.parametrize(
    ("name", "settings", "few"),
    [
        ("alike", {}, True),
        ("alike", {"depth": (9,)}, True),
        ("alike", {"depth": (4,)}, False),  # as few layers as there are
        ("alike", {"depth": (6, 7, 8)}, False),  # it is asked for
        ("wider", {}, False),  # as the first trace tells, of all layers
        ("shorter", {}, False),  # as random points tell
        ("shy", {"batch": range(1, 200)}, False),  # as the first trace of a batch of one tells
    ],
)
def test_a_deep_model_is_traced_at_small_depths_if_its_layers_are_alike(
    name: str, settings: dict[str, Sequence[int]], few: bool, tmp_path: Path
) -> None:
    (tmp_path / "toy.py").write_text(DEEP)
    model = f"{tmp_path}/toy.py:{name}"
    keys = {"seq": range(1, 40), **settings}
    found, held = verified_grid_form(model, keys, swept_options(), verify=3)
    assert (found.from_few_layers, held.equal, held.wrong) == (few, 3, [])
    deep = grid_form(model, keys, swept_options())
    for name, column in deep.columns(deep.grid).items():
        assert found.columns(found.grid)[name].tolist() == column.tolist(), name


def test_without_fresh_traces_all_layers_are_traced(tmp_path: Path) -> None:
    (tmp_path / "toy.py").write_text(DEEP)
    keys = {"seq": range(1, 40)}
    found, held = verified_grid_form(f"{tmp_path}/toy.py:shorter", keys, swept_options(), verify=0)
    assert (found.from_few_layers, held) == (False, (0, 0, []))
