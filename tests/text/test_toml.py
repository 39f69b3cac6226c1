"""TOML files: at which line a table begins."""

import pytest

from flopratio.text.toml import line_of


@pytest.mark.parametrize(
    ("text", "name", "line"),
    [
        ("[cases.a]", "a", 1),
        ("\n\n  [cases.a]", "a", 3),
        ("[tool.flopratio.cases.a]", "a", 1),
        ("[cases.ab]\n[cases.a]", "a", 2),
        ("[cases.a.expect]", "a", 1),
        ("[cases.'a b']", "a b", 1),
        ('[cases]\nx = "mlp"\n"a b" = "mlp"', "a b", 3),
        ('[cases]\nab = "mlp"\na = "mlp"', "a", 3),
        ('cases.x = "mlp"\ncases.a.model = "mlp"', "a", 2),
        ("[other.a]\n[cases.a]", "a", 2),
        ("[cases.axb]\n[cases.'a.b']", "a.b", 2),  # a point is a point
        ("[cases.'a+']", "a+", 1),
        ('cases = {a = "mlp"}', "a", None),
        ("", "a", None),
    ],
)
def test_the_line_of_a_case(text, name, line):
    assert line_of(text, "cases", name) == line
