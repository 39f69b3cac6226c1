"""What a pattern of module names matches."""

import pytest

from flopratio.text.patterns import matches, matches_nothing, near, owners

NAMES = ["first.linear.weight", "hidden.0.linear.weight", "hidden.1.linear.weight"]


def test_owners_are_the_modules_around_a_name_from_the_inside_out():
    assert list(owners("a.b.weight")) == ["a.b", "a"]
    assert list(owners("weight")) == []


@pytest.mark.parametrize(
    ("pattern", "matched"),
    [
        ("hidden.1.linear.weight", NAMES[2:]),
        ("hidden.1", NAMES[2:]),
        ("hidden", NAMES[1:]),
        ("hidden.*.linear", NAMES[1:]),
        ("*.weight", NAMES),
        ("linear", []),
        ("hid", []),
    ],
)
def test_a_name_matches_by_itself_or_by_what_holds_it(pattern, matched):
    assert [name for name in NAMES if matches(name, pattern)] == matched


def test_a_pattern_that_matches_nothing_is_told_what_there_is():
    sentence = matches_nothing("freeze", "hiden.1", NAMES)
    assert sentence.startswith("freeze=hiden.1 matches no module or parameter: names are like ")
    assert sentence.endswith(near("hiden.1", NAMES))
    assert near("hiden.1", NAMES).startswith("names are like hidden.1.linear.weight")
    assert near("qqq", NAMES) == f"names are like {', '.join(NAMES)}"
    assert "matches no module:" in matches_nothing("checkpoint", "qqq", NAMES, "module")
