"""The convention of formula.py, in every family: what a formula is given, and how."""

from inspect import Parameter, signature
from typing import Any

import pytest

from flopratio.formulas import EXAMPLES, LAYERS, OPERATORS, Example


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_what_was_returned_is_given_by_keyword_and_always(name: str) -> None:
    out = signature(OPERATORS[name]).parameters["out"]
    assert (out.kind, out.default) == (Parameter.KEYWORD_ONLY, Parameter.empty)


def lists(value: Any) -> bool:
    if isinstance(value, tuple):
        return any(lists(item) for item in value)
    return isinstance(value, list)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: f"{example.op}: {example.why}")
def test_lists_are_given_as_tuples(example: Example) -> None:
    calls = LAYERS[example.op](**example.arguments).calls if example.op in LAYERS else ()
    given = [
        *example.arguments.values(),
        *(each for call in calls for each in call.operands.values()),
    ]
    assert not any(lists(value) for value in given)
    assert not any(lists(call.out) for call in calls)
