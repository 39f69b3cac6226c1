"""The table of a profile."""

from __future__ import annotations

import pytest

from flopratio.errors import UsageError
from flopratio.report.profile.view import profile_view
from flopratio.report.table import table
from tests.report.small import printed
from tests.verbs.profile.small import small_profile


def test_the_slowest_comes_first() -> None:
    view = profile_view(small_profile())
    assert [line.name for line in view.lines] == ["stem.conv", "head", "stem.relu"]


def test_as_they_ran_or_by_a_column() -> None:
    def names(sort: str) -> list[str]:
        return [line.name for line in profile_view(small_profile(), sort=sort).lines]

    assert names("ran") == ["stem.conv", "stem.relu", "head"]
    assert names("name") == ["head", "stem.conv", "stem.relu"]
    assert names("time_ratio") == ["stem.relu", "head", "stem.conv"]


def test_phases_are_columns_of_one_unit() -> None:
    text = printed(table(profile_view(small_profile())), 200)
    line = next(line for line in text.splitlines() if line.startswith("head"))
    assert line.split()[:8] == ["head", "Linear", "28.9%", "7.80", "3.00", "2.00", "2.50", "0.30"]
    assert text.splitlines()[2].split()[3:8] == ["ms"] * 5


def test_a_column_without_any_time_is_left_out() -> None:
    names = [column.name for column in profile_view(small_profile()).columns]
    assert "undivided_time" in names
    assert "update_time" not in names
    assert "recompute_time" not in names


def test_phases_come_in_their_own_order() -> None:
    view = profile_view(small_profile(), by="phase")
    assert [line.name for line in view.lines] == [
        "forward",
        "grad_input",
        "grad_weight",
        "undivided",
    ]
    assert [line.time for line in view.lines] == [12_000_000, 2_200_000, 12_500_000, 300_000]


def test_the_total_is_of_all_lines_also_those_left_out() -> None:
    view = profile_view(small_profile(), top=1)
    assert view.left_out == 2
    assert view.total.time == 27_000_000
    assert view.total.share == 1.0
    assert "… and 2 more layers" in printed(table(view), 200)


def test_layers_fold() -> None:
    view = profile_view(small_profile(), depth=1)
    assert [(line.name, line.type) for line in view.lines] == [
        ("stem", "Sequential"),
        ("head", "Linear"),
    ]


def test_a_narrow_terminal_keeps_the_times() -> None:
    text = printed(table(profile_view(small_profile()), width=60), 60)
    assert "No room for" in text
    assert "70.0%" in text


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ({"by": "layers"}, "'layers' is no view"),
        ({"sort": "tim"}, "'tim' is no column"),
        ({"top": -1}, "should be at least 0"),
    ],
)
def test_words_that_no_view_has(words: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        profile_view(small_profile(), **words)  # type: ignore[arg-type]
