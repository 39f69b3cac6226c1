"""A published figure and a computed one: equal to the digits printed, or not and by how much."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from experiments.claims import Claim
from experiments.printed import read_printed, verdict_of, written

REPRODUCED = [
    ("1.57", 1.5714305635739407),
    ("1.57", 1.565),  # half a unit of the last digit, upwards
    ("1.57", 1.575),  # and downwards: both ways of rounding halves are in use
    (1.57, 1.5714),
    ("2.0009", 2.000858551422505),
    ("44%", 0.4412),
    ("33.3%", 1 / 3),
    ("+33%", 0.3333),
    ("−72%", -0.7199),
    ("9 ×", 8.91),
    ("137 TFLOP/s", 136.6),
    ("about 2", 1.6),
    ("1,234,567", 1234567),
    ("3e3", 2600),
    ("1:1", 1.0),
    ("1.57:1", 1.5714),
    ("2 to 3", 2),
    ("2 to 3", 3.0),
    ("2-3", 2.4),
    ("2–3", 2.4),
    ("20% to 30%", 0.25),
    ("20 to 30%", 0.25),
    ("at most 4", 4),
    ("≤ 4", 4),
    ("< 6", 5.99),
    (">4x", 4.01),
    ("at least 10%", 0.1),
    (12, 12),
    (2, 2.0),
    ("backward", "backward"),
    (True, True),
    (False, False),
    (None, True),
]

NOT_REPRODUCED = [
    ("1.57", 1.5751, "+0.32%"),
    ("1.57", 1.5649, "-0.32%"),
    ("2.0009", 2.00096, "+0.0030%"),
    ("44%", 0.446, "+0.6 points"),
    ("33.3%", 0.2, "-13.30 points"),
    ("9 ×", 3.2, "-64%"),
    ("2:1", 1.98, "-1.0%"),
    (2, 1.98, "-1.0%"),
    (12, 13, "+8.3%"),
    ("2 to 3", 3.0003, "+0.010%"),
    ("2 to 3", 1, "-50%"),
    ("20 to 30%", 0.35, "+5.0 points"),
    ("at most 4", 5, "+25%"),
    ("< 6", 6, "reached"),
    ("> 4", 4, "reached"),
    ("0", 3, "+3"),
    ("2 to 3", 30, "+900%"),
    ("forward", "backward", "differs"),
    (True, False, "differs"),
    (None, False, "differs"),
]


@pytest.mark.parametrize(("published", "ours"), REPRODUCED)
def test_reproduced(published: Any, ours: Any) -> None:
    assert verdict_of(published, ours) == ("reproduced", "")


@pytest.mark.parametrize(("published", "ours", "difference"), NOT_REPRODUCED)
def test_not_reproduced(published: Any, ours: Any, difference: str) -> None:
    assert verdict_of(published, ours) == ("not reproduced", difference)


@pytest.mark.parametrize("ours", [2, 1.5, "something"])
def test_nothing_to_compare_with(ours: Any) -> None:
    assert verdict_of(None, ours) == ("not published", "")


@pytest.mark.parametrize("text", ["", "a lot", "1.57 → 1.98", "2 of 3", "5 MB, then 4 MB"])
def test_what_is_no_figure_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no figure"):
        read_printed(text)


@pytest.mark.parametrize(
    ("published", "ours", "shown"),
    [
        ("1.57", 1.5714305, "1.5714"),
        ("44%", 0.44123, "44.12%"),
        ("33.3%", 1 / 3, "33.333%"),
        ("2 to 3", 2.5, "2.50"),
        (None, 0.123456789, "0.123457"),
        (None, True, "yes"),
        (False, False, "no"),
        ("12", 12, "12"),
        ("saved", "kept", "kept"),
    ],
)
def test_a_computed_figure_has_two_digits_more(published: Any, ours: Any, shown: str) -> None:
    assert written(ours, published) == shown


def test_a_claim_that_differs_says_why() -> None:
    with pytest.raises(ValueError, match=r"published is '1\.57', ours 1\.6; say why"):
        Claim("it is so", "somebody", "1.57", 1.6)
    row = Claim("it is so", "somebody", "1.57", 1.6, reason="they counted otherwise").row("depth")
    assert row["difference"] == "+1.9%"
    assert row["reason"] == "they counted otherwise"
    assert (row["verdict"], row["measured"]) == ("not reproduced", "")


def test_a_claim_takes_the_numbers_of_numpy() -> None:
    row = Claim("it is so", "somebody", "1.57", np.float64(1.5714), measured=True).row("depth")
    assert (row["ours"], row["verdict"], row["measured"]) == ("1.5714", "reproduced", "yes")
    assert Claim("it is so", "somebody", None, np.bool_(True)).verdict == "reproduced"
