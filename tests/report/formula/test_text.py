"""Closed forms as people, SymPy, LaTeX and Python read them."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
import sympy

from flopratio.closed_form import Polynomial
from flopratio.closed_form.polynomial import floor_of
from flopratio.report.formula.asymptotics import sentences
from flopratio.report.formula.text import (
    latex,
    letters,
    pretty,
    python_expression,
    python_function,
    sympy_text,
)

batch, seq, width, image = map(Polynomial.of, ("batch", "seq", "width", "image"))
UP = floor_of(image + 31, 32)
KEYS = ("batch", "seq", "width", "image")


@pytest.mark.parametrize(
    ("form", "text"),
    [
        (batch * seq * width**2 * 24 + batch * seq**2 * width * 4, "4·B·S·d·(6·d + S)"),
        (batch * UP**2 * 128, "128·B·⌈n/32⌉²"),
        (batch * (floor_of(image + 1, 2) ** 2 * 147 + UP), "B·(147·⌈n/2⌉² + ⌈n/32⌉)"),
        (floor_of(image + 3, 32), "⌊(n + 3)/32⌋"),
        (width**2 - width, "d·(d - 1)"),
        (Polynomial.constant(7), "7"),
        (Polynomial.constant(0), "0"),
    ],
)
def test_pretty(form: Polynomial, text: str) -> None:
    assert pretty(form, letters(KEYS)) == text


FORMS = [
    batch * seq * 24 - width * UP + 5,
    batch * seq * (seq + 1) * Polynomial.constant(Fraction(1, 2)),
    floor_of(floor_of(image, 16) ** 2 + 32, 32) * batch,
    Polynomial.constant(0),
]
VALUES: dict[str, int] = {"batch": 3, "seq": 17, "width": 8, "image": 225}


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_sympy_and_python_have_the_same_value(form: Polynomial) -> None:
    assert sympy.sympify(sympy_text(form)).subs(VALUES) == form(VALUES)
    assert eval(python_expression(form), dict(VALUES)) == form(VALUES)


def test_a_function_stands_alone() -> None:
    forms = {"forward": FORMS[0], "saved_bytes": FORMS[2]}
    names: dict[str, Any] = {}
    exec(python_function(forms, KEYS, "mine."), names)
    assert names["step"](**VALUES) == {name: form(VALUES) for name, form in forms.items()}
    assert names["step"].__doc__ == "mine."


def test_latex_has_ceilings() -> None:
    assert r"\left\lceil{\frac{n}{32}}\right\rceil" in latex(batch * UP, letters(KEYS))


def test_two_keys_never_have_one_letter() -> None:
    assert letters(("depth", "n_layer")) == {"depth": "L", "n_layer": "n_layer"}


def test_limits() -> None:
    forward = batch * width**2 * 2 + batch * width
    backward = forward * 2 - batch * width
    words = list(
        sentences(
            {"forward": forward, "backward": backward, "update": width**2 * 4}, ("batch", "width")
        )
    )
    assert "forward is quadratic in width: it goes with 2·batch·width²" in words
    assert "lim width→∞ backward/forward = 2" in words
    assert "lim batch→∞ backward/forward = (4·width + 1)/(2·width + 1)" in words
    assert "lim width→∞ (backward + update)/forward = 2·(batch + 1)/batch" in words


def test_sentences_have_the_letters_of_the_forms() -> None:
    forms = {"forward": batch * (width + 1) + 3, "backward": seq**2 * width, "update": width * 2}
    assert list(sentences(forms, ("batch", "seq", "width"), letters(KEYS))) == [
        "forward is linear in B: it goes with B·(d + 1)",
        "forward doesn't depend on S",
        "forward is linear in d: it goes with B·d",
        "lim B→∞ backward/forward = 0",
        "lim S→∞ backward/forward = ∞",
        "lim d→∞ backward/forward = S²/B",
        "lim B→∞ (backward + update)/forward = 0",
        "lim S→∞ (backward + update)/forward = ∞",
        "lim d→∞ (backward + update)/forward = (S² + 2)/B",
    ]
    forward = batch * width**4 * Polynomial.constant(Fraction(3, 2)) + batch
    words = list(sentences({"forward": forward, "backward": batch}, KEYS, letters(KEYS)))
    assert "forward is of degree 4 in d: it goes with (3/2)·B·d⁴" in words
    assert "lim B→∞ backward/forward = 2/(3·d⁴ + 2)" in words


def test_what_other_sizes_are_rounded_to_stays_as_one_grows() -> None:
    up = floor_of(seq + 31, 32)
    forms = {"forward": batch * up**2, "backward": batch * up**2 + batch * up * 64}
    assert list(sentences(forms, ("batch", "seq"), letters(KEYS))) == [
        "forward is linear in B: it goes with B·⌈S/32⌉²",
        "forward is quadratic in S: it goes with (1/1024)·B·S²",
        "lim B→∞ backward/forward = (⌈S/32⌉ + 64)/⌈S/32⌉",
        "lim S→∞ backward/forward = 1",
    ]
