"""The table of oracles in README.md is the oracles that there are, and every family has one."""

from __future__ import annotations

import ast
import re
from importlib import import_module
from pathlib import Path

import pytest

from flopratio.formulas import LAYERS, OPERATORS, Cost, Tensor
from flopratio.formulas.optimizer import OPTIMIZERS

HERE = Path(__file__).parent
NOTHING_TO_COUNT = "nothing to count"


def families() -> list[str]:
    """The files that formulas stand in."""
    formulas = [*OPERATORS.values(), *LAYERS.values(), *OPTIMIZERS.values()]
    homes = {formula.__module__ for formula in formulas}
    ours = {home.removeprefix("flopratio.formulas.") for home in homes}
    return sorted(name for name in ours if "." not in name)


def table() -> dict[str, tuple[list[str], str]]:
    """Family -> the oracles that README.md names, and what it says of them."""
    rows = re.findall(r"^\| (\w+) \| (.*?) ?\| (.*) \|$", (HERE / "README.md").read_text(), re.M)
    return {
        family: (re.findall(r"`(\w+)`", oracles), what)
        for family, oracles, what in rows
        if family != "family"
    }


def marked(family: str) -> list[str]:
    """The oracles in a family's tests, in order."""
    tests = vars(import_module(f"tests.formulas.test_{family}"))
    return [
        name.removeprefix("test_")
        for name, test in tests.items()
        if name.startswith("test_")
        and any(mark.name == "oracle" for mark in getattr(test, "pytestmark", ()))
    ]


def test_the_table_has_every_family() -> None:
    assert list(table()) == families()


@pytest.mark.parametrize("family", families())
def test_every_family_has_loops_that_count(family: str) -> None:
    oracles, what = table()[family]
    if what == NOTHING_TO_COUNT:
        return
    assert oracles == marked(family) != []


@pytest.mark.parametrize(
    "family", [family for family, (_, what) in table().items() if what == NOTHING_TO_COUNT]
)
def test_nothing_to_count_is_nothing(family: str) -> None:
    home = f"flopratio.formulas.{family}"
    x = Tensor((3, 4))
    costs = [formula(x, out=x) for formula in OPERATORS.values() if formula.__module__ == home]
    layers = [formula(x) for formula in LAYERS.values() if formula.__module__ == home]
    assert costs or layers
    assert {(cost.flops, cost.elementwise, cost.gradients, cost.parts) for cost in costs} <= {
        (Cost().flops, Cost().elementwise, (), ())
    }
    assert all(layer.calls == () for layer in layers)


def test_the_numbers_that_count_share_nothing_with_the_package() -> None:
    tree = ast.parse((HERE / "counting.py").read_text())
    imported = {
        name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else [alias.name for alias in node.names]
        )
    }
    assert not any(name.startswith("flopratio") for name in imported)
