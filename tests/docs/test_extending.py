"""docs/extending.md: its code runs, fits its operators, and says what it prints."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from flopratio.formulas import EXAMPLES, LAYERS, OPERATORS
from flopratio.torch_private import operator_names
from flopratio.trace.formula_check import check_call
from flopratio.trace.recorder import operator_of
from tests.formulas.test_examples import test_worked_example as works_out
from tests.trace.made_up_calls import check_made_up_calls, met_by_a_trace

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "extending.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", TEXT, re.M | re.S)


@pytest.fixture
def registries() -> Iterator[None]:
    """What is registered in a test is forgotten after it."""
    before = dict(OPERATORS), dict(LAYERS), list(EXAMPLES)
    yield
    OPERATORS.clear()
    LAYERS.clear()
    OPERATORS.update(before[0])
    LAYERS.update(before[1])
    EXAMPLES[:] = before[2]


def test_there_are_three() -> None:
    assert len(BLOCKS) == 3


@pytest.mark.usefixtures("registries")
@pytest.mark.parametrize("block", BLOCKS, ids=["moves", "product", "own"])
def test_its_code_runs(block: str, capsys: pytest.CaptureFixture[str]) -> None:
    known, examples = set(OPERATORS), len(EXAMPLES)
    exec(compile(block, "extending.md", "exec"), {"__name__": "contributed"})
    printed = re.findall(r"^print\(.*\)  # (.*)$", block, re.M)
    assert capsys.readouterr().out.splitlines() == printed
    new = set(OPERATORS) - known
    assert new
    dispatched = set(operator_names())
    for _ in range(2):  # backward operators once their forward operators are known
        for name in new:
            overloads = met_by_a_trace(name, dispatched)
            assert overloads, f"{name} does not exist"
            for op in overloads:
                check_call(operator_of(op), OPERATORS[name])
                assert check_made_up_calls(op, OPERATORS[name])
    for example in EXAMPLES[examples:]:
        works_out(example)
    assert {example.op for example in EXAMPLES[examples:]} == (new if not printed else set())


def test_what_it_names_is_there() -> None:
    named = [name for name in re.findall(r"`([\w/.]+\.(?:py|md))`", TEXT) if "FAMILY" not in name]
    assert named
    for path in named:
        assert (ROOT / path).exists() or (ROOT / "flopratio" / path).exists(), path
